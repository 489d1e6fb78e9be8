"""Image transforms by name, applied after decoding and before the model's own processor.

A reference carries them as `name:argument:...`; the functions below are what the names stand for. Whatever is random
is drawn from a seed inside the name, so a picture is the same wherever and whenever it is made.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import BadInput
from . import corruptions

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..requests import ImageRef


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
    import numpy as np
    from PIL import Image as Images

    if not (severity.isdecimal() and seed.isdecimal()):
        raise BadInput(f"corrupt:{kind}:{severity}:{seed}: severity and seed are whole numbers")
    pixels = np.asarray(image.convert("RGB"))
    return Images.fromarray(corruptions.corrupt(pixels, kind, int(severity), int(seed)))
