import json

import pytest

from mmalign_eval.data.source import DataChoice, Source
from mmalign_eval.errors import BadInput
from mmalign_eval.images import digest, open_image
from mmalign_eval.registry import TASKS
from mmalign_eval.requests import Response
from mmalign_eval.stats import estimates
from tests.data.hub_files import picture, write_parquet
from tests.support import shared_data

SPLITS = ("random", "popular", "adversarial")
HUB_FEATURES = {"id": "string", "question_id": "string", "question": "string", "answer": "string",
                "image_source": "string", "image": "image", "category": "string"}  # fmt: skip


def pope(protocol=""):
    return TASKS.get("pope")(protocol)


def image_name(i):
    return f"COCO_val2014_{i // 2:012d}.jpg"


def question(i, **more):
    text, label = f"Is there a dog{i} in the image?", "no" if i % 2 else "yes"
    return {"question_id": i + 1, "image": image_name(i), "text": text, "label": label, **more}


def write_file(folder, split, rows):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"coco_pope_{split}.json").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for n, name in enumerate(sorted(set(names))):
        (folder / name).write_bytes(picture((n % 256, n // 256, 0), "JPEG"))


@pytest.fixture
def native(tmp_path):
    for split in SPLITS:
        write_file(tmp_path / "pope", split, [question(i) for i in range(6)])
    write_images(tmp_path / "pope" / "val2014", map(image_name, range(6)))
    return tmp_path


def samples(path, task=None):
    return list((task or pope()).samples(Source("dir", str(path))))


def scored(task, found, answers):
    records = []
    for sample, answer in zip(found, answers, strict=True):
        record = task.record(sample, [Response("ok", text=answer)])
        records.append({**record, "cluster": sample.cluster})
    task.finish(records)
    return {e.name: e for e in estimates(task.metrics(), records)}


def test_native_files_become_samples(native):
    found = samples(native)
    assert [s.id for s in found] == [f"{split}/{i}" for split in SPLITS for i in range(1, 7)]
    first = found[0]
    assert first.data == {"question": "Is there a dog0 in the image?", "label": "yes", "split": "random"}
    assert (first.cluster, first.part) == ("COCO_val2014_000000000000", "random")
    assert open_image(first.images[0]).size == (16, 12)


def test_files_lie_in_the_folder_itself_and_one_is_enough(tmp_path):
    write_file(tmp_path, "popular", [question(i) for i in range(4)])
    write_images(tmp_path, map(image_name, range(4)))
    assert [s.id for s in samples(tmp_path)] == ["popular/1", "popular/2", "popular/3", "popular/4"]


def test_hub_rows_and_native_files_are_the_same_samples(native, tmp_path):
    rows = [
        {"id": str(n), "question_id": str(row["question_id"]), "question": row["text"], "answer": row["label"],
         "image_source": row["image"].removesuffix(".jpg"), "category": split,
         "image": {"bytes": (native / "pope" / "val2014" / row["image"]).read_bytes(), "path": row["image"]}}
        for n, (split, row) in enumerate((s, question(i)) for s in SPLITS for i in range(6))
    ]  # fmt: skip
    hub = tmp_path / "hub" / "pope" / "data"
    write_parquet(hub / "test-00000-of-00002.parquet", HUB_FEATURES, rows[:7])
    write_parquet(hub / "test-00001-of-00002.parquet", HUB_FEATURES, rows[7:])
    ours, theirs = samples(native), samples(tmp_path / "hub")
    assert [(s.id, s.data, s.cluster, s.part) for s in ours] == [(s.id, s.data, s.cluster, s.part) for s in theirs]
    assert [digest(s.images[0]) for s in ours] == [digest(s.images[0]) for s in theirs]
    assert len({s.images for s in theirs}) == 3, "the image that the hub repeats in each row is one image"


def test_configuration_full_loads_too(native, tmp_path):
    for split in SPLITS:
        rows = [
            {"id": str(i), "question_id": str(i + 1), "question": "Is there a dog?", "answer": "no", "category": split,
             "image_source": "x", "image": {"bytes": picture((1, 2, 3)), "path": None}}
            for i in range(2)
        ]  # fmt: skip
        write_parquet(tmp_path / "hub" / "Full" / f"{split}-00000-of-00001.parquet", HUB_FEATURES, rows)
    assert {s.id for s in samples(tmp_path / "hub")} == {f"{split}/{i}" for split in SPLITS for i in (1, 2)}


def test_the_old_edition_is_read_as_it_is_and_noted(tmp_path):
    rows = [question(i, text="Is there a dog in the imange?") for i in range(2910)]
    write_file(tmp_path, "random", rows)
    write_images(tmp_path, [image_name(i) for i in range(2910)])
    task = pope()
    found = samples(tmp_path, task)
    assert len(found) == 2910
    assert task.requests(found[0])[0].prompt.text == "Is there a dog in the imange?"
    assert task.signature_extra() == {"edition": "old (2910 random questions)"}


def test_the_current_edition_needs_no_note(native):
    task = pope()
    samples(native, task)
    assert task.signature_extra() == {}


def test_prompts_of_the_protocols(native):
    sample = samples(native)[0]
    (official,), (paper,), (lmms,) = (pope(p).requests(sample) for p in ("official", "paper", "lmms"))
    assert (official.prompt.text, official.prompt.template) == ("Is there a dog0 in the image?", "model")
    assert official.params.max_new_tokens == 128
    assert not official.params.sampled
    assert (paper.prompt.text, paper.prompt.template, paper.prompt.demos) == (official.prompt.text, "vicuna_v0", ())
    assert paper.prompt.images[0].transforms == ("center_crop",)
    assert (paper.params.temperature, paper.params.top_k, paper.params.max_new_tokens) == (0.2, 50, 10)
    assert (paper.params.min_new_tokens, paper.params.stop) == (1, ("###",))
    assert lmms.prompt.text == "Is there a dog0 in the image?\nAnswer the question using a single word or phrase."


def test_right_answers_score_full_marks(native):
    task = pope()
    found = samples(native, task)
    values = {n: e.value for n, e in scored(task, found, [task.right_answer(s)[0].text for s in found]).items()}
    counts = {"TP": 3, "TN": 3, "FP": 0, "FN": 0, "yes_ratio": 0.5}
    assert all(v == counts.get(n.split("/")[1], 1.0) for n, v in values.items())
    assert {f"{s}/{m}" for s in SPLITS for m in ("accuracy", "precision", "recall", "f1", "yes_ratio")} < set(values)
    assert set(task.headline) <= set(values)


def test_splits_are_scored_apart(native):
    task = pope()
    found = samples(native, task)
    # random: all right; popular: always yes; adversarial: always no (nothing said is "yes", as officially)
    answers = [task.right_answer(s)[0].text if s.part == "random" else {"popular": "", "adversarial": "no"}[s.part]
               for s in found]  # fmt: skip
    values = scored(task, found, answers)
    assert values["popular/accuracy"].value == 0.5
    assert values["popular/recall"].value == 1.0
    assert values["popular/yes_ratio"].value == 1.0
    assert values["popular/f1"].value == pytest.approx(2 / 3)
    assert values["adversarial/recall"].value == 0.0
    assert values["adversarial/precision"].value is None
    assert values["mean/accuracy"].value == pytest.approx(2 / 3)
    assert values["mean/f1"].value is None
    assert (values["random/accuracy"].n, values["random/accuracy"].clusters) == (6, 3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([question(0), {"question_id": 2, "image": image_name(1), "text": "?"}], r"random\.json:2: field 'label'"),
        ([question(0, label="maybe")], r"random\.json:1: the label must be yes or no, found 'maybe'"),
        ([question(0), question(0)], r"coco_pope_random\.json:2: sample id 'random/1' occurs twice"),
        ([question(0, image="../../etc/passwd")], r"coco_pope_random\.json:1: image name .* leaves the data folder"),
        ([question(0, image="other.jpg"), question(1)], r"1 of 2 .* missing \(the first: other\.jpg, .*:1\)"),
        ([], r"no samples in"),
    ],
)
def test_bad_files_are_one_line(tmp_path, rows, message):
    write_file(tmp_path, "random", rows)
    write_images(tmp_path, map(image_name, range(2)))
    with pytest.raises(BadInput, match=message) as caught:
        samples(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_cut_off_file_is_named_with_its_line(tmp_path):
    (tmp_path / "coco_pope_random.json").write_text(json.dumps(question(0)) + '\n{"question_id": 2, "ima')
    write_images(tmp_path, [image_name(0)])
    with pytest.raises(BadInput, match=r"coco_pope_random\.json:2: not valid JSON"):
        samples(tmp_path)


def test_an_empty_folder_says_what_is_expected(tmp_path):
    with pytest.raises(BadInput, match=r"coco_pope_random\.json not found .* val2014 .*Get it: github"):
        samples(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"category": "other"}, "category 'other' is none of random, popular, adversarial"), ({"answer": "YES"}, "'YES'")],
)
def test_bad_hub_rows_are_named(tmp_path, change, message):
    row = {"id": "0", "question_id": "1", "question": "?", "answer": "yes", "image_source": "x", "category": "random",
           "image": {"bytes": picture((1, 1, 1)), "path": None}}  # fmt: skip
    write_parquet(tmp_path / "test-00000-of-00001.parquet", HUB_FEATURES, [{**row, **change}])
    with pytest.raises(BadInput, match=rf"pope: row 0: .*{message}"):
        samples(tmp_path)


