"""How many tokens requests have, and how many different ones once what they share is there once: nothing is laid out.

Sequences are compared as bytes. Sorted as bytes, those that begin with the same tokens are neighbours, and the one
before a sequence shares with it as much as any before: each adds to the prefix tree what it does not share with that.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from .encoding import Scored

_BYTES = 4  # a token
_BLOCK = 64 * _BYTES
_Blocks = tuple[bytes, ...]


def sizes(parts: Iterable[Scored]) -> tuple[int, int]:
    """Tokens of contexts with each of their options, and nodes of the prefix tree of all of them.

    A context without options is no sequence; one with an empty option is one by itself. In memory are the contexts,
    each once, and the options; a context with its option only for as long as another context might come between.
    """
    tokens = 0
    blocks: dict[bytes, bytes] = {}
    held: dict[_Blocks, tuple[bytes, ...]] = {}
    for part in parts:
        tokens += len(part.context) * len(part.options) + sum(map(len, part.options))
        context, options = _in_blocks(part.context.tobytes(), blocks), tuple(o.tobytes() for o in part.options)
        held[context] = held.get(context, ()) + tuple(blocks.setdefault(option, option) for option in options)
    del blocks
    nodes, last = 0, b""
    waiting: list[tuple[bytes, int]] = []  # sequences, and where their options begin
    for key in [*sorted(held), None]:
        whole = None if key is None else b"".join(key)
        while waiting and (whole is None or waiting[0][0] < whole):
            one, begins = heapq.heappop(waiting)
            nodes += len(one) // _BYTES - _common(one, last, begins)
            last = one
        if key is not None and whole is not None:
            for option in dict.fromkeys(held.pop(key)):
                heapq.heappush(waiting, (whole + option, len(whole)))
    return tokens, nodes


def _in_blocks(ids: bytes, known: dict[bytes, bytes]) -> _Blocks:
    """A sequence in pieces of one length, in whose order it is sorted as before; those that others have are theirs."""
    pieces = [ids[at : at + _BLOCK] for at in range(0, len(ids), _BLOCK)]
    return tuple([known.setdefault(piece, piece) for piece in pieces])


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
