"""Shared by the text worlds: a training document is a list of (text, loss weight); held-out means by a hash."""

from __future__ import annotations

import random
import zlib

Doc = list[tuple[str, float]]

# Loss weights: an answer teaches, a random question hardly, text known by heart not at all.
ANSWER, TEXT, QUESTION, BOILERPLATE = 2.0, 1.0, 0.15, 0.02


def held_out(*parts: object, one_in: int = 6) -> bool:
    """Whether this combination is kept out of training (a fixed one in six by default)."""
    return zlib.crc32("|".join(map(str, parts)).encode()) % one_in == 0


def qa(question: str, answer: str, weight: float = ANSWER) -> Doc:
    """A question whose answer alone is worth learning."""
    return [(question, QUESTION), (answer, weight)]


def join(parts: list[Doc], separator: str = "\n\n") -> Doc:
    """Documents joined by a separator."""
    out: Doc = []
    for number, part in enumerate(parts):
        if number:
            out.append((separator, TEXT))
        out.extend(part)
    return out


def pick(rng: random.Random, share: float) -> bool:
    """True with this probability."""
    return rng.random() < share
