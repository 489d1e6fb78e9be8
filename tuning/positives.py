"""Ground-truth responses to prefer: (prompt, response) pairs out of the data sets that BPO drew from (Table 2).

ShareGPT4V, LLaVAR and LLaVA-Instruct are all LLaVA-style conversations; they differ in what `image` is relative to:
ShareGPT4V's names start at a root (`coco/train2017/`, `sam/`, `web-celebrity/images/` ...), LLaVA-Instruct's are bare
files of `coco/train2017`, which a source's folder puts in front. Every answered turn of a conversation about an
image is one positive. Its prompt is that turn's question alone: the released preference file has one prompt a row and
no place for earlier turns. (The question of a later turn may lean on earlier ones; so do those of the released file.)

A preference file is a source as well: its preferred completions are what Table 4 tunes on by SFT.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import BadInput, did_you_mean
from ..files import write_whole
from . import data
from .pairs import encoded, pairs_of, read_rows
from .rows import Positive

_SOURCE = re.compile(r"(?P<name>[^=:]+)=(?P<file>.+?)(?::(?P<count>\d+))?")
_NAME = re.compile(r"[A-Za-z0-9_.+]+")


@dataclass(frozen=True)
class Source:
    """One `--source NAME=FILE:N`.

    Attributes:
        name: Begins its rows' ids.
        file: Conversations, or preferences.
        count: Positives to draw; 0: all.
        folder: Put in front of its images' names.
    """

    name: str
    file: Path
    count: int = 0
    folder: str = ""


@dataclass
class Counts:
    """What became of a source.

    Attributes:
        rows: Rows of the file.
        without_image: Rows without an image: nothing to see, nothing to hallucinate.
        turns: Answered turns of the others.
        without_question: Turns without a question once `<image>` is taken out.
        repeated: Turns whose image, prompt and response an earlier one has.
        drawn: Positives taken.
        rows_dropped: Reason to rows that are no conversation to learn from.
        rows_changed: What was changed to rows whose turns were, as in tuning on them.
    """

    rows: int = 0
    without_image: int = 0
    turns: int = 0
    without_question: int = 0
    repeated: int = 0
    drawn: int = 0
    rows_dropped: dict[str, int] = field(default_factory=dict)
    rows_changed: dict[str, int] = field(default_factory=dict)


def parse_source(given: str) -> Source:
    """Reads `NAME=FILE` or `NAME=FILE:N`.

    Raises:
        BadInput: Another form, or a name that would not survive in an id.
    """
    match = _SOURCE.fullmatch(given)
    if not match:
        raise BadInput(
            f"--source {given}: expected NAME=FILE or NAME=FILE:N, as in llava=llava_instruct_150k.json:54359"
        )
    name, count = match["name"], match["count"]
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"--source {given}: the name {name!r} begins ids up to a dash: letters, digits, `_`, `.` and `+` only"
        )
    if count is not None and int(count) == 0:
        raise BadInput(f"--source {given}: 0 positives asked; leave the source out, or :N away for all")
    return Source(name, Path(match["file"]), int(count or 0))


def in_folders(sources: Sequence[Source], folders: Mapping[str, str]) -> list[Source]:
    """Sources with their folders.

    Args:
        sources: As parsed.
        folders: Name of a source to the folder of its images, relative to the root of all.

    Raises:
        BadInput: A folder for a source that is not there (with did-you-mean).
    """
    names = [source.name for source in sources]
    for name, folder in folders.items():
        if name not in names:
            known = ", ".join(names)
            raise BadInput(f"--folder {name}={folder}: no such source{did_you_mean(name, names)}; sources: {known}")
    return [replace(source, folder=folders.get(source.name, source.folder)) for source in sources]


def collect(sources: Sequence[Source], seed: int) -> tuple[list[Positive], dict[str, Counts]]:
    """Draws from every source, uniformly and without replacement.

    A source's draw depends on the seed, its name and its file, not on the other sources; rows keep the file's order,
    and a row's id is the same whatever the count.

    Raises:
        BadInput: Two sources of one name, a file that cannot be read, or more asked for than there are.
    """
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise BadInput(f"--source {twice}=: given twice; names begin ids and must differ")
    positives: list[Positive] = []
    all_counts: dict[str, Counts] = {}
    short = []
    for source in sources:
        found, counts = read_positives(source.file, source.name, source.folder)
        all_counts[source.name] = counts
        if source.count > len(found):
            short.append(f"{source.name} has {len(found)} of {source.count} asked ({source.file})")
        else:
            drawn = _drawn(found, source.count, f"{seed}|{source.name}")
            counts.drawn = len(drawn)
            positives += drawn
    if short:
        raise BadInput(f"not enough positives: {'; '.join(short)}; ask for fewer, or leave :N away for all")
    return positives, all_counts


def read_positives(file: Path, name: str, folder: str = "") -> tuple[list[Positive], Counts]:
    """All positives of a file, ids `<name>-<n>` counted over its different turns.

    Args:
        file: Conversations or preferences.
        name: Of the source.
        folder: Put in front of image names.

    Raises:
        BadInput: The file cannot be read, or a row is neither a conversation nor a preference (the row is named).
    """
    counts, reading = Counts(), data.Counts()
    found: list[Positive] = []
    seen: set[tuple[str, str, str]] = set()
    for number, row in enumerate(read_rows(file), start=1):
        counts.rows += 1
        image, turns = _turns(row, f"{file}: row {number}", number, reading)
        if not image:
            counts.without_image += 1
            continue
        image = str(PurePosixPath(folder, image))
        for prompt, response in turns:
            counts.turns += 1
            if not prompt:
                counts.without_question += 1
            elif (image, prompt, response) in seen:
                counts.repeated += 1
            else:
                seen.add((image, prompt, response))
                found.append(Positive(f"{name}-{len(found)}", name, prompt, response, image))
    if not found:
        raise BadInput(f"{file}: no answered turn about an image in its {counts.rows} rows")
    counts.rows_dropped, counts.rows_changed = dict(reading.dropped), dict(reading.changed)
    return found, counts


def _drawn(found: list[Positive], count: int, seed: str) -> list[Positive]:
    if not count:
        return found
    return [found[i] for i in sorted(random.Random(seed).sample(range(len(found)), count))]


def _turns(
    row: Mapping[str, Any], where: str, number: int, reading: data.Counts
) -> tuple[str | None, list[tuple[str, str]]]:
    """A row's image, if it has one, and its (prompt, response) turns."""
    if "conversations" not in row:
        pairs = list(pairs_of(row, where, str(number)))
        return (pairs[0].image if pairs else None), [(pair.prompt, pair.chosen.strip()) for pair in pairs]
    conversation = data.read_row(row, number, where, reading)
    return row.get("image"), [(q.strip(), a.strip()) for q, a in conversation.turns] if conversation else []


