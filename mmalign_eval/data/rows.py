"""The entries of answer files, whatever they are written in: JSON, JSON lines, a table, lines of text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .files import read_csv, read_json


def read_rows(path: Path) -> list[tuple[str, Any]]:
    """(where, value) of each entry of a `.jsonl` file or of a JSON list; a JSON object is one entry.

    JSON lines may have another ending, as some official tools write them. A row of a `.csv` is an object; a line of a
    `.txt` that is not JSON is a text.

    Raises:
        BadInput: Not JSON; names file and line.
    """
    if path.suffix == ".csv":
        return [(f"{path}:{line}", row) for line, row in read_csv(path)]
    text = path.read_text(encoding="utf-8-sig", errors="replace").lstrip()
    first = text.partition("\n")[0].strip()
    if path.suffix == ".txt" and first and not _is_json(first) and first[0] not in "[{":
        return [(f"{path}:{n}", line.strip()) for n, line in enumerate(_text(path).split("\n"), 1) if line.strip()]
    if path.suffix == ".jsonl" or (_is_json(first) and text.partition("\n")[2].strip()):
        return list(_lines(path))
    value = read_json(path)
    return [(f"{path}: [{i}]", v) for i, v in enumerate(value)] if isinstance(value, list) else [(str(path), value)]


def whole_object(path: Path, rows: Sequence[tuple[str, Any]]) -> bool:
    """Whether what `read_rows` found is one JSON object that is the whole file, and not its only entry."""
    return len(rows) == 1 and path.suffix != ".jsonl" and rows[0][0] == str(path) and isinstance(rows[0][1], dict)


def by_id(pairs: Iterable[tuple[str, Any, str]]) -> dict[str, Any]:
    """Id to value of (id, value, where) triples.

    Raises:
        BadInput: An id occurs twice.
    """
    found: dict[str, Any] = {}
    for key, value, where in pairs:
        if key in found:
            raise BadInput(f"{where}: id {key!r} occurs twice in the answers")
        found[key] = value
    return found


def unique_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object, read strictly.

    Raises:
        BadInput: Not JSON, not an object, or a key occurs twice (JSON readers keep the last in silence).
    """

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        object_of: dict[str, Any] = {}
        for key, value in found:
            if key in object_of:
                raise BadInput(f"{path}: id {key!r} occurs twice")
            object_of[key] = value
        return object_of

    try:
        value = json.loads(_text(path), object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}:{error.lineno}: not valid JSON ({error.msg}); is the file complete?") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path}: expected one JSON object, by id; found {type(value).__name__}")
    return value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            try:
                yield f"{path}:{number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise BadInput(f"{path}:{number}: not valid JSON ({error.msg}); is the file complete?") from error


def _is_json(line: str) -> bool:
    """Whether a line alone is a whole JSON value; where more follows, the text is JSON lines."""
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True
