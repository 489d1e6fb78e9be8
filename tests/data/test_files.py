import pytest

from mmalign_eval.data.files import Folder, read_json, read_jsonl
from mmalign_eval.errors import BadInput


def folder(path, name="bench"):
    return Folder(str(path), name, task="toy", layout="toy.json and images", get="example.org")


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


@pytest.mark.parametrize("place", ["", "images", "val2014", "val2017", "../coco/val2014", "../val2014"])
def test_images_are_found_in_the_usual_places(tmp_path, place):
    root = tmp_path / "root"
    (root / "bench").mkdir(parents=True)
    touch(root / "bench" / place / "a.jpg")
    assert folder(root).image("a.jpg").path == str((root / "bench" / place / "a.jpg").resolve())


@pytest.mark.parametrize("name", ["mmvet", "MMVet", "MM-Vet", "mm_vet"])
def test_a_benchmarks_folder_may_be_called_as_the_benchmark_is(tmp_path, name):
    touch(tmp_path / name / "toy.json")
    touch(tmp_path / "mm-other" / "toy.json")
    assert folder(tmp_path, "mmvet").find("toy.json") == tmp_path / name / "toy.json"
    assert folder(tmp_path / "absent", "mmvet").maybe("toy.json") is None


def test_missing_images_are_counted_and_the_first_is_named(tmp_path):
    touch(tmp_path / "b.jpg")
    with pytest.raises(BadInput, match=r"toy: 2 of 3 images are missing \(the first: a\.jpg\)") as caught:
        folder(tmp_path).images(["a.jpg", "b.jpg", "c.jpg", "a.jpg"])
    assert "example.org" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", ""])
def test_a_name_never_leaves_the_folder(tmp_path, name):
    touch(tmp_path / "secret.jpg")
    (tmp_path / "data" / "a").mkdir(parents=True)
    with pytest.raises(BadInput, match="leaves the data folder"):
        folder(tmp_path / "data").maybe_image(name)


def test_a_missing_file_names_layout_and_source(tmp_path):
    with pytest.raises(BadInput, match=r"toy\.json not found in .*; expected toy\.json and images\. Get it: example"):
        folder(tmp_path).find("toy.json")


def test_a_truncated_line_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": "\u2028"}\n{"a": ', encoding="utf-8")
    rows = read_jsonl(path)
    assert [next(rows), next(rows)] == [(1, {"a": 1}), (3, {"a": "\u2028"})]
    with pytest.raises(BadInput, match=r"rows\.jsonl:4: not valid JSON"):
        next(rows)


def test_json_that_is_not_text_or_not_complete(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1,\n2', encoding="utf-8")
    with pytest.raises(BadInput, match=r"a\.json:2: not valid JSON"):
        read_json(path)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(BadInput, match="not UTF-8"):
        read_json(path)
