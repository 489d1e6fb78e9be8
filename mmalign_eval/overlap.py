"""Contamination: which of a task's images a model was tuned on, by COCO id and by the hash of the image file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .data.coco import coco_id
from .data.files import read_json, read_jsonl
from .errors import BadInput
from .images import digest
from .requests import ImageRef
from .task import Sample

IMAGE_COLUMNS = ("image", "image_path", "images", "file_name", "image_id")  # of tuning files, first that a row has
FIRST = 10  # matches listed


@dataclass(frozen=True)
class TrainingImage:
    """One image of a tuning file.

    Attributes:
        name: As the file calls it; empty if it is only embedded.
        coco: Its COCO id, or empty.
        sha256: Hash of its encoded bytes, or empty where they are not at hand.
    """

    name: str
    coco: str = ""
    sha256: str = ""


@dataclass
class Training:
    """The images of a tuning file.

    Attributes:
        rows: Rows of the file.
        images: Different images.
        bare: Rows without an image.
    """

    rows: int = 0
    bare: int = 0
    images: list[TrainingImage] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """For `mmeval.json` beside a tuned checkpoint (`models/tuned.py`): ids and hashes."""
        return {
            "coco_ids": sorted({int(image.coco) for image in self.images if image.coco}),
            "images": sorted({image.sha256 for image in self.images if image.sha256}),
        }


@dataclass(frozen=True)
class Overlap:
    """What a task's images and a tuning's have in common.

    Attributes:
        images: Different images of the task.
        samples: Samples of the task.
        by_coco_id: Its images whose COCO id was trained on.
        by_hash: Its images whose file was trained on.
        shared: Its images that match either way.
        shared_samples: Samples on them.
        hashed: Its images whose file was there to be hashed.
        first: The first matches: image, sample, how.
    """

    images: int
    samples: int
    by_coco_id: int
    by_hash: int
    shared: int
    shared_samples: int
    hashed: int
    first: list[dict[str, str]]

    def as_json(self) -> dict[str, Any]:
        """As result files and `--json` have it."""
        return asdict(self)


def read_training_file(file: Path, images: Path | None = None) -> Training:
    """The images of a tuning file: a JSON list (LLaVA), JSON lines or parquet (preference pairs).

    Args:
        file: Rows with an image name in `image`, `image_path` or `images`, or with the encoded image embedded.
        images: Folder that image names are relative to; their hashes are taken where the files are there.

    Raises:
        BadInput: Not one of these, or no row names an image.
    """
    if not file.is_file():
        raise BadInput(f"--training {file}: no such file")
    if images is not None and not images.is_dir():
        raise BadInput(f"--images {images}: no such folder")
    found, seen, columns = Training(), set[TrainingImage](), dict[str, None]()
    for where, row in _rows(file):
        found.rows += 1
        columns.update(dict.fromkeys(row))
        own = list(_of_row(row, images, where))
        found.bare += not own
        for image in own:
            if image not in seen:
                seen.add(image)
                found.images.append(image)
    if not found.images:
        raise BadInput(
            f"--training {file}: none of {found.rows} rows names an image in {', '.join(IMAGE_COLUMNS)}; "
            f"found {', '.join(columns) or 'nothing'}"
        )
    return found


def overlap(samples: Sequence[Sample], training: Mapping[str, Any]) -> Overlap:
    """Compares a task's images with what was trained on.

    Args:
        samples: Of the task; images need not be there.
        training: `coco_ids` and `images`, as `Training.record` gives them.
    """
    ids = {str(number) for number in training.get("coco_ids", ())}
    hashes = set(training.get("images", ()))
    users: dict[tuple[str, int], list[tuple[Sample, ImageRef]]] = {}
    for sample in samples:
        for ref in sample.images:
            users.setdefault((ref.path, ref.row), []).append((sample, ref))
    by_id, by_hash, first, hashed = 0, 0, [], 0
    touched: set[str] = set()
    for group in users.values():
        sample, ref = group[0]
        number = image_coco_id(ref, sample)
        there = bool(hashes) and (ref.row >= 0 or Path(ref.path).is_file())
        hashed += there
        same_id, same_file = number in ids, there and digest(ref) in hashes
        by_id, by_hash = by_id + same_id, by_hash + same_file
        if same_id or same_file:
            touched.update(one.id for one, _ in group)
            how = " and ".join(word for word, holds in (("COCO id", same_id), ("file", same_file)) if holds)
            first.append({"image": number or Path(ref.path).name, "sample": sample.id, "by": how})
    return Overlap(len(users), len(samples), by_id, by_hash, len(first), len(touched), hashed, first[:FIRST])


def image_coco_id(ref: ImageRef, sample: Sample) -> str:
    """COCO's number of a task's image: from its file name, or (an image inside a table) its cluster's; or empty."""
    return _number(ref.path if ref.row < 0 else sample.cluster)