def test_the_miniature_is_read_by_the_same_code():
    found = list(pope().samples(DataChoice.parse(["mini"], only_mini=True).source("pope")))
    for split in SPLITS:
        labels = [s.data["label"] for s in found if s.part == split]
        assert labels.count("yes") == labels.count("no") > 100
    assert open_image(found[0].images[0]).mode == "RGB"


def test_real_question_files_with_a_folder_of_images(tmp_path):
    real = shared_data("pope")
    names = {json.loads(line)["image"] for s in SPLITS for line in (real / f"coco_pope_{s}.json").open()}
    write_images(tmp_path / "val2014", names)
    for split in SPLITS:
        (tmp_path / f"coco_pope_{split}.json").symlink_to(real / f"coco_pope_{split}.json")
    task = pope()
    found = samples(tmp_path, task)
    assert [sum(s.part == split for s in found) for split in SPLITS] == [3000, 3000, 3000]
    assert len({s.cluster for s in found}) == 500
    assert len({s.images for s in found}) == 500
    assert task.signature_extra() == {}
    values = scored(task, found, ["yes"] * len(found))
    for split in SPLITS:
        assert (values[f"{split}/accuracy"].value, values[f"{split}/yes_ratio"].value) == (0.5, 1.0)
        assert sum(s.data["label"] == "yes" for s in found if s.part == split) == 1500
    assert values["mean/f1"].value == pytest.approx(2 / 3)


def test_real_question_files_without_images_are_refused():
    with pytest.raises(BadInput, match="500 of 500 images are missing"):
        samples(shared_data("pope"))
