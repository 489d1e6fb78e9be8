import json

import pytest

from mmalign_eval.data.source import DataChoice, Source
from mmalign_eval.errors import BadInput
from mmalign_eval.images import digest, open_image
from mmalign_eval.metrics import java
from mmalign_eval.registry import TASKS
from mmalign_eval.requests import Response
from mmalign_eval.stats import estimates
from tests.data.hub_files import picture, write_parquet
from tests.support import shared_data

CAPTIONS = {
    391895: ["A man with a red helmet on a small moped on a dirt road.", "Man riding a motor bike on a dirt road"],
    60623: ["A young girl inhales with the intent of blowing out a candle.", "A girl blows out a candle"],
    483108: ['A man on a bicycle riding next to a "train".', "A person is riding a bicycle by a train"],
}
HUB_FEATURES = {"question_id": "string", "image": "image", "question": "string", "answer": "list", "id": "int64",
                "license": "int64", "file_name": "string", "coco_url": "string", "height": "int64", "width": "int64",
                "date_captured": "string"}  # fmt: skip


def coco_caption(protocol="", few_shot=None):
    return TASKS.get("coco_caption")(protocol, few_shot)


def name(number, split="val2014"):
    return f"{number:012d}.jpg" if split.endswith("2017") else f"COCO_{split}_{number:012d}.jpg"


