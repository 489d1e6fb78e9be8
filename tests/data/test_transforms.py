"""Image transforms by name: what they make of an image, and that a name says all about it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmalign_eval.data import corruptions, transforms
from mmalign_eval.data.transforms import corrupted, diffusion_scales, noised, transformed
from mmalign_eval.errors import BadInput, ImageError
from mmalign_eval.image_ahead import ImagesAhead
from mmalign_eval.images import open_image
from mmalign_eval.registry import IMAGE_TRANSFORMS
from mmalign_eval.requests import ImageRef

from ..support import shared_data


@pytest.fixture
def ref(tmp_path: Path) -> ImageRef:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png")
    return ImageRef(str(tmp_path / "photo.png"))


def pixels(ref: ImageRef) -> np.ndarray:
    return np.asarray(open_image(ref))


def test_a_corruption_is_a_transform_with_its_own_seed(ref: ImageRef) -> None:
    one = corrupted(ref, "gaussian_noise", 3, "391895")
    seed = corruptions.seed_for("gaussian_noise", 3, "391895", 0)
    assert one.transforms == (f"corrupt:gaussian_noise:3:{seed}",)
    assert (one.path, one.row) == (ref.path, ref.row)
    assert np.array_equal(pixels(one), corruptions.corrupt(pixels(ref), "gaussian_noise", 3, seed))
    others = [corrupted(ref, "gaussian_noise", 3, "391896"), corrupted(ref, "gaussian_noise", 3, "391895", seed=1)]
    assert all(not np.array_equal(pixels(one), pixels(other)) for other in others)


def test_a_corruption_that_draws_nothing_is_the_same_for_every_sample(ref: ImageRef) -> None:
    assert corrupted(ref, "contrast", 3, "a") == corrupted(ref, "contrast", 3, "b", seed=7)


def test_transforms_are_applied_in_order(ref: ImageRef) -> None:
    cropped_last = transformed(corrupted(ref, "pixelate", 5, "a"), "center_crop")
    cropped_first = corrupted(transformed(ref, "center_crop"), "pixelate", 5, "a")
    assert np.array_equal(pixels(cropped_last), pixels(corrupted(ref, "pixelate", 5, "a"))[:, 10:50])
    assert pixels(cropped_first).shape == (40, 40, 3)
    assert not np.array_equal(pixels(cropped_first), pixels(cropped_last))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "LA"])
def test_any_image_becomes_rgb_first(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).convert(mode).save(path)
    plain = Image.open(path).convert("RGB")
    made = pixels(corrupted(ImageRef(str(path)), "snow", 2, "a"))
    seed = corruptions.seed_for("snow", 2, "a", 0)
    assert np.array_equal(made, corruptions.corrupt(np.asarray(plain), "snow", 2, seed))


def test_an_image_too_small_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (31, 50)).save(tmp_path / "tiny.png")
    with pytest.raises(ImageError, match=r"tiny\.png: 31x50 pixels: fog needs sides of at least 32 pixels"):
        open_image(corrupted(ImageRef(str(tmp_path / "tiny.png")), "fog", 1, "a"))


def test_wrong_arguments_are_refused_when_the_reference_is_made(ref: ImageRef) -> None:
    with pytest.raises(BadInput, match="unknown corruption 'gausian_noise' - did you mean 'gaussian_noise'"):
        corrupted(ref, "gausian_noise", 3, "a")
    with pytest.raises(BadInput, match="severity 0: expected 1 to 5"):
        corrupted(ref, "contrast", 0, "a")
    with pytest.raises(BadInput, match="noise of step 1000: expected 0"):
        noised(ref, 1000, "a")
    with pytest.raises(BadInput, match="severity and seed are whole numbers"):
        open_image(transformed(ref, "corrupt:fog:three"))
    with pytest.raises(BadInput, match="unknown image transform 'blnk' - did you mean 'blank'"):
        open_image(transformed(ref, "blnk"))


def test_the_engine_s_threads_make_the_same_pictures(ref: ImageRef) -> None:
    refs = [corrupted(ref, kind, 3, str(i)) for kind in ("gaussian_noise", "snow", "impulse_noise") for i in range(4)]
    refs += [noised(ref, 700, str(i)) for i in range(4)]
    expected = {one: pixels(one) for one in refs}
    pool = ImagesAhead([[one] for one in refs], workers=0)
    try:
        pool.reach(0, 1)
        assert all(np.array_equal(np.asarray(pool.get(one)), expected[one]) for one in refs)
    finally:
        pool.close()


# --- blank ---


def test_blank_leaves_nothing_but_the_size(ref: ImageRef) -> None:
    made = pixels(transformed(ref, "blank"))
    assert made.shape == (40, 60, 3)
    assert np.unique(made).tolist() == [127]


# --- diffusion noise ---

# The schedule of VCD with T = 1000, to five places.
SCALES = [
    (100, 0.99829, 0.05841),
    (300, 0.98098, 0.19409),
    (500, 0.86302, 0.50518),
    (600, 0.73425, 0.67888),
    (700, 0.59268, 0.80544),
    (800, 0.46701, 0.88425),
    (900, 0.36489, 0.93105),
    (999, 0.28504, 0.95852),
]


@pytest.mark.parametrize(("step", "kept", "added"), SCALES)
def test_the_schedule(step: int, kept: float, added: float) -> None:
    assert diffusion_scales(step) == pytest.approx((kept, added), abs=1e-5)


def test_the_schedule_against_its_definition() -> None:
    import math

    product = 1.0
    for step in range(1000):
        product *= 1 - (1 / (1 + math.exp(-(-6 + 12 * step / 999))) * (0.005 - 1e-5) + 1e-5)
        kept, added = diffusion_scales(step)
        assert kept == pytest.approx(math.sqrt(product), rel=1e-12)
        assert kept**2 + added**2 == pytest.approx(1, abs=1e-12)


def test_noise_has_the_strength_that_its_step_says(tmp_path: Path) -> None:
    """On a grey that cutting hardly touches: its distance from CLIP's mean shrinks, the noise is as wide as it says."""
    Image.new("RGB", (256, 256), (120, 120, 120)).save(tmp_path / "grey.png")
    kept, added = diffusion_scales(300)
    made = pixels(noised(ImageRef(str(tmp_path / "grey.png")), 300, "a")) / 255
    mean, std = np.array(transforms.CLIP_MEAN), np.array(transforms.CLIP_STD)
    assert made.mean(axis=(0, 1)) == pytest.approx((120 / 255 - mean) * kept + mean, abs=2e-3)
    assert made.std(axis=(0, 1)) == pytest.approx(added * std, rel=0.02)


