"""Positives as conversations: what the SFT baseline trains on (BPO, Table 4).

They are the chosen answers of a preference file, or what `mmeval tune positives` wrote before any pair was made.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

from ..errors import BadInput
from .bpo_pairs import usable
from .choice import held_out, too_long
from .config import Data
from .data import Counts, image_refs
from .pairs import read_pairs, read_rows
from .positives import load_positives
from .rows import Conversation, Pair, Positive


def is_preferences(file: Path) -> bool:
    """Whether a file holds preferences or positives rather than conversations."""
    return "conversations" not in read_rows(file)[0]


def conversations_of(
    file: Path, images: Path | None, data: Data, seed: int, aspect: Literal["square", "pad"], counts: Counts
) -> list[Conversation]:
    """One conversation for each different (image, prompt, answer), in the file's order.

    Pairs that preference tuning drops or holds out are left out here, too: the positives are those that it learns from.

    Args:
        file: Preference file, in any form that `read_pairs` reads, or a file of `mmeval tune positives`.
        images: Folder that image names are relative to.
        data: What to drop, to hold out and to draw (a smaller number draws from what a larger one draws), with or
            without images.
        seed: Of the draw.
        aspect: What is done to images before the processor.
        counts: Filled with what became of the rows.

    Raises:
        BadInput: Neither form, fewer rows than samples asked for, or images are missing.
    """
    found, twice = _read(file, data, counts)
    unique = {(one.image, one.prompt, one.response): one for one in reversed(found)}
    kept = list(reversed(unique.values()))
    if len(kept) < len(found):
        counts.dropped[twice] += len(found) - len(kept)
    apart = held_out((one.image for one in kept), data.held_out, seed)
    if apart:
        counts.dropped["held out"] += sum(one.image in apart for one in kept)
        kept = [one for one in kept if one.image not in apart]
    if data.samples > len(kept):
        raise BadInput(f"{file}: {data.samples} samples asked for, {len(kept)} there")
    if data.samples:
        order = random.Random(f"samples {seed}").sample(range(len(kept)), len(kept))
        counts.dropped["not drawn"] += len(kept) - data.samples
        kept = [kept[index] for index in sorted(order[: data.samples])]
    if not kept:
        raise BadInput(f"{file}: no rows to train on: {'; '.join(counts.lines())}")
    counts.used = len(kept)
    refs = [] if data.text_only else image_refs([one.image for one in kept], images, file, aspect)
    return [
        Conversation(one.id, ((one.prompt, one.response),), None if data.text_only else refs[number], where=one.id)
        for number, one in enumerate(kept)
    ]


def _read(file: Path, data: Data, counts: Counts) -> tuple[list[Positive], str]:
    """A file's positives that may be trained on, and what one that is there twice is called."""
    first = read_rows(file)[0]
    if "response" in first and not {"completions", "chosen", "rejected"} & first.keys():
        positives = load_positives(file)
        counts.read = len(positives)
        short = [one for one in positives if not too_long([one.response], data.max_words)]
        if len(short) < len(positives):
            counts.dropped[f"over {data.max_words} words"] += len(positives) - len(short)
        return short, "positive of another row too"
    pairs = list(read_pairs(file))
    counts.read = len(pairs)
    return [_of(pair) for pair in usable(pairs, data, counts.dropped)], "chosen answer of another pair too"


def _of(pair: Pair) -> Positive:
    return Positive(pair.id, pair.source, pair.prompt, pair.chosen, pair.image)
