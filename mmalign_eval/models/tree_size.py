"""How many tokens requests have, and how many different ones once what they share is there once: nothing is laid out.

Sequences are compared as bytes. Sorted as bytes, those that begin with the same tokens are neighbours, and the one
before a sequence shares with it as much as any before: each adds to the prefix tree what it does not share with that.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from .encoding import Scored

_BYTES = 4  # a token


def sizes(parts: Iterable[Scored]) -> tuple[int, int]:
    """Tokens of contexts with each of their options, and nodes of the prefix tree of all of them.

    A context without options is no sequence; one with an empty option is one by itself. In memory are the contexts,
    each once, and the options; a context with its option only for as long as another context might come between.
    """
    tokens = 0
    held: dict[bytes, dict[bytes, None]] = {}
    for part in parts:
        tokens += len(part.context) * len(part.options) + sum(map(len, part.options))
        options = held.setdefault(part.context.tobytes(), {})
        options.update((option.tobytes(), None) for option in part.options)
    nodes, last = 0, b""
    waiting: list[tuple[bytes, int]] = []  # sequences, and where their options begin
    for context in [*sorted(held), None]:
        while waiting and (context is None or waiting[0][0] < context):
            one, begins = heapq.heappop(waiting)
            nodes += len(one) // _BYTES - _common(one, last, begins)
            last = one
        if context is not None:
            for option in held.pop(context):
                heapq.heappush(waiting, (context + option, len(context)))
    return tokens, nodes


def _common(a: bytes, b: bytes, likely: int) -> int:
    """First tokens that two sequences share; most often the first `likely` bytes are among them."""
    low, high = 0, min(len(a), len(b))
    if likely <= high and a[:likely] == b[:likely]:
        low = likely
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low // _BYTES
