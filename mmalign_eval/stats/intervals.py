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

RESAMPLES = 10_000
FEWEST = 2000
WORK = 50_000_000  # clusters times draws: half a second a group
RARE = 5.0  # below so many effective successes or failures a fraction's percentiles are too few steps
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
    out, drawn = [], {}
    for metric in metrics:
        if metric.corpus is not None:
            n, clusters = _clustered(records, metric)
            out.append(_corpus_estimate(metric, clusters, n))
            continue
        group = sums.metrics[metric.name].group
        whole = sums.drawn(group)
        if group not in drawn and not metric.proportion and len(whole) > 1:
            drawn[group] = resample(whole, draws_of(len(whole)))
        out.append(estimate(metric, whole, sums.groups[group].n, drawn.get(group)))
    return out


def draws_of(clusters: int) -> int:
    """Bootstrap samples of an interval: fewer of very many clusters, which leave less to chance and cost more."""
    return max(FEWEST, min(RESAMPLES, WORK // max(1, clusters)))


def estimate(metric: Metric, sums: np.ndarray, n: int, drawn: np.ndarray | None = None) -> Estimate:
    """Value and 95 % interval from per-cluster sums `[clusters, k]`.

    Proportions: Wilson's interval at the effective sample size, n / design effect (exact formula for independent
    samples, where the design effect is 1). Everything else: percentile bootstrap over clusters, standard error from the
    same draws; Wilson's interval where so few clusters are not perfect (or not hopeless) that the draws say little.

    Args:
        metric: What is estimated.
        sums: Of each cluster.
        n: Samples that they are of.
        drawn: Bootstrap sums `[draws, k]` if they are at hand.
    """
    clusters = len(sums)

    def made(value: float | None, low: float | None, high: float | None, stderr: float | None) -> Estimate:
        return Estimate(metric.name, value, low, high, stderr, n, clusters, metric.unit, metric.better)

    if clusters == 0:
        return made(None, None, None, None)
    value = float(metric.value(sums.sum(axis=0)))
    if not np.isfinite(value):
        return made(None, None, None, None)
    if clusters < 2:
        return made(value, None, None, None)
    scale = 100.0 if metric.unit == "percent" else 1.0
    if metric.proportion:
        counted = sums[sums[:, 1] > 0]  # of precision, say: clusters without a positive answer tell nothing
        if len(counted) < 2:
            return made(value, None, None, None)
        low, high, stderr = _proportion(counted)
        return made(value, low * scale, high * scale, stderr * scale)
    values = metric.value(resample(sums, draws_of(clusters)) if drawn is None else drawn)
    ends = percentiles(values, clusters)
    if ends is None:
        return made(value, None, None, None)
    if metric.unit in ("fraction", "percent") and np.nanmin(values) >= 0 and np.nanmax(values) <= scale:
        fraction = round(value / scale, 12)  # what differs from 1 by rounding is 1
        effective = _effective(fraction, ends[2] / scale, np.isfinite(metric.value(sums)).sum() or clusters)
        if effective * min(fraction, 1 - fraction) < RARE:
            low, high = _wilson(fraction, effective)
            return made(value, low * scale, high * scale, ends[2])
    return made(value, *ends)


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
    ends = percentiles(np.array(drawn), len(clusters)) if drawn else None
    return made(value, *ends) if ends else made(value, None, None, None)


def percentiles(drawn: np.ndarray, clusters: int) -> tuple[float, float, float] | None:
    """95 % interval and standard error from bootstrap values; None where half of them or more are undefined.

    Percentiles are taken a little further out, for a bootstrap sample varies less than a sample of so few clusters
    does: the quantiles of Student's t with C - 1 degrees, times sqrt(C / (C - 1)), as levels of the normal distribution
    ("expanded percentile interval", Hesterberg 2015, "What teachers should know about the bootstrap", section 4.3).
    """
    from scipy.special import ndtr

    kept = drawn[np.isfinite(drawn)]
    if 2 * len(kept) <= len(drawn):
        return None
    wider = np.sqrt(clusters / (clusters - 1))
    level = ndtr(-wider * student(clusters - 1))
    low, high = np.quantile(kept, [level, 1 - level])
    return float(low), float(high), float(wider * kept.std(ddof=1))


def _proportion(sums: np.ndarray) -> tuple[float, float, float]:
    """Wilson's interval with the design effect of the clusters (Kish 1965), and the cluster-robust standard error.

    Clusters of several are as many degrees of freedom as they are: their effective sample size is scaled by the squared
    ratio of the normal's quantile to Student's (Korn and Graubard 1998, "Confidence intervals for proportions with
    small expected number of positive counts").
    """
    clusters, hits, counts = len(sums), sums[:, 0], sums[:, 1]
    n = counts.sum()
    p = hits.sum() / n
    robust = clusters / (clusters - 1) * ((hits - p * counts) ** 2).sum() / n**2
    simple = p * (1 - p) / n
    # clusters can only be trusted to tell a design effect above 1; at 0 or 1 they agree altogether: one unit each
    effective = float(clusters) if simple == 0 else n * min(1.0, simple / robust if robust > 0 else 1.0)
    if counts.max() > 1 and simple > 0:
        effective *= (Z95 / student(clusters - 1)) ** 2
    low, high = _wilson(p, effective)
    return low, high, float(np.sqrt(robust))


def _effective(p: float, stderr: float, clusters: int) -> float:
    """Size of the simple random sample with this standard error; where all clusters agree, one unit each."""
    return p * (1 - p) / stderr**2 if stderr > 0 and 0 < p < 1 else float(clusters)


def _wilson(p: float, n: float) -> tuple[float, float]:
    """Wilson's score interval (Wilson 1927) of a fraction of n."""
    z2 = Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * np.sqrt(p * (1 - p) / n + z2 / (4 * n**2))
    low = 0.0 if p == 0 else max(0.0, centre - half)
    high = 1.0 if p == 1 else min(1.0, centre + half)
    return float(low), float(high)


def student(df: int) -> float:
    """97.5 % quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.975))


def _clustered(records: Sequence[dict[str, Any]], metric: Metric) -> tuple[int, list[list[dict[str, Any]]]]:
    kept = [r for r in records if metric.keep is None or metric.keep(r)]
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in kept:
        groups.setdefault(str(record["cluster"]), []).append(record)
    return len(kept), [groups[name] for name in sorted(groups)]  # so that the order of records changes no interval
