"""What two results share: their sums side by side, by sample or by whole cluster."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .sums import Group, Sums, there


@dataclass(frozen=True, eq=False)
class Shared:
    """A group of two results on what both scored.

    Attributes:
        base: Sums of the first for each unit (sample, or cluster where it must be whole): `[m, k]`.
        other: Those of the second.
        cluster: Place of each unit's cluster among the shared ones: `[m]`.
        clusters: How many they are.
        sizes: Samples in each: `[clusters]`.
        n: Samples.
        left_out: Samples that only one side scored, or that share a cluster with such where it must be whole.
    """

    base: np.ndarray
    other: np.ndarray
    cluster: np.ndarray
    clusters: int
    sizes: np.ndarray
    n: int
    left_out: int

    @cached_property
    def by_cluster(self) -> tuple[np.ndarray, np.ndarray]:
        """Sums of both sides for each cluster: `[clusters, k]` each."""
        return tuple(
            np.stack([np.bincount(self.cluster, c, self.clusters) for c in one.T], axis=1)
            for one in (self.base, self.other)
        )  # type: ignore[return-value]


class Pairs:
    """Matches the samples of two results once, their groups on demand."""

    def __init__(self, base: Sums, other: Sums) -> None:
        self.base, self.other = base, other
        self._match: np.ndarray = _places(base.samples, other.samples)
        self._shared: dict[tuple[int, int], Shared] = {}

    def shared(self, base: int, other: int) -> Shared:
        """One group of each side, on the samples of both."""
        if (base, other) not in self._shared:
            ours, theirs = self.base.groups[base], self.other.groups[other]
            by_sample = ours.level == theirs.level == "sample"
            self._shared[base, other] = self._by_sample(ours, theirs) if by_sample else self._whole(base, other)
        return self._shared[base, other]

    def _by_sample(self, ours: Group, theirs: Group) -> Shared:
        row_of = np.full(len(self.other.samples) + 1, -1)  # the last stands for: not there
        row_of[theirs.rows] = np.arange(len(theirs.rows))
        found = row_of[self._match[ours.rows]]
        kept = found >= 0
        places, cluster = there(self.base.cluster[ours.rows[kept]], len(self.base.clusters))
        n = int(kept.sum())
        left_out = len(ours.rows) + len(theirs.rows) - 2 * n
        if len(places) == 1:  # of one cluster alone the samples are drawn, as in `Sums.drawn`
            return Shared(ours.sums[kept], theirs.sums[found[kept]], np.arange(n), n, np.ones(n), n, left_out)
        sizes = np.bincount(cluster, minlength=len(places))
        return Shared(ours.sums[kept], theirs.sums[found[kept]], cluster, len(places), sizes, n, left_out)

    def _whole(self, base: int, other: int) -> Shared:
        """By cluster, without those in which the two sides scored different samples."""
        ours, our_sums = self.base.by_cluster(base)
        theirs, their_sums = self.other.by_cluster(other)
        row_of = np.full(len(self.other.clusters) + 1, -1)
        row_of[theirs] = np.arange(len(theirs))
        twin = _places(self.base.clusters, self.other.clusters)
        found = np.where(self._same_samples(twin)[ours], row_of[twin[ours]], -1)
        kept = found >= 0
        n, left_out = self._counted(base, other, ours[kept], theirs[found[kept]])
        count = int(kept.sum())
        sizes = np.bincount(self.base.cluster, minlength=len(self.base.clusters))[ours[kept]]
        return Shared(our_sums[kept], their_sums[found[kept]], np.arange(count), count, sizes, n, left_out)

    def _same_samples(self, twin: np.ndarray) -> np.ndarray:
        """Which clusters of the base have the same samples on the other side."""
        size = np.bincount(self.base.cluster, minlength=len(self.base.clusters))
        other_size = np.append(np.bincount(self.other.cluster, minlength=len(self.other.clusters)), -1)
        matched = np.flatnonzero(self._match >= 0)
        together = self.other.cluster[self._match[matched]] == twin[self.base.cluster[matched]]
        both = np.bincount(self.base.cluster[matched[together]], minlength=len(size))
        return (size == both) & (size == other_size[twin])

    def _counted(self, base: int, other: int, kept: np.ndarray, other_kept: np.ndarray) -> tuple[int, int]:
        """Samples compared and left out; a cluster's samples are all that were scored of it."""
        whole = [
            (one.groups[group], np.isin(one.cluster, one.by_cluster(group)[0]), np.isin(one.cluster, places))
            for one, group, places in ((self.base, base, kept), (self.other, other, other_kept))
        ]
        n = min(min(group.n, int(used.sum())) for group, _, used in whole)
        return n, sum(int((there & ~used).sum()) for _, there, used in whole)


def _places(names: list[str], others: list[str]) -> np.ndarray:
    """Where each name stands among the others; -1 where it does not."""
    if names is others or names == others:
        return np.arange(len(names))
    place = {name: i for i, name in enumerate(others)}
    return np.array([place.get(name, -1) for name in names], dtype=np.int64)
