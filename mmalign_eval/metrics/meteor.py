"""METEOR 1.5 (Denkowski and Lavie 2014): alignments by its jar, the score from sums that add up.

The jar's corpus score is a function of summed segment statistics, so keeping six numbers a segment reproduces it, for
the whole set and for every resample, without starting Java again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .formula import Formula
from .java import JavaServer, jar

JAR = ("meteor", "meteor-1.5.jar")
SIGNATURE = "meteor-1.5 en -norm"
# the jar's parameters for English (task "rank"): Denkowski and Lavie 2014, table 3
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # matches by exact form, stem, synonym, paraphrase
# of summed segment numbers: F-mean times (1 - fragmentation penalty); 0 without a match
SCORE = Formula(
    f"defined_or((1 - {GAMMA} * (s[4] / (s[5] / 2)) ** {BETA}) / ((1 - {ALPHA}) / (s[0] / s[1]) "
    f"+ {ALPHA} / (s[2] / s[3])), 0)"
)
FIELDS = 23  # numbers in a statistics line of the jar
_running: list[JavaServer] = []


def start(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Callable[[], list[str]]:
    """Starts aligning each tokenised hypothesis to its tokenised references.

    Returns:
        A function that waits for the statistics lines, which `sums` reads.

    Raises:
        BadInput: No Java or no pycocoevalcap.
    """
    pairs = zip(hypotheses, references, strict=True)
    lines = [" ||| ".join(["SCORE", *map(_clean, refs), _clean(hypothesis)]) for hypothesis, refs in pairs]
    return _server().ask(lines)


def _server() -> JavaServer:
    """The jar, started once a process: reading its paraphrase table takes seconds."""
    if not _running or not _running[-1].alive:
        for old in _running:
            old.close()
        _running[:] = [JavaServer("METEOR", ["-Xmx1500m", "-jar", jar(*JAR), "-", "-", "-stdio", "-l", "en", "-norm"])]
    return _running[-1]


def sums(line: str) -> list[float]:
    """Six numbers of a segment that add up, from a statistics line of the jar (best reference).

    The line holds: length, reference length, function words in either; for each matcher the content words matched on
    either side and the function words matched on either side; chunks; words matched on either side.

    Returns:
        Weighted matches and weighted length of the hypothesis, the same of the reference, chunks, matched words of
        both. A segment matched in full by one chunk has no fragmentation: as in the jar, it adds none.
    """
    numbers = np.array([float(x) for x in line.split()])
    if len(numbers) != FIELDS:
        raise ValueError(f"METEOR statistics have {len(numbers)} numbers, expected {FIELDS}: {line!r}")
    length, ref_length, function, ref_function = numbers[:4]
    content, ref_content, functional, ref_functional = numbers[4:20].reshape(4, 4).T
    chunks, words, ref_words = numbers[20:]
    in_full = (content + functional).sum() == length and (ref_content + ref_functional).sum() == ref_length
    weighted = [
        float((WEIGHTS * (DELTA * content + (1 - DELTA) * functional)).sum()),
        float(DELTA * (length - function) + (1 - DELTA) * function),
        float((WEIGHTS * (DELTA * ref_content + (1 - DELTA) * ref_functional)).sum()),
        float(DELTA * (ref_length - ref_function) + (1 - DELTA) * ref_function),
    ]
    broken = 0.0 if in_full and chunks == 1 else float(chunks)
    return [*(round(x, 6) for x in weighted), broken, float(words + ref_words)]


def _clean(text: str) -> str:
    """Without the field separator, as coco-caption's meteor.py does for hypotheses."""
    return text.replace("|||", "").replace("  ", " ")