def test_noise_of_step_0_changes_next_to_nothing_and_of_999_nearly_all(ref: ImageRef) -> None:
    plain = pixels(ref).astype(int)
    assert np.abs(pixels(noised(ref, 0, "a")).astype(int) - plain).max() <= 2
    correlation = np.corrcoef(pixels(noised(ref, 999, "a")).ravel(), plain.ravel())[0, 1]
    assert 0.05 < correlation < 0.6


@settings(max_examples=200, deadline=None)
@given(step=st.integers(0, 999), image_id=st.text(max_size=8), seed=st.integers(0, 3))
def test_noise_is_drawn_from_id_step_and_seed(step: int, image_id: str, seed: int) -> None:
    ref = ImageRef("x.png")
    one = noised(ref, step, image_id, seed)
    assert one == noised(ref, step, image_id, seed)
    assert one != noised(ref, step, image_id + "+", seed)
    assert one != noised(ref, step, image_id, seed + 1)
    name, *arguments = one.transforms[0].split(":")
    image = Image.new("RGB", (8, 5), (90, 0, 255))
    make = IMAGE_TRANSFORMS.get(name)
    first = make(image, *arguments)
    with ThreadPoolExecutor(2) as pool:
        assert [made.tobytes() for made in pool.map(lambda _: make(image, *arguments), range(3))] == 3 * [
            first.tobytes()
        ]
    assert first.size == image.size


# --- photographs ---


@pytest.mark.parametrize("name", ["chelsea224.png", "coffee300x200.png"])
def test_photographs(name: str) -> None:
    ref = ImageRef(str(shared_data("images") / name))
    plain = pixels(ref)
    spread = plain.std(axis=(0, 1))
    assert pixels(corrupted(ref, "brightness", 3, "a")).mean() > plain.mean() + 30
    assert pixels(corrupted(ref, "contrast", 3, "a")).std(axis=(0, 1)) == pytest.approx(0.2 * spread, rel=0.02)
    assert (pixels(corrupted(ref, "defocus_blur", 3, "a")).std(axis=(0, 1)) < spread).all()
    assert pixels(noised(ref, 900, "a")).shape == plain.shape
