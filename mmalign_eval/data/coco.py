"""Captions in the layouts they come in: Karpathy's splits, COCO's own annotation files, flat lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .files import need, read_json

# An object with one of the layouts' keys first, or a list of objects that name images by file.
_LIKE_CAPTIONS = re.compile(
    r'\s*(\{\s*"(info|licenses|images|annotations|categories|type|dataset)"|\[[^]]*"image_name")'
)


@dataclass(frozen=True, slots=True)
class Captioned:
    """An image with its captions.

    Attributes:
        id: COCO image id where there is one, else the file name without its ending.
        files: Names under which its file may be found, best first.
        captions: At least one.
        split: `train`, `restval`, `val`, `test`, or empty where the file holds one split.
    """

    id: str
    files: tuple[str, ...]
    captions: tuple[str, ...]
    split: str = ""


def read_karpathy(path: Path) -> Iterator[Captioned]:
    """Karpathy's `dataset_coco.json` or `dataset_flickr30k.json` (Karpathy and Fei-Fei 2015), all splits.

    Raises:
        BadInput: Not that layout.
    """
    for index, row in enumerate(_rows(read_json(path), "images", path)):
        where = f"{path}: images[{index}]"
        name, split, sentences = need(row, ("filename", "split", "sentences"), where)
        captions = [need(_object(s, where), ("raw",), where)[0] for s in _list(sentences, where)]
        folder = row.get("filepath")
        files = (f"{folder}/{name}", name) if folder else (name,)
        if captions:
            yield Captioned(str(row.get("cocoid") or Path(name).stem), files, _texts(captions, where), split)


def read_annotations(path: Path) -> Iterator[Captioned]:
    """COCO's `captions_*.json`, or any file in its layout; images without a caption are left out.

    Only ids are needed of the images; one that names no file is looked for as `<id>.jpg`.

    Raises:
        BadInput: Not that layout, or a caption of an image that the file does not list.
    """
    data = read_json(path)
    images = []
    for index, row in enumerate(_rows(data, "images", path)):
        number = str(need(row, ("id",), f"{path}: images[{index}]")[0])
        images.append((number, str(row.get("file_name") or f"{number}.jpg")))
    captions: dict[str, list[str]] = {number: [] for number, _ in images}
    for index, row in enumerate(_rows(data, "annotations", path)):
        where = f"{path}: annotations[{index}]"
        number, caption = need(row, ("image_id", "caption"), where)
        if str(number) not in captions:
            raise BadInput(f"{where}: image_id {number} is not among the images of the file")
        captions[str(number)].append(caption)
    for number, name in images:
        if captions[number]:
            yield Captioned(number, (name,), _texts(captions[number], f"{path}: image {number}"))


def read_flat(path: Path) -> Iterator[Captioned]:
    """A list of `{"image_name", "captions", optional "image_id"}`: `mscoco_test.json` of Sight Beyond Text.

    Raises:
        BadInput: Not that layout.
    """
    for index, row in enumerate(_list(read_json(path), str(path))):
        where = f"{path}: [{index}]"
        name, captions = need(_object(row, where), ("image_name", "captions"), where)
        number = row.get("image_id")
        key = coco_id(name) if number is None else str(number)
        others = (f"COCO_{split}2014_{key.zfill(12)}.jpg" for split in ("test", "val") if number is not None)
        if _list(captions, where):
            yield Captioned(key, (name, *others), _texts(captions, where))


def read_any(path: Path) -> tuple[list[Captioned], bool]:
    """The images of a captions file in any of the three layouts, told by what it holds.

    Returns:
        The images (of Karpathy's file those of the test split), and whether they are of Karpathy's split: his own file
        and the flat lists made of it.

    Raises:
        BadInput: None of these layouts.
    """
    data = read_json(path)
    if isinstance(data, list):
        return list(read_flat(path)), True
    if _holds(data, "images", "sentences"):
        return list(only(read_karpathy(path), "test")), True
    return list(read_annotations(path)), False


def holds_captions(path: Path) -> bool:
    """Whether a JSON file is in one of the layouts; false for any other content.

    Raises:
        BadInput: It begins like one of them and is not JSON.
    """
    if not _LIKE_CAPTIONS.match(beginning(path)):
        return False
    data = read_json(path)
    if isinstance(data, list):
        return bool(data) and _has(data[0], "image_name", "captions")
    return _holds(data, "images", "sentences") or (_has(data, "images") and _holds(data, "annotations", "caption"))


def beginning(path: Path) -> str:
    """The first characters of a text file: enough to tell large files apart without reading them whole."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.read(1000)


def _holds(data: Any, key: str, field: str) -> bool:
    """Whether `data[key]` is a list of objects with a field."""
    rows = data.get(key) if isinstance(data, dict) else None
    return isinstance(rows, list) and bool(rows) and _has(rows[0], field)


def _has(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)


def coco_id(file_name: str) -> str:
    """The image id in a COCO file name (`COCO_val2014_000000391895.jpg`: 391895), or the name without its ending."""
    stem = Path(file_name).stem
    digits = re.fullmatch(r"(?:.*_)?(\d{12})", stem)
    return str(int(digits[1])) if digits else stem


def only(images: Iterable[Captioned], *splits: str) -> Iterator[Captioned]:
    """Those of the given splits."""
    return (image for image in images if image.split in splits)


def _rows(data: Any, key: str, path: Path) -> list[dict[str, Any]]:
    rows = _list(need(_object(data, str(path)), (key,), str(path))[0], f"{path}: {key}")
    return [_object(row, f"{path}: {key}[{i}]") for i, row in enumerate(rows)]


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadInput(f"{where}: expected a JSON list, found {type(value).__name__}")
    return value


def _texts(captions: Iterable[Any], where: str) -> tuple[str, ...]:
    texts = tuple(captions)
    for text in texts:
        if not isinstance(text, str):
            raise BadInput(f"{where}: expected captions as text, found {type(text).__name__}")
    return texts
