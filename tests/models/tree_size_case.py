"""The size of a prefix tree, counted the slow way."""

from __future__ import annotations

from collections.abc import Iterable


def tree_size(sequences: Iterable[tuple[int, ...]]) -> int:
    """Different beginnings that sequences have."""
    return len({ids[: end + 1] for ids in sequences for end in range(len(ids))})
