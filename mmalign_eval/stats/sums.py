"""The sums that metrics are made of: for each sample where they add up, for each cluster where they do not.

Intervals, paired tests and leaderboards work on these alone. A metric has a group (one statistics function over one
subset of the records) and a formula of the group's sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..metrics.base import Metric, Record
from ..metrics.formula import Formula


@dataclass(frozen=True, eq=False)
class Group:
    """One statistics function over one subset.

    Attributes:
        level: `sample` where the sums of a cluster are those of its samples, added; else `cluster`.
        rows: Which samples (places in `Sums.samples`) or clusters (in `Sums.clusters`) they are of: `[m]`.
        sums: `[m, k]`.
        n: Samples counted.
    """

    level: str
    rows: np.ndarray
    sums: np.ndarray
    n: int


@dataclass(frozen=True)
class MetricSums:
    """What a metric is made of.

    Attributes:
        group: Place in `Sums.groups`.
        formula: Value of summed sums; None where the metric is made otherwise (of all records, or by code that says
            no formula): it has an interval in the result, and no paired test.
        proportion: The value is sums[0] / sums[1] of 0/1 outcomes.
    """

    group: int
    formula: Formula | None
    proportion: bool


@dataclass(frozen=True, eq=False)
class Sums:
    """All sums of a result.

    Attributes:
        samples: Ids of the scored samples.
        clusters: Names of the clusters, sorted: the order of samples changes no interval.
        cluster: Place of each sample's cluster: `[n]`.
        groups: The sums.
        metrics: By name.
    """

    samples: list[str]
    clusters: list[str]
    cluster: np.ndarray
    groups: list[Group]
    metrics: Mapping[str, MetricSums]

    @cached_property
    def _clustered(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return {}

    def by_cluster(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of the clusters that have sums in a group, ascending, and their sums: `[c]`, `[c, k]`."""
        if group not in self._clustered:
            one = self.groups[group]
            places = one.rows if one.level == "cluster" else self.cluster[one.rows]
            found, inverse = there(places, len(self.clusters))
            total = np.zeros((len(found), one.sums.shape[1]))
            np.add.at(total, inverse, one.sums)
            self._clustered[group] = found, total
        return self._clustered[group]

    def drawn(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """What an interval draws: sums by cluster, or by sample where all samples are of one cluster.

        What is known of one cluster alone (one subject of an examination) is uncertain by its samples.

        Returns:
            Sums `[units, k]`, and how many samples each unit has: `[units]`.
        """
        one = self.groups[group]
        places, clustered = self.by_cluster(group)
        if len(places) == 1 and one.level == "sample":
            return one.sums, np.ones(len(one.sums))
        counted = self.cluster[one.rows] if one.level == "sample" else self.cluster
        return clustered, np.bincount(counted, minlength=len(self.clusters))[places]


def there(places: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Which places below `most` occur, ascending, and where each stands among them: `np.unique` without sorting."""
    occurs = np.zeros(most, dtype=bool)
    occurs[places] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[places]


def sums_of(metrics: Sequence[Metric], records: Sequence[Record]) -> Sums:
    """Computes the sums of every metric once for each statistics function and subset."""
    names = sorted({str(record["cluster"]) for record in records})
    place = {name: i for i, name in enumerate(names)}
    cluster = np.array([place[str(record["cluster"])] for record in records], dtype=np.int32)
    groups: list[Group] = []
    known: dict[tuple[Any, Any], int] = {}
    found: dict[str, MetricSums] = {}
    for metric in metrics:
        key = (metric.keep, metric.stat)
        if key not in known:
            known[key] = len(groups)
            groups.append(_group(metric, records, cluster))
        formula = metric.value if metric.corpus is None and isinstance(metric.value, Formula) else None
        found[metric.name] = MetricSums(known[key], formula, metric.proportion)
    return Sums([str(record.get("id", i)) for i, record in enumerate(records)], names, cluster, groups, found)


def _group(metric: Metric, records: Sequence[Record], cluster: np.ndarray) -> Group:
    """Sums of samples, if those of each cluster are theirs added, else of clusters."""
    kept = [i for i, record in enumerate(records) if metric.keep is None or metric.keep(record)]
    if not kept:
        return Group("sample", np.zeros(0, np.int32), np.zeros((0, 1)), 0)
    members: dict[int, list[int]] = {}
    for i in kept:
        members.setdefault(int(cluster[i]), []).append(i)
    places = sorted(members)
    together = np.array([metric.stat([records[i] for i in members[c]]) for c in places], dtype=np.float64)
    if len(places) == len(kept):
        rows = np.array([members[c][0] for c in places], dtype=np.int32)
        return Group("sample", rows, together, len(kept))
    by_id = {c: sorted(members[c], key=lambda i: str(records[i].get("id", i))) for c in places}
    rows = np.array([i for c in places for i in by_id[c]], dtype=np.int32)  # their order must change no interval
    each = np.array([metric.stat([records[i]]) for i in rows], dtype=np.float64)
    starts = np.cumsum([0, *(len(members[c]) for c in places[:-1])])
    if each.shape[1:] == together.shape[1:] and np.allclose(np.add.reduceat(each, starts), together, rtol=1e-9):
        return Group("sample", rows, each, len(kept))
    return Group("cluster", np.array(places, dtype=np.int32), together, len(kept))
