"""Image transforms by name, applied after decoding and before the model's own processor.

A reference carries them as `name:argument:...`; the functions below are what the names stand for. Whatever is random
is drawn from a seed inside the name, so a picture is the same wherever and whenever it is made.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadInput
from . import corruptions

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..requests import ImageRef

GREY = (127, 127, 127)
STEPS = 1000  # of the diffusion
BETAS = (1e-5, 5e-3)  # between which its schedule runs, along a sigmoid from -6 to 6 (VCD, Leng et al., 2023)
# What CLIP's preprocessing subtracts and divides by: the space in which VCD's and BPO's scripts add noise.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def transformed(ref: ImageRef, name: str) -> ImageRef:
    """A reference with one more transform, applied after those that it has."""
    return replace(ref, transforms=(*ref.transforms, name))


def corrupted(ref: ImageRef, kind: str, severity: int, image_id: str, seed: int = 0) -> ImageRef:
    """An image with a corruption of ImageNet-C and COCO-C.

    Args:
        ref: The image.
        kind: One of `corruptions.KINDS`.
        severity: 1 to 5.
        image_id: What the random numbers are seeded with, beside kind, severity and `seed`.
        seed: Of the run.

    Raises:
        BadInput: Unknown kind (with did-you-mean) or severity.
    """
    corruptions.check(kind, severity)
    own = corruptions.seed_for(kind, severity, image_id, seed)
    return transformed(ref, f"corrupt:{kind}:{severity}:{own}")


def noised(ref: ImageRef, step: int, image_id: str, seed: int = 0) -> ImageRef:
    """An image with diffusion noise of a step (0 to 999), drawn from image id, step and seed.

    Raises:
        BadInput: No such step.
    """
    diffusion_scales(step)
    drawn = hashlib.sha256(f"{seed}|{image_id}|noise|{step}".encode("utf-8", "surrogatepass")).digest()
    return transformed(ref, f"noise:{step}:{int.from_bytes(drawn[:4], 'big')}")


def diffusion_scales(step: int, steps: int = STEPS) -> tuple[float, float]:
    """Factors of image and noise at a step: the roots of the schedule's cumulative product and of what it lacks to 1.

    beta_t = sigmoid(-6 + 12 t / (T - 1)) (5e-3 - 1e-5) + 1e-5, their product up to and with the step (VCD's
    `vcd_add_noise.py`, which BPO's sampler of weakened images uses with T = 1000, its analysis of them with T = 2001).

    Args:
        step: t, from 0.
        steps: T.

    Raises:
        BadInput: The step is not 0 to T - 1.
    """
    if not 0 <= step < steps:
        raise BadInput(f"noise of step {step}: expected 0 (hardly any) to {steps - 1} (hardly any image)")
    kept = float(_kept(steps)[step])
    return kept**0.5, (1 - kept) ** 0.5


@cache
def _kept(steps: int) -> np.ndarray:
    low, high = BETAS
    betas = 1 / (1 + np.exp(-np.linspace(-6, 6, steps))) * (high - low) + low
    return np.cumprod(1 - betas)


def center_crop(image: Image) -> Image:
    """The central square.

    Followed by a processor's resize it equals LLaVA's `square` aspect (shortest side resized, centre cropped), also
    for checkpoints whose processor pads instead.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def corrupt(image: Image, kind: str, severity: str, seed: str = "0") -> Image:
    """What `corrupt:KIND:SEVERITY:SEED` stands for.

    Raises:
        BadInput: Unknown kind or severity.
        ImageError: A side is shorter than 32 pixels.
    """
    from PIL import Image as Images

    if not (severity.isdecimal() and seed.isdecimal()):
        raise BadInput(f"corrupt:{kind}:{severity}:{seed}: severity and seed are whole numbers")
    pixels = np.asarray(image.convert("RGB"))
    return Images.fromarray(corruptions.corrupt(pixels, kind, int(severity), int(seed)))


def blank(image: Image) -> Image:
    """A uniform grey of the image's size: nothing of the image is left, not even its mean."""
    from PIL import Image as Images

    return Images.new("RGB", image.size, GREY)


def noise(image: Image, step: str, seed: str) -> Image:
    """What `noise:STEP:SEED` stands for: diffusion noise on the pixels, as VCD's and BPO's released scripts add it.

    They noise pixels that CLIP's preprocessing normalised, so it is done in that space (each channel less CLIP's mean,
    over its standard deviation) and back to 8 bits, rounded and cut at black and white. Here it is done at the image's
    own size, before any processor: one that shrinks the image averages some of the noise away. (BPO's paper noises
    CLIP's features instead, which only a model's own code can.)
    """
    from PIL import Image as Images

    kept, added = diffusion_scales(int(step))
    mean, std = np.array(CLIP_MEAN), np.array(CLIP_STD)
    pixels = (np.asarray(image.convert("RGB")) / 255.0 - mean) / std
    drawn = np.random.RandomState(int(seed)).standard_normal(pixels.shape)
    noisy = (kept * pixels + added * drawn) * std + mean
    return Images.fromarray(np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8))


def pad_square(image: Image) -> Image:
    """The image in the middle of a square of CLIP's mean colour (122, 116, 104): LLaVA-1.5's `pad` aspect.

    As `expand2square` in haotian-liu/LLaVA's mm_utils.py does it, the colour cut to whole numbers.
    """
    from PIL import Image as Images

    side = max(image.size)
    red, green, blue = (int(255 * mean) for mean in CLIP_MEAN)
    square = Images.new("RGB", (side, side), (red, green, blue))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
