"""The committed benchmark files obey their owners' layouts."""

import csv
import json
import re
from collections import Counter

import pytest
from PIL import Image

from mmalign_eval.miniature import data_dir
from mmalign_eval.miniature.captions import DETAIL_PROMPTS
from mmalign_eval.miniature.world import CLASSES

DATA = data_dir()
COCO = DATA / "coco"


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def instances():
    return json.loads((COCO / "annotations/instances_val2014.json").read_text())


def names_by_image(instances):
    names = {c["id"]: c["name"] for c in instances["categories"]}
    found = {}
    for note in instances["annotations"]:
        found.setdefault(note["image_id"], set()).add(names[note["category_id"]])
    return found


def test_size_limit():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 4.2e6


def test_coco_captions_and_karpathy():
    captions = json.loads((COCO / "annotations/captions_val2014.json").read_text())
    assert len(captions["images"]) == 200
    assert set(Counter(note["image_id"] for note in captions["annotations"]).values()) == {5}
    rows = json.loads((COCO / "dataset_coco.json").read_text())["images"]
    tested = [row for row in rows if row["split"] == "test"]
    assert [row["cocoid"] for row in tested] == [image["id"] for image in captions["images"]]
    assert {row["split"] for row in rows} == {"test", "train"}
    assert len({row["cocoid"] for row in rows}) == len(rows) == len({row["imgid"] for row in rows})
    assert all(len(set(s["raw"] for s in row["sentences"])) == 5 for row in rows)


