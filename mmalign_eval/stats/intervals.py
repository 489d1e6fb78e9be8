"""Intervals of metrics that respect clusters. Pure functions of records and metrics.

Samples that share an image, a subject or a group are not independent: the cluster is the unit of sampling throughout
(Miller 2024, "Adding error bars to evals", section 2.2; Cameron and Miller 2015 for the cluster-robust variance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics.base import Metric
from .draws import SEED, resample
from .sums import Sums, sums_of

RESAMPLES = 2000
CORPUS_RESAMPLES = 200  # for metrics without sums: each draw computes the metric anew
Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal


@dataclass(frozen=True)
class Estimate:
    """A metric's value with its uncertainty.

    Attributes:
        name: Metric name.
        value: Point estimate; None where the metric is undefined.
        low: Lower end of the 95 % interval; None where there is no interval (one cluster, undefined).
        high: Upper end.
        stderr: Cluster-robust standard error; None likewise.
        n: Records counted.
        clusters: Clusters they fall into.
        unit: Unit of value and ends.
        better: `higher`, `lower` or `neither`.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    stderr: float | None
    n: int
    clusters: int
    unit: str
    better: str


def estimates(metrics: Sequence[Metric], records: Sequence[dict[str, Any]]) -> list[Estimate]:
    """Value and interval of every metric."""
    return estimates_of(metrics, records, sums_of(metrics, records))


def estimates_of(metrics: Sequence[Metric], records: Sequence[dict[str, Any]], sums: Sums) -> list[Estimate]:
    """The same where the sums are known already."""
    out = []
    for metric in metrics:
        if metric.corpus is not None:
            n, clusters = _clustered(records, metric)
            out.append(_corpus_estimate(metric, clusters, n))
            continue
        group = sums.metrics[metric.name].group
        out.append(estimate(metric, sums.by_cluster(group)[1], sums.groups[group].n))
    return out


def estimate(metric: Metric, sums: np.ndarray, n: int) -> Estimate:
    """Value and 95 % interval from per-cluster sums `[clusters, k]`.

    Proportions: Wilson's interval at the effective sample size n / design effect (exact formula for independent
    samples, where the design effect is 1). Everything else: percentile bootstrap over clusters, standard error from the
    same draws.
    """
    clusters = len(sums)

    def made(value: float | None, low: float | None, high: float | None, stderr: float | None) -> Estimate:
        return Estimate(metric.name, value, low, high, stderr, n, clusters, metric.unit, metric.better)

    if clusters == 0:
        return made(None, None, None, None)
    value = float(metric.value(sums.sum(axis=0)))
    if not np.isfinite(value):
        return made(None, None, None, None)
    if clusters < 2 or not metric.interval:
        return made(value, None, None, None)
    if metric.proportion:
        low, high, stderr = _wilson(sums, clusters)
        scale = 100.0 if metric.unit == "percent" else 1.0
        return made(value, low * scale, high * scale, stderr * scale)
    ends = percentiles(metric.value(resample(sums, RESAMPLES)), clusters)
    return made(value, *ends) if ends else made(value, None, None, None)


def _corpus_estimate(metric: Metric, clusters: list[list[dict[str, Any]]], n: int) -> Estimate:
    """Value and percentile interval of a metric without sums, clusters drawn with replacement."""
    assert metric.corpus is not None
    flat = [record for cluster in clusters for record in cluster]
    value = float(metric.corpus(flat)) if flat else float("nan")

    def made(value: float | None, low: float | None, high: float | None, stderr: float | None) -> Estimate:
        return Estimate(metric.name, value, low, high, stderr, n, len(clusters), metric.unit, metric.better)

    if not np.isfinite(value):
        return made(None, None, None, None)
    rng = np.random.Generator(np.random.Philox(SEED))
    drawn = []
    for _ in range(CORPUS_RESAMPLES if len(clusters) > 1 else 0):
        picked = [record for i in rng.integers(len(clusters), size=len(clusters)) for record in clusters[i]]
        try:
            drawn.append(float(metric.corpus(picked)))
        except (ZeroDivisionError, ValueError):
            drawn.append(float("nan"))  # undefined for this draw (one class only, nothing to divide by)
    kept = np.array([d for d in drawn if np.isfinite(d)])
    if len(kept) < max(2, len(drawn) // 2):
        return made(value, None, None, None)
    low, high = np.quantile(kept, [0.025, 0.975])
    return made(value, float(low), float(high), float(kept.std(ddof=1)))


def percentiles(drawn: np.ndarray, clusters: int) -> tuple[float, float, float] | None:
    """95 % interval and standard error from bootstrap values; None where half of them or more are undefined.

    Percentiles are taken a little further out, for a bootstrap sample varies less than a sample of so few clusters
    does: the quantiles of Student's t with C - 1 degrees, times sqrt(C / (C - 1)), as levels of the normal distribution
    ("expanded percentile interval", Hesterberg 2015, "What teachers should know about the bootstrap", section 4.3).
    """
    from scipy.special import ndtr, stdtrit

    kept = drawn[np.isfinite(drawn)]
    if 2 * len(kept) <= len(drawn):
        return None
    wider = np.sqrt(clusters / (clusters - 1))
    level = ndtr(wider * stdtrit(clusters - 1, 0.025))
    low, high = np.quantile(kept, [level, 1 - level])
    return float(low), float(high), float(wider * kept.std(ddof=1))


def _wilson(sums: np.ndarray, clusters: int) -> tuple[float, float, float]:
    """Wilson's score interval (Wilson 1927) with the Kish design effect of the clusters."""
    hits, counts = sums[:, 0], sums[:, 1]
    n = counts.sum()
    p = hits.sum() / n
    robust = clusters / (clusters - 1) * ((hits - p * counts) ** 2).sum() / n**2
    simple = p * (1 - p) / n
    # clusters can only be trusted to tell a design effect above 1; at 0 or 1 they agree altogether: one unit each
    effective = float(clusters) if simple == 0 else n * min(1.0, simple / robust if robust > 0 else 1.0)
    z2 = Z95**2
    centre = (p + z2 / (2 * effective)) / (1 + z2 / effective)
    half = Z95 / (1 + z2 / effective) * np.sqrt(p * (1 - p) / effective + z2 / (4 * effective**2))
    low = 0.0 if p == 0 else max(0.0, centre - half)
    high = 1.0 if p == 1 else min(1.0, centre + half)
    return float(low), float(high), float(np.sqrt(robust))


def _clustered(records: Sequence[dict[str, Any]], metric: Metric) -> tuple[int, list[list[dict[str, Any]]]]:
    kept = [r for r in records if metric.keep is None or metric.keep(r)]
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in kept:
        groups.setdefault(str(record["cluster"]), []).append(record)
    return len(kept), [groups[name] for name in sorted(groups)]  # so that the order of records changes no interval
