import json

import pytest

from mmalign_eval.data.coco import coco_id, only, read_annotations, read_flat, read_karpathy
from mmalign_eval.errors import BadInput


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_karpathy_of_coco_and_of_flickr(tmp_path):
    coco = {"filepath": "val2014", "filename": "COCO_val2014_000000000007.jpg", "cocoid": 7, "split": "test",
            "sentences": [{"raw": "A cat.", "tokens": ["a", "cat"]}, {"raw": "Cats", "tokens": ["cats"]}]}  # fmt: skip
    flickr = {"filename": "1000092795.jpg", "split": "train", "imgid": 0, "sentences": [{"raw": "Two men"}]}
    empty = {**flickr, "filename": "2.jpg", "sentences": []}
    first, second = read_karpathy(write(tmp_path / "d.json", {"dataset": "x", "images": [coco, flickr, empty]}))
    assert (first.id, first.captions, first.split) == ("7", ("A cat.", "Cats"), "test")
    assert first.files == ("val2014/COCO_val2014_000000000007.jpg", "COCO_val2014_000000000007.jpg")
    assert (second.id, second.files, second.captions) == ("1000092795", ("1000092795.jpg",), ("Two men",))
    assert list(only([first, second], "train", "restval")) == [second]


def test_annotations_keep_the_order_of_images_and_leave_out_those_without_captions(tmp_path):
    data = {
        "images": [{"id": 5, "file_name": "5.jpg"}, {"id": 9, "file_name": "9.jpg"}, {"id": 2, "file_name": "2.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 2, "caption": "two"},
            {"id": 2, "image_id": 5, "caption": "five"},
            {"id": 3, "image_id": 2, "caption": "zwei"},
        ],
    }
    found = list(read_annotations(write(tmp_path / "captions.json", data)))
    assert [(i.id, i.files, i.captions) for i in found] == [
        ("5", ("5.jpg",), ("five",)),
        ("2", ("2.jpg",), ("two", "zwei")),
    ]


def test_flat_list_with_and_without_ids(tmp_path):
    rows = [{"image_name": "a.jpg", "captions": ["x"]}, {"image_name": "b.jpg", "image_id": 42, "captions": ["y", "z"]}]
    first, second = read_flat(write(tmp_path / "mscoco_test.json", rows))
    assert (first.id, first.files) == ("a", ("a.jpg",))
    assert (second.id, second.captions) == ("42", ("y", "z"))
    assert second.files == ("b.jpg", "COCO_test2014_000000000042.jpg", "COCO_val2014_000000000042.jpg")


@pytest.mark.parametrize(
    ("name", "number"),
    [("COCO_val2014_000000391895.jpg", "391895"), ("000000000139.jpg", "139"), ("photo_12.jpg", "photo_12")],
)
def test_image_id_in_a_file_name(name, number):
    assert coco_id(name) == number


IMAGE = {"id": 1, "file_name": "1.jpg"}
CAPTION = {"image_id": 1, "caption": "one"}


@pytest.mark.parametrize(
    ("reader", "data", "message"),
    [
        (read_karpathy, [], r"d\.json: expected a JSON object, found list"),
        (read_karpathy, {"annotations": []}, r"d\.json: field 'images' is missing; found annotations"),
        (read_karpathy, {"images": [{"filename": "a.jpg"}]}, r"images\[0\]: field 'split' is missing"),
        (
            read_karpathy,
            {"images": [{"filename": "a", "split": "test", "sentences": ["x"]}]},
            r"images\[0\]: expected a JSON object, found str",
        ),
        (read_annotations, {"images": {}, "annotations": []}, r"images: expected a JSON list, found dict"),
        (read_annotations, {"images": [IMAGE]}, r"field 'annotations' is missing"),
        (read_annotations, {"images": [{"file_name": "1"}], "annotations": []}, r"images\[0\]: field 'id' is missing"),
        (read_annotations, {"images": [IMAGE], "annotations": [{"image_id": 1}]}, r"annotations\[0\]: field 'caption'"),
        (
            read_annotations,
            {"images": [IMAGE], "annotations": [CAPTION, {**CAPTION, "image_id": 8}]},
            r"annotations\[1\]: image_id 8 is not among the images",
        ),
        (
            read_annotations,
            {"images": [IMAGE], "annotations": [{**CAPTION, "caption": None}]},
            r"image 1: expected captions as text, found NoneType",
        ),
        (read_flat, {"a": 1}, r"expected a JSON list, found dict"),
        (read_flat, [{"image": "a"}], r"\[0\]: field 'image_name' is missing"),
    ],
)
def test_another_layout_is_named(tmp_path, reader, data, message):
    with pytest.raises(BadInput, match=message):
        list(reader(write(tmp_path / "d.json", data)))
