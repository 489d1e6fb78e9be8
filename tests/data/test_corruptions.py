"""Corruptions against the package itself: same seed, same bytes, whatever the threads and the order."""

from __future__ import annotations

import importlib
import importlib.util
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmalign_eval.data import corruptions
from mmalign_eval.data.corruptions import DETERMINISTIC, KINDS, corrupt, fast, package, seed_for
from mmalign_eval.errors import BadInput, ImageError

from ..support import shared_data

BROKEN = {"impulse_noise", "gaussian_blur", "glass_blur", "fog"}  # the package's own, on today's libraries
SLOW = {"glass_blur", "zoom_blur"}


@pytest.fixture(scope="module")
def upstream() -> ModuleType:
    """`imagecorruptions` as it is installed, with a stand-in for the one module that it cannot be imported without."""
    stand_in = ModuleType("pkg_resources")
    spec = importlib.util.find_spec("imagecorruptions")
    folder = Path(spec.origin).parent  # type: ignore[union-attr, arg-type]
    stand_in.resource_filename = lambda _, name: str(folder / name)  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pkg_resources", stand_in)
        return importlib.import_module("imagecorruptions")


def official(upstream: ModuleType, image: np.ndarray, kind: str, severity: int, seed: int) -> np.ndarray:
    np.random.seed(seed)
    return upstream.corrupt(image, severity=severity, corruption_name=kind)


def ramps() -> np.ndarray:
    y, x = np.mgrid[0:32, 0:32]
    return np.stack([(8 * x) % 256, (8 * y) % 256, (4 * (x + y)) % 256], axis=-1).astype(np.uint8)


