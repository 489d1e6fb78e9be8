import json

import pytest

from mmalign_eval.data.source import DataChoice, Source
from mmalign_eval.errors import BadInput
from mmalign_eval.images import open_image
from mmalign_eval.registry import TASKS
from mmalign_eval.roles import AnswerFiles
from tests.data.hub_files import picture, write_parquet
from tests.support import shared_data
from tests.support_score import scored
from tests.tasks.coco_objects_case import IMAGES, OFFICIAL_LIKE, name, write_annotations, write_coco


def chair(protocol=""):
    return TASKS.get("chair")(protocol)


def samples(path, task=None, **source):
    return list((task or chair()).samples(Source("dir", str(path), **source)))


def whole(values):
    return {key: value for key, value in values.items() if "@" not in key}


OBJECTS = {"42": ["dining table", "dog", "person"], "73": ["cat", "chair"], "139": []}
# By hand, with the official table's quirks: "buses" is a bus and "bus" is nothing, "men" are persons.
SAID = {
    42: "Two men, a dog and a bus.",  # person, dog
    73: "A cat on a chair beside another cat and two buses",  # cat, chair, cat, bus(!)
    139: "A man. A man!",  # person(!), person(!)
}
BY_HAND = {"CHAIRs": 200 / 3, "CHAIRi": 300 / 8, "recall": 400 / 5, "len": (7 + 11 + 4) / 3}


def test_objects_are_those_of_instances_and_of_captions(tmp_path):
    write_coco(tmp_path)
    found = {s.id: s for s in samples(tmp_path)}
    assert {number: s.data["objects"] for number, s in found.items()} == OBJECTS
    assert open_image(found["42"].images[0]).size == (16, 12)


def test_five_hundred_images_are_drawn_always_the_same(tmp_path):
    many = {number: ([1], ["A man"]) for number in range(1, 521)}
    write_annotations(tmp_path / "annotations", many)
    first = [s.id for s in samples(tmp_path, images=False)]
    assert len(first) == len(set(first)) == 500
    assert first == [s.id for s in samples(tmp_path, images=False)]


def test_the_prompt(tmp_path):
    write_coco(tmp_path)
    task = chair()
    (request,) = task.requests(samples(tmp_path, task)[0])
    assert request.prompt.text == "Please describe this image in detail."
    assert (request.params.max_new_tokens, request.params.sampled, request.prompt.template) == (512, False, "model")


def test_hub_rows_bring_their_objects(tmp_path):
    rows = [{"question_id": str(n), "gt_object": o, "image": {"bytes": picture((1, 2, 3)), "path": None}}
            for n, o in ((42, ["dog", "cat", "dog"]), (73, ["chair"]))]  # fmt: skip
    features = {"question_id": "string", "gt_object": "list", "image": "image"}
    write_parquet(tmp_path / "coco" / "test-00000-of-00001.parquet", features, rows)
    assert [(s.id, s.data["objects"]) for s in samples(tmp_path)] == [("42", ["cat", "dog"]), ("73", ["chair"])]


def test_the_miniature_is_read_by_the_same_code():
    found = list(chair().samples(DataChoice.parse(["mini"], only_mini=True).source("chair")))
    assert len(found) == 200
    assert all(s.data["objects"] for s in found)


def submit(folder, text, file="answers.jsonl", **options):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text)
    return AnswerFiles({"": folder / file}, options)


def table_file(folder):
    (folder / "official.txt").write_text(OFFICIAL_LIKE)
    return str(folder / "official.txt")


