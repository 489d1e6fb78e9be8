"""Ground-truth responses to prefer: (prompt, response) pairs out of the data sets that BPO drew from (Table 2).

ShareGPT4V, LLaVAR and LLaVA-Instruct are all LLaVA-style conversations; they differ in the folders that `image` names
(`coco/train2017/`, `sam/`, `web-celebrity/images/` ... below one root). Every answered turn of a conversation about an
image is one positive. Its prompt is that turn's question alone: the released preference file has one prompt a row and
no place for earlier turns. (The question of a later turn may lean on earlier ones; so do those of the released file.)

A preference file is a source as well: its preferred completions are what Table 4 tunes on by SFT.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..files import write_whole
from .pairs import IMAGE_MARK, encoded, pairs_of, read_rows, without_image_mark
from .rows import Positive

HUMAN, ASSISTANT = ("human", "user"), ("gpt", "assistant")
_SOURCE = re.compile(r"(?P<name>[^=:]+)=(?P<file>.+?)(?::(?P<count>\d+))?")
_NAME = re.compile(r"[A-Za-z0-9_.+]+")


@dataclass(frozen=True)
class Source:
    """One `--source NAME=FILE:N`.

    Attributes:
        name: Begins its rows' ids.
        file: Conversations, or preferences.
        count: Positives to draw; 0: all.
    """

    name: str
    file: Path
    count: int = 0


@dataclass
class Counts:
    """What became of a source.

    Attributes:
        rows: Rows of the file.
        without_image: Rows without an image: nothing to see, nothing to hallucinate.
        turns: Answered turns of the others.
        unusable: Turns without a question or an answer once `<image>` is taken out, or with one in the answer.
        repeated: Turns whose image, prompt and response an earlier one has.
        drawn: Positives taken.
    """

    rows: int = 0
    without_image: int = 0
    turns: int = 0
    unusable: int = 0
    repeated: int = 0
    drawn: int = 0


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
        found, counts = read_positives(source.file, source.name)
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


def read_positives(file: Path, name: str) -> tuple[list[Positive], Counts]:
    """All positives of a file, ids `<name>-<n>` counted over its usable turns.

    Raises:
        BadInput: The file cannot be read, or a row is neither a conversation nor a preference (the row is named).
    """
    counts, found, seen = Counts(), [], set()
    for number, row in enumerate(read_rows(file), start=1):
        counts.rows += 1
        where = f"{file}: row {number}"
        image = row.get("image", (row.get("images") or [None])[0] if isinstance(row.get("images"), list) else None)
        if not image:
            counts.without_image += 1
            continue
        if not isinstance(image, str):
            raise BadInput(f"{where}: image: expected a file name, relative to the image folder")
        for prompt, response in _turns(row, where, str(number)):
            counts.turns += 1
            if not prompt or not response or IMAGE_MARK in response:
                counts.unusable += 1
            elif (image, prompt, response) in seen:
                counts.repeated += 1
            else:
                seen.add((image, prompt, response))
                found.append(Positive(f"{name}-{len(found)}", name, prompt, response, image))
    if not found:
        raise BadInput(f"{file}: no answered turn about an image in it")
    return found, counts


def _drawn(found: list[Positive], count: int, seed: str) -> list[Positive]:
    if not count:
        return found
    return [found[i] for i in sorted(random.Random(seed).sample(range(len(found)), count))]


def _turns(row: Mapping[str, Any], where: str, number: str) -> Iterator[tuple[str, str]]:
    """(prompt, response) of a row, stripped, without `<image>` in the prompt."""
    if "conversations" not in row:
        for pair in pairs_of(row, where, number):
            yield pair.prompt, pair.chosen.strip()
        return
    said = row["conversations"]
    if not isinstance(said, list):
        raise BadInput(f"{where}: conversations: expected a list of turns")
    turns = [_turn(turn, f"{where}: turn {i}") for i, turn in enumerate(said, start=1)]
    if turns and turns[0][0] == "gpt":  # LLaVA's own reader drops an assistant's first turn too
        turns = turns[1:]
    for at, (role, text) in enumerate(turns):
        if role != ("human", "gpt")[at % 2]:
            raise BadInput(f"{where}: two turns of {role} one after the other; human and gpt take turns")
        if role == "gpt":
            yield without_image_mark(turns[at - 1][1]), text.strip()


def _turn(turn: Any, where: str) -> tuple[str, str]:
    """Role (`human` or `gpt`) and text."""
    role, text = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
    if role not in (*HUMAN, *ASSISTANT) or not isinstance(text, str):
        raise BadInput(f'{where}: expected {{"from": "human" or "gpt", "value": text}}')
    return "human" if role in HUMAN else "gpt", text


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
    found, ids = [], set()
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
