"""Words marked in an answer: the objects that it names and the image does not have."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
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
    starting: dict[str, list[tuple[list[str], str]]] = {}
    for name in sorted(names):
        if spelled := _WORD.findall(name.lower()):
            starting.setdefault(spelled[0], []).append((spelled, name))
    words = list(_WORD.finditer(text))
    free = 0
    for at, word in enumerate(words):
        if at < free:
            continue
        here = [one for form in _forms(word[0].lower()) for one in starting.get(form, ())]
        for spelled, name in sorted(here, key=lambda one: -len(one[0])):
            if _spells(words[at : at + len(spelled)], spelled):
                free = at + len(spelled)
                yield word.start(), words[free - 1].end(), name
                break


def _spells(words: Sequence[re.Match[str]], name: Sequence[str]) -> bool:
    """Whether the words are a name, each in one of its forms."""
    return len(words) == len(name) and all(n in _forms(w[0].lower()) for n, w in zip(name, words, strict=True))


@lru_cache(maxsize=100_000)
def _forms(word: str) -> tuple[str, ...]:
    """A word as it stands and singular, by the rules of every tool that finds objects."""
    return tuple(dict.fromkeys((word, *(singular(word) for singular in SINGULARISERS.values()))))


def _lists(value: Any) -> list[list[Any]]:
    return [item for item in value if isinstance(item, list)] if isinstance(value, list) else []


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str) and item.strip()] if isinstance(value, list) else []
