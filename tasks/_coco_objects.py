"""What the two tasks of hallucinated objects share: which objects COCO's images have.

The objects of an image (LisaAnne/Hallucination utils/chair.py; RLHF-V eval/eval_gpt_obj_halbench.py): the categories
of its instances, and those that its human captions name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmalign_eval.data.answers import text_of
from mmalign_eval.data.coco import beginning, coco_id
from mmalign_eval.data.files import Folder, need, read_json
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.chair.objects import Flavour, ObjectTable, default_table, parse_table

LAYOUT = (
    "annotations/instances_val2014.json and captions_val2014.json (any split of COCO; prepared: objects.json with "
    "{image_id: [objects]}) and, for runs, the images in val2014/"
)
GET = "cocodataset.org (annotations_trainval2014.zip, val2014.zip)"
HEAVY = ("segmentation", "bbox", "license", "flickr_url", "coco_url", "date_captured")
# How files begin: COCO's own are too large to be read twice to tell them apart.
_ANNOTATIONS = re.compile(r'\s*\{\s*"(info|licenses|images|annotations|categories|type)"')
_PREPARED = re.compile(r'\s*\{\s*"[^"]*"\s*:\s*\[')
_SPLITS = ("val2014", "val2017", "train2014", "train2017")  # looked into in this order, until every image was found
_FOLDERS = ("", "annotations", "coco", "coco/annotations", "../coco", "../coco/annotations")
_OFFICIAL_TABLES = {
    "b685537b36fe21b791c87151b96a991ceb582edff19f3da204dcc7a7905502f2": "synonyms.txt (LisaAnne/Hallucination)",
    "681041d2958d7871ed6fa69c3108f34aa6a0a354eb53ed4c5a425e65f86bc72a": "synonyms_refine.txt (RLHF-V)",
}


def open_table(flavour: Flavour, path: Path | None) -> tuple[ObjectTable, str]:
    """The table of a `--synonyms` file or our own, and its name for signatures.

    Raises:
        BadInput: The file cannot be read, or holds no table.
    """
    if path is None:
        return default_table(flavour), "built-in"
    try:
        data = path.read_bytes()
        table = parse_table(data.decode("utf-8-sig").replace("\r\n", "\n"), flavour)
    except OSError as error:
        raise BadInput(f"--synonyms {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"--synonyms {path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    if not any(len(line) > 1 for line in table.lines):
        raise BadInput(f"--synonyms {path}: no synonyms; expected a category a line, 'person, man, woman, ...'")
    sha = hashlib.sha256(data).hexdigest()
    return table, _OFFICIAL_TABLES.get(sha, f"sha256 {sha[:12]}")


def object_images(folder: Folder) -> dict[str, str]:
    """COCO id to file name of every image of the first annotation file.

    Raises:
        BadInput: There is none, or it has another layout.
    """
    instances = _annotation_pairs(folder)[0][0]
    rows = _rows(read_json(instances, HEAVY), "images", instances)
    return {image_number(number, where): name for where, (number, name) in _fields(rows, "id", "file_name")}


def objects_of(folder: Folder, table: ObjectTable, wanted: Collection[str] | None) -> dict[str, list[str]]:
    """COCO id to the categories that the image has, for the images wanted that the folder knows.

    Args:
        folder: With COCO's annotation files, or with prepared objects (which decide alone, as they are).
        table: Of synonyms: names the categories, and finds them in captions.
        wanted: Ids; None: all of a prepared file.

    Raises:
        BadInput: Neither is there, or another layout.
    """
    if prepared := prepared_file(folder):
        return _prepared(prepared, table)
    found: dict[str, set[str]] = {}
    for instances, captions in _annotation_pairs(folder):
        missing = {number for number in wanted or () if number not in found}
        if missing or wanted is None:
            found.update(_annotated(instances, captions, table, missing if wanted is not None else None))
    return {number: sorted(objects) for number, objects in found.items()}


def prepared_file(folder: Folder) -> Path | None:
    """The file of prepared objects: the one named by `--data`, `objects.json`, or the only one there to score answers.

    Raises:
        BadInput: A folder without annotation files holds several.
    """
    if folder.given:
        return None if _ANNOTATIONS.match(beginning(folder.given)) else folder.given
    if (named := folder.maybe("objects.json")) or folder.need_images or _instances(folder):
        return named
    files = [path for place in folder.places for path in sorted(place.glob("*.json")) if _is_prepared(path)]
    if len(files) > 1:
        raise BadInput(f"{folder.task}: {files[0]} and {files[1].name} may both hold objects: name one (--data FILE)")
    return files[0] if files else None


def every_object(objects: Iterable[str]) -> str:
    """A text that names every category; a single bus is never found by CHAIR's singulariser."""
    return ", ".join("buses" if name == "bus" else name for name in objects) + "."


