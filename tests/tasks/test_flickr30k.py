import json

import pytest

from mmalign_eval.data.source import DataChoice, Source
from mmalign_eval.errors import BadInput
from mmalign_eval.images import digest, open_image
from mmalign_eval.registry import TASKS
from mmalign_eval.roles import AnswerFiles
from tests.data.hub_files import picture, write_parquet

CAPTIONS = {
    "1007129816": ["The man with pierced ears is wearing glasses and an orange hat.", "A man with glasses"],
    "1009434119": ["A black and white dog is running in a grassy garden.", "A dog runs on the green grass"],
}
TRAINING = {str(100 + n): [f"train {n} a", f"train {n} b"] for n in range(5)}
NLPHUJI = {"image": "image", "caption": "list", "sentids": "list", "split": "string", "img_id": "string",
           "filename": "string"}  # fmt: skip
LMMS_LAB = {"image": "image", "caption": "list", "sentids": "list", "img_id": "string", "filename": "string"}


def flickr30k(protocol="", few_shot=None):
    return TASKS.get("flickr30k")(protocol, few_shot)


def samples(path, task=None):
    return list((task or flickr30k()).samples(Source("dir", str(path))))


def karpathy_row(name, split, captions):
    return {"sentids": [0], "imgid": 0, "sentences": [{"raw": c, "tokens": c.split()} for c in captions],
            "split": split, "filename": f"{name}.jpg"}  # fmt: skip


def write_images(folder, names=CAPTIONS):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.jpg").write_bytes(picture((int(name) % 256, 3, 9), "JPEG"))


def write_karpathy(folder, images="flickr30k-images"):
    rows = [karpathy_row(n, "train", c) for n, c in TRAINING.items()]
    rows += [karpathy_row(n, "test", c) for n, c in CAPTIONS.items()] + [karpathy_row("5", "val", ["not asked"])]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": rows, "dataset": "flickr30k"}))
    write_images(folder / images)


def hub_row(name, captions, split):
    return {"image": {"bytes": picture((int(name) % 256, 3, 9), "JPEG"), "path": f"{name}.jpg"}, "caption": captions,
            "sentids": ["0"], "split": split, "img_id": "7", "filename": f"{name}.jpg"}  # fmt: skip


def write_hub(folder, features=NLPHUJI):
    rows = [hub_row(n, c, "train") for n, c in TRAINING.items()] + [hub_row(n, c, "test") for n, c in CAPTIONS.items()]
    write_parquet(folder / "TEST" / "test-00000-of-00001.parquet", features, rows)


@pytest.mark.parametrize("images", ["flickr30k-images", "flickr30k_images", "images", ""])
def test_karpathys_test_split_wherever_the_images_lie(tmp_path, images):
    write_karpathy(tmp_path / "flickr30k", images)
    found = samples(tmp_path)
    assert [(s.id, s.data["references"]) for s in found] == list(CAPTIONS.items())
    assert open_image(found[0].images[0]).size == (16, 12)


def test_lists_of_the_papers_code(tmp_path):
    rows = [{"image_name": f"{n}.jpg", "captions": c} for n, c in CAPTIONS.items()]
    (tmp_path / "flickr30k_test.json").write_text(json.dumps(rows))
    (tmp_path / "flickr30k_train.json").write_text(json.dumps([{"image_name": "1.jpg", "captions": ["one"]}]))
    write_images(tmp_path / "flickr30k-images")
    task = flickr30k("paper", 1)
    found = samples(tmp_path, task)
    assert [(s.id, s.data["references"]) for s in found] == list(CAPTIONS.items())
    assert task.demos(found[0]) == (("Please provide a description of the picture.", "one"),)


def test_hub_rows_with_splits_and_native_files_are_the_same_samples(tmp_path):
    write_karpathy(tmp_path / "native")
    write_hub(tmp_path / "hub")
    ours, theirs = samples(tmp_path / "native"), samples(tmp_path / "hub")
    assert [(s.id, s.data) for s in ours] == [(s.id, s.data) for s in theirs]
    assert [digest(s.images[0]) for s in ours] == [digest(s.images[0]) for s in theirs]
    demos = [task.demos(found[0]) for task, found in ((t, samples(tmp_path / at, t)) for t, at in
             ((flickr30k("paper"), "native"), (flickr30k("paper"), "hub")))]  # fmt: skip
    assert demos[0] == demos[1]
    assert all(answer.startswith("train ") for _, answer in demos[0])


