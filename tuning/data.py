"""LLaVA's conversation files (instruct_80k/150k, mix665k, 595k/558k): read, normalised, counted, drawn from.

What LLaVA's code does to a row is done here (`preprocess_multimodal`, `preprocess`): the image goes in front, a first
turn that is not the human's is dropped. What would break its training - roles that do not alternate, two images in a
row, files that are not there - is an error before any training, with file and row.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..data.files import need, read_json, read_jsonl
from ..errors import BadInput, did_you_mean
from ..requests import ImageRef, Sample
from .choice import held_out, too_long
from .config import Data, Kind
from .rows import Conversation

IMAGE = "<image>"  # how the files write it
ROLES = ("human", "gpt")
PAD = "pad_square"  # transform of aspect `pad`

_ALL = Data()
_KIND_OF_ENDING: dict[str, Kind] = {  # of an id: `000000525439_conv`
    "conv": "conversation", "conversation": "conversation", "detail": "detail", "complex": "reasoning",
    "reasoning": "reasoning",
}  # fmt: skip
_KIND_OF_FILE: dict[str, Kind] = {  # LLaVA-Instruct's conversation_58k, detail_23k, complex_reasoning_77k
    "conversation_": "conversation", "detail_": "detail", "complex_reasoning_": "reasoning",
}  # fmt: skip

_Found = tuple[Conversation, str | None]  # a row, and the name of its image


@dataclass
class Counts:
    """What became of a file's rows.

    Attributes:
        read: Rows of the file.
        used: Rows that are trained on.
        dropped: Reason to rows that are not.
        changed: What was changed to rows whose turns were.
    """

    read: int = 0
    used: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """For people: one line for the whole, one for each reason."""
        lost = [f"  {count:,} dropped: {reason}" for reason, count in self.dropped.most_common()]
        kept = [f"  {count:,} changed: {what}" for what, count in self.changed.most_common()]
        return [f"{self.used:,} of {self.read:,} rows", *lost, *kept]

    def as_json(self) -> dict[str, Any]:
        """For the record beside the checkpoint."""
        return {
            "read": self.read, "used": self.used, "dropped": dict(self.dropped), "changed": dict(self.changed),
        }  # fmt: skip


def read_conversations(
    file: Path,
    images: Path | None,
    data: Data = _ALL,
    seed: int = 0,
    aspect: Literal["square", "pad"] = "square",
    counts: Counts | None = None,
) -> list[Conversation]:
    """The conversations of a LLaVA JSON (or JSON-lines) file that a recipe asks for, in the file's order.

    Args:
        file: List of `{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}, ...]}`; text-only rows have
            no `image`.
        images: Folder that image names are relative to.
        data: Kinds, longest answer, images to hold out, number of rows (a smaller number draws from what a larger one
            draws), images or not.
        seed: Of the draw.
        aspect: What is done to images before the processor.
        counts: Filled with what became of the rows.

    Raises:
        BadInput: The file, a row (named) or the images are not as they should be, or nothing is left.
    """
    counts = Counts() if counts is None else counts
    of_file = next((kind for start, kind in _KIND_OF_FILE.items() if file.stem.startswith(start)), "")
    found: list[tuple[Conversation, str | None]] = []
    for number, where, row in _rows(file):
        counts.read += 1
        conversation = read_row(row, number, where, counts)
        if conversation is not None:
            kind = _KIND_OF_ENDING.get(conversation.id.rpartition("_")[2]) or of_file
            found.append((replace(conversation, kind=kind), row.get("image")))
    found = _of_kinds(found, file, data.kinds, counts)
    found = _without(found, data, seed, counts)
    found = _drawn(found, data.samples, seed, file, counts)
    if not found:
        why = "; ".join(f"{count} {reason}" for reason, count in counts.dropped.most_common())
        raise BadInput(f"{file}: no rows to train on: {counts.read} read{', ' + why if why else ''}")
    counts.used = len(found)
    if data.text_only:
        return [conversation for conversation, _ in found]
    return _with_images(found, file, images, aspect)


def used_images(refs: Iterable[ImageRef | None]) -> dict[str, Any]:
    """COCO ids and file hashes of images, as `mmeval.json` keeps them (`training`, see `models/tuned.py`)."""
    from ..images import digest
    from ..overlap import image_coco_id

    files = dict.fromkeys((ref.path, ref.row, ref.column) for ref in refs if ref is not None)
    some = [ImageRef(*file) for file in files]
    numbers = {image_coco_id(ref, Sample("", {})) for ref in some}
    hashes = {digest(ref) for ref in some if Path(ref.path).is_file()}
    return {"coco_ids": sorted(int(number) for number in numbers if number), "images": sorted(hashes)}


def image_refs(
    names: Sequence[str], images: Path | None, file: Path, aspect: Literal["square", "pad"] = "square"
) -> list[ImageRef]:
    """References to images by name, all checked to be there.

    Args:
        names: Relative to `images`.
        images: The folder.
        file: That names them, for messages.
        aspect: `pad`: pasted on a square of CLIP's mean colour before the processor; `square`: as they are.

    Raises:
        BadInput: No folder is given, a name climbs out of it, or files are missing (the first three named).
    """
    if not names:
        return []
    if images is None:
        raise BadInput(f"{file}: its rows have images ({names[0]}, ...): give their folder with --images")
    need_images(names, images, str(file))
    transforms = (PAD,) if aspect == "pad" else ()
    return [ImageRef(str(images / name), transforms=transforms) for name in names]


def need_images(names: Iterable[str], images: Path, where: str) -> None:
    """Whether images can be decoded shows later; that they are there is checked before any work.

    Args:
        names: Relative to `images`; repeats do not matter.
        images: Their folder.
        where: What names them, for messages.

    Raises:
        BadInput: No such folder, a name climbs out of it, or files are missing (the first three named).
    """
    if not images.is_dir():
        raise BadInput(f"--images {images}: no such folder")
    unique = dict.fromkeys(names)
    for name in unique:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BadInput(f"{where}: image {name!r} is not inside the image folder")
    missing = [name for name in unique if not (images / name).is_file()]
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise BadInput(f"{where}: {len(missing)} of {len(unique)} images are not in {images}: {some}")


def _rows(file: Path) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Number, place and content of each row."""
    if not file.is_file():
        raise BadInput(f"{file}: no such file")
    if file.suffix == ".jsonl":
        yield from ((number, f"{file}:{number}", row) for number, row in read_jsonl(file))
        return
    content = read_json(file)
    if not isinstance(content, list):
        raise BadInput(f"{file}: expected a list of rows, found {type(content).__name__}")
    for number, row in enumerate(content):
        where = f"{file}: row {number}"
        if not isinstance(row, dict):
            raise BadInput(f"{where}: expected an object, found {type(row).__name__}")
        yield number, where, row


