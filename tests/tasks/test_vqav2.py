import json
import random

import numpy as np
import pytest
from mmalign_eval.tasks.vqav2 import cut_and_guess, paper_subset

from mmalign_eval.data.source import DataChoice, Source
from mmalign_eval.errors import BadInput
from mmalign_eval.images import digest
from mmalign_eval.registry import TASKS
from mmalign_eval.requests import Response
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.scoring import aggregate
from tests.data.hub_files import picture
from tests.support import shared_data
from tests.support_score import scored

MINI = DataChoice.parse(["mini"], only_mini=True)
# question id, image id, question, answer type, question type, human answers
QUESTIONS = [
    (1001, 1, "Is it raining?", "yes/no", "is it", ["yes"] * 10),
    (1002, 1, "How many dogs?", "number", "how many", ["2"] * 6 + ["two"] * 2 + ["3", "4"]),
    (2001, 2, "What is this?", "other", "what is this", ["a cat"] * 3 + ["dog"] * 6 + ["the dogs"]),
    (2002, 2, "What color is the car?", "other", "what color is the", ["red, white"] * 2 + ["blue"] * 8),
]


def vqa(protocol="", **more):
    return TASKS.get("vqav2")(protocol, **more)


def samples(path, task=None, **more):
    return list((task or vqa()).samples(Source("dir", str(path), **more)))


def write_files(folder, rows=QUESTIONS, split="val2014", texts=True):
    folder.mkdir(parents=True, exist_ok=True)
    head = {"info": {}, "license": {}, "data_type": "mscoco", "data_subtype": split}
    annotations = [
        {"question_type": kind, "multiple_choice_answer": said[0], "image_id": image, "answer_type": answer_type,
         "question_id": number, "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i}
                                            for i, a in enumerate(said, 1)]}
        for number, image, _, answer_type, kind, said in rows
    ]  # fmt: skip
    questions = [{"image_id": i, "question": text, "question_id": n} for n, i, text, *_ in reversed(rows)]
    (folder / f"v2_mscoco_{split}_annotations.json").write_text(json.dumps({**head, "annotations": annotations}))
    if texts:
        name = folder / f"v2_OpenEnded_mscoco_{split}_questions.json"
        name.write_text(json.dumps({**head, "task_type": "Open-Ended", "questions": questions}))
    return folder


def write_images(folder):
    (folder / "val2014").mkdir(parents=True, exist_ok=True)
    for i in (1, 2):
        (folder / "val2014" / f"COCO_val2014_{i:012d}.jpg").write_bytes(picture((i, 0, 0), "PNG"))
    return folder


def write_answers(path, answers):
    """The results format of visualqa.org, written by hand."""
    lines = ",\n".join(f' {{"question_id": {number}, "answer": {json.dumps(text)}}}' for number, text in answers)
    path.write_text(f"[\n{lines}\n]\n")
    return path


ANSWERS = [(1001, "yes"), (1002, "Two."), (2001, "The cat!"), (2002, "red,white")]


def test_native_files_become_samples(tmp_path):
    found = samples(write_images(write_files(tmp_path / "vqav2")).parent)
    assert [s.id for s in found] == ["1001", "1002", "2001", "2002"]
    assert found[1].data == {"question": "How many dogs?", "answers": QUESTIONS[1][5], "answer_type": "number",
                             "question_type": "how many"}  # fmt: skip
    assert (found[0].cluster, found[0].images) == ("1", found[1].images)
    assert found[2].images[0].path.endswith("COCO_val2014_000000000002.jpg")


