from pathlib import Path

import pytest

from mmalign_eval.data.hub import hub_rows, parquet_rows
from mmalign_eval.data.source import HubRows
from mmalign_eval.errors import BadInput, ImageError
from mmalign_eval.images import digest, open_image
from tests.data.hub_files import picture, write_parquet

FEATURES = {"name": "string", "image": "image"}
HUB = HubRows(ids=("org/toy",), split="val", columns=("name",), image="image")


def rows(*numbers):
    return [{"name": f"n{i}", "image": {"bytes": picture((i, 0, 0)), "path": f"{i}.png"}} for i in numbers]


def read(path: Path, hub=HUB):
    return list(parquet_rows("toy", hub, sorted(path.rglob("*.parquet"))))


def test_shards_come_in_order_and_images_stay_encoded(tmp_path):
    write_parquet(tmp_path / "data" / "val-00000-of-00002.parquet", FEATURES, rows(1, 2, 3))
    write_parquet(tmp_path / "data" / "val-00001-of-00002.parquet", FEATURES, rows(4, 5))
    found = read(tmp_path)
    assert [r["name"] for r in found] == ["n1", "n2", "n3", "n4", "n5"]
    assert [open_image(r["image"]).getpixel((0, 0)) for r in found] == [(i, 0, 0) for i in (1, 2, 3, 4, 5)]
    assert len({digest(r["image"]) for r in found}) == 5


def test_the_split_is_chosen_by_file_name(tmp_path):
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", FEATURES, rows(1))
    write_parquet(tmp_path / "data" / "val-00000-of-00001.parquet", FEATURES, rows(2))
    assert [r["name"] for r in read(tmp_path)] == ["n2"]


def test_a_missing_column_is_named_with_those_found(tmp_path):
    write_parquet(tmp_path / "val.parquet", {"title": "string", "image": "image"}, [{"title": "x", **rows(1)[0]}])
    with pytest.raises(BadInput, match=r"column 'name' is missing in .*; found title, image"):
        read(tmp_path)


def test_a_row_without_an_image_fails_when_read(tmp_path):
    write_parquet(tmp_path / "val.parquet", FEATURES, [*rows(1), {"name": "n2", "image": None}])
    first, second = read(tmp_path)
    assert open_image(first["image"]).size == (16, 12)
    with pytest.raises(ImageError, match="has no image"):
        open_image(second["image"])


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "val.parquet"
    write_parquet(path, FEATURES, rows(1))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"toy: cannot read .*val\.parquet") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_without_network_the_hub_error_says_what_to_do():
    with pytest.raises(BadInput, match=r"toy: cannot load org/toy from the hub .*--data toy=DIR") as caught:
        list(hub_rows("toy", HUB, "example.org"))
    assert "\n" not in str(caught.value)
