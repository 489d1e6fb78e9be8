"""Token sequences as one prefix tree: each token that several sequences share is there once.

The tree is laid out depth first. A token's place in that order is its slot; the tokens below a token are the slots that
follow it up to its `end`. So a token may look at an earlier one if and only if it lies before that one's end, and any
run of neighbouring subtrees is a range of slots.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .encoding import Ids

Slots = npt.NDArray[np.int64]


@dataclass
class Node:
    """A run of tokens that all sequences through it share.

    Attributes:
        start: Slot of its first token.
        stop: Slot after its last one.
        end: Slot after the last one of its subtree.
        depth: Position of its first token in every sequence.
        children: Nodes that follow, in slot order.
    """

    start: int
    stop: int
    end: int
    depth: int
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Tree:
    """Sequences laid out.

    Attributes:
        ids: Token of each slot.
        position: Its position in the sequences.
        end: Slot after the last one below it.
        paths: For each sequence, the slots of its tokens, in order.
        roots: Nodes that nothing comes before.
    """

    ids: Ids
    position: Slots
    end: Slots
    paths: list[Slots]
    roots: list[Node]

    def __len__(self) -> int:
        return len(self.ids)


def build(sequences: Sequence[Ids]) -> Tree:
    """Lays sequences out.

    Args:
        sequences: In any order; equal ones and ones that begin others are welcome, empty ones have an empty path.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())
    shared = [common(sequences[a], sequences[b]) for a, b in itertools.pairwise(order)]
    shared[:0] = [0] * min(1, len(order))  # the first one shares nothing
    total = sum(len(sequences[i]) - s for i, s in zip(order, shared, strict=True))
    ids, position, end = np.empty(total, np.int32), np.empty(total, np.int64), np.empty(total, np.int64)
    paths: list[Slots] = [np.empty(0, np.int64)] * len(sequences)
    roots: list[Node] = []
    open_: list[Node] = []  # from a root to where the last sequence ended
    path = np.empty(0, np.int64)
    slot = 0
    for index, same in zip(order, shared, strict=True):
        own = sequences[index]
        _close(open_, same, slot, end)
        if open_:
            _split(open_[-1], same, slot, end)
        if len(own) > same:
            stop = slot + len(own) - same
            node = Node(slot, stop, stop, same)
            (open_[-1].children if open_ else roots).append(node)
            open_.append(node)
            ids[slot:stop], position[slot:stop] = own[same:], np.arange(same, len(own))
            path = np.concatenate([path[:same], np.arange(slot, stop)])
            slot = stop
        else:
            path = path[:same]
        paths[index] = path
    _close(open_, 0, slot, end)
    return Tree(ids, position, end, paths, roots)


def _close(open_: list[Node], shared: int, slot: int, end: Slots) -> None:
    """Ends the nodes that a sequence does not go through which shares so many tokens with the one before."""
    while open_ and open_[-1].depth >= shared:
        node = open_.pop()
        node.end = slot
        end[node.start : node.stop] = slot


def _split(node: Node, shared: int, slot: int, end: Slots) -> None:
    """Cuts a node in two if the next sequence leaves it before its last token."""
    at = node.start + shared - node.depth
    if at < node.stop:
        below = Node(at, node.stop, slot, shared, node.children)
        end[at : node.stop] = slot
        node.stop, node.children = at, [below]


def common(a: Ids, b: Ids) -> int:
    """How many first tokens two sequences share."""
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if len(different) else size
