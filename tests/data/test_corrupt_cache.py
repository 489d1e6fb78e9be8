"""The cache of corrupted images: the same bytes, never more than the limit, and never in the way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmalign_eval import images
from mmalign_eval.data.corruptions import cache as module
from mmalign_eval.data.corruptions.cache import CorruptCache, bytes_of
from mmalign_eval.data.transforms import corrupted, transformed
from mmalign_eval.errors import BadInput
from mmalign_eval.images import cached_in, open_image
from mmalign_eval.requests import ImageRef

MB = 10**6


def picture(seed: int, width: int = 60, height: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def files(cache: CorruptCache) -> list[Path]:
    return sorted(cache.folder.glob("*/*.ppm"))


def taken(cache: CorruptCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file())


@pytest.fixture
def cache(tmp_path: Path) -> CorruptCache:
    return CorruptCache(tmp_path / "cache", MB)


@pytest.fixture
def ref(tmp_path: Path) -> ImageRef:
    picture(1).save(tmp_path / "photo.png")
    return ImageRef(str(tmp_path / "photo.png"))


def count_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Corruptions that are really computed."""
    from mmalign_eval.data import corruptions

    made: list[str] = []
    real = corruptions.corrupt
    monkeypatch.setattr(corruptions, "corrupt", lambda *a: made.append(a[1]) or real(*a))  # type: ignore[func-returns-value]
    return made


@pytest.mark.parametrize(("width", "height"), [(60, 40), (1, 1), (33, 257)])
def test_lossless(cache: CorruptCache, width: int, height: int) -> None:
    assert cache.get("k") is None
    cache.put("k", picture(3, width, height))
    found = cache.get("k")
    assert found is not None
    assert found.mode == "RGB"
    assert found.size == (width, height)
    assert found.tobytes() == picture(3, width, height).tobytes()


def test_other_programs_can_read_it(cache: CorruptCache) -> None:
    cache.put("k", picture(3))
    with Image.open(files(cache)[0]) as file:
        assert file.format == "PPM"
        assert file.convert("RGB").tobytes() == picture(3).tobytes()


