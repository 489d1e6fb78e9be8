"""Chosen answers of a preference file as conversations: what the SFT baseline trains on (BPO, Table 4)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

from .config import Data
from .data import Counts, image_refs
from .pairs import read_pairs, read_rows
from .rows import Conversation


def is_preferences(file: Path) -> bool:
    """Whether a file holds preferences rather than conversations."""
    rows = read_rows(file)
    return bool(rows) and "conversations" not in rows[0]


def conversations_of(
    file: Path, images: Path | None, data: Data, seed: int, aspect: Literal["square", "pad"], counts: Counts
) -> list[Conversation]:
    """One conversation for each different (image, prompt, chosen answer), in the file's order.

    Args:
        file: Preference file, in any form that `read_pairs` reads.
        images: Folder that image names are relative to.
        data: How many to draw (a smaller number draws from what a larger one draws), with or without images.
        seed: Of the draw.
        aspect: What is done to images before the processor.
        counts: Filled with what became of the pairs.

    Raises:
        BadInput: No preference file, or images are missing.
    """
    pairs = read_pairs(file)
    unique = {(pair.image, pair.prompt, pair.chosen): pair for pair in reversed(pairs)}
    kept = list(reversed(unique.values()))
    counts.read = len(pairs)
    if len(kept) < len(pairs):
        counts.dropped["chosen answer of another pair too"] += len(pairs) - len(kept)
    if data.samples and data.samples < len(kept):
        order = random.Random(f"samples {seed}").sample(range(len(kept)), len(kept))
        counts.dropped["not drawn"] += len(kept) - data.samples
        kept = [kept[index] for index in sorted(order[: data.samples])]
    counts.used = len(kept)
    refs = [] if data.text_only else image_refs([pair.image for pair in kept], images, file, aspect)
    return [
        Conversation(pair.id, ((pair.prompt, pair.chosen),), None if data.text_only else refs[number], where=pair.id)
        for number, pair in enumerate(kept)
    ]
