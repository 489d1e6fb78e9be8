"""What a processor makes of one image, apart from its text: it can then be made ahead, in another process.

Any processor will do whose image processor makes nothing of an image but `pixel_values` of one shape (the kind of CLIP
and SigLIP); that it is one, and that what it makes apart is the same bit for bit, is seen on two pictures.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..image_workers import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

PIXELS = "pixel_values"
_KEPT = "mmeval pixels"  # where a stand-in carries them
PROBES = ((53, 31), (24, 47))  # widths and heights


@dataclass(frozen=True)
class ImageProcessor:
    """A processor's image processor with the options that it gets there (`image_workers.Preparer`).

    Attributes:
        image_processor: The checkpoint's.
        options: What the processor calls it with, beside images.
    """

    image_processor: Any
    options: dict[str, Any]

    def __call__(self, image: Image) -> Pixels:
        """`pixel_values` of one image, without the dimension of images."""
        return np.asarray(self.image_processor([image], **self.options)[PIXELS][0])


@dataclass(frozen=True)
class Apart:
    """A processor taken apart.

    Attributes:
        preparer: The half that sees images.
        processor: The other: called as the processor is, with stand-ins for images.
    """

    preparer: ImageProcessor
    processor: Any


def stand_in(size: tuple[int, int], pixels: Pixels) -> Image:
    """An empty image of a size that carries what was made of the image it stands for."""
    from PIL import Image as Images

    image = Images.new("RGB", size)
    image.info[_KEPT] = pixels
    return image


def apart(processor: Any) -> Apart | None:
    """Takes a processor apart; None if it is not of that kind."""
    import torch

    token = getattr(processor, "image_token", None)
    if not token or getattr(processor, "image_processor", None) is None:
        return None
    token = str(getattr(token, "content", token))
    images, how = list(_probes()), {"text": [f"{token} a", token], "padding": True, "return_tensors": "pt"}
    try:
        spy = _Spy(processor.image_processor)
        whole = _with(processor, spy)(images=[[image] for image in images], **how)
        if spy.calls != 1 or set(spy.out) != {PIXELS} or len(spy.out[PIXELS]) != len(images):
            return None
        found = Apart(
            ImageProcessor(processor.image_processor, spy.options), _with(processor, _Made(processor.image_processor))
        )
        alone = [[stand_in(image.size, found.preparer(image))] for image in images]
        again = found.processor(images=alone, **how)
        same = set(whole) == set(again) and all(torch.equal(whole[name], again[name]) for name in whole)
    except Exception as error:  # whatever it dislikes about pictures made apart, it gets them whole
        log.info("%s: images are processed with their text: %s", type(processor).__name__, error)
        return None
    return found if same else None


def _probes() -> Iterator[Image]:
    from PIL import Image as Images

    numbers = np.random.default_rng(0)
    for width, height in PROBES:
        yield Images.fromarray(numbers.integers(0, 256, (height, width, 3), dtype=np.uint8))


def _with(processor: Any, image_processor: Any) -> Any:
    twin = copy.copy(processor)
    twin.image_processor = image_processor
    return twin


class _Around:
    """An image processor in another's place: what is asked of it, beside images, the other answers."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        if name == "real":  # a copy being made
            raise AttributeError(name)
        return getattr(self.real, name)


class _Spy(_Around):
    """Remembers how it was called."""

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self.calls, self.out, self.options = 0, dict[str, Any](), dict[str, Any]()

    def __call__(self, images: Any, **options: Any) -> Any:
        self.calls, self.options = self.calls + 1, options
        self.out = self.real(images, **options)
        return self.out


class _Made(_Around):
    """Is shown stand-ins."""

    def __call__(self, images: Any, return_tensors: Any = None, **options: Any) -> Any:
        from transformers import BatchFeature

        return BatchFeature({PIXELS: np.stack([image.info[_KEPT] for image in _flat(images)])}, return_tensors)


def _flat(images: Any) -> Iterator[Image]:
    for one in images:
        if isinstance(one, list | tuple):
            yield from _flat(one)
        else:
            yield one