def test_open_image_makes_a_corruption_once(
    cache: CorruptCache, ref: ImageRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_made(monkeypatch)
    one, other = corrupted(ref, "gaussian_noise", 3, "a"), corrupted(ref, "gaussian_noise", 3, "b")
    without = open_image(one)
    with cached_in(cache):
        assert open_image(one).tobytes() == without.tobytes()
        assert len(made) == 2
        assert open_image(one).tobytes() == without.tobytes()
        assert len(made) == 2, "made again although it was kept"
        assert open_image(other).tobytes() != without.tobytes()
        assert len(made) == 3
    open_image(one)
    assert len(made) == 4, "the cache is used only where it was asked for"


def test_what_comes_after_the_corruption_is_not_kept(
    cache: CorruptCache, ref: ImageRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_made(monkeypatch)
    one = corrupted(ref, "contrast", 3, "a")
    cropped, before = transformed(one, "center_crop"), corrupted(transformed(ref, "center_crop"), "contrast", 3, "a")
    expected, cropped_first = open_image(cropped), open_image(before)
    with cached_in(cache):
        open_image(one)
        assert open_image(cropped).tobytes() == expected.tobytes()
        assert len(made) == 3
        assert open_image(before).tobytes() == cropped_first.tobytes()
        assert len(made) == 4, "cropped before and cropped after are two pictures"
        open_image(transformed(ref, "blank"))
    assert len(files(cache)) == 2


def test_images_are_known_by_their_bytes_not_by_their_paths(
    cache: CorruptCache, ref: ImageRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_made(monkeypatch)
    copy = tmp_path / "elsewhere.png"
    copy.write_bytes(Path(ref.path).read_bytes())
    with cached_in(cache):
        open_image(corrupted(ref, "contrast", 3, "a"))
        open_image(corrupted(ImageRef(str(copy)), "contrast", 3, "a"))
        assert len(made) == 1
        picture(2).save(tmp_path / "another.png")
        open_image(corrupted(ImageRef(str(tmp_path / "another.png")), "contrast", 3, "a"))
    assert len(made) == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "longer", "empty", "header", "size"])
def test_a_damaged_file_is_made_again(
    cache: CorruptCache, ref: ImageRef, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    one = corrupted(ref, "contrast", 3, "a")
    with cached_in(cache):
        expected = open_image(one).tobytes()
        path = files(cache)[0]
        data = bytearray(path.read_bytes())
        if damage == "flipped":
            data[-5] ^= 1
        damaged = {
            "truncated": data[:-7],
            "flipped": data,
            "longer": data + b"x",
            "empty": b"",
            "header": b"P5" + data[2:],
            "size": data.replace(b"60 40", b"61 40"),
        }
        path.write_bytes(damaged[damage])
        made = count_made(monkeypatch)
        assert open_image(one).tobytes() == expected
        assert len(made) == 1
        assert open_image(one).tobytes() == expected
        assert len(made) == 1, "not kept again"


def test_another_version_s_images_are_not_taken(cache: CorruptCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put("k", picture(1))
    assert "imagecorruptions 1.1.2" in module._versions()
    assert "pillow" in module._versions().lower()
    monkeypatch.setattr(module, "_versions", lambda: "another")
    assert cache.get("k") is None


def test_never_more_than_the_limit_and_the_least_recently_used_go_first(cache: CorruptCache) -> None:
    size = 60 * 40 * 3
    count = 2 * MB // size
    now = time.time_ns()
    for i in range(count):
        cache.put(f"k{i}", picture(i))
        os.utime(cache._path(f"k{i}"), ns=(now + i * MB, now + i * MB))
        if i % 20 == 19:
            assert cache.get("k0") is not None, "in use all the time"
            os.utime(cache._path("k0"), ns=(now + i * MB, now + i * MB))
        assert taken(cache) <= MB
    kept = [i for i in range(count) if cache._path(f"k{i}").exists()]
    assert kept[0] == 0
    assert kept[1:] == list(range(kept[1], count)), "the oldest must go first"
    assert taken(cache) > 0.85 * MB


def test_a_lower_limit_holds_from_the_start(cache: CorruptCache, tmp_path: Path) -> None:
    for i in range(300):
        cache.put(f"k{i}", picture(i, 50, 20))
    again = CorruptCache(cache.folder, MB)
    assert taken(again) == taken(cache)
    (tmp_path / "cache" / "mine.txt").write_text("not the cache's")
    again.limit = MB // 2
    again._make_room(0)
    assert taken(again) <= MB // 2
    assert (tmp_path / "cache" / "mine.txt").exists()


def test_an_image_that_would_push_out_the_others_is_not_kept(cache: CorruptCache) -> None:
    cache.put("k", picture(1, 200, 200))
    assert files(cache) == []


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    """They write more than the limit at the same time, the same keys and others; all that is left is whole."""
    code = """
import sys
import numpy as np
from PIL import Image
from mmalign_eval.data.corruptions.cache import CorruptCache
cache = CorruptCache(sys.argv[1], 10**6)
for i in range(250):
    key = f"shared{i}" if i % 2 else f"{sys.argv[2]}{i}"
    image = Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    cache.put(key, image)
    found = cache.get(key)
    assert found is None or found.tobytes() == image.tobytes()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    running = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in "ab"]
    for one in running:
        _, errors = one.communicate()
        assert one.returncode == 0, errors
        assert errors == ""
    left = list((tmp_path / "cache").glob("*/*.ppm"))
    assert len(left) > 50
    assert sum(path.stat().st_size for path in left) < 1.1 * MB  # each may write a little before it looks again
    cache = CorruptCache(tmp_path / "cache", MB)
    assert taken(cache) <= MB
    assert not list(cache.folder.rglob(".*"))


def test_killed_while_writing(tmp_path: Path) -> None:
    """kill -9 in the middle: no half file is ever taken for an image, and what it left is cleared away later."""
    code = """
import os, sys
import numpy as np
from PIL import Image
from mmalign_eval.data.corruptions import cache as module
cache = module.CorruptCache(sys.argv[1], 10**6)
image = Image.fromarray(np.zeros((40, 60, 3), np.uint8))
cache.put("whole", image)
module.os.replace = lambda *a: os.kill(os.getpid(), 9)
cache.put("half", image)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    cache = CorruptCache(tmp_path, MB)
    assert cache.get("whole") is not None
    assert cache.get("half") is None
    (left,) = (path for path in tmp_path.rglob(".*") if path.is_file())
    cache._make_room(0)
    assert left.exists(), "it may be another process's that is still writing"
    os.utime(left, (time.time() - 2 * module.STALE,) * 2)
    cache._make_room(0)
    assert not left.exists()


def test_a_full_disk_is_told_once_and_nothing_stops(
    tmp_path: Path, ref: ImageRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    cache = CorruptCache(tmp_path / "cache", MB, told.append)
    cache.put("before", picture(0))

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.tempfile, "mkstemp", full)
    expected = open_image(corrupted(ref, "contrast", 3, "a")).tobytes()
    with cached_in(cache):
        for severity in (3, 1, 2, 3):
            made = open_image(corrupted(ref, "contrast", severity, "a"))
    assert made.tobytes() == expected
    assert told == [f"corrupted images are no longer kept in {tmp_path / 'cache'}: No space left on device"]
    assert cache.get("before") is not None, "what is there is still read"


def test_it_is_quick_to_write(cache: CorruptCache, tmp_path: Path) -> None:
    """Quicker than the lossless format that images usually are kept in (which loses by a factor of ten or more)."""
    large, photo = CorruptCache(tmp_path / "large", 100 * MB), picture(1, 640, 480)

    def seconds(write: object) -> float:
        times = []
        for i in range(5):
            start = time.perf_counter()
            write(i)  # type: ignore[operator]
            times.append(time.perf_counter() - start)
        return min(times)

    as_png = seconds(lambda i: photo.save(tmp_path / f"{i}.png", compress_level=1))
    assert seconds(lambda i: large.put(f"k{i}", photo)) < as_png


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 10**9), ("500MB", 5 * 10**8), ("1.5 gb", 15 * 10**8), ("2000000", 2 * MB), ("2T", 2 * 10**12)],
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "much", "-5GB", "5XB", "5GB,DIR"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(BadInput, match="expected a size such as 5GB"):
        bytes_of(text)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least 1MB"):
        CorruptCache(tmp_path, 1000)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot make"):
        CorruptCache(tmp_path / "file" / "cache", MB)
    assert images._cache is None
