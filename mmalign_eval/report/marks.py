"""Words marked in an answer: the objects that it names and the image does not have."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..metrics.chair.singular import SINGULARISERS

_WORD = re.compile(r"[^\W_]+")


def marked(text: str, record: Mapping[str, Any] | None) -> list[str]:
    """A text in pieces, every second one of them hallucinated: plain, marked, plain, marked, plain ...

    Args:
        text: An answer.
        record: Its record: `hallucinated` has the words, singular; `mentions` every (word, category) found. Records of
            other benchmarks have neither, and nothing is marked.
    """
    wrong = {w for w in _strings((record or {}).get("hallucinated"))}
    if not wrong:
        return [text]
    # longer names first: the dog of a "hot dog" is no dog
    names = wrong | {w for pair in _lists((record or {}).get("mentions")) for w in _strings(pair[:1])}
    pieces, at = [], 0
    for start, end, name in _named(text, names):
        if name in wrong:
            pieces += [text[at:start], text[start:end]]
            at = end
    return [*pieces, text[at:]]


def _named(text: str, names: Collection[str]) -> Iterator[tuple[int, int, str]]:
    """Where which of the names stand: start, end, name."""
    words = list(_WORD.finditer(text))
    forms = [_forms(word[0]) for word in words]
    longest = max(len(name.split()) for name in names)
    at = 0
    while at < len(words):
        for size in range(min(longest, len(words) - at), 0, -1):
            name = _which(names, forms[at : at + size])
            if name:
                yield words[at].start(), words[at + size - 1].end(), name
                at += size
                break
        else:
            at += 1


def _which(names: Collection[str], forms: Sequence[set[str]]) -> str:
    """The name that consecutive words spell in one of their forms, or empty."""
    for name in names:
        spelled = name.split()
        if len(spelled) == len(forms) and all(word in found for word, found in zip(spelled, forms, strict=True)):
            return name
    return ""


def _forms(word: str) -> set[str]:
    """A word as it stands and singular, by the rules of every tool that finds objects."""
    low = word.lower()
    return {low, *(singular(low) for singular in SINGULARISERS.values())}


def _lists(value: Any) -> list[list[Any]]:
    return [item for item in value if isinstance(item, list)] if isinstance(value, list) else []


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str) and item.strip()] if isinstance(value, list) else []