FORMS = {
    "lines": ("a.jsonl", "".join(f'{{"image_id": {n}, "caption": "{t}"}}\n' for n, t in SAID.items())),
    "list": ("a.json", json.dumps([{"image_id": n, "caption": t} for n, t in SAID.items()])),
    "LisaAnne": ("a.json", json.dumps({
        "overall": {"CIDEr": 1.0},
        "imgToEval": {str(n): {"image_id": n, "caption": t, "CIDEr": 1} for n, t in SAID.items()},
    })),
    "scored before": ("a.json", json.dumps({"sentences": [{"image_id": n, "caption": t} for n, t in SAID.items()]})),
    "file names": ("a.jsonl", "".join(json.dumps({"image_id": name(n), "caption": t}) + "\n" for n, t in SAID.items())),
    "mapping": ("a.json", json.dumps({str(n): t for n, t in SAID.items()})),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_submissions_with_annotation_files(tmp_path, form):
    write_annotations(tmp_path / "coco")
    files = submit(tmp_path / "out", FORMS[form][1], FORMS[form][0], synonyms=table_file(tmp_path))
    assert whole(scored(chair(), files, tmp_path / "coco")) == pytest.approx(BY_HAND)


@pytest.mark.parametrize("split", ["val2017", "train2014", "mine"])
def test_any_split_of_coco_will_do(tmp_path, split):
    write_annotations(tmp_path / "annotations", split=split)
    files = submit(tmp_path / "out", FORMS["lines"][1], synonyms=table_file(tmp_path))
    assert whole(scored(chair(), files, tmp_path)) == pytest.approx(BY_HAND)


def test_images_may_be_spread_over_splits(tmp_path):
    write_annotations(tmp_path / "annotations", {42: IMAGES[42], 139: IMAGES[139]})
    write_annotations(tmp_path / "annotations", {73: IMAGES[73]}, split="train2014")
    files = submit(tmp_path / "out", FORMS["lines"][1], synonyms=table_file(tmp_path))
    assert whole(scored(chair(), files, tmp_path)) == pytest.approx(BY_HAND)


def test_an_annotation_file_may_be_named_itself(tmp_path):
    write_annotations(tmp_path)
    files = submit(tmp_path / "out", FORMS["lines"][1], synonyms=table_file(tmp_path))
    for file in ("instances_val2014.json", "captions_val2014.json"):
        assert whole(scored(chair(), files, tmp_path / file)) == pytest.approx(BY_HAND)


def test_annotation_files_may_have_other_names(tmp_path):
    write_annotations(tmp_path)
    for kind in ("instances", "captions"):
        (tmp_path / f"{kind}_val2014.json").rename(tmp_path / f"coco_{kind}.json")
    files = submit(tmp_path / "out", FORMS["lines"][1], synonyms=table_file(tmp_path))
    assert whole(scored(chair(), files, tmp_path)) == pytest.approx(BY_HAND)


def test_prepared_objects_stand_for_annotations(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps({**OBJECTS, "42": ["table", "dog", "person", "dog"]}))
    files = submit(tmp_path / "out", FORMS["lines"][1], synonyms=table_file(tmp_path))
    assert whole(scored(chair(), files, tmp_path / "truth.json")) == pytest.approx(BY_HAND)


def test_what_is_missing_and_what_is_unknown(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps({"1": ["dog"], "2": ["cat"]}))
    text = '{"image_id": 2, "caption": "a cat"}\n{"image_id": 3, "caption": "a dog"}\n'
    source = Source("dir", str(tmp_path), file="truth.json", images=False)
    read = chair().submitted(submit(tmp_path / "out", text), source)
    assert (read.missing, read.unknown, list(read.responses)) == (["1"], ["3"], ["2"])


def test_the_table_is_told_in_the_signature(tmp_path):
    write_coco(tmp_path)
    task = chair()
    samples(tmp_path, task)
    assert task.signature_extra() == {"synonyms": "built-in"}
    (tmp_path / "coco" / "synonyms.txt").write_text(OFFICIAL_LIKE)
    samples(tmp_path, task)
    assert task.signature_extra()["synonyms"].startswith("sha256 ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image_id": 42, "caption": "a"}\n{"image_id": 42, "caption": "b"}\n', r":2: id '42' occurs twice"),
        ('{"image_id": 42, "caption": "a"}\n{"image_id": 7', r":2: not valid JSON"),
        ('{"image_id": 42, "words": "a"}\n', r":1: field 'caption' is missing"),
        ('{"caption": "a"}\n', r":1: field 'image_id' is missing"),
        ('{"image_id": 42, "caption": 3}\n', r":1: expected the answer as text"),
        ('{"image_id": [1], "caption": "a"}\n', r":1: image_id must be a number or text, found list"),
        ("[1, 2]\n", r":1: expected an object"),
        ("\n", r"no answers"),
    ],
)
def test_bad_answers_are_one_line(tmp_path, text, message):
    write_annotations(tmp_path)
    with pytest.raises(BadInput, match=message) as caught:
        scored(chair(), submit(tmp_path / "out", text), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("truth.json", '{"42": "dog"}', "'42': expected a list of object names"),
        ("truth.json", "[1]", "expected {image_id: "),
        ("truth.json", '{"42": ["dog"]', r"truth\.json:1: not valid JSON"),
        ("instances_val2014.json", "{}", r"instances_val2014\.json: no list 'images'"),
        ("instances_val2014.json", '{"images": [{"file_name": "x"}]}', r"images\[0\]: field 'id' is missing"),
        ("instances_val2014.json", '{"images": [{"id": 42}], "categories": [{"id": 1, "name": "rocket"}]}', "rocket"),
    ],
)
def test_bad_data_are_one_line(tmp_path, file, text, message):
    write_annotations(tmp_path)
    (tmp_path / file).write_text(text)
    source = tmp_path / file if file == "truth.json" else tmp_path
    with pytest.raises(BadInput, match=message):
        scored(chair(), submit(tmp_path / "out", FORMS["lines"][1]), source)