def test_hub_rows_and_native_files_are_the_same_samples(tmp_path):
    from datasets import Dataset, Features, Image, List, Value

    native = write_images(write_files(tmp_path / "native"))
    answer = {"answer": Value("string"), "answer_confidence": Value("string"), "answer_id": Value("int64")}
    features = Features({
        "question_type": Value("string"), "multiple_choice_answer": Value("string"), "answers": List(answer),
        "image_id": Value("int64"), "answer_type": Value("string"), "question_id": Value("int64"),
        "question": Value("string"), "image": Image(),
    })  # fmt: skip
    rows = [
        {"question_type": kind, "multiple_choice_answer": said[0], "image_id": image, "answer_type": answer_type,
         "question_id": number, "question": text, "image": {"bytes": picture((image, 0, 0), "PNG"), "path": None},
         "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(said, 1)]}
        for number, image, text, answer_type, kind, said in QUESTIONS
    ]  # fmt: skip
    (tmp_path / "hub").mkdir()
    Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "hub" / "validation-00000-of-00001.parquet"))
    ours, theirs = samples(native), samples(tmp_path / "hub")
    assert [(s.id, s.data, s.cluster, s.part) for s in ours] == [(s.id, s.data, s.cluster, s.part) for s in theirs]
    assert [digest(s.images[0]) for s in ours] == [digest(s.images[0]) for s in theirs]
    values = scored(vqa(), write_answers(tmp_path / "a.json", ANSWERS), tmp_path / "hub")
    assert values["overall"] == pytest.approx((100 + 100 + 90 + 60) / 4)


def test_prompts_of_the_protocols(tmp_path):
    sample = samples(write_images(write_files(tmp_path)))[0]
    (official,), (lmms,) = (vqa(p).requests(sample) for p in ("official", "lmms"))
    assert (official.prompt.text, official.prompt.template) == ("Is it raining?", "model")
    assert lmms.prompt.text == "Is it raining?\nAnswer the question using a single word or phrase."
    assert (lmms.params.max_new_tokens, lmms.params.sampled) == (16, False)


def test_the_paper_shows_three_questions_of_the_pool_without_images():
    task = vqa("paper")
    source = MINI.source("vqav2")
    everything = list(vqa().samples(source))
    found = list(task.samples(source))
    pool = {s.id for s in task.pool}
    assert len(pool) + len(found) == len(everything)
    assert not pool & {s.id for s in found}
    assert len(pool) == len(everything) * 2048 // 7048
    (request,) = task.requests(found[0])
    assert task.requests(found[0]) == (request,)
    turns = {(s.data["question"], s.data["answers"][0]) for s in task.pool}
    assert len(request.prompt.demos) == 3
    assert set(request.prompt.demos) <= turns
    assert len({task.requests(s)[0].prompt.demos for s in found}) > len(found) / 2
    assert (request.prompt.template, request.params.max_new_tokens, len(request.prompt.images)) == ("vicuna_v0", 10, 1)
    assert [s.id for s in vqa("paper").samples(source)] == [s.id for s in found]


def test_the_papers_subset_is_numpys_draw():
    pool, chosen = paper_subset(214_354)
    np.random.seed(42)
    drawn = np.random.choice(214_354, 7048, replace=False).tolist()
    assert pool == drawn[:2048]
    assert chosen == drawn[2048:]
    assert (len(pool), len(chosen), len({*pool, *chosen})) == (2048, 5000, 7048)
    small_pool, small = paper_subset(70)
    assert sorted(small_pool + small) == list(range(70))
    assert len(small_pool) == 20


def test_more_shots_than_questions_are_refused(tmp_path):
    with pytest.raises(BadInput, match="only 1 questions to take demonstrations from"):
        samples(write_images(write_files(tmp_path)), vqa("paper"))
    assert len(samples(tmp_path, vqa("paper", few_shot=0))) == 3


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("yes it is", "Yes"), ("I know", "No"), ("snow", "No"), ("nothing", "No"), ("YES", "YES"), ("Yes, no", "Yes"),
        ("red Question: what", "red "), ("blue###no", "blue"), ("cat</s> yes", "cat"), ("", ""), ("Answer: yes", ""),
    ],
)  # fmt: skip
def test_the_papers_reading(text, answer):
    assert cut_and_guess(text) == answer


def test_the_papers_reading_and_the_quirk_together():
    sample = next(s for s in vqa().samples(MINI.source("vqav2")) if set(s.data["answers"]) == {"yes"})
    values = {p: vqa(p).record(sample, [Response("ok", text="yes")])["accuracy"] for p in ("official", "paper", "lmms")}
    assert values == {"official": 100, "paper": 0, "lmms": 100}


