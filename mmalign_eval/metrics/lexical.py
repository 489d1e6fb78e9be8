"""Offline stand-ins for a judge of free text: how much of a reference's words an answer holds.

Deterministic and crude: they see words, not meaning. Numbers made of them are named `lexical/...` and share no column
with a judge's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

AND, OR = "<AND>", "<OR>"
SHORT = 8  # words; a shorter element is a fact that is there or not, a longer one a description that is met in part
MOST_WORDS = 1024  # of an answer that are compared: as many tokens as the protocols let a model generate
# numbers whole; signs of formulas are words of their own
_WORD = re.compile(r"\d+(?:[.,/:]\d+)*|\w+|[^\w\s.,;:!?\"'()]")


def words(text: str) -> list[str]:
    """Words, numbers and signs of a text, without regard to case; at most `MOST_WORDS`."""
    found = []
    for match in _WORD.finditer(text.casefold()):
        found.append(match[0])
        if len(found) == MOST_WORDS:
            break
    return found


def elements_held(reference: str, answer: str) -> float:
    """How much of a reference with `<AND>` and `<OR>` an answer holds, 0-1.

    The best alternative counts. Its elements count alike: one of up to `SHORT` words is held if its words stand in the
    answer one after the other. With a longer element, the whole alternative is compared by ROUGE-L.
    """
    said = words(answer)
    if not said:
        return 0.0
    return max(_alternative(alternative, said) for alternative in reference.split(OR))


def spoken(reference: str) -> str:
    """An answer that holds a whole reference: its first alternative, the elements joined by `and`."""
    return " and ".join(element.strip() for element in reference.split(OR)[0].split(AND))


def overlap(reference: str, answer: str) -> float:
    """ROUGE-L F1 of an answer's words with a reference's, 0-1; 0 where either has none."""
    return _overlap(words(reference), words(answer))


def _alternative(alternative: str, said: Sequence[str]) -> float:
    elements = [found for element in alternative.split(AND) if (found := words(element))]
    if not elements:
        return 0.0
    if max(map(len, elements)) <= SHORT:
        return sum(_holds(said, element) for element in elements) / len(elements)
    return _overlap(words(spoken(alternative)), said)


def _holds(said: Sequence[str], element: Sequence[str]) -> bool:
    size = len(element)
    return any(list(said[i : i + size]) == list(element) for i in range(len(said) - size + 1))


def _overlap(reference: Sequence[str], said: Sequence[str]) -> float:
    """F1 of the longest common subsequence (Lin 2004, ROUGE-L with beta 1)."""
    if not reference or not said:
        return 0.0
    common = _longest_common(reference, said)
    return 2 * common / (len(reference) + len(said))


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for j, other in enumerate(b, start=1):
            above = row[j]
            row[j] = diagonal + 1 if word == other else max(above, row[j - 1])
            diagonal = above
    return row[-1]