def read_row(row: Mapping[str, Any], number: int, where: str, counts: Counts) -> Conversation | None:
    """A row as a conversation without its image and kind; None if it has no answered question (counted).

    Raises:
        BadInput: What is no conversation with at most one image; `where` begins the message.
    """
    said = _turns(row, where, counts)
    name = row.get("image")
    if name is not None and not (isinstance(name, str) and name):
        raise BadInput(f"{where}: image: expected one file name, found {str(name)[:60]!r}")
    _check_marks(said, name is not None, where)
    turns = []
    for (_, asked), (_, answered) in zip(said[::2], said[1::2], strict=False):
        if not answered.strip():
            counts.changed["cut at an empty answer"] += 1
            break
        turns.append((asked.replace(IMAGE, "").strip() if IMAGE in asked else asked, answered))
    if not turns:
        counts.dropped["no answered question"] += 1
        return None
    return Conversation(str(row.get("id", number)), tuple(turns), where=where)


def _turns(row: Mapping[str, Any], where: str, counts: Counts) -> list[tuple[str, str]]:
    """(role, text) from the first human turn on, human and assistant in turns."""
    (given,) = need(dict(row), ("conversations",), where)
    if not isinstance(given, list) or not all(isinstance(turn, dict) for turn in given):
        raise BadInput(f"{where}: conversations: expected a list of objects with `from` and `value`")
    said = [tuple(need(turn, ("from", "value"), where)) for turn in given]
    for role, text in said:
        if role not in ROLES:
            hint = did_you_mean(str(role), ROLES)
            raise BadInput(f"{where}: turn from {role!r}{hint}; expected {' or '.join(ROLES)}")
        if not isinstance(text, str):
            raise BadInput(f"{where}: value: expected text, found {type(text).__name__}")
    if said and said[0][0] != ROLES[0]:
        counts.changed["began with the assistant: its first turn dropped"] += 1
        said = said[1:]
    for position, (role, _) in enumerate(said):
        if role != ROLES[position % 2]:
            raise BadInput(f"{where}: two turns from {role!r} in a row: human and gpt must alternate")
    if len(said) % 2:
        counts.changed["last question without an answer dropped"] += len(said) > 1
    return said


