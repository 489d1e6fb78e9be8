"""Reading images: bytes, digest and pixels of an `ImageRef`, each only when asked for."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .errors import ImageError
from .requests import ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 80_000_000  # more than any benchmark's image; larger ones are refused before anything is asked


def read_bytes(ref: ImageRef) -> bytes:
    """The encoded image.

    Raises:
        ImageError: The file is missing or the row holds no image.
    """
    if ref.row >= 0 and ref.path.endswith(".jsonl"):
        return _embedded(ref)
    if ref.row >= 0:
        cell = _arrow_table(ref.path).column(ref.column)[ref.row].as_py()
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if data is None and isinstance(cell, dict) and cell.get("path"):
            return read_bytes(ImageRef(cell["path"]))
        if not data:
            raise ImageError(f"row {ref.row} of {ref.path} has no image in column {ref.column!r}")
        return bytes(data)
    try:
        return Path(ref.path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read image {ref.path}: {error.strerror or error}") from error


def _embedded(ref: ImageRef) -> bytes:
    """The image that a line of a JSON-lines file holds as base64 (a data URL's head before it is skipped)."""
    try:
        with Path(ref.path).open("rb") as file:
            file.seek(_line_starts(ref.path)[ref.row])
            text = json.loads(file.readline())[ref.column]
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ImageError(
            f"line {ref.row + 1} of {ref.path} holds no base64 image in {ref.column!r}: {error}"
        ) from error


@lru_cache(maxsize=16)
def _line_starts(path: str) -> list[int]:
    """Where each line of a file begins, in bytes."""
    with Path(path).open("rb") as file:
        return [0, *itertools.accumulate(len(line) for line in file)]


@lru_cache(maxsize=1_000_000)
def _digest(path: str, row: int, column: str) -> str:
    ref = ImageRef(path, row, column)
    data = read_bytes(ref)
    with contextlib.suppress(_Undecodable):  # to be found out by whom it is shown to
        _opened(data, ref)
    return hashlib.sha256(data).hexdigest()


def digest(ref: ImageRef) -> str:
    """SHA-256 of the encoded image, before transforms; read once a process.

    Raises:
        ImageError: Missing, or too large to be decoded by anyone.
    """
    return _digest(ref.path, ref.row, ref.column)


def image_size(ref: ImageRef) -> tuple[int, int]:
    """Height and width, from the header, before transforms.

    Raises:
        ImageError: Missing, too large, or not an image.
    """
    image = _opened(read_bytes(ref), ref)
    return image.height, image.width


class _Undecodable(ImageError):
    """Bytes that are no image."""


def _opened(data: bytes, ref: ImageRef) -> Image:
    """The image with its header read and no pixel decoded."""
    from PIL import Image, UnidentifiedImageError

    most = f"{MAX_PIXELS // 10**6} million pixels"
    too_large = ImageError(f"image {label(ref)} has more than {most}: too large to decode")
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise too_large from error
    except UnidentifiedImageError as error:  # its text is a buffer's address
        raise _Undecodable(f"image {label(ref)} cannot be decoded: it has no image format that is known") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise _Undecodable(f"image {label(ref)} cannot be decoded: {error}") from error
    if image.width * image.height > MAX_PIXELS:
        raise too_large
    return image


class ImageCache(Protocol):
    """Where images are kept that a transform took some time to make.

    Attributes:
        heads: Names of the transforms whose results are worth keeping.
        tell: Hears, once, that images can no longer be kept.
    """

    heads: frozenset[str]
    tell: Callable[[str], None]

    def get(self, key: str) -> Image | None:
        """The image of a key, or None."""

    def put(self, key: str, image: Image) -> None:
        """Keeps an image; never raises."""


_cache: ImageCache | None = None


def cache_in_use() -> ImageCache | None:
    """The one that `cached_in` gave."""
    return _cache


@contextlib.contextmanager
def cached_in(cache: ImageCache | None) -> Iterator[None]:
    """Lets `open_image` use a cache, in all threads of the process; None: no cache."""
    global _cache
    before, _cache = _cache, cache
    try:
        yield
    finally:
        _cache = before


def open_image(ref: ImageRef) -> Image:
    """Decodes to RGB and applies the transforms, or takes the image from the cache that is in use.

    Raises:
        ImageError: Missing, damaged, too large, or not an image.
    """
    cache = _cache
    kept = [i for i, name in enumerate(ref.transforms) if cache and name.partition(":")[0] in cache.heads]
    if cache is None or not kept:
        return _transformed(_decoded(ref), ref, ref.transforms)
    until = kept[-1] + 1  # everything up to the last transform whose result is kept
    key = hashlib.sha256("|".join((digest(ref), *ref.transforms[:until])).encode()).hexdigest()
    image = cache.get(key)
    if image is None:
        image = _transformed(_decoded(ref), ref, ref.transforms[:until])
        cache.put(key, image)
    return _transformed(image, ref, ref.transforms[until:])


def _decoded(ref: ImageRef) -> Image:
    file = _opened(read_bytes(ref), ref)
    try:
        return file.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"image {label(ref)} cannot be decoded: {error}") from error


def _transformed(image: Image, ref: ImageRef, transforms: Iterable[str]) -> Image:
    for name in transforms:
        head, *arguments = name.split(":")
        try:
            image = _transform(head)(image, *arguments)
        except ImageError as error:
            raise ImageError(f"image {label(ref)}: {error}") from error
    return image


def label(ref: ImageRef) -> str:
    """How an image is named in messages."""
    if ref.path.endswith(".jsonl") and ref.row >= 0:
        return f"{ref.path}:{ref.row + 1}"
    return f"{ref.path}[{ref.row}]" if ref.row >= 0 else ref.path


class Order:
    """The images of a run in the order in which they are shown, where neighbours on one image count once."""

    def __init__(self, shown: Sequence[Sequence[ImageRef]]) -> None:
        self.refs: list[ImageRef] = []
        self._first: list[int] = []  # the item with which each comes
        before: tuple[ImageRef, ...] = ()
        for number, images in enumerate(shown):
            if images and tuple(images) != before:
                before = tuple(images)
                self.refs += before
                self._first += [number] * len(before)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where in `refs` the images of items `start` to `end` (without it) are; also those still shown before."""
        at = bisect_right(self._first, start)
        return bisect_left(self._first, self._first[at - 1]) if at else 0, bisect_left(self._first, end)


class ImagePool:
    """Images for an adapter, each opened when it is asked for; `image_ahead.ImagesAhead` has them before."""

    def get(self, ref: ImageRef) -> Image:
        """The decoded image, waiting for it if need be (raises `ImageError` as `open_image` does)."""
        return open_image(ref)

    def check(self, ref: ImageRef) -> None:
        """Raises `ImageError` if there is no showing this image; waits for it if need be."""
        self.get(ref)

    def prepared(self, ref: ImageRef) -> tuple[tuple[int, int], Any] | None:
        """Width and height of an image and what the model's image processor made of it, where that was done ahead."""
        return None

    def close(self) -> None:
        """Ends what runs."""


def _transform(name: str) -> Any:
    from .registry import IMAGE_TRANSFORMS

    return IMAGE_TRANSFORMS.get(name)


@lru_cache(maxsize=16)
def _arrow_table(path: str) -> Any:
    from datasets import Dataset

    return Dataset.from_file(path).data  # memory-mapped; the data set itself would decode images