def picture(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """Smooth in parts, noisy in others, with saturated and grey areas."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[: height // 3] = rng.integers(0, 256, 3, dtype=np.uint8)
    image[height // 3 : height // 2] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    image[:, : width // 5] = np.where(image[:, : width // 5] > 128, 255, image[:, : width // 5])
    return image


# Made once by running the package's functions on the ramps after numpy.random.seed(0).
GOLDEN = [
    ("contrast", 1, [96, 90, 93], 379687),
    ("contrast", 3, [110, 107, 108], 379687),
    ("contrast", 5, [120, 119, 120], 379687),
    ("brightness", 1, [81, 58, 69], 433346),
    ("brightness", 3, [132, 94, 113], 510591),
    ("brightness", 5, [183, 131, 157], 554716),
    ("defocus_blur", 1, [55, 39, 47], 378219),
    ("defocus_blur", 3, [55, 40, 48], 378647),
    ("defocus_blur", 5, [58, 47, 52], 383486),
    ("gaussian_noise", 1, [55, 62, 43], 378143),
    ("gaussian_noise", 3, [54, 90, 37], 377267),
    ("gaussian_noise", 5, [52, 146, 25], 375549),
]


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(("kind", "severity", "pixel", "total"), GOLDEN)
def test_golden(kind: str, severity: int, pixel: list[int], total: int, slow: bool) -> None:
    image = ramps()
    assert image.sum() == 380928
    made = corrupt(image, kind, severity, 0, slow=slow)
    assert made[5, 7].tolist() == pixel
    assert made.sum() == total


def test_golden_kernels() -> None:
    disk = package.functions().disk
    assert disk(3, 0.1).shape == (17, 17)
    assert (disk(3, 0.1) > 0).sum() == 61
    assert disk(10, 0.5).shape == (21, 21)
    assert disk(10, 0.5).sum() == pytest.approx(1.01079, abs=5e-6)


def test_kinds_are_the_package_s(upstream: ModuleType) -> None:
    assert list(KINDS) == upstream.get_corruption_names("all")


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("impulse_noise", "gaussian_blur", "glass_blur", "fog")]
)
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_same_bytes_as_the_package(upstream: ModuleType, kind: str, severity: int) -> None:
    """Those that it can run on today's libraries and that its seed reaches."""
    image = picture(severity, 48, 57)
    assert np.array_equal(corrupt(image, kind, severity, 7), official(upstream, image, kind, severity, 7))


@pytest.mark.parametrize("kind", ["gaussian_blur", "glass_blur", "fog"])
def test_same_bytes_as_the_package_once_repaired(
    upstream: ModuleType, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says `multichannel` and `np.float_`, which are gone: the functions it meant are put under these names."""
    import skimage.filters

    monkeypatch.setattr(np, "float_", np.float64, raising=False)
    monkeypatch.setattr(
        upstream.corruptions,
        "gaussian",
        lambda image, sigma, multichannel: skimage.filters.gaussian(image, sigma, channel_axis=-1),
    )
    image = picture(1, 33, 40)
    assert np.array_equal(corrupt(image, kind, 3, 11), official(upstream, image, kind, 3, 11))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_every_kind_is_reproducible(kind: str, severity: int) -> None:
    image = picture(0)
    once = corrupt(image, kind, severity, 3)
    np.random.seed(0)
    np.random.random(5)  # whatever others draw
    assert np.array_equal(once, corrupt(image, kind, severity, 3))
    assert np.array_equal(once, corrupt(image, kind, severity, 4)) == (kind in DETERMINISTIC)
    assert once.shape == image.shape
    assert once.dtype == np.uint8
    assert not np.array_equal(once, image)


def test_numpy_s_own_generator_is_left_alone() -> None:
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    for kind in KINDS:
        corrupt(picture(0, 32, 32), kind, 2, 1)
    assert np.array_equal(np.random.random(3), expected)


def test_the_package_is_left_alone() -> None:
    """In a fresh process: neither stand-ins nor repairs can be seen from outside."""
    code = """
import sys
import numpy as np
from mmalign_eval.data.corruptions import corrupt
corrupt(np.zeros((32, 32, 3), np.uint8), "fog", 1, 0)
assert "pkg_resources" not in sys.modules, "pkg_resources"
assert "imagecorruptions" not in sys.modules, "imagecorruptions"
assert not hasattr(np, "float_")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@st.composite
def small_images(draw: st.DrawFn) -> np.ndarray:
    """Any bytes, few colours, one colour, or extremes: where rounding decides."""
    height, width = draw(st.integers(32, 40)), draw(st.integers(32, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    colours = draw(st.sampled_from([1, 2, 5, 256]))
    levels = rng.choice(256, colours, replace=False).astype(np.uint8)
    if draw(st.booleans()):
        levels[0] = draw(st.sampled_from([0, 51, 102, 127, 128, 254, 255]))
    image = rng.choice(levels, (height, width, 3))
    return np.repeat(image[:, :, :1], 3, axis=2) if draw(st.booleans()) else image


@pytest.mark.parametrize("kind", sorted(fast.FAST))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(image=small_images(), severity=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_fast_is_slow_byte_for_byte(kind: str, image: np.ndarray, severity: int, seed: int) -> None:
    before = image.copy()
    assert np.array_equal(corrupt(image, kind, severity, seed), corrupt(image, kind, severity, seed, slow=True))
    assert np.array_equal(image, before), "the image given was changed"


@pytest.mark.parametrize("kind", sorted(fast.FAST))
@pytest.mark.parametrize("name", ["chelsea224.png", "coffee300x200.png", "china.jpg", "flower.jpg"])
def test_fast_is_slow_on_photographs(kind: str, name: str) -> None:
    from PIL import Image

    image = np.asarray(Image.open(shared_data("images") / name).convert("RGB"))
    for severity in (1, 2, 3, 4, 5):
        assert np.array_equal(corrupt(image, kind, severity, 1), corrupt(image, kind, severity, 1, slow=True))


def test_brightness_of_every_tie_and_of_saturated_colours() -> None:
    """All colours in which two channels are equal or one is at an end: where hue meets a sector's border."""
    a, b = np.mgrid[0:256, 0:256].astype(np.uint8)
    full, none = np.full_like(a, 255), np.zeros_like(a)
    planes = [(a, a, b), (a, b, a), (b, a, a), (full, a, b), (a, full, b), (a, b, full), (none, a, b), (a, b, none)]
    for severity in (1, 2, 3, 4, 5):
        for one in planes:
            image = np.stack(one, axis=-1)
            made = corrupt(image, "brightness", severity)
            assert np.array_equal(made, corrupt(image, "brightness", severity, slow=True))


@pytest.mark.slow
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_brightness_of_every_colour(severity: int) -> None:
    green, blue = np.mgrid[0:256, 0:256].astype(np.uint8)
    for red in range(256):
        image = np.stack([np.full_like(green, red), green, blue], axis=-1)
        made = corrupt(image, "brightness", severity)
        assert np.array_equal(made, corrupt(image, "brightness", severity, slow=True)), f"red {red}"


def test_contrast_falls_back_where_truncation_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = package.corrupt
    monkeypatch.setattr(package, "corrupt", lambda *a: asked.append(a[1]) or real(*a))  # type: ignore[func-returns-value]
    flat = np.full((40, 50, 3), 77, np.uint8)
    made = corrupt(flat, "contrast", 3)
    assert asked == ["contrast"]
    assert np.array_equal(made, corrupt(flat, "contrast", 3, slow=True))
    corrupt(picture(5), "contrast", 3)
    assert asked == ["contrast", "contrast"], "a usual picture needs the package's way too"


def test_noise_falls_back_where_truncation_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = package.corrupt
    monkeypatch.setattr(package, "corrupt", lambda *a: asked.append(a[1]) or real(*a))  # type: ignore[func-returns-value]
    image = picture(5)
    made = corrupt(image, "gaussian_noise", 3, 1)
    assert asked == [], "a usual picture needs the package's way too"
    monkeypatch.setattr(fast, "SURE", 1.0)
    assert np.array_equal(corrupt(image, "gaussian_noise", 3, 1), made)
    assert asked == ["gaussian_noise"]


def test_normal_numbers_are_numpy_s_in_its_order() -> None:
    ours, theirs = np.random.RandomState(3), np.random.RandomState(3)
    found = np.concatenate([fast._normal(ours) for _ in range(4)])
    assert found.size == pytest.approx(4 * 2 * fast.PAIRS * np.pi / 4, rel=0.02)
    assert np.abs(found - theirs.standard_normal(found.size)).max() < 1e-14


# --- any number of workers, any order ---


@settings(max_examples=200, deadline=None)
@given(
    jobs=st.lists(
        st.tuples(
            st.sampled_from([kind for kind in KINDS if kind not in SLOW]), st.sampled_from([1, 3, 5]), st.integers(0, 9)
        ),
        min_size=2,
        max_size=6,
    ),
    workers=st.sampled_from([1, 2, 4]),
    order=st.randoms(use_true_random=False),
)
def test_workers_and_order_change_nothing(jobs: list[tuple[str, int, int]], workers: int, order: random.Random) -> None:
    image = picture(2, 32, 32)
    alone = {job: corrupt(image, *job) for job in jobs}
    shuffled = list(jobs)
    order.shuffle(shuffled)
    with ThreadPoolExecutor(workers) as pool:
        made = list(pool.map(lambda job: corrupt(image, *job), shuffled))
    assert all(np.array_equal(one, alone[job]) for job, one in zip(shuffled, made, strict=True))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_all_kinds_at_once_on_threads(workers: int) -> None:
    """Also the slow ones, starting together: no kind's random numbers reach another's."""
    image = picture(4)
    jobs = [(kind, severity, seed) for kind in KINDS for severity, seed in ((1, 8), (5, 9))]
    alone = [corrupt(image, *job) for job in jobs]
    barrier = threading.Barrier(workers)

    def one(job: tuple[str, int, int]) -> np.ndarray:
        return corrupt(image, *job)

    with ThreadPoolExecutor(workers, initializer=barrier.wait) as pool:
        backwards = list(pool.map(one, reversed(jobs)))
    for job, a, b in zip(jobs, alone, reversed(backwards), strict=True):
        assert np.array_equal(a, b), job


def test_seeds() -> None:
    seeds = {seed_for(k, s, i, r) for k in ("fog", "snow") for s in (1, 3) for i in ("1", "2") for r in (0, 1)}
    assert len(seeds) == 16
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert seed_for("gaussian_noise", 3, "391895", 0) == int(
        "107ee60a", 16
    )  # printf '0|391895|gaussian_noise|3' | sha256sum
    assert seed_for("contrast", 3, "391895", 0) == 0


# --- what it refuses, and what it takes ---


def test_other_layouts_become_rgb() -> None:
    grey = picture(1)[:, :, 0]
    as_rgb = corrupt(np.stack([grey] * 3, axis=-1), "snow", 2, 5)
    assert np.array_equal(corrupt(grey, "snow", 2, 5), as_rgb)
    assert np.array_equal(corrupt(grey[:, :, None], "snow", 2, 5), as_rgb)
    rgba = np.concatenate([picture(1), grey[:, :, None]], axis=2)
    assert np.array_equal(corrupt(rgba, "snow", 2, 5), corrupt(picture(1), "snow", 2, 5))


def test_refusals() -> None:
    image = picture(0)
    with pytest.raises(BadInput, match="unknown corruption 'contrst' - did you mean 'contrast'"):
        corrupt(image, "contrst", 3)
    with pytest.raises(BadInput, match="severity 6: expected 1 to 5"):
        corrupt(image, "contrast", 6)
    with pytest.raises(ImageError, match="40x31 pixels: fog needs sides of at least 32"):
        corrupt(np.zeros((31, 40, 3), np.uint8), "fog", 1)
    with pytest.raises(ImageError, match="expected 8-bit"):
        corrupt(image / 255.0, "fog", 1)
    assert corrupt(np.zeros((32, 32, 3), np.uint8), "fog", 1).shape == (32, 32, 3)


def test_a_package_that_does_not_import_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install imagecorruptions==1.1.2"):
        package._functions.__wrapped__()


def test_nothing_heavy_until_a_picture_is_made() -> None:
    code = "import sys, mmalign_eval.data.corruptions; print(*sorted({'cv2', 'skimage', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert corruptions.SMALLEST == 32