def test_rows_without_splits_are_all_taken_and_that_is_noted(tmp_path):
    write_hub(tmp_path / "hub", LMMS_LAB)
    write_hub(tmp_path / "split")
    task, other = flickr30k("lmms"), flickr30k("lmms")
    assert len(samples(tmp_path / "hub", task)) == len(TRAINING) + len(CAPTIONS)
    assert task.signature_extra()["images"] == "all, no split"
    assert len(samples(tmp_path / "split", other)) == len(CAPTIONS)
    assert "images" not in other.signature_extra()


def test_prompts_of_the_protocols(tmp_path):
    write_karpathy(tmp_path)
    sample = samples(tmp_path)[0]

    def asked(protocol):
        (request,) = flickr30k(protocol, 0 if protocol == "paper" else None).requests(sample)
        params = request.params
        transforms = request.prompt.images[0].transforms
        return request.prompt.text, request.prompt.template, params.max_new_tokens, params.temperature, transforms

    one_sentence = "Provide a one-sentence caption for the provided image."
    assert asked("official") == asked("lmms") == (one_sentence, "model", 64, 0.0, ())
    assert asked("paper") == (
        "Please provide a description of the picture.", "vicuna_v0", 10, 0.2, ("center_crop",)
    )  # fmt: skip


def test_three_demonstrations_without_images(tmp_path):
    write_karpathy(tmp_path)
    task = flickr30k("paper")
    found = samples(tmp_path, task)
    (request,) = task.requests(found[0])
    assert len(request.prompt.demos) == 3
    assert len(request.prompt.images) == 1
    assert request.prompt.demos != task.requests(found[1])[0].prompt.demos


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"dataset_flickr30k\.json or flickr30k_test\.json not found .*Get it: shannon"),
        ({"dataset_flickr30k.json": '{"images": [\n{"x"'}, r"dataset_flickr30k\.json:2: not valid JSON"),
        ({"flickr30k_test.json": '[{"image_name": "1.jpg", "captions": ["x"]}]'}, r"1 of 1 images are missing"),
        ({"flickr30k_test.json": '[{"image_name": "../1.jpg", "captions": ["x"]}]'}, "leaves the data folder"),
    ],
)
def test_bad_data_is_one_line(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        samples(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["1007129816", '"1007129816"', '"1007129816.jpg"'])
def test_a_submission_names_images_as_tools_do(tmp_path, number):
    write_karpathy(tmp_path)
    answers = tmp_path / "results.json"
    answers.write_text(f'[{{"image_id": {number}, "caption": "a man"}}]')
    found = flickr30k().submitted(AnswerFiles({"": answers}), Source("dir", str(tmp_path), images=False))
    assert (list(found.responses), found.missing, found.unknown) == (["1007129816"], ["1009434119"], [])


def test_the_miniature_is_read_by_the_same_code():
    task = flickr30k("paper")
    found = list(task.samples(DataChoice.parse(["mini"], only_mini=True).source("flickr30k")))
    assert len(found) >= 40
    assert len(task.demos(found[0])) == 3
    assert open_image(found[0].images[0]).mode == "RGB"


def test_a_hub_repository_made_by_a_script_gives_way_to_the_next(tmp_path, monkeypatch):
    """nlphuji/flickr30k is one, which `datasets` 4 refuses."""
    import datasets

    write_hub(tmp_path, LMMS_LAB)
    real, asked = datasets.load_dataset, []

    def load(name, config=None, split=None, **kwargs):
        asked.append(name)
        if name.startswith("nlphuji"):
            raise RuntimeError("Dataset scripts are no longer supported, but found flickr30k.py")
        return real("parquet", data_files=str(next(tmp_path.rglob("*.parquet"))), split="train")

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(list(flickr30k("lmms").samples(Source("hub")))) == len(TRAINING) + len(CAPTIONS)
    assert asked == ["nlphuji/flickr30k", "lmms-lab-encoder/flickr30k"]
