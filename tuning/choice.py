"""Rows that are not trained on, whatever they are trained for: too long answers, and images kept for evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ..errors import BadInput


def words(text: str) -> int:
    """Whitespace-separated words."""
    return len(text.split())


def too_long(answers: Iterable[str], most: int) -> bool:
    """Whether an answer has more words than `most`; 0: any number is allowed."""
    return bool(most) and max(map(words, answers)) > most


def held_out(images: Iterable[str], share: float, seed: int) -> set[str]:
    """The images kept for evaluation: first in an order that depends on nothing but their names and the seed.

    Args:
        images: Their names; order and repeats do not matter.
        share: Of the images; at least one is held out where any are asked for, and never all.
        seed: Of the order.

    Raises:
        BadInput: Some are to be held out of fewer than two.
    """
    if not share:
        return set()
    names = set(images)
    if len(names) < 2:
        raise BadInput("data.held_out needs rows of two images or more: give 0 to train on all")
    count = min(len(names) - 1, max(1, round(share * len(names))))
    return set(sorted(names, key=lambda name: hashlib.sha256(f"{seed}|{name}".encode()).digest())[:count])
