"""MM-Vet: files, grader, metrics, submissions.

Expected figures are the vector of the official evaluator, and otherwise those of a straight re-implementation of its
arithmetic below (yuweihao/MM-Vet, mm-vet_evaluator.ipynb: sums of grades by capability over counts, numpy's std).
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.images import open_image
from mmalign_eval.registry import TASKS
from mmalign_eval.requests import Response
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.scoring import aggregate, row
from tests.data.hub_files import picture, write_parquet
from tests.support import shared_data
from tests.support_score import scored

GOLD = {
    "v1_0": {"imagename": "v1_0.png", "question": "What is x?", "answer": "-1<AND>-5", "capability": ["ocr", "math"]},
    "v1_1": {"imagename": "v1_1.png", "question": "And d?", "answer": "1.25<OR>5/4", "capability": ["math", "ocr"]},
    "v1_2": {"imagename": "v1_1.png", "question": "Which one?", "answer": "a cat", "capability": ["rec"]},
    "v1_3": {"imagename": "v1_3.png", "question": "Where?", "answer": "left", "capability": ["ocr", "spat"]},
}
FEATURES = {"question_id": "string", "image": "image", "question": "string", "answer": "string",
            "image_source": "string", "capability": "string"}  # fmt: skip
DIGIT = "\nPredict the correctness of the answer (digit): "


def mmvet(protocol=""):
    return TASKS.get("mmvet")(protocol)


def write_native(folder: Path, gold=GOLD, images=True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mm-vet.json").write_text(json.dumps(gold))
    if images:
        (folder / "images").mkdir(exist_ok=True)
        for n, entry in enumerate(gold.values()):
            (folder / "images" / entry["imagename"]).write_bytes(picture((n, 0, 0)))
    return folder


def samples(folder):
    return list(mmvet().samples(Source("dir", str(folder))))


def official(gold, grades):
    """Capability to mean, total, std: `grades` is id to one grade a run."""
    runs = len(next(iter(grades.values())))
    sums, counts = {}, {}
    for key, entry in gold.items():
        for name in [*entry["capability"], "total"]:
            sums.setdefault(name, np.zeros(runs))
            sums[name] += np.array(grades[key])
            counts[name] = counts.get(name, 0) + 1
    values = {name: sums[name] / counts[name] * 100 for name in sums}
    return {**{name: v.mean() for name, v in values.items()}, "std": values["total"].std()}


def grade_file(grades, model="gpt-4-0613", contents=None):
    """As the official notebook dumps it."""
    out = {}
    for key, scores in grades.items():
        said = (contents or {}).get(key) or [str(s) for s in scores]
        out[key] = {"model": [model] * len(scores), "content": said, "score": scores}
    return json.dumps(out, indent=4)


def graded(verdicts, gold=GOLD, judged_by="gpt-4-0613"):
    task = mmvet()
    records = []
    for key, given_verdicts in verdicts.items():
        record = {"question": "q", "answer": "a", "prediction": "p", "capability": gold[key]["capability"]}
        records.append({**record, "id": key, "cluster": key, "verdicts": given_verdicts})
    task.judged_by = judged_by
    return {e.name: e.value for e in aggregate(task, records)}


def test_golden_vector():
    found = graded(
        {"a": [1.0], "b": [0.5]}, {"a": {"capability": ["ocr", "math"]}, "b": {"capability": ["ocr"]}}
    )  # fmt: skip
    assert (found["ocr"], found["math"], found["total"]) == (75.0, 100.0, 75.0)
    assert (found["set/ocr_math"], found["set/ocr"]) == (100.0, 50.0)
    assert found["rec"] is None


def test_a_failed_grade_is_0_in_the_total_and_is_counted():
    found = graded({"v1_0": [1.0, None], "v1_1": [0.5, 0.5], "v1_2": [None, None], "v1_3": [0.0, 1.0]})
    expected = official(GOLD, {"v1_0": [1.0, 0], "v1_1": [0.5, 0.5], "v1_2": [0, 0], "v1_3": [0, 1.0]})
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    assert found["n_failed"] == 3
    assert found["total_answered"] == pytest.approx(100 * (1 + 0.5 + 0.5 + 0 + 1) / 5)


def test_the_stand_in_shares_no_name_with_a_judge():
    offline, judged = (graded({"v1_0": [1.0], "v1_2": [0.0]}, judged_by=by) for by in ("lexical", "gpt-4-0613"))
    assert all(name.startswith("lexical/") for name in offline)
    assert not set(offline) & set(judged)
    assert offline["lexical/total"] == judged["total"] == 50.0
    task = mmvet()
    assert set(task.headline) <= set(offline)
    task.judged_by = "gpt-4-0613"
    assert set(task.headline) <= set(judged)


def test_the_grader_is_asked_as_the_official_tool_asks():
    role = mmvet().judge
    record = {"question": "What is x?", "answer": "-1<AND>-5", "prediction": "x = 1"}
    request = role.ask(record)
    text = request.prompt.text
    assert text.startswith("Compare the ground truth and prediction from AI models, to give a correctness score for")
    assert "What is x in the equation? | -1 <AND> -5 | x = -5 or 5 | 0.5\n" in text
    assert text.endswith("physical characteristics. | 1.0\nWhat is x? | -1 <AND> -5 | x = 1 | ")
    prompt = text.removesuffix("\nWhat is x? | -1 <AND> -5 | x = 1 | ")
    assert hashlib.sha256(prompt.encode()).hexdigest().startswith("f23108ec5f7a92d2")  # the official prompt's
    assert (request.params.temperature, request.params.max_new_tokens, request.prompt.system) == (0.0, 3, None)
    tries = [role.again(request, n) for n in range(1, role.attempts)]
    assert [t.prompt.text for t in tries] == [text + DIGIT] * 5
    assert [t.params.temperature for t in tries] == [0.0, 0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("reply", "grade"),
    [("0.5", 0.5), ("1.0", 1.0), ("0.7 because", 0.7), ("1", 1.0), ("0.0\n", 0.0), ("", None), (" 0.5", None),
     ("1.1", None), ("-0.1", None), ("Score: 0.5", None), ("nan", None), ("inf", None), ("0,5", None)],
)  # fmt: skip
def test_replies(reply, grade):
    assert mmvet().judge.parse(reply) == grade


@settings(max_examples=300, deadline=None)
@given(st.text(), st.text(max_size=60), st.text(max_size=60))
def test_nothing_raises_on_any_text(reply, answer, prediction):
    role = mmvet().judge
    grade = role.parse(reply)
    assert grade is None or 0 <= grade <= 1
    record = {"question": answer, "answer": answer, "prediction": prediction}
    role.ask(record)
    assert 0.0 <= role.offline(record) <= 1.0


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 4))
def test_metrics_are_the_official_ones_on_any_grades(data, runs):
    grade = st.integers(0, 10).map(lambda n: n / 10)
    grades = {key: data.draw(st.lists(grade, min_size=runs, max_size=runs)) for key in GOLD}
    found = graded(grades)
    for name, value in official(GOLD, grades).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    assert found["total_answered"] == pytest.approx(found["total"])
    assert min(grades[k][0] for k in GOLD) * 100 - 1e-9 <= found["total"] or runs > 1


def test_native_files_become_samples(tmp_path):
    write_native(tmp_path / "mmvet")
    (tmp_path / "mmvet" / "bard_set.json").write_text('["v1_0", "v1_2"]')
    found = samples(tmp_path)
    assert [s.id for s in found] == list(GOLD)
    assert found[1].data == {"question": "And d?", "answer": "1.25<OR>5/4", "capability": ["ocr", "math"]}
    assert found[1].cluster == found[2].cluster == "v1_1"  # one image
    assert open_image(found[0].images[0]).size == (16, 12)
    assert [s.id for s in found if s.data.get("bard_set")] == ["v1_0", "v1_2"]
    task = mmvet()
    rows = [row(task, s, [Response("ok", text=s.data["answer"])]) for s in found]
    records = [{**r["record"], "verdicts": [v]} for r, v in zip(rows, [1.0, 0.0, 0.5, 0.0], strict=True)]
    task.judged_by = "gpt-4-0613"
    assert {e.name: e.value for e in aggregate(task, records)}["bard_set/total"] == 75.0


def test_the_released_archive_is_read_as_it_unpacks(tmp_path):
    write_native(tmp_path / "mm-vet")
    assert [s.id for s in samples(tmp_path)] == list(GOLD)
    assert [s.id for s in samples(tmp_path / "mm-vet")] == list(GOLD)


def test_hub_rows_are_the_same_questions(tmp_path):
    rows = [
        {"question_id": key, "image": {"bytes": picture((n, 0, 0)), "path": None}, "question": entry["question"],
         "answer": entry["answer"], "image_source": "web", "capability": ",".join(entry["capability"])}
        for n, (key, entry) in enumerate(GOLD.items())
    ]  # fmt: skip
    write_parquet(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet", FEATURES, rows)
    native = samples(write_native(tmp_path / "native"))
    assert [(s.id, s.data) for s in samples(tmp_path / "hub")] == [(s.id, s.data) for s in native]


def test_a_question_that_stands_twice_is_not_overwritten(tmp_path):
    write_native(tmp_path)
    text = json.dumps(GOLD)
    (tmp_path / "mm-vet.json").write_text(text[:-1] + ', "v1_0": ' + json.dumps(GOLD["v1_0"]) + "}")
    with pytest.raises(BadInput, match=r"mm-vet\.json: id 'v1_0' occurs twice"):
        samples(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["v1_1"].pop("answer"), r"mm-vet.json: v1_1: field 'answer' is missing"),
        (lambda d: d["v1_1"].update(capability=["ocr", "fly"]), r"v1_1: capability 'fly' is none of rec, ocr"),
        (lambda d: d["v1_1"].update(capability=[]), r"v1_1: capability '' is none of"),
        (lambda d: d["v1_1"].update(imagename="../x.png"), "json: v1_1: image name '../x.png' leaves the data"),
        (lambda d: d["v1_1"].update(imagename="none.png"), "1 of 4 images are missing"),
        (lambda d: d.clear(), "no samples in"),
    ],
)
def test_bad_files_are_told_in_a_line(tmp_path, change, says):
    write_native(tmp_path)
    gold = json.loads(json.dumps(GOLD))
    change(gold)
    (tmp_path / "mm-vet.json").write_text(json.dumps(gold))
    with pytest.raises(BadInput, match=says):
        samples(tmp_path)


def test_the_prompts_of_the_protocols(tmp_path):
    sample = samples(write_native(tmp_path))[0]
    asked = {name: mmvet(name).requests(sample)[0] for name in ("official", "paper", "lmms")}
    assert asked["official"].prompt.text == asked["paper"].prompt.text == "What is x?"
    assert asked["paper"].prompt.template == "llava_v1"
    assert (asked["paper"].params.temperature, asked["paper"].params.max_new_tokens) == (0.0, 1024)
    assert asked["paper"].prompt.images[0].transforms == ("center_crop",)
    lead = "First please perform reasoning, and think step by step to provide best answer to the following question: "
    assert asked["lmms"].prompt.text == lead + "\n\nWhat is x?"


def test_graded_files_of_one_and_of_several_runs(tmp_path):
    data = write_native(tmp_path / "data", images=False)
    grades = {"v1_0": [0.5, 1.0, 0.7], "v1_1": [0.0, 0.0, 0.1], "v1_2": [1.0, 1.0, 0.9], "v1_3": [0.3, 0.2, 0.2]}
    (tmp_path / "three.json").write_text(grade_file(grades))
    found = scored(mmvet(), tmp_path / "three.json", data)
    for name, value in official(GOLD, grades).items():
        assert found[name] == pytest.approx(value), name
    assert found["n_failed"] == 0

    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "llava.json").write_text(json.dumps({key: "an answer" for key in GOLD}))
    for run in range(3):
        one = grade_file({key: [scores[run]] for key, scores in grades.items()})
        (folder / f"llava_gpt-4-0613-grade-1runs-{run}.json").write_text(one)
    assert scored(mmvet(), folder, data) == found
    single = scored(mmvet(), folder / "llava_gpt-4-0613-grade-1runs-0.json", data)
    assert single["total"] == pytest.approx(45.0)
    assert single["std"] == 0.0


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("a_gpt-4-grade-1runs", "b_gpt-4-grade-1runs"), "a_gpt-4-grade-1runs.json and b_gpt-4-grade-1runs.json seem"),
        (("a_gpt-4-grade-1runs", "a_gpt-4-grade-3runs"), "are two evaluations; name one"),
        (("a_gpt-4-grade-1runs-1", "b_gpt-4-grade-1runs-1"), "seem to be of several models"),
    ],
)
def test_a_folder_of_several_models_is_refused(tmp_path, names, says):
    folder = tmp_path / "results"
    folder.mkdir()
    for name in names:
        (folder / f"{name}.json").write_text(grade_file({key: [1.0] for key in GOLD}))
    with pytest.raises(BadInput, match=says):
        scored(mmvet(), folder, write_native(tmp_path / "data", images=False))


def test_llavas_lines_under_another_ending(tmp_path):
    data = write_native(tmp_path / "data", images=False)
    lines = "".join(f'{{"question_id": {n}, "prompt": "p", "text": "x"}}\r\n' for n in range(len(GOLD)))
    (tmp_path / "answers.json").write_text("\ufeff" + lines + "\n\n", encoding="utf-8")
    assert scored(mmvet(), tmp_path / "answers.json", data)["lexical/total"] == 0


def test_failures_in_graded_files_are_told_by_what_the_grader_said(tmp_path):
    data = write_native(tmp_path / "data", images=False)
    grades = {key: [0.0] for key in GOLD}
    contents = {"v1_0": ["The"], "v1_1": ["0.0"], "v1_2": [""], "v1_3": ["0"]}
    (tmp_path / "m_gpt-4-0314-grade-1runs.json").write_text(grade_file(grades, "gpt-4-0314", contents))
    submission = mmvet().submitted(
        AnswerFiles({"": tmp_path / "m_gpt-4-0314-grade-1runs.json"}), Source("dir", str(data), images=False)
    )
    assert submission.judge == "gpt-4-0314"
    assert submission.verdicts == {"v1_0": [None], "v1_1": [0.0], "v1_2": [None], "v1_3": [0.0]}
    assert submission.replies == {"v1_0": ["The"], "v1_1": ["0.0"], "v1_3": ["0"]}


def test_the_name_of_a_file_says_who_graded_where_its_rows_do_not(tmp_path):
    data = write_native(tmp_path / "data", images=False)
    path = tmp_path / "llava_gpt-4-32k-0613-grade-1runs.json"
    path.write_text(json.dumps({key: {"score": 1.0} for key in GOLD}))
    assert mmvet().submitted(AnswerFiles({"": path}), Source("dir", str(data), images=False)).judge == "gpt-4-32k-0613"
    assert scored(mmvet(), path, data)["total"] == 100.0


def test_plain_answers_are_compared_by_words(tmp_path):
    data = write_native(tmp_path / "data", images=False)
    path = tmp_path / "answers.json"
    path.write_text('{"v1_0": "x = -1 or x = -5", "v1_1": "It is 5/4.", "v1_2": "A CAT sits there", "v1_3": "right"}')
    found = scored(mmvet(), path, data)
    assert found["lexical/total"] == 75.0
    assert found["lexical/ocr"] == pytest.approx(200 / 3)
    assert "total" not in found
    lines = tmp_path / "answers.jsonl"  # as LLaVA's model_vqa.py writes them: question_id is the number
    lines.write_text("".join(json.dumps({"question_id": n, "text": t, "model_id": "m"}) + "\n" for n, t in
                             enumerate(json.loads(path.read_text()).values())))  # fmt: skip
    assert scored(mmvet(), lines, data) == found


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", '{"v1_0": "x", "v1_0": "y"}', "id 'v1_0' occurs twice"),
        ("a.json", '{"v1_0": "x", ', "a.json:1: not valid JSON"),
        ("a.json", '{"v1_0": 3}', "v1_0: expected the answer as text"),
        ("a.json", '{"v1_0": {"score": [1.5]}}', "v1_0: a grade must be a number from 0 to 1, found 1.5"),
        ("a.json", '{"v1_0": {"score": []}}', "v1_0: no grade"),
        ("a.json", '{"v1_0": {"score": [1, 1]}, "v1_1": {"score": [1]}}', "v1_1 has 1 grades, others 2"),
        ("a.json", '{"v1_0": {"score": [1]}, "v1_1": "text"}', "v1_1: expected an object with score"),
        ("a.json", '{"v9_0": "x"}', "1 ids are no samples of these data: 'v9_0'"),
        ("a.json", "{}", "no answers in it"),
        ("a.jsonl", '{"question_id": 0, "text": "a"}\n{"question_id": 0, "text": "b"}\n', "a.jsonl:2: id 'v1_0' occ"),
        ("a.jsonl", '{"question_id": 0, "text": "a"}\n{"question_id": 1, "te', "a.jsonl:2: not valid JSON"),
    ],
)
def test_bad_submissions_are_told_in_a_line(tmp_path, name, content, says):
    data = write_native(tmp_path / "data", images=False)
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=says) as error:
        scored(mmvet(), tmp_path / name, data)
    assert "\n" not in str(error.value)


def test_the_released_questions():
    """The file that is distributed has rec 150 and ocr 96 questions of 218 (the other sizes as the paper's)."""
    found = list(mmvet().samples(Source("dir", str(shared_data("mmvet")), images=False)))
    sizes = {name: sum(name in s.data["capability"] for s in found) for name in ("rec", "ocr", "know", "gen", "spat")}
    assert sizes == {"rec": 150, "ocr": 96, "know": 84, "gen": 80, "spat": 75}
    assert sum("math" in s.data["capability"] for s in found) == 26
    assert (len(found), len({s.cluster for s in found})) == (218, 200)
    task = mmvet()
    records = []
    for sample in found:
        record = row(task, sample, task.right_answer(sample))["record"]
        assert task.judge.offline(record) == 1.0, sample.id
        assert task.judge.offline({**record, "prediction": ""}) == 0.0
        records.append({**record, "verdicts": [1.0]})
    default = set(task.sets)
    aggregate(task, records)
    assert set(task.sets) == default
    assert len(task.sets) == 16
    assert task.sets[:4] == ("rec_know_gen", "rec", "ocr_spat", "ocr_spat_math")
