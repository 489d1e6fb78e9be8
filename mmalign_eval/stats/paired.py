"""Paired tests of two results on the samples that both scored: the difference, its interval, and how likely by chance.

Both sides answered the same questions, so what is drawn, or swapped, is a cluster with both its sides. Intervals:
percentile bootstrap over clusters (Efron and Tibshirani 1993, chapter 13). Tests: exact McNemar where every cluster is
one 0/1 outcome (McNemar 1947), approximate randomisation over clusters elsewhere (Noreen 1989; Riezler and Maxwell
2005), with the same seed for equal data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from .intervals import SEED, Z95, resample
from .sums import Group, Sums

DRAWS = 10_000
Z80 = 0.8416212335729143  # 80 % quantile of the standard normal: the power of `detectable`


@dataclass(frozen=True)
class Paired:
    """One metric of two results on the samples that both have.

    Attributes:
        base: Value of the first on them; None where undefined.
        other: Value of the second.
        delta: other - base.
        low: Lower end of the 95 % interval of delta; None where there is none.
        high: Upper end.
        stderr: Standard error of delta.
        p: Two-sided p-value; None where there is no test.
        test: `mcnemar`, `randomisation`, or empty where there is none.
        wins: Units (samples, or clusters where the metric needs them whole) on which the second has the better value;
            None where units have no value or no direction is better.
        losses: On which the first has.
        ties: On which they are equal.
        n: Samples compared.
        clusters: Clusters they fall into.
        left_out: Samples that only one side scored, or that share a cluster with such where it must be whole.
        detectable: Smallest difference found with 80 % power at the 5 % level: 2.8 standard errors.
    """

    base: float | None
    other: float | None
    delta: float | None
    low: float | None
    high: float | None
    stderr: float | None
    p: float | None
    test: str
    wins: int | None
    losses: int | None
    ties: int | None
    n: int
    clusters: int
    left_out: int
    detectable: float | None


def paired(base: Sums, other: Sums, better: Mapping[str, str], draws: int = DRAWS) -> dict[str, Paired]:
    """Compares metrics that both results have and whose formulas are the same.

    Args:
        base: What is compared with.
        other: What is compared.
        better: The metrics, each with the direction that is better (`higher`, `lower`, `neither`).
        draws: Of the bootstrap and of the randomisation.
    """
    raise NotImplementedError


def holm(p_values: Iterable[float | None]) -> list[float | None]:
    """Holm's adjusted p-values (Holm 1979) of one family; None stays None and does not count."""
    raise NotImplementedError


_ = (SEED, Z95, resample, Group, np)