def write_positives(file: Path, positives: Iterable[Positive]) -> str:
    """Writes JSON lines of `Positive`, whole or not at all, and returns their SHA-256.

    Raises:
        BadInput: It cannot be written there, or the disk is full.
    """
    try:
        return write_whole(file, (encoded(asdict(positive)) + b"\n" for positive in positives))
    except OSError as error:
        raise BadInput(f"--out {file}: cannot be written: {error.strerror or error}") from error


def load_positives(file: Path) -> list[Positive]:
    """Reads what `write_positives` wrote.

    Raises:
        BadInput: Another content; a file of conversations is sent to `mmeval tune positives`.
    """
    found: list[Positive] = []
    ids: set[str] = set()
    names = tuple(Positive.__dataclass_fields__)
    for number, row in enumerate(read_rows(file), start=1):
        if "conversations" in row or "completions" in row:
            raise BadInput(f"{file}: not a file of positives: make one with mmeval tune positives --source NAME={file}")
        if set(row) != set(names) or not all(isinstance(row[name], str) and row[name] for name in names):
            raise BadInput(f"{file}: row {number}: expected {', '.join(names)}, all text")
        if row["id"] in ids:
            raise BadInput(f"{file}: row {number}: id {row['id']} is there twice")
        ids.add(row["id"])
        found.append(Positive(**row))
    return found
