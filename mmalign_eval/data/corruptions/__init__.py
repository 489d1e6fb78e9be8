"""The 19 corruptions of ImageNet-C and COCO-C, through the package `imagecorruptions` 1.1.2 (Michaelis et al., 2019).

Same bytes as the package at the same seed. It draws from numpy's global generator; here every call draws from its own,
so that neither threads nor the order of images change a picture. Kinds with a faster way to the same bytes take it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ...errors import BadInput, ImageError, did_you_mean

# In the package's order; the last four are its validation corruptions.
KINDS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression", "speckle_noise",
    "gaussian_blur", "spatter", "saturate",
)  # fmt: skip
# They draw no random numbers: every seed gives the same picture.
DETERMINISTIC = frozenset(
    {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur", "saturate"}
)
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32  # pixels of a side, as the package asks


def check(kind: str, severity: int) -> None:
    """Refuses what the package does not have.

    Raises:
        BadInput: Unknown kind (with did-you-mean), or a severity that is not 1 to 5.
    """
    if kind not in KINDS:
        raise BadInput(f"unknown corruption {kind!r}{did_you_mean(kind, KINDS)}; known: {', '.join(KINDS)}")
    if severity not in SEVERITIES:
        raise BadInput(f"corruption {kind}: severity {severity}: expected 1 to 5")


def seed_for(kind: str, severity: int, image_id: str, seed: int) -> int:
    """The generator's seed for one image: 32 bits of SHA-256, so that order and sharding change nothing.

    Kinds that draw nothing have seed 0: their pictures are equal wherever the image appears.
    """
    if kind in DETERMINISTIC:
        return 0
    digest = hashlib.sha256(f"{seed}|{image_id}|{kind}|{severity}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big")


def corrupt(image: np.ndarray, kind: str, severity: int, seed: int = 0, *, slow: bool = False) -> np.ndarray:
    """A corrupted image.

    Args:
        image: uint8, height x width or height x width x 1, 3 or 4 channels (grey becomes RGB, alpha is dropped).
        kind: One of `KINDS`.
        severity: 1 to 5.
        seed: What `numpy.random.seed` would have been given before a call of the package (0 to 2**32 - 1).
        slow: The package's own function also where there is a faster one.

    Returns:
        uint8, height x width x 3; values are truncated, not rounded, as the package does.

    Raises:
        BadInput: Unknown kind or severity.
        ImageError: A side is shorter than 32 pixels.
    """
    check(kind, severity)
    rgb = _rgb(image)
    height, width = rgb.shape[:2]
    if min(height, width) < SMALLEST:
        raise ImageError(f"{width}x{height} pixels: {kind} needs sides of at least {SMALLEST} pixels")
    from . import fast, package

    quick: Any = None if slow else fast.FAST.get(kind)
    if quick is not None:
        return np.asarray(quick(rgb, severity, seed), dtype=np.uint8)
    return package.corrupt(rgb, kind, severity, seed)


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise ImageError(f"expected 8-bit grey, RGB or RGBA pixels, found {image.dtype} of shape {image.shape}")
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.ascontiguousarray(image[:, :, :3])
