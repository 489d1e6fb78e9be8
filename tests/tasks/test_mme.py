import json

import pytest

from mmalign_eval.data.source import DataChoice, Source
from mmalign_eval.errors import BadInput
from mmalign_eval.images import digest, open_image
from mmalign_eval.metrics.mme import SUBTASKS
from mmalign_eval.registry import TASKS
from mmalign_eval.requests import Response
from mmalign_eval.roles import AnswerFiles
from tests.data.hub_files import picture, write_parquet
from tests.support import shared_data
from tests.support_score import scored

HUB_FEATURES = {"question_id": "string", "image": "image", "question": "string", "answer": "string",
                "category": "string"}  # fmt: skip
SUFFIX = " Please answer yes or no."
# What the official calculation.py's rules give for these lines, worked out by hand (the tool is not run here).
RESULTS = {
    "existence": (
        "0001.jpg\tIs there a cat? Please answer yes or no.\tYes\tYes, there is.\n"
        "0001.jpg\tIs there a dog? Please answer yes or no.\tNo\tNo.\n"
        "0002.jpg\tIs there a bus? Please answer yes or no.\tYes\tnot sure\n"
        "0002.jpg\tIs there a car? Please answer yes or no.\tNo\tI think no\n"
    ),
    "code_reasoning": (
        "0001.png\tIs the output 1? Please answer yes or no.\tYes\tNo\n"
        "0001.png\tIs the output 2? Please answer yes or no.\tNo\tnone\tof these\n"
    ),
}
EXPECTED = {
    "existence/acc": 50.0, "existence/acc_plus": 50.0, "existence/score": 100.0, "existence/other": 1.0,
    "code_reasoning/acc": 50.0, "code_reasoning/acc_plus": 0.0, "code_reasoning/score": 50.0,
    "code_reasoning/other": 0.0, "overall/acc": 50.0, "overall/acc_plus": pytest.approx(100 / 3), "overall/other": 1.0,
}  # fmt: skip


def mme(protocol=""):
    return TASKS.get("mme")(protocol)


def samples(path, **more):
    return list(mme().samples(Source("dir", str(path), **more)))


def write_results(folder, results=RESULTS):
    folder.mkdir(parents=True, exist_ok=True)
    for subtask, text in results.items():
        (folder / f"{subtask}.txt").write_text(text, encoding="utf-8")
    return folder


def write_native(folder, flat=("code_reasoning",)):
    """The released layouts: images/ and questions_answers_YN/, or both kinds of file side by side."""
    for n, (subtask, text) in enumerate(RESULTS.items()):
        for line in text.splitlines():
            name, question, label, *_ = line.split("\t")
            images = folder / subtask / ("" if subtask in flat else "images")
            texts = folder / subtask / ("" if subtask in flat else "questions_answers_YN")
            images.mkdir(parents=True, exist_ok=True)
            texts.mkdir(parents=True, exist_ok=True)
            (images / name).write_bytes(picture((n, int(name[3]), 0), "PNG"))
            with (texts / f"{name[:4]}.txt").open("a") as file:
                file.write(f"{question}\t{label}\n")
    return folder


def test_native_files_in_both_layouts_become_samples(tmp_path):
    found = samples(write_native(tmp_path / "mme" / "MME_Benchmark_release_version").parents[1])
    assert [s.id for s in found] == [
        "existence/0001/yes", "existence/0001/no", "existence/0002/yes", "existence/0002/no",
        "code_reasoning/0001/yes", "code_reasoning/0001/no",
    ]  # fmt: skip
    assert found[0].data["question"] == "Is there a cat? Please answer yes or no."
    assert (found[0].cluster, found[0].part, found[0].images) == ("existence/0001", "existence", found[1].images)
    assert found[0].cluster != found[4].cluster, "names of images repeat from subtask to subtask"
    assert open_image(found[0].images[0]).getpixel((0, 0)) == (0, 1, 0)
    assert open_image(found[4].images[0]).getpixel((0, 0)) == (1, 1, 0)


