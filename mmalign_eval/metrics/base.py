"""A metric: per-cluster sufficient statistics that add up, and a value of their sums.

Keeping sums makes every corpus metric (F1, BLEU, totals) as cheap to resample as a mean: `stats.py` draws clusters
with replacement and adds their statistics, without looking at a record or a caption again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from .formula import Formula

Record = dict[str, Any]
Better = Literal["higher", "lower", "neither"]
Stat = Callable[[Sequence[Record]], Sequence[float]]
Value = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """One number of a benchmark.

    Attributes:
        name: Name in tables and files, `part/metric` where the benchmark has parts.
        stat: Records of one cluster to a vector of k sums; called once a cluster and shared between metrics that
            name the same function object.
        value: Sums `[..., k]` to the value `[...]`; nan where it is undefined (nothing to divide by). A `Formula`
            goes into the result file and lets tables compare the metric; of any other function only values are kept.
        unit: `fraction` (0-1), `percent`, `points`, or a word of the benchmark.
        better: Which direction is better.
        proportion: The value is sums[0] / sums[1] of 0/1 outcomes: Wilson's interval applies.
        best: Its best possible value, or None if unbounded or not known.
        keep: Which records count (a split); None: all.
        help: One line: what it is and where it is defined.
        interval: Whether resampling clusters says how uncertain it is; not of a count of questions or answers.
        corpus: For a number that no sums give (a median, a correlation): all records to the value. `stat` and `value`
            are then not used, and its interval costs one call a resample.
    """

    name: str
    stat: Stat
    value: Value
    unit: str = "fraction"
    better: Better = "higher"
    proportion: bool = False
    best: float | None = 1.0
    keep: Callable[[Record], bool] | None = None
    help: str = ""
    interval: bool = True
    corpus: Callable[[Sequence[Record]], float] | None = None


ratio = Formula("s[0] / s[1]")  # nan where the denominator is 0
percent = Formula("100 * s[0] / s[1]")


def mean_of(field: str) -> Stat:
    """Statistics of a mean over records: the sum of a field and the count."""

    def stat(records: Sequence[Record]) -> Sequence[float]:
        return (float(sum(r[field] for r in records)), float(len(records)))

    return stat


def mean(name: str, field: str, **kwargs: Any) -> Metric:
    """The mean of a record field."""
    return Metric(name, mean_of(field), ratio, **kwargs)


def whole(name: str, corpus: Callable[[Sequence[Record]], float], **kwargs: Any) -> Metric:
    """A metric that only the whole list of records gives."""
    return Metric(name, _count, _undefined, corpus=corpus, **kwargs)


def _count(records: Sequence[Record]) -> Sequence[float]:
    return (float(len(records)),)


def _undefined(sums: np.ndarray) -> np.ndarray:
    return np.full(sums.shape[:-1], np.nan)


def by(field: str, parts: Sequence[str], metrics: Sequence[Metric]) -> list[Metric]:
    """Each metric for each part (a split, a subset), named `part/metric`."""

    def keep(part: str) -> Callable[[Record], bool]:
        return lambda record: record[field] == part

    keeps = {part: keep(part) for part in parts}
    return [replace(m, name=f"{part}/{m.name}", keep=keeps[part]) for part in parts for m in metrics]