def test_captions_must_be_there_too(tmp_path):
    write_annotations(tmp_path)
    (tmp_path / "captions_val2014.json").unlink()
    with pytest.raises(BadInput, match="captions_val2014.json is not beside"):
        scored(chair(), submit(tmp_path / "out", FORMS["lines"][1]), tmp_path)


@pytest.mark.parametrize(("content", "message"), [(b"\xff\xfe\x00", "not UTF-8"), (b"\n\n", "no synonyms")])
def test_a_bad_table_is_refused(tmp_path, content, message):
    write_annotations(tmp_path)
    (tmp_path / "table.txt").write_bytes(content)
    for path, told in ((tmp_path / "table.txt", message), (tmp_path / "none.txt", "cannot be read")):
        with pytest.raises(BadInput, match=f"--synonyms .*{told}"):
            scored(chair(), submit(tmp_path / "out", FORMS["lines"][1], synonyms=str(path)), tmp_path)


def test_published_example_of_the_standalone_scorer(tmp_path):
    shared = shared_data("chair")
    published = json.loads((shared / "example_outputs.json").read_text())
    truth = {s["image_id"]: s["mscoco_gt_words"] for s in published["sentences"]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for options in ({}, {"synonyms": str(shared / "synonyms.txt")}):
        files = AnswerFiles({"": shared / "example_inputs.jsonl"}, options)
        found = scored(chair(), files, tmp_path / "truth.json")
        overall = published["overall_metrics"]
        assert found["CHAIRs"] == pytest.approx(100 * overall["CHAIRs"])
        assert found["CHAIRi"] == pytest.approx(100 * overall["CHAIRi"])
        assert found["recall"] == pytest.approx(100 * overall["Recall"])


def test_real_annotations_of_2017(tmp_path):
    data = shared_data("coco_mini")
    captions = json.loads((data / "annotations" / "captions_val2017.json").read_text())["annotations"]
    first = {row["image_id"]: row["caption"] for row in reversed(captions)}
    text = "".join(json.dumps({"image_id": n, "caption": c}) + "\n" for n, c in first.items())
    options = {"synonyms": str(shared_data("chair") / "synonyms.txt")}
    found = scored(chair(), submit(tmp_path, text, **options), data)
    assert (found["CHAIRs"], found["CHAIRi"]) == (0.0, 0.0), "what people said of an image is in its objects"
    assert 20 < found["recall"] < 90


# --- forms in the wild ------------------------------------------------------------------------------------------------

WILD = {
    "LLaVA, by file name": [
        {"question_id": name(n), "prompt": "Describe it.", "text": t, "model_id": "m"} for n, t in SAID.items()
    ],
    "LLaVA, by number and image": [
        {"question_id": i, "image": name(n), "prompt": "Describe it.", "text": t}
        for i, (n, t) in enumerate(SAID.items())
    ],
    "image": [{"image": f"val2014/{name(n)}", "caption": t} for n, t in SAID.items()],
    "floats": [{"image_id": float(n), "caption": t} for n, t in SAID.items()],
    "answer": [
        {"idx": i, "question": "<image>./</image>Describe it.", "answer": t, "metainfos": {"org_idx": 9, "image_id": n}}
        for i, (n, t) in enumerate(SAID.items())
    ],
    "metainfos as text": [
        {"question": "?", "answer": t, "metainfos": json.dumps({"image_id": n})} for n, t in SAID.items()
    ],
    "lmms-eval": [
        {"doc_id": i, "doc": {"question_id": str(n)}, "target": "", "resps": [[t]], "filtered_resps": [t]}
        for i, (n, t) in enumerate(SAID.items())
    ],
}


@pytest.mark.parametrize("form", WILD)
def test_answers_as_other_tools_write_them(tmp_path, form):
    write_annotations(tmp_path)
    text = "\ufeff" + "".join(json.dumps(row) + "\r\n" for row in WILD[form]) + "\r\n"
    files = submit(tmp_path / "out", text, synonyms=table_file(tmp_path))
    assert whole(scored(chair(), files, tmp_path)) == pytest.approx(BY_HAND)


@pytest.mark.parametrize("wrap", [lambda t: [t], lambda t: {"caption": t}, lambda t: [{"caption": t}]])
def test_a_mapping_of_images_may_hold_lists_or_objects(tmp_path, wrap):
    write_annotations(tmp_path)
    text = json.dumps({name(n): wrap(t) for n, t in SAID.items()})
    files = submit(tmp_path / "out", text, "a.json", synonyms=table_file(tmp_path))
    assert whole(scored(chair(), files, tmp_path)) == pytest.approx(BY_HAND)


def test_a_question_id_that_is_a_number_names_no_image(tmp_path):
    write_annotations(tmp_path)
    with pytest.raises(BadInput, match=r":1: field 'image_id' is missing"):
        scored(chair(), submit(tmp_path / "out", '{"question_id": "42", "text": "a dog"}\n'), tmp_path)


def test_an_image_described_twice_in_a_mapping(tmp_path):
    write_annotations(tmp_path)
    with pytest.raises(BadInput, match="'42' occurs twice"):
        scored(chair(), submit(tmp_path / "out", '{"42": "a", "42": "b"}', "a.json"), tmp_path)


def test_prepared_objects_are_told_by_what_they_hold(tmp_path):
    files = submit(tmp_path / "out", FORMS["lines"][1], synonyms=table_file(tmp_path))
    objects = json.dumps({name(int(n)): found for n, found in OBJECTS.items()})
    (tmp_path / "instances_objects.json").write_text("\ufeff" + objects)
    assert whole(scored(chair(), files, tmp_path / "instances_objects.json")) == pytest.approx(BY_HAND)
    folder = tmp_path / "alone"
    folder.mkdir()
    (folder / "truth.json").write_text(objects)
    assert whole(scored(chair(), files, folder)) == pytest.approx(BY_HAND)
    (folder / "more.json").write_text(objects)
    with pytest.raises(BadInput, match=r"more\.json and truth\.json may both hold objects"):
        scored(chair(), files, folder)
