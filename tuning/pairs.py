"""Preference files: read and written in the released BPO form and in the form that TRL reads.

BPO (the authors' data set and trainer): a JSON list of items
`{"id": "<source>-<n>", "prompt", "image", "completions": [{"score", "response", "type"}, ...]}`. Every two completions
of an item with different scores are one pair, the higher score chosen.

TRL (`trl.DPOTrainer` for vision-language models): JSON lines of `{"prompt", "chosen", "rejected", "images"}`, the first
three as lists of chat messages; `id`, `kind` and `source` beside them are ours, and TRL leaves them alone. Images are
paths relative to the image folder: `cast_column("images", datasets.List(datasets.Image()))`, run in that folder, makes
pictures of them.

Also read: JSON lines of `{"image", "question", "chosen", "rejected"}`, all plain text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from ..errors import BadInput
from ..files import write_whole
from .rows import Pair

Form = Literal["bpo", "trl"]
FORMS: tuple[Form, ...] = ("bpo", "trl")
GROUND_TRUTH = "gt"  # type of the annotated completion in BPO files
IMAGE_MARK = "<image>"


def read_pairs(file: Path) -> list[Pair]:
    """The pairs of a preference file, in its order; which form it has shows in its first row.

    Raises:
        BadInput: Missing, empty, no JSON, or a row that is no preference (the row is named).
    """
    pairs: list[Pair] = []
    taken: dict[str, int] = {}
    for number, row in enumerate(read_rows(file), start=1):
        where = f"{file}: row {number}"
        for pair in pairs_of(row, where, str(number)):
            count = taken[pair.id] = taken.get(pair.id, 0) + 1
            pairs.append(pair if count == 1 else _renamed(pair, f"{pair.id}~{count}"))
    if not pairs:
        raise BadInput(f"{file}: no preference pair in it (completions of an item need different scores)")
    return pairs


def write_pairs(file: Path, pairs: Iterable[Pair], form: Form) -> str:
    """Writes a preference file, whole or not at all, and returns its SHA-256.

    Raises:
        BadInput: It cannot be written there, or the disk is full.
    """
    chunks = _list_chunks(_items(pairs)) if form == "bpo" else _line_chunks(map(_trl_row, pairs))
    try:
        return write_whole(file, chunks)
    except OSError as error:
        raise BadInput(f"--out {file}: cannot be written: {error.strerror or error}") from error


def check_place(out: Path) -> None:
    """Refuses a place for a file that cannot be written to, before any work; makes its folder.

    Raises:
        BadInput: It is a folder, or its folder cannot be made or written to.
    """
    if out.is_dir():
        raise BadInput(f"--out {out}: a folder; give a file in it, such as {out / 'pairs.json'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: its folder cannot be made: {error.strerror or error}") from error
    if not os.access(out.parent, os.W_OK):
        raise BadInput(f"--out {out}: no permission to write in {out.parent}")


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON list or of JSON lines.

    Raises:
        BadInput: Missing, empty, or not that.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not text.strip():
        raise BadInput(f"{file}: empty")
    try:
        rows = json.loads(text) if text.lstrip().startswith("[") else _lines(text)
    except ValueError as error:
        raise BadInput(f"{file}: neither a JSON list nor JSON lines: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise BadInput(f"{file}: row {number}: expected an object, found {type(row).__name__}")
    if not rows:
        raise BadInput(f"{file}: no rows")
    return list(rows)


def without_image_mark(text: str) -> str:
    """A prompt without `<image>`, wherever it stood: whoever renders the prompt puts the image in front of it."""
    return text.replace(IMAGE_MARK, "").strip()


def _lines(text: str) -> list[Any]:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: answers hold other line separators
        if line.strip():
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
    return found


# -- reading ----------------------------------------------------------------------------------------------------------


def pairs_of(row: Mapping[str, Any], where: str, number: str) -> Iterator[Pair]:
    """The pairs of one row in either form; `number` is its id where it has none, `where` begins messages.

    Raises:
        BadInput: No preference.
    """
    if "completions" in row:
        return _bpo_pairs(row, where, number)
    if "chosen" in row and "rejected" in row:
        return iter([_flat_pair(row, where, number)])
    raise BadInput(f"{where}: neither `completions` nor `chosen` and `rejected`: no preference")


def _bpo_pairs(row: Mapping[str, Any], where: str, number: str) -> Iterator[Pair]:
    name, image = _name(row, number), _image(row, where)
    prompt = _prompt(row.get("prompt"), f"{where}: prompt")
    completions = row["completions"]
    if not isinstance(completions, list):
        raise BadInput(f"{where}: completions: expected a list")
    read = [_completion(item, f"{where}: completion {i}") for i, item in enumerate(completions, start=1)]
    for one, other in combinations(read, 2):
        if one[0] != other[0]:
            better, worse = (one, other) if one[0] > other[0] else (other, one)
            kind = worse[2]
            yield Pair(f"{name}/{kind or 'rejected'}", prompt, better[1], worse[1], image, kind, _source(row))


def _completion(item: Any, where: str) -> tuple[float, str, str]:
    """Score, response, type."""
    score = item.get("score") if isinstance(item, dict) else None
    if not isinstance(score, int | float):
        raise BadInput(f"{where}: expected an object with `score`, a number, and `response`")
    return float(score), _answer(item.get("response"), where), str(item.get("type", ""))


def _flat_pair(row: Mapping[str, Any], where: str, number: str) -> Pair:
    asked = row.get("prompt", row.get("question"))
    kind = str(row.get("kind", ""))
    return Pair(
        str(row["id"]) if "id" in row else f"{number}/{kind or 'rejected'}",
        _prompt(_message(asked, "user", f"{where}: prompt"), f"{where}: prompt"),
        _answer(_message(row["chosen"], "assistant", f"{where}: chosen"), f"{where}: chosen"),
        _answer(_message(row["rejected"], "assistant", f"{where}: rejected"), f"{where}: rejected"),
        _image(row, where),
        kind,
        str(row.get("source", "")) or _source(row),
    )


def _message(value: Any, role: str, where: str) -> Any:
    """The text of a single chat message, plain or in parts; what is no message goes through."""
    if not isinstance(value, list):
        return value
    if len(value) != 1 or not isinstance(value[0], dict) or value[0].get("role", role) != role:
        raise BadInput(f"{where}: expected one message of role {role} (no system text, no earlier turns)")
    content = value[0].get("content")
    if isinstance(content, list):
        texts = [part.get("text") or "" for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(texts)
    return content


def _prompt(value: Any, where: str) -> str:
    if not isinstance(value, str) or not without_image_mark(value):
        raise BadInput(f"{where}: expected text")
    return without_image_mark(value)


def _answer(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"{where}: expected text, found {'nothing' if not value else type(value).__name__}")
    if IMAGE_MARK in value:
        raise BadInput(f"{where}: an answer holds {IMAGE_MARK}, which stands for an image: take the row out")
    return value


def _image(row: Mapping[str, Any], where: str) -> str:
    value = row.get("image")
    if value is None:
        images = row.get("images")
        if isinstance(images, list) and len(images) != 1:
            raise BadInput(f"{where}: {len(images)} images; a preference is about one")
        value = images[0] if isinstance(images, list) else images
    if not isinstance(value, str) or not value:
        raise BadInput(f"{where}: `image` (or `images`): expected a file name, relative to the image folder")
    return value


def _name(row: Mapping[str, Any], number: str) -> str:
    return str(row["id"]) if row.get("id") not in (None, "") else number


def _source(row: Mapping[str, Any]) -> str:
    """What stands before the first dash of an id: the released trainer's convention."""
    source, dash, _ = str(row.get("id") or "").partition("-")
    return source if dash else ""