def test_hub_rows_and_native_files_are_the_same_samples(tmp_path):
    native = write_native(tmp_path / "native")
    rows = []
    for n, (subtask, text) in enumerate(RESULTS.items()):
        for line in text.splitlines():
            name, question, label, *_ = line.split("\t")
            image = {"bytes": picture((n, int(name[3]), 0), "PNG"), "path": None}
            number = f"{subtask}/{name}"
            rows.append(
                {"question_id": number, "image": image, "question": question, "answer": label, "category": subtask}
            )
    write_parquet(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet", HUB_FEATURES, rows)
    ours, theirs = samples(native), samples(tmp_path / "hub")
    assert [(s.id, s.data, s.cluster, s.part) for s in ours] == [(s.id, s.data, s.cluster, s.part) for s in theirs]
    assert [digest(s.images[0]) for s in ours] == [digest(s.images[0]) for s in theirs]
    assert len({s.images for s in theirs}) == 3


def test_ids_do_not_depend_on_which_question_comes_first(tmp_path):
    lines = RESULTS["existence"].splitlines(keepends=True)
    turned = write_results(tmp_path / "turned", {"existence": "".join([lines[1], lines[0], *lines[2:]])})
    given = write_results(tmp_path / "given", {"existence": "".join(lines)})
    by_id = {s.id: s.data for s in samples(given, images=False)}
    assert {s.id: s.data for s in samples(turned, images=False)} == by_id


def test_prompts_of_the_protocols(tmp_path):
    sample = samples(write_native(tmp_path))[0]
    (official,), (paper,), (lmms,) = (mme(p).requests(sample) for p in ("official", "paper", "lmms"))
    assert official.prompt.text == paper.prompt.text == "Is there a cat? Please answer yes or no."
    assert (official.prompt.template, official.params.max_new_tokens, official.params.sampled) == ("model", 16, False)
    assert (paper.prompt.template, paper.prompt.demos, paper.params.max_new_tokens) == ("vicuna_v0", (), 10)
    assert paper.prompt.images[0].transforms == ("center_crop",)
    assert lmms.prompt.text == "Is there a cat?\nAnswer the question using a single word or phrase."


def test_the_paper_strips_before_it_reads():
    sample = next(iter(mme().samples(DataChoice.parse(["mini"], only_mini=True).source("mme"))))
    said = Response("ok", text="     Yes")
    assert [mme(p).record(sample, [said])["answer"] for p in ("official", "paper", "lmms")] == ["other", "yes", "yes"]


def test_the_miniature_holds_all_subtasks():
    found = list(mme().samples(DataChoice.parse(["mini"], only_mini=True).source("mme")))
    assert {s.part for s in found} == set(SUBTASKS)
    assert len({s.cluster for s in found}) * 2 == len(found)
    assert set(mme().headline) <= {m.name for m in mme().metrics()}


def test_a_results_folder_is_scored_without_data(tmp_path):
    values = scored(mme(), write_results(tmp_path / "model"))
    assert {name: value for name, value in values.items() if value is not None} == EXPECTED
    assert values["perception/total"] is None, "nine subtasks are missing"


@pytest.mark.parametrize("data", ["native", "flat", "template", "other"])
def test_a_results_folder_is_scored_against_data(tmp_path, data):
    answers = write_results(tmp_path / "model")
    folder = tmp_path / "data"
    folder.mkdir()
    if data in ("native", "flat"):
        write_native(folder, flat=RESULTS if data == "flat" else ())
    elif data == "template":
        write_results(folder, {n: "".join("\t".join(line.split("\t")[:3]) + "\n" for line in text.splitlines())
                               for n, text in RESULTS.items()})  # fmt: skip
    values = scored(mme(), answers, folder)
    assert {name: value for name, value in values.items() if value is not None} == EXPECTED


def test_files_by_name_and_a_single_file(tmp_path):
    folder = write_results(tmp_path)
    paths = {name: folder / f"{name}.txt" for name in RESULTS}
    values = scored(mme(), AnswerFiles(paths), folder)
    assert values["code_reasoning/score"] == 50.0
    alone = scored(mme(), paths["existence"], tmp_path)
    assert alone["existence/score"] == 100.0


def test_subtasks_named_one_by_one_are_all_that_is_asked(tmp_path):
    folder = write_results(tmp_path)
    source = Source("dir", str(folder), images=False)
    for paths in ({"": folder / "existence.txt"}, {"existence": folder / "existence.txt"}):
        found = mme().submitted(AnswerFiles(paths), source)
        assert {s.part for s in found.samples} == {"existence"}
        assert (found.missing, found.notes) == ([], ["only existence: the files named"])
    assert mme().submitted(AnswerFiles({"": folder}), source).notes == []
    (tmp_path / "none.jsonl").write_text("")
    assert len(mme().submitted(AnswerFiles({"": tmp_path / "none.jsonl"}), source).missing) > 2


def test_llavas_answers_are_matched_by_image_and_question(tmp_path):
    lines = []
    for subtask, text in RESULTS.items():
        for line in reversed(text.splitlines()):  # their file has another order
            name, question, _, answer = line.split("\t", 3)
            number = f"{subtask}/images/{name}" if subtask == "existence" else f"{subtask}/{name}"
            prompt = question.replace(SUFFIX, "") + "\nAnswer the question using a single word or phrase."
            row = {"question_id": number, "prompt": prompt, "text": answer, "model_id": "m", "metadata": {}}
            lines.append(json.dumps(row))
    path = tmp_path / "llava-v1.5-7b.jsonl"
    path.write_text("\n".join(lines) + "\n")
    values = scored(mme(), path, write_native(tmp_path / "data"))
    assert {name: value for name, value in values.items() if value is not None} == EXPECTED
    with pytest.raises(BadInput, match=r"existence\.txt .*not found in"):
        scored(mme(), path, tmp_path)


def test_a_prompt_in_the_place_of_the_question_is_matched_by_image_and_label(tmp_path):
    results = {
        name: text.replace("Is the", "Question: is the").replace("?", "? Answer:") for name, text in RESULTS.items()
    }
    values = scored(mme(), write_results(tmp_path / "model", results), write_native(tmp_path / "data"))
    assert {name: value for name, value in values.items() if value is not None} == EXPECTED


def test_missing_and_unknown_answers_are_told(tmp_path):
    data = write_native(tmp_path / "data")
    lines = RESULTS["existence"].splitlines(keepends=True)
    extra = "0009.jpg\tIs there a cow? Please answer yes or no.\tNo\tNo\n"
    answers = write_results(tmp_path / "model", {"existence": "".join([*lines[:3], extra])})
    found = mme().submitted(AnswerFiles({"": answers}), Source("dir", str(data), images=False))
    assert found.missing == ["existence/0002/no", "code_reasoning/0001/yes", "code_reasoning/0001/no"]
    assert found.unknown == ["existence/0009: Is there a cow? Please answer yes or no."]


FIRST, SECOND, *REST = RESULTS["existence"].splitlines(keepends=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FIRST + SECOND + FIRST, r"existence\.txt:3: the question 'Is there a cat\?.*' is answered twice for 0001"),
        (FIRST + SECOND.replace("\tNo\tNo.", "\tYes\tNo."), r"existence\.txt:2: the label is yes, that of the data no"),
        (FIRST + "0001.jpg\tIs there a dog?\tNo\n", r"existence\.txt:2: expected 4 tab-separated cells, found 3"),
        (FIRST.replace("\tYes\t", "\tYep\t"), r"existence\.txt:1: the label must be Yes or No, found 'Yep'"),
        ("0001.jpg\n", r"existence\.txt:1: expected 4 tab-separated cells, found 1; is the file complete\?"),
    ],
)
def test_bad_results_are_one_line(tmp_path, text, message):
    data = write_native(tmp_path / "data")
    with pytest.raises(BadInput, match=message) as caught:
        scored(mme(), write_results(tmp_path / "model", {"existence": text}), data)
    assert "\n" not in str(caught.value)