def _check_marks(said: Sequence[tuple[str, str]], image: bool, where: str) -> None:
    """Refuses what would train with another number of images than the row has."""
    marks = sum(text.count(IMAGE) for _, text in said)
    if any(IMAGE in text for role, text in said if role != ROLES[0]):
        raise BadInput(f"{where}: {IMAGE} stands in an answer; it belongs into a question")
    if marks > 1:
        raise BadInput(f"{where}: {IMAGE} stands in it {marks} times; a row has one image")
    if marks and not image:
        raise BadInput(f"{where}: {IMAGE} stands in it, but it names no image")


def _of_kinds(found: list[_Found], file: Path, kinds: tuple[Kind, ...], counts: Counts) -> list[_Found]:
    if not kinds or not found:
        return found
    if not any(conversation.kind for conversation, _ in found):
        raise BadInput(
            f"{file}: kinds {', '.join(kinds)} asked for, but neither its name nor its rows' ids tell kinds "
            "(ids end in _conv, _detail or _complex)"
        )
    kept = [entry for entry in found if entry[0].kind in kinds]
    counts.dropped["of another kind"] += len(found) - len(kept)
    return kept


def _without(found: list[_Found], data: Data, seed: int, counts: Counts) -> list[_Found]:
    """The rows without too long answers and without held-out images."""
    short = [one for one in found if not too_long((answer for _, answer in one[0].turns), data.max_words)]
    apart = held_out((name for _, name in short if name), data.held_out, seed)
    kept = [one for one in short if one[1] not in apart]
    lost = {f"over {data.max_words} words": len(found) - len(short), "held out": len(short) - len(kept)}
    counts.dropped.update({reason: count for reason, count in lost.items() if count})
    return kept


def _drawn(found: list[_Found], samples: int, seed: int, file: Path, counts: Counts) -> list[_Found]:
    """`samples` of the rows, in their order; for one seed, fewer are part of more."""
    if not samples:
        return found
    if samples > len(found):
        raise BadInput(f"{file}: {samples} samples asked for, {len(found)} there")
    order = list(range(len(found)))
    random.Random(f"samples {seed}").shuffle(order)
    counts.dropped["not drawn"] += len(found) - samples
    return [found[index] for index in sorted(order[:samples])]


def _with_images(
    found: list[_Found], file: Path, images: Path | None, aspect: Literal["square", "pad"]
) -> list[Conversation]:
    refs = iter(image_refs([name for _, name in found if name is not None], images, file, aspect))
    return [replace(row, image=next(refs)) if name is not None else row for row, name in found]