def test_right_answers_score_what_the_humans_allow(tmp_path):
    task = vqa()
    found = samples(write_images(write_files(tmp_path)), task)
    records = [{**task.record(s, task.right_answer(s)), "id": s.id, "cluster": s.cluster or s.id} for s in found]
    values = {e.name: e.value for e in aggregate(task, records)}
    assert values["overall"] == 100
    assert {m.name: m.best for m in task.metrics()}["overall"] == 100
    assert set(task.headline) <= set(values)
    assert "question_type/what color is the" in values
    assert all(len(json.dumps(r)) < 300 for r in records)


def test_results_are_scored_by_type(tmp_path):
    data = write_files(tmp_path / "data", texts=False)
    values = scored(vqa(), write_answers(tmp_path / "a.json", reversed(ANSWERS)), data)
    assert values == {
        "overall": pytest.approx(87.5), "answer_type/yes/no": 100, "answer_type/number": 100,
        "answer_type/other": pytest.approx(75), "question_type/is it": 100, "question_type/how many": 100,
        "question_type/what is this": pytest.approx(90), "question_type/what color is the": pytest.approx(60),
    }  # fmt: skip


def test_answers_in_llavas_lines_and_by_question(tmp_path):
    data = write_files(tmp_path / "data", texts=False)
    expected = scored(vqa(), write_answers(tmp_path / "a.json", ANSWERS), data)
    lines = [{"question_id": n, "prompt": "p", "text": text, "answer_id": "x", "metadata": {}} for n, text in ANSWERS]
    (tmp_path / "merge.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert scored(vqa(), tmp_path / "merge.jsonl", data) == expected
    (tmp_path / "by_id.json").write_text("{" + ", ".join(f'"{n}": {json.dumps(a)}' for n, a in ANSWERS) + "}")
    assert scored(vqa(), tmp_path / "by_id.json", data) == expected


def test_what_the_official_tool_wrote_beside_the_results_is_left_alone(tmp_path):
    folder = tmp_path / "Results"
    folder.mkdir()
    write_answers(folder / "OpenEnded_mscoco_val2014_x_results.json", ANSWERS)
    (folder / "OpenEnded_mscoco_val2014_x_accuracy.json").write_text('{"overall": 1.0}')
    assert scored(vqa(), folder, write_files(tmp_path / "data"))["overall"] == pytest.approx(87.5)
    write_answers(folder / "OpenEnded_mscoco_val2014_y_results.json", ANSWERS)
    with pytest.raises(BadInput, match="expected one results file, found 2; name the file"):
        scored(vqa(), folder, tmp_path / "data")


@pytest.mark.parametrize("place", ["VQAv2", "vqav2/annotations", "VQA/Annotations", "Annotations"])
def test_files_below_a_root_are_found(tmp_path, place):
    own = write_files(tmp_path / place)
    if place.endswith("Annotations"):  # the official tool's own layout
        questions = own.parent / "Questions"
        questions.mkdir()
        file = own / "v2_OpenEnded_mscoco_val2014_questions.json"
        file.rename(questions / file.name)
    answers = write_answers(tmp_path / "a.json", ANSWERS)
    assert scored(vqa(), answers, tmp_path)["overall"] == pytest.approx(87.5)
    found = samples(write_images(tmp_path))
    assert [s.data["question"] for s in found] == [text for _, _, text, *_ in QUESTIONS]


def test_the_split_is_the_one_that_holds_the_questions(tmp_path):
    data = write_files(tmp_path / "data", texts=False)
    other = [(number + 7_000_000, *rest) for number, *rest in QUESTIONS]
    write_files(data, other, "train2014", texts=False)
    answers = write_answers(tmp_path / "a.json", [(n + 7_000_000, text) for n, text in ANSWERS])
    assert scored(vqa(), answers, data)["overall"] == pytest.approx(87.5)
    found = vqa().submitted(AnswerFiles({"": answers}), Source("dir", str(data), images=False))
    assert [s.id for s in found.samples] == [str(n) for n, *_ in other]
    one = data / "v2_mscoco_train2014_annotations.json"
    renamed = one.rename(tmp_path / "gold.json")
    assert scored(vqa(), answers, renamed)["overall"] == pytest.approx(87.5)


def test_missing_and_unknown_answers_are_told(tmp_path):
    answers = write_answers(tmp_path / "a.json", [*ANSWERS[1:], (5, "x")])
    source = Source("dir", str(write_files(tmp_path / "data")), images=False)
    found = vqa().submitted(AnswerFiles({"": answers}), source)
    assert (found.missing, found.unknown) == (["1001"], ["5"])


def test_the_papers_subset_is_scored_where_there_are_enough_questions(tmp_path):
    rows = [(n, n, "?", "other", "what", ["cat"] * 10) for n in range(7100)]
    data = write_files(tmp_path / "data", rows, texts=False)
    answers = write_answers(tmp_path / "a.json", [(n, "cat") for n in range(7100)])
    source = Source("dir", str(data), images=False)
    found = vqa("paper").submitted(AnswerFiles({"": answers}), source)
    assert [int(s.id) for s in found.samples] == paper_subset(7100)[1]
    assert (found.missing, found.unknown) == ([], [])
    assert len(vqa().submitted(AnswerFiles({"": answers}), source).samples) == 7100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[{"question_id": 1001, "answer": "a"}, {"question_id": 1001, "answer": "b"}]',
            r"\[1\]: id '1001' occurs twice",
        ),
        ('[{"question_id": 1001}]', r"\[0\]: field 'answer' is missing"),
        ('[{"question_id": 1001, "answer": 2}]', r"\[0\]: expected the answer as text, found int"),
        ('[{"question_id": 1001, "answer": "a"},\n {"question_id": 10', r"a\.json:2: not valid JSON .*complete\?"),
        ("[1]", r"\[0\]: expected a JSON object, found int"),
    ],
)
def test_bad_results_are_one_line(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        scored(vqa(), tmp_path / "a.json", write_files(tmp_path / "data"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": []}, r"annotations\[0\]: expected a list of human answers"),
        ({"answers": [{"answer_id": 1}]}, r"annotations\[0\]: field 'answer' is missing"),
        ({"question_id": 5}, r"annotations\[0\]: question 5 has no text among the questions"),
        ({"question_id": 1002}, r"annotations\[1\]: sample id '1002' occurs twice"),
    ],
)
def test_bad_annotations_are_one_line(tmp_path, change, message):
    path = write_images(write_files(tmp_path)) / "v2_mscoco_val2014_annotations.json"
    data = json.loads(path.read_text())
    data["annotations"][0] |= change
    path.write_text(json.dumps(data))
    with pytest.raises(BadInput, match=message):
        samples(tmp_path)


def test_missing_files_are_named(tmp_path):
    write_files(tmp_path)
    with pytest.raises(BadInput, match=r"2 of 2 .* missing \(the first: COCO_val2014_0{11}1\.jpg, .*ations\[0\]\)"):
        samples(tmp_path)
    (tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json").unlink()
    with pytest.raises(BadInput, match=r"v2_OpenEnded_mscoco_val2014_questions\.json not found"):
        samples(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"v2_mscoco_val2014_annotations\.json not found .*visualqa\.org"):
        scored(vqa(), write_answers(tmp_path / "a.json", ANSWERS), tmp_path / "empty")


@pytest.mark.parametrize("split", ["val", "train"])
def test_the_official_tools_figures_on_real_annotations(split):
    case = shared_data("cases") / "vqav2"
    values = scored(vqa(), case / f"results_{split}.json", case)
    expected = json.loads((case / "expected.json").read_text())["metrics"]
    own = {name.partition("/")[2]: wanted for name, wanted in expected.items() if name.startswith(f"{split}/")}
    assert set(own) == set(values)
    assert len(own) > 30
    for name, wanted in own.items():
        assert values[name] == pytest.approx(wanted["value"], abs=wanted["abs_tol"]), name


@pytest.mark.parametrize("split", ["val", "train"])
def test_the_official_tools_figure_of_each_question(split):
    case = shared_data("cases") / "vqav2"
    source = Source("dir", str(case), images=False)
    task = vqa()
    found = task.submitted(AnswerFiles({"": case / f"results_{split}.json"}), source)
    wanted = json.loads((case / f"per_question_{split}.json").read_text())
    ours = {s.id: task.record(s, found.responses[s.id])["accuracy"] for s in found.samples}
    assert ours == {str(row["question_id"]): pytest.approx(row["accuracy"], abs=0.005) for row in wanted}
    shuffled = list(found.samples)
    random.Random(1).shuffle(shuffled)
    assert {s.id: task.record(s, found.responses[s.id])["accuracy"] for s in shuffled} == ours