def image_number(value: Any, where: str) -> str:
    """A COCO image id as text, given as number, as digits or as COCO's file name.

    Raises:
        BadInput: Something else.
    """
    if isinstance(value, str):
        name = coco_id(value) if not value.isdecimal() else value
        return str(int(name)) if name.isdecimal() else name
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise BadInput(f"{where}: expected a COCO image id, found {value!r:.60}")


def _prepared(path: Path, table: ObjectTable) -> dict[str, list[str]]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise BadInput(f"{path}: expected {{image_id: [objects]}}, found a JSON {type(data).__name__}")
    found: dict[str, list[str]] = {}
    for key, objects in data.items():
        where = f"{path}: {key!r}"
        if not isinstance(objects, list) or not all(isinstance(name, str) for name in objects):
            raise BadInput(f"{where}: expected a list of object names")
        number = image_number(key, where)
        if number in found:
            raise BadInput(f"{where}: image {number} occurs twice")
        names: list[str] = objects
        found[number] = sorted({table.category.get(name, name) for name in names})
    return found


def _annotation_pairs(folder: Folder) -> list[tuple[Path, Path]]:
    """(instances, captions) of each split that is there; the two files differ in that word."""
    if folder.given:
        own = folder.given.with_name(folder.given.name.replace("captions", "instances"))
        found = {own.name: own}
    else:
        found = _instances(folder)
    if not found:
        folder.find("annotations/instances_val2014.json", "instances_val2014.json")
    pairs = []
    for name in sorted(found, key=lambda name: (*(split not in name for split in _SPLITS), name)):
        pair = found[name], found[name].with_name(name.replace("instances", "captions"))
        for here, there in (pair, pair[::-1]):
            if not here.is_file():
                told = "objects come from instances and captions"
                raise BadInput(f"{folder.task}: {here.name} is not beside {there}; {told}")
        pairs.append(pair)
    return pairs


def _instances(folder: Folder) -> dict[str, Path]:
    """File name to path of instances files; the first folder that has one wins."""
    places = [place / sub for place in folder.places for sub in _FOLDERS]
    return {path.name: path for place in reversed(places) for path in place.glob("*instances*.json")}


def _is_prepared(path: Path) -> bool:
    text = beginning(path)
    return bool(_PREPARED.match(text)) and not _ANNOTATIONS.match(text)


def _annotated(
    instances: Path, captions: Path, table: ObjectTable, wanted: Collection[str] | None
) -> dict[str, set[str]]:
    data = read_json(instances, HEAVY)
    known = {image_number(number, where) for where, (number,) in _fields(_rows(data, "images", instances), "id")}
    found: dict[str, set[str]] = {number: set() for number in (known if wanted is None else known & set(wanted))}
    names = {key: name for _, (key, name) in _fields(_rows(data, "categories", instances), "id", "name")}
    if not any(name in table.category for name in names.values()):
        raise BadInput(f"{instances}: none of its categories is in the table of synonyms: {', '.join(names.values())}")
    for where, (number, key) in _fields(_rows(data, "annotations", instances), "image_id", "category_id"):
        if (objects := found.get(str(number))) is None:
            continue
        if key not in names:
            raise BadInput(f"{where}: category_id {key} is not among the categories of the file")
        if names[key] in table.category:  # what the table does not have is never found in an answer either
            objects.add(table.category[names[key]])
    for where, (number, caption) in _fields(
        _rows(read_json(captions, HEAVY), "annotations", captions), "image_id", "caption"
    ):
        if (objects := found.get(str(number))) is not None:
            objects.update(category for _, category in table.mentions(text_of(caption, where)))
    return found


def _rows(data: Any, key: str, path: Path) -> list[tuple[str, Any]]:
    rows = data.get(key) if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise BadInput(f"{path}: no list {key!r}; is it an annotation file of COCO?")
    return [(f"{path}: {key}[{i}]", row) for i, row in enumerate(rows)]


def _fields(rows: Sequence[tuple[str, Any]], *names: str) -> Iterator[tuple[str, list[Any]]]:
    for where, row in rows:
        if not isinstance(row, dict):
            raise BadInput(f"{where}: expected a JSON object, found {type(row).__name__}")
        yield where, need(row, names, where)
