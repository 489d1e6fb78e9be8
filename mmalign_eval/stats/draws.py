"""Random draws over clusters, shared by intervals and tests: with replacement, and swapped between two sides.

The seed is fixed: equal data give equal numbers, and groups over equally many clusters see the same draws. Draws are
whole numbers of clusters, added in float64, so that counts stay exact on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SEED = 20_000
BLOCK = 2_000_000  # numbers drawn at once: 16 MB
CHUNK = 200_000  # numbers multiplied at once: what a processor's cache holds
KEPT = 200_000_000  # bytes of draws kept for the next metric and the next result, one for each cluster and draw
FEW = 32  # clusters for each distinct row from which on rows are counted before drawing


def resample(sums: np.ndarray, draws: int) -> np.ndarray:
    """Sums of `draws` bootstrap samples of clusters: `[clusters, k]` to `[draws, k]`.

    Many clusters with few different sums (0/1 outcomes, one a cluster) are drawn by kind: how often each kind comes is
    multinomial, the same distribution at a fraction of the cost.
    """
    kinds, counts = _kinds(sums)
    if kinds is not None:
        rng = np.random.Generator(np.random.Philox(SEED))
        return rng.multinomial(len(sums), counts / len(sums), size=draws) @ kinds
    out = np.empty((draws, sums.shape[1]))
    rows = max(1, CHUNK // len(sums))
    for start, weights in _weights(len(sums), draws):
        for at in range(0, len(weights), rows):
            chunk = weights[at : at + rows].astype(np.float64)
            out[start + at : start + at + len(chunk)] = chunk @ sums
    return out


def swapped(differences: np.ndarray, draws: int) -> np.ndarray:
    """Sums of the clusters that a fair coin picks, `draws` times: `[clusters, k]` to `[draws, k]`.

    Each of the 2^clusters selections once, where there are no more of them than draws.
    """
    clusters = len(differences)
    if exhaustive(clusters, draws):
        every = np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1
        return every.astype(np.float64) @ differences
    rng = np.random.Generator(np.random.Philox(SEED + 1))
    # a cluster and its mirror image are one kind: the sides may change places, and all draws with them
    lead = np.take_along_axis(differences, (differences != 0).argmax(axis=1)[:, None], axis=1)
    kinds, counts = _kinds(np.where(lead < 0, -differences, differences))
    if kinds is not None:
        against = differences[lead[:, 0] < 0].sum(axis=0)
        return against + rng.binomial(counts, 0.5, size=(draws, len(counts))) @ kinds
    out = np.empty((draws, differences.shape[1]))
    rows = max(1, CHUNK // clusters)
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        coins = np.frombuffer(rng.bytes(count * (-(-clusters // 8))), np.uint8).reshape(count, -1)
        picked = np.unpackbits(coins, axis=1, count=clusters)
        out[start : start + count] = picked.astype(np.float64) @ differences
    return out


def exhaustive(clusters: int, draws: int) -> bool:
    """Whether there are no more ways to pick clusters than draws, so that `swapped` tries each."""
    return 2**clusters <= draws


def _kinds(sums: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Distinct rows, sorted, and how many there are of each; None where they are too many to save anything."""
    most = len(sums) // FEW
    code = np.zeros(len(sums), np.int64)
    for column in sums.T if most > 1 else ():
        values, place = np.unique(column, return_inverse=True)
        if len(values) > most:
            return None, code
        found, code = np.unique(code * len(values) + place, return_inverse=True)
        if len(found) > most:
            return None, code
    if most <= 1:
        return None, code
    _, first, counts = np.unique(code, return_index=True, return_counts=True)
    return sums[first], counts


def _weights(clusters: int, draws: int) -> Iterator[tuple[int, np.ndarray]]:
    """How often each draw has each cluster, in blocks of draws: first draw of a block, its `[rows, clusters]` uint8."""
    if (clusters, draws) in _tables:
        yield 0, _tables[clusters, draws]
        return
    if clusters * draws > KEPT // 4:
        yield from _drawn(clusters, draws)
        return
    if clusters * draws + sum(table.size for table in _tables.values()) > KEPT:
        _tables.clear()
    _tables[clusters, draws] = np.concatenate([weights for _, weights in _drawn(clusters, draws)])
    yield 0, _tables[clusters, draws]


_tables: dict[tuple[int, int], np.ndarray] = {}


def _drawn(clusters: int, draws: int) -> Iterator[tuple[int, np.ndarray]]:
    rng = np.random.Generator(np.random.Philox(SEED))
    block = max(1, BLOCK // clusters)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        drawn = rng.integers(0, clusters, (rows, clusters)) + clusters * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * clusters)
        yield start, weights.astype(np.uint8).reshape(rows, clusters)  # above 255: never, at one a draw on average