def test_a_results_folder_with_half_a_pair_or_nothing(tmp_path):
    with pytest.raises(BadInput, match=r"existence\.txt:3: image 0002 has 1 questions; MME asks two about each"):
        scored(mme(), write_results(tmp_path / "half", {"existence": FIRST + SECOND + REST[0]}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"no <subtask>\.txt there; subtasks: existence, count"):
        scored(mme(), tmp_path / "empty")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"question_id": "existence/0001.jpg", "text": "Yes"}', r"a\.jsonl:1: field 'prompt' is missing"),
        (
            '{"question_id": "existence/0001.jpg", "prompt": "Is there a cat?", "text": 1}',
            r"a\.jsonl:1: .*text, found int",
        ),
        ('{"question_id": "existence/0001.jpg", "prom', r"a\.jsonl:1: not valid JSON"),
        ("[1]", r"a\.jsonl:1: expected an object"),
    ],
)
def test_bad_llava_answers_are_one_line(tmp_path, row, message):
    (tmp_path / "a.jsonl").write_text(row + "\n")
    with pytest.raises(BadInput, match=message):
        scored(mme(), tmp_path / "a.jsonl", write_native(tmp_path / "data"))


def test_bad_native_files_are_one_line(tmp_path):
    folder = write_native(tmp_path)
    (folder / "existence" / "images" / "0001.jpg").unlink()
    with pytest.raises(BadInput, match=r"1 of 3 images are missing \(the first: existence/0001\)"):
        samples(folder)
    (folder / "existence" / "questions_answers_YN" / "0002.txt").write_text("Is there a bus?\tYes\n")
    with pytest.raises(BadInput, match=r"0002\.txt: expected two lines .* found 1"):
        samples(folder)
    (folder / "existence" / "questions_answers_YN" / "0002.txt").write_text("Is there a bus?\nNo\n")
    with pytest.raises(BadInput, match=r"0002\.txt:1: expected 2 tab-separated cells"):
        samples(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"existence\.txt .*not found in .*Get it: github"):
        samples(tmp_path / "empty")