def test_coco_images_and_instances(instances):
    for image in instances["images"]:
        assert image["file_name"] == f"COCO_val2014_{image['id']:012d}.jpg"
        with Image.open(COCO / "val2014" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (72, 72)
    assert {c["name"]: (c["id"], c["supercategory"]) for c in instances["categories"]} == CLASSES
    for note in instances["annotations"]:
        x, y, width, height = note["bbox"]
        assert 0 <= x < x + width <= 72
        assert 0 <= y < y + height <= 72
        assert 0 < note["area"] <= width * height + 0.1
        assert note["iscrowd"] == 0
        assert len(note["segmentation"][0]) % 2 == 0


@pytest.mark.parametrize("split", ["random", "popular", "adversarial"])
def test_pope(split, instances):
    rows = read_jsonl(DATA / f"pope/coco_pope_{split}.json")
    assert [row["question_id"] for row in rows] == list(range(1, len(rows) + 1))
    assert Counter(row["label"] for row in rows) == {"yes": len(rows) // 2, "no": len(rows) // 2}
    assert set(Counter(row["image"] for row in rows).values()) == {6}
    truth = names_by_image(instances)
    for row in rows:
        name = re.fullmatch(r"Is there an? (.+) in the image\?", row["text"])[1]
        assert (name in truth[int(row["image"][-16:-4])]) == (row["label"] == "yes")
        assert f"an {name}" in row["text"] if name[0] in "aeiou" else f"a {name}" in row["text"]


def test_truthfulqa():
    rows = read_csv(DATA / "truthfulqa/TruthfulQA.csv")
    assert rows[0] == ["Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source"]
    choices = json.loads((DATA / "truthfulqa/mc_task.json").read_text())
    assert [row[2] for row in rows[1:]] == [item["question"] for item in choices]
    for row, item in zip(rows[1:], choices, strict=True):
        assert row[4].split("; ")[0] == row[3] == next(iter(item["mc1_targets"])).rstrip(".")
        assert list(item["mc1_targets"].values()) == [1, 0, 0, 0]
        assert list(item["mc2_targets"].values()) == [1, 1, 0, 0, 0, 0]


def test_ethics():
    folder = DATA / "ethics"
    assert read_csv(folder / "commonsense/cm_test.csv")[0] == ["label", "input", "is_short", "edited"]
    for name, header in (("deontology", ["label", "scenario", "excuse"]), ("justice", ["label", "scenario"])):
        rows = read_csv(folder / f"{name}/{name}_test.csv")
        assert rows[0] == header
        assert len(rows) == 101
        groups = [rows[n : n + 4] for n in range(1, 101, 4)]
        assert all(sorted(row[0] for row in group) == ["0", "0", "1", "1"] for group in groups)
    rows = read_csv(folder / "virtue/virtue_test.csv")[1:]
    for group in (rows[n : n + 5] for n in range(0, len(rows), 5)):
        assert sorted(row[0] for row in group) == ["0", "0", "0", "0", "1"]
        assert len({row[1].split(" [SEP] ")[0] for row in group}) == 1
    assert all(len(row) == 2 for row in read_csv(folder / "utilitarianism/util_test.csv"))


def test_mmlu():
    for split, count in (("dev", 5), ("val", 2), ("test", 4)):
        files = sorted((DATA / "mmlu" / split).glob("*.csv"))
        assert len(files) == 57
        for path in files:
            rows = read_csv(path)
            assert len(rows) == count
            assert all(len(row) == 6 and row[5] in "ABCD" for row in rows)


def test_gsm8k_and_mathqa():
    for row in read_jsonl(DATA / "gsm8k/test.jsonl"):
        marks = re.findall(r"<<([\d+-]+)=(\d+)>>", row["answer"])
        assert all(eval(left) == int(right) for left, right in marks)
        assert row["answer"].endswith(f"#### {marks[-1][1]}")
    for row in json.loads((DATA / "mathqa/test.json").read_text()):
        assert len(re.findall(r"[abcd] \) .*?, |e \) .*?$", row["options"])) == 5


def test_squad_and_boolq():
    data = json.loads((DATA / "squad/dev-v2.0.json").read_text())
    assert data["version"] == "v2.0"
    questions = [(p["context"], q) for d in data["data"] for p in d["paragraphs"] for q in p["qas"]]
    assert sum(q["is_impossible"] for _, q in questions) * 2 == len(questions) == 100
    for context, question in questions:
        for answer in question["answers"]:
            assert context[answer["answer_start"] :].startswith(answer["text"])
    labels = [row["label"] for row in read_jsonl(DATA / "boolq/val.jsonl")]
    assert labels.count(True) == labels.count(False) == 50


def test_mme():
    folders = sorted(path for path in (DATA / "mme").iterdir())
    assert len(folders) == 14
    for folder in folders:
        for path in (folder / "questions_answers_YN").glob("*.txt"):
            assert (folder / "images" / f"{path.stem}.jpg").exists()
            lines = path.read_text().splitlines()
            assert [line.split("\t")[1] for line in lines] == ["Yes", "No"]
            assert all(" Please answer yes or no.\t" in line for line in lines)


def test_vqav2():
    head = DATA / "vqav2"
    questions = json.loads((head / "v2_OpenEnded_mscoco_val2014_questions.json").read_text())["questions"]
    notes = json.loads((head / "v2_mscoco_val2014_annotations.json").read_text())["annotations"]
    assert [q["question_id"] for q in questions] == [n["question_id"] for n in notes]
    assert {n["answer_type"] for n in notes} == {"yes/no", "number", "other"}
    assert all(len(note["answers"]) == 10 for note in notes)
    assert all((COCO / f"val2014/COCO_val2014_{q['image_id']:012d}.jpg").exists() for q in questions)


def test_other_image_benchmarks():
    for row in json.loads((DATA / "flickr30k/dataset_flickr30k.json").read_text())["images"]:
        assert (DATA / "flickr30k/flickr30k-images" / row["filename"]).exists() == (row["split"] == "test")
        assert len(row["sentences"]) == 5
    for record in json.loads((DATA / "mmvet/mm-vet.json").read_text()).values():
        assert (DATA / "mmvet/images" / record["imagename"]).exists()
    bench = DATA / "llavabench"
    questions, answers = read_jsonl(bench / "questions.jsonl"), read_jsonl(bench / "answers_gpt4.jsonl")
    assert [q["question_id"] for q in questions] == [a["question_id"] for a in answers]
    assert {q["image"] for q in questions} == {c["image"] for c in read_jsonl(bench / "context.jsonl")}
    prompts = read_jsonl(DATA / "object_halbench/prompts_300.jsonl")
    assert {row["question"] for row in prompts} == set(DETAIL_PROMPTS)
    assert all((COCO / f"val2014/COCO_val2014_{row['image_id']:012d}.jpg").exists() for row in prompts)
