"""Random draws over clusters, shared by intervals and tests: with replacement, and swapped between two sides.

The seed is fixed: equal data give equal numbers, and groups over equally many clusters see the same draws. Draws are
whole numbers of clusters, added in float64, so that counts stay exact on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

SEED = 20_000
BLOCK = 2_000_000  # numbers drawn at once: 16 MB
CHUNK = 200_000  # numbers multiplied at once: what a processor's cache holds
KEPT = 200_000_000  # bytes of draws kept for the next metric and the next result, one for each cluster and draw
KIND = 800  # what a draw of one kind of cluster costs, in multiplications


def resample(sums: np.ndarray, draws: int) -> np.ndarray:
    """Sums of `draws` bootstrap samples of clusters: `[clusters, k]` to `[draws, k]`.

    Many clusters with few different sums (0/1 outcomes, one a cluster) are drawn by kind: how often each kind comes is
    multinomial, the same distribution at a fraction of the cost.
    """
    kinds, counts = _kinds(sums)
    if kinds is not None:
        rng = np.random.Generator(np.random.Philox(SEED))
        return rng.multinomial(len(sums), counts / len(sums), size=draws) @ kinds
    return _added(_weights, sums, draws)


def swapped(differences: np.ndarray, draws: int) -> np.ndarray:
    """Sums of the clusters that a fair coin picks, `draws` times: `[clusters, k]` to `[draws, k]`.

    Each of the 2^clusters selections once, where there are no more of them than draws.
    """
    clusters = len(differences)
    if exhaustive(clusters, draws):
        every = np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1
        return every.astype(np.float64) @ differences
    # a cluster and its mirror image are one kind: the sides may change places, and all draws with them
    lead = np.take_along_axis(differences, (differences != 0).argmax(axis=1)[:, None], axis=1)
    kinds, counts = _kinds(np.where(lead < 0, -differences, differences))
    if kinds is not None:
        rng = np.random.Generator(np.random.Philox(SEED + 1))
        against = differences[lead[:, 0] < 0].sum(axis=0)
        return against + rng.binomial(counts, 0.5, size=(draws, len(counts))) @ kinds
    return _added(_coins, differences, draws)


def exhaustive(clusters: int, draws: int) -> bool:
    """Whether there are no more ways to pick clusters than draws, so that `swapped` tries each."""
    return 2**clusters <= draws


def _kinds(sums: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Distinct rows and how many there are of each; None where drawing them would not be cheaper.

    Rows are told apart by a random projection, and compared in full once there seem to be few.
    """
    marks = np.random.Generator(np.random.Philox(SEED)).random(sums.shape[1])
    code = (sums * marks).sum(axis=1)
    _, first, place, counts = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
    few = len(first) * KIND <= sums.size and bool((sums[first][place] == sums).all())
    return (sums[first] if few else None), counts


def _added(how: Callable[[int, int], Iterator[np.ndarray]], sums: np.ndarray, draws: int) -> np.ndarray:
    """Sums of the clusters, each as often as a draw has it: `[draws, k]`."""
    out = np.empty((draws, sums.shape[1]))
    rows, done = max(1, CHUNK // len(sums)), 0
    for table in _kept(how, len(sums), draws):
        for at in range(0, len(table), rows):
            chunk = table[at : at + rows].astype(np.float64)
            out[done : done + len(chunk)] = chunk @ sums
            done += len(chunk)
    return out


def _kept(how: Callable[[int, int], Iterator[np.ndarray]], clusters: int, draws: int) -> Iterator[np.ndarray]:
    """What `how` draws, in blocks; kept in one, if it is not too large, for the next who asks for as many."""
    key, size = (how.__name__, clusters, draws), clusters * draws
    if key not in _tables and size > KEPT // 4:
        yield from how(clusters, draws)
        return
    if key not in _tables:
        if size + sum(table.size for table in _tables.values()) > KEPT:
            _tables.clear()
        _tables[key] = np.concatenate(list(how(clusters, draws)))
    yield _tables[key]


_tables: dict[tuple[str, int, int], np.ndarray] = {}


def _weights(clusters: int, draws: int) -> Iterator[np.ndarray]:
    """How often each bootstrap sample has each cluster: blocks `[rows, clusters]`, uint8."""
    rng = np.random.Generator(np.random.Philox(SEED))
    for rows in _block_sizes(clusters, draws):
        drawn = rng.integers(0, clusters, (rows, clusters)) + clusters * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * clusters)
        yield weights.astype(np.uint8).reshape(rows, clusters)  # above 255: never, at one a draw on average


def _coins(clusters: int, draws: int) -> Iterator[np.ndarray]:
    """Which clusters change sides: blocks `[rows, clusters]`, 0 or 1, uint8."""
    rng = np.random.Generator(np.random.Philox(SEED + 1))
    for rows in _block_sizes(clusters, draws):
        bits = np.frombuffer(rng.bytes(rows * -(-clusters // 8)), np.uint8).reshape(rows, -1)
        yield np.unpackbits(bits, axis=1, count=clusters)


def _block_sizes(clusters: int, draws: int) -> list[int]:
    """Rows drawn at once."""
    rows = max(1, BLOCK // clusters)
    return [min(rows, draws - start) for start in range(0, draws, rows)]
