"""How many tokens requests have, and how many different ones once what they share is there once: nothing is laid out.

Sequences are compared as bytes. Sorted as bytes, those that begin with the same tokens are neighbours, and the one
before a sequence shares with it as much as any before: each adds to the prefix tree what it does not share with that.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from functools import lru_cache
from itertools import zip_longest

from .encoding import Ids, Scored

_BYTES = 4  # a token
_BLOCK = 64 * _BYTES
_Blocks = tuple[bytes, ...]
_NOTHING: _Blocks = ()


def sizes(parts: Iterable[Scored]) -> tuple[int, int]:
    """Tokens of contexts with each of their options, and nodes of the prefix tree of all of them.

    A context without options is no sequence; one with an empty option is one by itself. In memory are the contexts,
    each once, and the options; a context with its option only for as long as another context might come between.
    """
    tokens = 0
    blocks: dict[bytes, bytes] = {}
    held: dict[_Blocks, tuple[bytes, ...]] = {}
    seen: tuple[Ids, ...] = ()
    options: tuple[bytes, ...] = ()
    for part in parts:
        tokens += len(part.context) * len(part.options) + sum(map(len, part.options))
        if part.options is not seen:  # as a rule those of many contexts
            seen, options = (
                part.options,
                tuple([blocks.setdefault(o, o) for o in [option.tobytes() for option in part.options]]),
            )
        context = _in_blocks(part.context.tobytes(), blocks)
        held[context] = held[context] + options if context in held else options
    del blocks
    return tokens, _tree(held)


def _tree(held: dict[_Blocks, tuple[bytes, ...]]) -> int:
    """Nodes of the tree of contexts with their options, which are taken from them."""
    nodes, last = 0, _NOTHING
    waiting: list[bytes] = []  # sequences that those of another context may come before
    order = sorted(held)
    for key, after in zip_longest(order, order[1:]):
        options = held.pop(key)
        if options and not waiting and not (after and _begins(after, key)):
            nodes += sum(map(len, key)) // _BYTES - _shared(key, last) + _ends(options)
            last = key  # with none of its options does a sequence to come share more than with the context
            continue
        whole = b"".join(key)
        for option in dict.fromkeys(options):
            heapq.heappush(waiting, whole + option)
        until = None if after is None else b"".join(after)
        while waiting and (until is None or waiting[0] < until):
            one = heapq.heappop(waiting)
            blocks = _in_blocks(one, {})
            nodes += len(one) // _BYTES - _shared(blocks, last)
            last = blocks
    return nodes


@lru_cache(maxsize=1024)
def _ends(options: tuple[bytes, ...]) -> int:
    """Nodes of the tree of options alone."""
    nodes, last = 0, _NOTHING
    for option in sorted(options):
        blocks = _in_blocks(option, {})
        nodes += len(option) // _BYTES - _shared(blocks, last)
        last = blocks
    return nodes


def _in_blocks(ids: bytes, known: dict[bytes, bytes]) -> _Blocks:
    """A sequence in pieces of one length, in whose order it is sorted as before; those that others have are theirs."""
    pieces = [ids[at : at + _BLOCK] for at in range(0, len(ids), _BLOCK)]
    return tuple([known.setdefault(piece, piece) for piece in pieces])


def _begins(sequence: _Blocks, first: _Blocks) -> bool:
    """Whether a sequence begins with another, or is it."""
    whole = len(first) - 1
    if whole < 0:
        return True
    return len(sequence) > whole and sequence[:whole] == first[:whole] and sequence[whole].startswith(first[whole])


def _shared(a: _Blocks, b: _Blocks) -> int:
    """First tokens that two sequences share."""
    for number, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return (number * _BLOCK + _common(one, other)) // _BYTES
    return sum(map(len, a if len(a) < len(b) else b)) // _BYTES


def _common(a: bytes, b: bytes) -> int:
    """First bytes that two pieces share: as numbers, they differ from their first different bit on."""
    size = min(len(a), len(b))
    different = int.from_bytes(a[:size], "big") ^ int.from_bytes(b[:size], "big")
    return size - (different.bit_length() + 7) // 8
