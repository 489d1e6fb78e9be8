"""The prefix tree holds each shared token once, and slots say who may look at whom."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.models.tree import Node, build

from .tree_size_case import tree_size

few = st.lists(st.lists(st.sampled_from([-3, -1, 0, 1, 2]), max_size=8), min_size=0, max_size=14)


def laid_out(sequences: list[list[int]]):  # type: ignore[no-untyped-def]
    return build([np.array(ids, np.int32) for ids in sequences])


@given(few)
@settings(max_examples=300, deadline=None)
def test_paths_are_the_sequences_and_no_token_is_there_twice(sequences: list[list[int]]) -> None:
    tree = laid_out(sequences)
    assert len(tree) == tree_size(map(tuple, sequences))
    for ids, path in zip(sequences, tree.paths, strict=True):
        assert tree.ids[path].tolist() == ids
        assert tree.position[path].tolist() == list(range(len(ids)))


@given(few)
@settings(max_examples=300, deadline=None)
def test_a_token_looks_at_its_path_and_at_nothing_else(sequences: list[list[int]]) -> None:
    tree = laid_out(sequences)
    for path in tree.paths:
        for at, slot in enumerate(path):
            seen = [k for k in range(len(tree)) if k <= slot < tree.end[k]]
            assert seen == path[: at + 1].tolist()


@given(few)
@settings(max_examples=200, deadline=None)
def test_nodes_cover_their_slots(sequences: list[list[int]]) -> None:
    tree = laid_out(sequences)

    def check(nodes: list[Node], start: int, depth: int) -> int:
        for node in nodes:
            assert (node.start, node.depth) == (start, depth)
            assert start < node.stop <= node.end
            assert check(node.children, node.stop, depth + node.stop - node.start) == node.end
            start = node.end
        return start

    assert check(tree.roots, 0, 0) == len(tree)
