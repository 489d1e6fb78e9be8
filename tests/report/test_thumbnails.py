"""Small pictures: as the model saw them, once each, within a budget."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmalign_eval.report.thumbnails import HEAD, MOST, MOST_SLOW, PLAIN, _affordable, spread, thumbnails
from mmalign_eval.requests import ImageRef
from tests.report.page_support import make_images


def silent(what: str, total: int):  # type: ignore[no-untyped-def]
    return lambda good, bad: None


def opened(picture: str) -> Image.Image:
    assert picture.startswith(HEAD)
    return Image.open(io.BytesIO(base64.b64decode(picture.removeprefix(HEAD))))


def test_the_longest_side_is_kept_and_small_images_stay(tmp_path: Path) -> None:
    Image.new("RGB", (400, 200), "red").save(tmp_path / "wide.png")
    Image.new("RGBA", (20, 30)).save(tmp_path / "small.png")
    found = thumbnails([ImageRef(str(tmp_path / n)) for n in ("wide.png", "small.png")], 160, 10**6, silent)
    assert [opened(p).size for p in found.pictures] == [(160, 80), (20, 30)]
    assert found.notes == []


def test_a_corrupted_image_is_shown_corrupted(tmp_path: Path) -> None:
    Image.new("RGB", (160, 160), (90, 120, 150)).save(tmp_path / "even.png")
    path = str(tmp_path / "even.png")
    clean, noisy = thumbnails(
        [ImageRef(path), ImageRef(path, transforms=("corrupt:gaussian_noise:5:1",))], 160, 10**6, silent
    ).pictures
    assert np.asarray(opened(clean)).std(axis=(0, 1)).max() < 2
    assert np.asarray(opened(noisy)).std(axis=(0, 1)).min() > 20


def test_what_cannot_be_read_says_why_without_folders(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    good = make_images(tmp_path, 1)[0]
    refs = [ImageRef(str(tmp_path / "gone.png")), ImageRef(str(tmp_path / "broken.jpg")), ImageRef(good)]
    refs.append(ImageRef(good, transforms=("no_such_transform",)))
    pictures = thumbnails(refs, 64, 10**6, silent).pictures
    assert "gone.png" in pictures[0]
    assert "broken.jpg" in pictures[1]
    assert pictures[2].startswith(HEAD)
    assert "no_such_transform" in pictures[3]
    assert not any(str(tmp_path) in picture for picture in pictures)


def test_a_budget_makes_them_smaller_then_fewer(tmp_path: Path) -> None:
    refs = [ImageRef(path) for path in make_images(tmp_path, 30)]
    whole = thumbnails(refs, 160, 10**7, silent)
    size = sum(map(len, whole.pictures))
    smaller = thumbnails(refs, 160, size // 2, silent)
    assert all(p.startswith(HEAD) for p in smaller.pictures)
    assert sum(map(len, smaller.pictures)) <= size // 2
    assert "to keep the page's size" in smaller.notes[0]
    fewer = thumbnails(refs, 160, size // 20, silent)
    kept = [p for p in fewer.pictures if p.startswith(HEAD)]
    assert 0 < len(kept) < 30
    assert sum(map(len, kept)) <= size // 20
    assert f"{30 - len(kept)} images are left out" in fewer.notes[0]
    assert thumbnails(refs, 160, 0, silent).pictures == ["left out of this page"] * 30


def test_equal_images_give_equal_pictures(tmp_path: Path) -> None:
    refs = [ImageRef(path) for path in make_images(tmp_path, 12)]
    assert thumbnails(refs, 96, 40_000, silent) == thumbnails(refs, 96, 40_000, silent)


def test_slow_transforms_have_a_limit(tmp_path: Path) -> None:
    Image.new("RGB", (640, 480)).save(tmp_path / "x.png")
    path = str(tmp_path / "x.png")
    slow = [ImageRef(path, transforms=(f"corrupt:glass_blur:{i % 5 + 1}:{i}",)) for i in range(50)]
    fast = [ImageRef(path, transforms=(f"corrupt:fog:{i % 5 + 1}:{i}",)) for i in range(1000)]
    kept = _affordable([*slow, *fast, ImageRef(path)])
    assert kept[-1] == 1050  # what no transform touches always is
    assert 1 <= sum(i < 50 for i in kept) <= max(1, MOST_SLOW / 7)
    assert 0.8 * MOST / PLAIN <= sum(50 <= i < 1050 for i in kept) <= MOST / PLAIN
    Image.new("RGB", (64, 48)).save(tmp_path / "x.png")
    assert len(_affordable([*slow, *fast])) == 1050  # small images cost little


@pytest.mark.parametrize(("count", "expected"), [(0, []), (2, [0, 5]), (10, list(range(10))), (20, list(range(10)))])
def test_spread(count: int, expected: list[int]) -> None:
    assert spread(list(range(10)), count) == expected
