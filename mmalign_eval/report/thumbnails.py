"""Small pictures of the images that samples show: as the model saw them, each once, within a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from ..errors import MmevalError, located
from ..images import image_size, open_image
from ..requests import ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image

Watch = Callable[[str, int], Callable[[int, int], None]]  # (what, how many) -> called with (good, bad) as they come

# From the best to the poorest: share of the longest side asked for, JPEG quality.
STEPS = ((1.0, 75), (1.0, 60), (0.8, 60), (0.7, 50), (0.6, 45), (0.5, 40))
TRIED = 40  # images that decide on the step, spread evenly
WORKERS = 2
HEAD = "data:image/jpeg;base64,"
NO_SIZE = (0, 0)

# What a transform costs, in seconds for an image of 640 x 480, roughly (measured; most take less than PLAIN).
COST = {
    "corrupt:glass_blur": 7.0,
    "corrupt:zoom_blur": 0.4,
    "corrupt:elastic_transform": 0.1,
    "corrupt:shot_noise": 0.07,
}
PLAIN = 0.035
SLOW = 0.2  # from here on a transform has little of the time, so that it takes none from the others
PIXELS = 640 * 480
MOST, MOST_SLOW = 12.0, 4.0  # seconds for the transformed images of a page, and for the slow ones; the rest is left out


@dataclass(frozen=True)
class Thumbnails:
    """Pictures for a page.

    Attributes:
        pictures: For each image asked for: a data URL, or why there is none.
        sizes: Width and height of each in pixels, so that a page keeps its room; zeros where there is none.
        notes: What was left out or made smaller.
    """

    pictures: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def thumbnails(refs: Sequence[ImageRef], side: int, budget: int, watch: Watch) -> Thumbnails:
    """Makes a picture of every image, with its transforms applied.

    An image that cannot be read has its reason in the picture's place. Where the budget would not hold, all get
    smaller and coarser, and in the end some are left out, evenly spread: equal images give equal pictures.

    Args:
        refs: Different images.
        side: Longest side in pixels; smaller images stay as they are.
        budget: Most characters that all pictures may have together.
        watch: Hears about progress.
    """
    if not refs:
        return Thumbnails()
    affordable = _affordable(refs)
    notes = _left_out(len(refs) - len(affordable), "take long to transform")
    advance = watch("thumbnails", len(affordable))
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="mmeval-thumbnail") as pool:
        tried = spread(affordable, TRIED)
        samples = list(pool.map(lambda i: _small(refs[i], side), tried))
        step, size = _step([s for s in samples if not isinstance(s, str)], side, budget, len(affordable))
        share, quality = STEPS[step]
        kept = spread(affordable, int(budget / size)) if size * len(affordable) > budget else affordable
        notes += _left_out(len(affordable) - len(kept), "would make the page too large")

        def make(i: int) -> tuple[int, str, tuple[int, int]]:
            small = _small(refs[i], max(1, int(side * share)))
            return (i, small, NO_SIZE) if isinstance(small, str) else (i, _encoded(small, quality), small.size)

        pictures, sizes = ["left out of this page"] * len(refs), [NO_SIZE] * len(refs)
        for i, picture, whole in pool.map(make, kept):
            pictures[i], sizes[i] = picture, whole
            advance(*((1, 0) if picture.startswith(HEAD) else (0, 1)))
    if step:
        notes.append(f"thumbnails are small ({int(side * share)} pixels, quality {quality}) to keep the page's size")
    return Thumbnails(pictures, sizes, notes)


def spread(items: Sequence[int], count: int) -> list[int]:
    """At most `count` of the items, evenly spread, in their order."""
    if count <= 0:
        return []
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _affordable(refs: Sequence[ImageRef]) -> list[int]:
    """Places of the images that do not take too long together: all without transforms, of the others an even share."""
    plain = [i for i, ref in enumerate(refs) if not ref.transforms]
    costs = {i: _cost(ref) for i, ref in enumerate(refs) if ref.transforms}
    slow = {i: cost for i, cost in costs.items() if cost > SLOW}
    fast = {i: cost for i, cost in costs.items() if cost <= SLOW}
    return sorted([*plain, *_within(fast, MOST), *_within(slow, MOST_SLOW)])


def _within(costs: Mapping[int, float], most: float) -> list[int]:
    """As many places as the sum of costs allows, evenly spread; one at least."""
    places = list(costs)
    share = len(places)
    while share > 1 and sum(costs[i] for i in spread(places, share)) > most:
        share = share * 9 // 10
    return spread(places, share)


def _cost(ref: ImageRef) -> float:
    try:
        height, width = image_size(ref)
    except MmevalError:
        return 0.0  # its placeholder costs nothing
    seconds = sum(COST.get(":".join(name.split(":")[:2]), PLAIN) for name in ref.transforms)
    return seconds * height * width / PIXELS


def _left_out(count: int, why: str) -> list[str]:
    return [f"{count} images are left out: they {why}"] if count else []


def _step(samples: Sequence[Image], side: int, budget: int, count: int) -> tuple[int, float]:
    """The first step at which all are expected to fit, or the last; with the mean size there, a little rounded up."""
    if not samples:
        return 0, 0.0
    step, size = -1, float("inf")
    while size * count > budget and step + 1 < len(STEPS):
        step += 1
        share, quality = STEPS[step]
        sizes = [len(_encoded(_shrunk(image, max(1, int(side * share))), quality)) for image in samples]
        size = 1.05 * sum(sizes) / len(sizes)
    return step, size


def _small(ref: ImageRef, side: int) -> Image | str:
    """The image in small, or why there is none (without the folders of the machine that it lay on)."""
    try:
        return _shrunk(open_image(ref), side)
    except MmevalError as error:
        return str(error).replace(ref.path, PurePath(ref.path).name)
    except Exception as error:  # of an image library or a plugin's transform: the page shows it and goes on
        return f"image {PurePath(ref.path).name}: {located(error)}"


def _shrunk(image: Image, side: int) -> Image:
    small = image.copy()
    small.thumbnail((side, side), reducing_gap=2.0)
    return small


def _encoded(image: Image, quality: int) -> str:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=quality, optimize=True)
    return HEAD + base64.b64encode(file.getvalue()).decode("ascii")