def sentence(found: Mapping[str, Any]) -> str:
    """The count in words, for a footnote."""
    return (
        f"{found['shared']} of {found['images']} images ({found['shared_samples']} of {found['samples']} samples) "
        f"were in the tuning data: {found['by_coco_id']} by COCO id, {found['by_hash']} by file"
    )


def _number(name: str) -> str:
    """COCO's number in a file name (twelve digits after any prefix), or empty."""
    number = coco_id(name)
    return number if number.isdigit() and number != Path(name).stem else ""


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if file.suffix == ".parquet":
        yield from _parquet(file)
        return
    if file.suffix == ".json":
        value = read_json(file)
        if not isinstance(value, list):
            raise BadInput(f"--training {file}: expected a list of rows, found {type(value).__name__}")
        pairs: Iterable[tuple[Any, Any]] = enumerate(value)
    else:
        pairs = read_jsonl(file)
    for number, row in pairs:
        if not isinstance(row, dict):
            raise BadInput(f"{file}: [{number}]: expected an object, found {type(row).__name__}")
        yield f"{file}:{number}", row


def _parquet(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        columns = [name for name in table.schema_arrow.names if name in IMAGE_COLUMNS]
        number = 0
        for batch in table.iter_batches(batch_size=256, columns=columns or None):
            for row in batch.to_pylist():
                yield f"{file}: row {number}", row
                number += 1
    except (OSError, pyarrow.ArrowException) as error:
        raise BadInput(f"--training {file}: cannot be read: {' '.join(str(error).split())[:200]}") from error


def _of_row(row: Mapping[str, Any], images: Path | None, where: str) -> Iterator[TrainingImage]:
    """The images of a row; one embedded takes its name from `image_path` where the row has it."""
    column = next((name for name in IMAGE_COLUMNS if row.get(name) not in (None, "", [])), None)
    if column is None:
        return
    given = row[column] if isinstance(row[column], list) else [row[column]]
    for value in given:
        if isinstance(value, dict) and ("bytes" in value or "path" in value):
            name = value.get("path") or row.get("image_path") or ""
            yield _image(str(name), value.get("bytes"), images)
        elif isinstance(value, bytes):
            yield _image(str(row.get("image_path") or ""), value, images)
        elif isinstance(value, str | int):
            numbered = column == "image_id" and str(value).isdigit()  # COCO's, written without its zeros
            yield _image(f"{int(value):012d}" if numbered else str(value), None, images)
        else:
            raise BadInput(f"{where}: {column}: expected an image name or image bytes, found {json.dumps(value)[:60]}")


def _image(name: str, data: bytes | None, images: Path | None) -> TrainingImage:
    if data is None and images is not None and name and not Path(name).is_absolute() and ".." not in Path(name).parts:
        file = images / name
        data = file.read_bytes() if file.is_file() else None
    return TrainingImage(name, _number(name), hashlib.sha256(data).hexdigest() if data else "")