def colour(number):
    return (number % 256, number // 256 % 256, 7)


def write_images(folder, split, numbers=CAPTIONS):
    (folder / split).mkdir(parents=True)
    for number in numbers:
        (folder / split / name(number, split)).write_bytes(picture(colour(number)))


def karpathy_row(number, split, captions, folder="val2014"):
    return {"filepath": folder, "filename": name(number, folder), "cocoid": number, "split": split, "imgid": number,
            "sentences": [{"raw": c, "tokens": c.split()} for c in captions]}  # fmt: skip


def write_karpathy(folder, train=12):
    rows = [karpathy_row(n, "test", c) for n, c in CAPTIONS.items()]
    rows += [karpathy_row(90000 + n, "train" if n % 2 else "restval", [f"train {n} a", f'"train" {n} b'], "train2014")
             for n in range(train)]  # fmt: skip
    rows.insert(1, karpathy_row(5, "val", ["not asked"]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_coco.json").write_text(json.dumps({"images": rows, "dataset": "coco"}))
    write_images(folder, "val2014")


def write_annotations(folder, split, captions=CAPTIONS):
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    images = [{"id": n, "file_name": name(n, split)} for n in captions]
    rows = [{"id": i, "image_id": n, "caption": c} for i, (n, cs) in enumerate(captions.items()) for c in cs]
    data = {"info": {}, "images": images, "annotations": rows, "licenses": []}
    (folder / "annotations" / f"captions_{split}.json").write_text(json.dumps(data))


def samples(path, task=None):
    return list((task or coco_caption()).samples(Source("dir", str(path))))


def test_karpathys_test_split_is_the_default(tmp_path):
    write_karpathy(tmp_path / "coco")
    write_annotations(tmp_path / "coco", "val2017", {7: ["not this one"]})
    found = samples(tmp_path)
    assert [(s.id, s.data["references"]) for s in found] == [(str(n), c) for n, c in CAPTIONS.items()]
    assert [open_image(s.images[0]).getpixel((0, 0)) for s in found] == [colour(n) for n in CAPTIONS]


@pytest.mark.parametrize("split", ["val2014", "val2017"])
def test_cocos_own_layout_and_images_without_captions(tmp_path, split):
    write_annotations(tmp_path, split, {**CAPTIONS, 99: []})
    write_images(tmp_path, split)
    assert [s.id for s in samples(tmp_path)] == ["391895", "60623", "483108"]


def test_lists_of_the_papers_code(tmp_path):
    rows = [{"image_name": name(n), "captions": c} for n, c in CAPTIONS.items()]
    (tmp_path / "mscoco_test.json").write_text(json.dumps(rows))
    write_images(tmp_path, "val2014")
    assert [(s.id, s.data["origin"]) for s in samples(tmp_path)] == [
        ("391895", "karpathy"), ("60623", "karpathy"), ("483108", "karpathy")
    ]  # fmt: skip


def test_hub_rows_and_native_files_are_the_same_samples(tmp_path):
    write_annotations(tmp_path / "native", "val2017")
    write_images(tmp_path / "native", "val2017")
    rows = [
        {"question_id": name(n, "val2017"), "question": "Please carefully observe the image and come up with a caption",
         "image": {"bytes": picture(colour(n)), "path": name(n, "val2017")}, "answer": captions, "id": n, "license": 1,
         "file_name": name(n, "val2017"), "coco_url": "", "height": 12, "width": 16, "date_captured": ""}
        for n, captions in {**CAPTIONS, 99: []}.items()
    ]  # fmt: skip
    write_parquet(tmp_path / "hub" / "data" / "val-00000-of-00001.parquet", HUB_FEATURES, rows)
    write_parquet(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet", HUB_FEATURES, rows[:1])
    ours, theirs = samples(tmp_path / "native"), samples(tmp_path / "hub")
    assert [(s.id, s.data) for s in ours] == [(s.id, s.data) for s in theirs]
    assert [digest(s.images[0]) for s in ours] == [digest(s.images[0]) for s in theirs]


def test_hub_rows_without_pixels_are_refused(tmp_path):
    features = {"filepath": "string", "sentids": "list", "filename": "string", "imgid": "int64", "split": "string",
                "sentences": "list", "cocoid": "int64", "url": "string"}  # fmt: skip
    row = {"filepath": "val2014", "sentids": ["1"], "filename": name(1), "imgid": 1, "split": "test",
           "sentences": ["a cat"], "cocoid": 1, "url": "http://images.cocodataset.org/1.jpg"}  # fmt: skip
    write_parquet(tmp_path / "test.parquet", features, [row])
    with pytest.raises(BadInput, match="holds no images: .*it only lists addresses, which are not fetched"):
        samples(tmp_path)


def test_missing_images_are_counted_or_left_out(tmp_path):
    write_annotations(tmp_path, "val2014", {**CAPTIONS, 8: ["eight"], 9: ["nine"]})
    write_images(tmp_path, "val2014")
    task = coco_caption()
    with pytest.raises(BadInput, match=r"2 of 5 images are missing \(the first: COCO_val2014_000000000008\.jpg\)"):
        samples(tmp_path, task)
    task.data = type(task.data)(missing="skip")
    task.data.task = "coco_caption"
    assert [s.id for s in samples(tmp_path, task)] == ["391895", "60623", "483108"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [\n{"id": 1', r"captions_val2014\.json:2: not valid JSON"),
        ('{"images": []}', "field 'annotations' is missing"),
        ('{"images": [], "annotations": []}', "no samples in"),
    ],
)
def test_bad_files_are_one_line(tmp_path, text, message):
    (tmp_path / "captions_val2014.json").write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        samples(tmp_path)
    assert "\n" not in str(caught.value)


def test_one_image_twice_is_refused(tmp_path):
    write_annotations(tmp_path, "val2014")
    path = tmp_path / "annotations" / "captions_val2014.json"
    data = json.loads(path.read_text())
    data["images"].append(data["images"][0])
    path.write_text(json.dumps(data))
    write_images(tmp_path, "val2014")
    with pytest.raises(BadInput, match="sample id '391895' occurs twice"):
        samples(tmp_path)


def test_a_climbing_name_and_an_empty_folder(tmp_path):
    with pytest.raises(BadInput, match=r"mscoco_test\.json not found .*dataset_coco\.json"):
        samples(tmp_path)
    (tmp_path / "mscoco_test.json").write_text(json.dumps([{"image_name": "../x.jpg", "captions": ["x"]}]))
    with pytest.raises(BadInput, match="leaves the data folder"):
        samples(tmp_path)


def test_prompts_of_the_protocols(tmp_path):
    write_karpathy(tmp_path)
    write_annotations(tmp_path / "other", "val2014")
    write_images(tmp_path / "other", "val2014")
    karpathy, other = samples(tmp_path)[0], samples(tmp_path / "other")[0]
    one_sentence = "Provide a one-sentence caption for the provided image."

    def asked(protocol, sample):
        task = coco_caption(protocol, 0 if protocol == "paper" else None)
        (request,) = task.requests(sample)
        return request.prompt.text, request.params.max_new_tokens, request.params.temperature, request.prompt.template

    assert asked("official", karpathy) == asked("official", other) == (one_sentence, 64, 0.0, "model")
    assert asked("lmms", karpathy) == ("Describe the image briefly.", 64, 0.0, "model")
    assert asked("lmms", other) == (one_sentence, 64, 0.0, "model")
    assert asked("paper", karpathy) == ("Please provide a description of the picture.", 10, 0.2, "vicuna_v0")


def demos_of(path, few_shot=None):
    task = coco_caption("paper", few_shot)
    return {s.id: task.requests(s)[0].prompt.demos for s in samples(path, task)}


def test_demonstrations_are_training_captions_drawn_for_each_image(tmp_path):
    write_karpathy(tmp_path)
    demos = demos_of(tmp_path)
    assert demos == demos_of(tmp_path)
    assert len(set(demos.values())) == 3, "each image has its own"
    for drawn in demos.values():
        assert [question for question, _ in drawn] == ["Please provide a description of the picture."] * 3
        answers = [answer for _, answer in drawn]
        assert all(a.startswith("train ") and '"' not in a for a in answers)
        assert len({a.split()[1] for a in answers}) == 3, "of three different images"
    assert {len(d) for d in demos_of(tmp_path, 0).values()} == {0}
    assert {len(d) for d in demos_of(tmp_path, 5).values()} == {5}


def test_demonstrations_from_files_beside_the_evaluation_set(tmp_path):
    write_annotations(tmp_path, "val2014")
    write_images(tmp_path, "val2014")
    with pytest.raises(BadInput, match=r"demonstrations need training captions: .*captions_train2014\.json"):
        demos_of(tmp_path)
    write_annotations(tmp_path, "train2014", {n: [f"train {n} c"] for n in range(2)})
    with pytest.raises(BadInput, match="only 2 training images have captions"):
        demos_of(tmp_path)
    write_annotations(tmp_path, "train2014", {n: [f"train {n} c"] for n in range(4)})
    assert all(len(d) == 3 for d in demos_of(tmp_path).values())


def test_shots_are_refused_where_the_protocol_has_none():
    with pytest.raises(BadInput, match="takes no shots"):
        coco_caption("official", 2)


def test_without_java_the_run_ends_before_anything_is_asked(tmp_path, monkeypatch):
    def none():
        raise BadInput("no java")

    write_karpathy(tmp_path)
    task = coco_caption()
    monkeypatch.setitem(type(task).samples.__globals__, "find_java", none)
    with pytest.raises(BadInput, match="no java"):
        samples(tmp_path, task)
    assert java.find_java()


def test_answers_are_scored_and_strange_ones_shift_nothing(tmp_path):
    write_annotations(tmp_path, "val2014", {**CAPTIONS, 1: ["a cat sleeps on the sofa"], 2: ["two dogs run on grass"]})
    write_images(tmp_path, "val2014", [*CAPTIONS, 1, 2])
    task = coco_caption("paper", 0)
    found = samples(tmp_path, task)
    right = [task.right_answer(s)[0].text for s in found]

    def records(answers):
        out = []
        for sample, text in zip(found, answers, strict=True):
            out.append({**task.record(sample, [Response("ok", text=text)]), "cluster": sample.id})
        return out

    odd = [right[0], "", '"\u2028...\r\U0001f600', right[3], "two\x85dogs\u2029run"]
    perfect, strange = records(right), records(odd)
    both = perfect + [{**r, "cluster": "s" + r["cluster"]} for r in strange]
    task.finish(both)
    perfect, strange = both[:5], both[5:]
    assert json.loads(json.dumps(both)) == both
    values = {e.name: e.value for e in estimates(task.metrics(), perfect)}
    # pycocoevalcap's own guards against division by zero keep BLEU a hair below 1
    assert {m.name: values[m.name] for m in task.metrics() if m.best} == pytest.approx(
        {"Bleu_1": 1, "Bleu_2": 1, "Bleu_3": 1, "Bleu_4": 1, "METEOR": 1, "ROUGE_L": 1}, abs=1e-9
    )
    assert '"' not in perfect[2]["caption"], "the paper deletes double quotes"
    assert all(r["CIDEr"] > 2 for r in perfect)
    for same in (0, 3):
        assert {k: v for k, v in strange[same].items() if k != "cluster"} == {
            k: v for k, v in perfect[same].items() if k != "cluster"
        }
    assert [strange[i]["CIDEr"] for i in (1, 2)] == [0.0, 0.0]
    assert [strange[i]["bleu"][0] for i in (1, 2)] == [0, 0]
    assert strange[4]["bleu"][0] == 3
    assert 0 < strange[4]["ROUGE_L"] < 1


def test_the_miniature_is_read_by_the_same_code():
    found = list(coco_caption().samples(DataChoice.parse(["mini"], only_mini=True).source("coco_caption")))
    assert len(found) >= 100
    assert all(len(s.data["references"]) == 5 and s.id.isdigit() for s in found)
    assert open_image(found[0].images[0]).mode == "RGB"


def test_real_captions_with_ten_photographs():
    folder = shared_data("coco_mini")
    with pytest.raises(BadInput, match=r"69 of 79 images are missing"):
        samples(folder)
    task = coco_caption()
    task.data = type(task.data)(missing="skip")
    task.data.task = "coco_caption"
    found = samples(folder, task)
    assert len(found) == 10
    assert all(len(s.data["references"]) >= 5 for s in found)
    assert "349860" in {s.id for s in found}
    assert min(open_image(found[0].images[0]).size) > 200
