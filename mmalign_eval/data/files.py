"""Finding and reading a benchmark's native files, with errors that name file, line and expected layout."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..requests import ImageRef


class NotThere(BadInput):
    """A file that the benchmark's data need is not where they were looked for."""


class Folder:
    """A data folder: the benchmark's own, or a root that holds it under its usual name."""

    def __init__(
        self, path: str, name: str, *, task: str, layout: str, get: str, file: str = "", need_images: bool = True
    ) -> None:
        """A folder.

        Args:
            path: Where it is.
            name: The benchmark's usual folder name below a data root.
            task: For messages.
            layout: The files expected, for messages.
            get: Where to get them, for messages.
            file: A single file of the folder that was named in its stead (`given`).
            need_images: Without, a missing image is a reference that nobody will open.
        """
        self.root, self.name, self.task, self.layout, self.get = Path(path), name, task, layout, get
        self.given = Path(path) / file if file else None
        self.need_images = need_images

    @cached_property
    def places(self) -> list[Path]:
        """Where files are looked for, in order: `<folder>/<benchmark>` if there is one, then the folder itself."""
        own = self.root / self.name
        if not own.is_dir():  # MME, POPE, mm-vet: as the benchmarks call themselves
            inside = sorted(self.root.iterdir()) if self.root.is_dir() else []
            own = next((p for p in inside if _plain(p.name) == _plain(self.name) and p.is_dir()), own)
        return [own, self.root] if own.is_dir() else [self.root]

    def parquet(self) -> list[Path]:
        """Parquet files of a downloaded hub data set, if that is what the folder holds.

        Under a data root only the benchmark's own folder counts: parquet beside it belongs to another benchmark.
        """
        return sorted(self.places[0].rglob("*.parquet"))

    def find(self, *names: str) -> Path:
        """The first file that exists among `names`.

        Raises:
            BadInput: None does; the message names the layout expected and where to get it.
        """
        found = self.maybe(*names)
        if found is None:
            looked = " and ".join(str(p) for p in self.places)
            raise NotThere(
                f"{self.task}: {' or '.join(names)} not found in {looked}; expected {self.layout}. Get it: {self.get}"
            )
        return found

    def maybe(self, *names: str) -> Path | None:
        """Like `find`, or None."""
        for place in self.places:
            for name in names:
                if (place / name).is_file():
                    return place / name
        return None

    def find_or_only(self, pattern: str, *names: str) -> Path:
        """Like `find`, or the only file that matches a glob pattern: excerpts and copies have names of their own.

        Raises:
            BadInput: None of `names`, and no or several matches.
        """
        if (found := self.maybe(*names)) is not None:
            return found
        matches = [p for place in self.places for p in sorted(place.glob(pattern)) if p.is_file()]
        return matches[0] if len(matches) == 1 else self.find(*names)

    @cached_property
    def _image_roots(self) -> list[Path]:
        subfolders = (
            "",
            "images",
            "val2014",
            "val2017",
            "test2014",
            "train2014",
            "coco/val2014",
            "coco/val2017",
            "../coco/val2014",
            "../coco/val2017",
            "../val2014",
            "../val2017",
        )
        roots = [place / sub for place in self.places for sub in subfolders]
        return [r for r in dict.fromkeys(roots) if r.is_dir()]

    def image(self, name: str) -> ImageRef:
        """The image `name`, looked for in the folder and in the usual image folders in and beside it.

        Raises:
            BadInput: Not found, or a path that climbs out of the data folder.
        """
        return self.images([name])[name]

    def maybe_image(self, name: str, where: str = "") -> ImageRef | None:
        """Like `image`, or None if it is not there.

        Args:
            name: Its file's name.
            where: File and line that name it, for messages.

        Raises:
            BadInput: A path that climbs out of the data folder.
        """
        if not name or name.startswith("/") or ".." in Path(name).parts:
            raise BadInput(f"{where or self.task}: image name {name!r} leaves the data folder")
        for root in self._image_roots:
            if (root / name).is_file():
                return ImageRef(str((root / name).resolve()))
        return None if self.need_images else ImageRef(name)

    def images(self, names: Iterable[str | tuple[str, str]]) -> dict[str, ImageRef]:
        """Name to image for all of `names`.

        Args:
            names: The names, or each with the file and line that names it.

        Raises:
            BadInput: Some are not there (how many, and where they were looked for), or a path climbs out of the folder.
        """
        told: dict[str, str] = {}
        for name, where in (one if isinstance(one, tuple) else (one, "") for one in names):
            told.setdefault(name, where)
        found = {name: self.maybe_image(name, where) for name, where in told.items()}
        missing = [f"{name}, {told[name]}".removesuffix(", ") for name, ref in found.items() if ref is None]
        if missing:
            raise self.without(missing, len(found))
        return {name: ref for name, ref in found.items() if ref is not None}

    def without(self, missing: Sequence[str], total: int) -> BadInput:
        """The error that says which of `total` images are missing."""
        looked = ", ".join(str(r) for r in self._image_roots)
        return BadInput(
            f"{self.task}: {len(missing)} of {total} images are missing (the first: {missing[0]}); looked in {looked}; "
            f"add them, or keep only the entries whose images you have. Expected {self.layout}. Get it: {self.get}"
        )


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def read_json(path: Path, without: Collection[str] = ()) -> Any:
    """A JSON file (`BadInput` with the line of the first error).

    Args:
        path: The file.
        without: Fields that no object of the file needs to keep (outlines, that fill gigabytes).
    """
    drop = (lambda found: {k: v for k, v in found.items() if k not in without}) if without else None
    try:
        return json.loads(_text(path), object_hook=drop)
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}:{error.lineno}: not valid JSON ({error.msg}); is the file complete?") from error


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSON-lines file; blank lines are skipped."""
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{path}:{number}: not valid JSON ({error.msg}); is the file complete?") from error
        if not isinstance(row, dict):
            raise BadInput(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
        yield number, row


def read_csv(path: Path, columns: Iterable[str] | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file with a header.

    Raises:
        BadInput: One of `columns` is missing, or a row has another number of cells than the header.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = [c for c in columns or () if c not in (reader.fieldnames or ())]
        if missing:
            raise BadInput(f"{path}:1: column {missing[0]!r} is missing; found {', '.join(reader.fieldnames or ())}")
        for row in reader:
            if None in row or None in row.values():
                raise BadInput(f"{path}:{reader.line_num}: the row does not have {len(reader.fieldnames or ())} cells")
            yield reader.line_num, row


def need(row: dict[str, Any], names: Iterable[str], where: str) -> list[Any]:
    """The named fields of a row.

    Raises:
        BadInput: One is missing; `where` names file and line.
    """
    for name in names:
        if name not in row:
            raise BadInput(f"{where}: field {name!r} is missing; found {', '.join(map(str, row))}")
    return [row[name] for name in names]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _lines(path: Path) -> list[str]:
    # not splitlines(): answers may hold U+2028 and friends, which do not end a JSON line
    return _text(path).split("\n")
