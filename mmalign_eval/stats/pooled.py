"""Several training seeds of one recipe as one result: their sums on the same samples, added.

A ratio of the sums is then the ratio over all seeds together, and a paired test against a base, clustered as each of
them is, says whether these models differ from it. It takes the seeds as they are; `over_seeds` asks what another seed
would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .sums import Group, Sums


def pooled(runs: Sequence[Sums]) -> Sums:
    """The sums of all runs added, sample by sample (or cluster by cluster).

    Args:
        runs: Results of the same samples, one a seed.

    Raises:
        ValueError: None given, or not of the same samples and metrics.
    """
    if not runs:
        raise ValueError("no results to pool")
    first, *others = runs
    for other in others:
        if first.samples != other.samples or first.clusters != other.clusters or first.metrics != other.metrics:
            raise ValueError("results of other samples or metrics cannot be pooled")
    groups = [_added([run.groups[place] for run in runs]) for place in range(len(first.groups))]
    return replace(first, groups=groups) if others else first


def _added(groups: Sequence[Group]) -> Group:
    first = groups[0]
    if any(one.level != first.level or not np.array_equal(one.rows, first.rows) for one in groups):
        raise ValueError("results of other samples or metrics cannot be pooled")
    return replace(first, sums=np.sum([one.sums for one in groups], axis=0), n=first.n)
