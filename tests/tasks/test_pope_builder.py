import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmalign_eval.tasks._pope_builder import build, questions, read_objects

from mmalign_eval.cli.main import main
from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.miniature import data_dir
from mmalign_eval.registry import TASKS
from tests.data.hub_files import picture
from tests.support import shared_data

SPLITS = ("random", "popular", "adversarial")
NAMES = ["person", "dog", "cat", "umbrella", "cup", "bowl", "fork", "apple"]


def write_instances(path, images):
    """COCO's layout, an annotation an object; `images` is file name to category names, repeats allowed."""
    ids = {file: n * 10 for n, file in enumerate(images, start=1)}
    rows = {
        "images": [{"id": n, "file_name": file} for file, n in ids.items()],
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(NAMES)],
        "annotations": [
            {"id": n, "image_id": ids[file], "category_id": NAMES.index(name) + 1, "iscrowd": 0}
            for n, (file, name) in enumerate((f, name) for f, own in images.items() for name in own)
        ],
    }
    path.write_text(json.dumps(rows))
    return path


OBJECTS = {
    "000000000001.jpg": ["dog", "person", "dog", "cat"],
    "000000000002.jpg": ["person", "umbrella", "cup", "bowl"],
    "000000000003.jpg": ["person", "cup"],
    "000000000004.jpg": ["person", "cup", "fork"],
}


def asked(rows):
    return [(row["text"].removesuffix(" in the image?").split(maxsplit=3)[3], row["label"]) for row in rows]


def test_objects_are_named_once_in_the_order_of_the_annotations(tmp_path):
    found = read_objects(write_instances(tmp_path / "i.json", OBJECTS))
    assert found == {**OBJECTS, "000000000001.jpg": ["dog", "person", "cat"]}


def test_popular_takes_the_most_frequent_object_that_is_not_there():
    objects = {k: list(dict.fromkeys(v)) for k, v in OBJECTS.items()}
    rows = list(questions(objects, ["000000000001.jpg"], "popular"))
    # person 4, cup 3, then those of one image each, in order of appearance
    assert asked(rows) == [("dog", "yes"), ("cup", "no"), ("person", "yes"), ("umbrella", "no"), ("cat", "yes"),
                           ("bowl", "no")]  # fmt: skip
    assert rows[0]["text"] == "Is there a dog in the image?"
    assert rows[3]["text"] == "Is there an umbrella in the image?"
    assert [row["question_id"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_adversarial_takes_what_occurs_most_often_with_the_object_before():
    objects = {
        "a.jpg": ["dog", "person", "cat"],
        "b.jpg": ["dog", "bowl"],
        "c.jpg": ["dog", "bowl", "cup"],
        "d.jpg": ["person", "apple"],
        "e.jpg": ["cat", "person"],
        "f.jpg": ["fork"],
    }
    rows = asked(questions(objects, ["a.jpg"], "adversarial"))
    assert rows[:4] == [("dog", "yes"), ("bowl", "no"), ("person", "yes"), ("apple", "no")]
    assert rows[4] == ("cat", "yes")
    assert rows[5][0] in ("cup", "fork"), "nothing absent occurs with cats: any object that is left"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(NAMES), unique=True, max_size=5), min_size=4, max_size=12),
    st.integers(0, 5),
)
def test_questions_keep_the_rules(images, seed):
    objects = {f"{n}.jpg": own for n, own in enumerate([*images, NAMES[:5], NAMES[3:]])}
    fit = [image for image, own in objects.items() if 3 <= len(own) <= 5]
    for split in SPLITS:
        rows = list(questions(objects, fit, split, seed))
        assert [row["question_id"] for row in rows] == list(range(1, 6 * len(fit) + 1))
        assert rows == list(questions(objects, fit, split, seed))
        for image, own in itertools.groupby(rows, key=lambda row: row["image"]):
            pairs = asked(own)
            assert [label for _, label in pairs] == ["yes", "no"] * 3
            assert [thing for thing, label in pairs if label == "yes"] == objects[image][:3]
            absent = [thing for thing, label in pairs if label == "no"]
            assert len(set(absent)) == 3
            assert not set(absent) & set(objects[image])
        assert not any(" a umbrella" in row["text"] or "imange" in row["text"] for row in rows)


def test_built_files_are_read_with_any_folder_of_images(tmp_path):
    instances = write_instances(tmp_path / "instances.json", OBJECTS)
    out = tmp_path / "mine"
    paths = build(instances, out, images=3, name="coco2017")
    assert [p.name for p in paths] == [f"coco2017_pope_{split}.json" for split in SPLITS]
    (out / "val2017").mkdir()
    for name in OBJECTS:
        (out / "val2017" / name).write_bytes(picture((1, 2, 3), "JPEG"))
    task = TASKS.get("pope")()
    found = list(task.samples(Source("dir", str(out))))
    assert [sum(s.part == split for s in found) for split in SPLITS] == [18, 18, 18]
    assert {s.cluster for s in found} == {"000000000001", "000000000002", "000000000004"}
    assert task.signature_extra() == {}
    again = build(instances, tmp_path / "again", images=3, name="coco2017")
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]
    other = build(instances, tmp_path / "other", images=3, seed=1)
    assert other[0].read_bytes() != paths[0].read_bytes()
    (out / "own_pope_random.json").write_text("")
    with pytest.raises(BadInput, match="which one is meant"):
        list(task.samples(Source("dir", str(out))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": [{"image_id": 10}]}, r"annotations\[0\]: field 'category_id' is missing"),
        ({"annotations": [{"image_id": 7, "category_id": 1}]}, r"annotations\[0\]: image 7 or category 1 is not in"),
        ({"annotations": []}, r"0 images have 3 objects or more, 2 were asked for"),
    ],
)
def test_bad_annotations_are_one_line(tmp_path, change, message):
    path = write_instances(tmp_path / "i.json", OBJECTS)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadInput, match=message):
        build(path, tmp_path / "out", images=2)
    assert not (tmp_path / "out").exists()


def test_real_annotations(tmp_path):
    instances = shared_data("coco_mini") / "annotations" / "instances_val2017.json"
    objects = read_objects(instances)
    fit = sum(len(own) >= 3 for own in objects.values())
    paths = build(instances, tmp_path, images=min(20, fit))
    for path in paths:
        rows = [json.loads(line) for line in path.open()]
        assert [row["label"] for row in rows].count("yes") == len(rows) / 2 == 3 * min(20, fit)


def test_the_verb_writes_files_that_the_task_reads(tmp_path, capsys):
    annotations = data_dir() / "coco" / "annotations" / "instances_val2014.json"
    command = ["tasks", "build", "pope", "--annotations", str(annotations), "--out", str(tmp_path / "own")]
    assert main([*command, "--images", "20"]) == 0
    assert "coco_pope_adversarial.json" in capsys.readouterr().out
    (tmp_path / "own" / "images").symlink_to(data_dir() / "coco" / "val2014")
    samples = list(TASKS.get("pope")().samples(Source("dir", str(tmp_path / "own"))))
    assert len(samples) == 3 * 20 * 6
    assert main(["tasks", "build", "boolq", "--annotations", str(annotations), "--out", str(tmp_path)]) == 2
    assert main([*command, "--images", "100000"]) == 2