def test_bad_hub_rows_are_named(tmp_path):
    row = {"question_id": "x/1.png", "image": {"bytes": picture((1, 1, 1)), "path": None}, "question": "?",
           "answer": "Yes", "category": "smell"}  # fmt: skip
    write_parquet(tmp_path / "test-00000-of-00001.parquet", HUB_FEATURES, [row])
    with pytest.raises(BadInput, match=r"mme: row 0: category 'smell' is none of existence, count"):
        samples(tmp_path)


@pytest.mark.parametrize("data", ["none", "root", "template"])
def test_the_official_tools_figures_on_real_answers(data):
    case = shared_data("cases") / "mme_lavin"
    source = {"none": None, "root": shared_data("cases").parent, "template": shared_data("mme")}[data]
    values = scored(mme(), case / "LaVIN", source)
    expected = json.loads((case / "expected.json").read_text())["metrics"]
    assert len(expected) == 58
    for name, wanted in expected.items():
        assert values[name] == pytest.approx(wanted["value"], abs=wanted["abs_tol"]), name


def test_the_real_template_has_the_benchmarks_counts():
    found = samples(shared_data("mme"), images=False)
    counts = {name: sum(s.part == name for s in found) for name in SUBTASKS}
    assert list(counts.values()) == [60, 60, 60, 60, 294, 340, 400, 400, 400, 40, 140, 40, 40, 40]
    assert len({s.cluster for s in found}) == 1187