def _renamed(pair: Pair, name: str) -> Pair:
    return Pair(name, pair.prompt, pair.chosen, pair.rejected, pair.image, pair.kind, pair.source)


# -- writing ----------------------------------------------------------------------------------------------------------


def _items(pairs: Iterable[Pair]) -> Iterator[dict[str, Any]]:
    """Items of the BPO form: neighbouring pairs that share id, prompt, image and chosen answer become one."""
    group: list[Pair] = []
    for pair in pairs:
        if group and _shared(pair) != _shared(group[0]):
            yield _item(group)
            group = []
        group.append(pair)
    if group:
        yield _item(group)


def _shared(pair: Pair) -> tuple[str, str, str, str]:
    return pair.id.rpartition("/")[0] or pair.id, pair.prompt, pair.chosen, pair.image


def _item(group: Sequence[Pair]) -> dict[str, Any]:
    name, prompt, chosen, image = _shared(group[0])
    completions = [{"score": 1, "response": chosen, "type": GROUND_TRUTH}]
    completions += [{"score": 0, "response": pair.rejected, "type": pair.kind} for pair in group]
    return {"id": name, "prompt": prompt, "image": image, "completions": completions}


def _trl_row(pair: Pair) -> dict[str, Any]:
    return {
        "id": pair.id,
        "prompt": [{"role": "user", "content": pair.prompt}],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "images": [pair.image],
        "kind": pair.kind,
        "source": pair.source,
    }


def _list_chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    between = b"[\n"
    for row in rows:
        yield between + encoded(row)
        between = b",\n"
    yield b"\n]\n" if between == b",\n" else b"[]\n"


def _line_chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    for row in rows:
        yield encoded(row) + b"\n"


def encoded(row: Mapping[str, Any]) -> bytes:
    """One JSON line; half a character, which a model may say, becomes an escape."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace")
