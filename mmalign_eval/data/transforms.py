"""Image transforms by name, applied after decoding and before the model's own processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def center_crop(image: Image) -> Image:
    """The central square.

    Followed by a processor's resize it equals LLaVA's `square` aspect (shortest side resized, centre cropped), also
    for checkpoints whose processor pads instead.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
