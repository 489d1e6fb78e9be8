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
        whole, sizes = sums.drawn(group)
        if group not in drawn and not metric.proportion and len(whole) > 1:
            drawn[group] = resample(whole, draws_of(len(whole)))
        out.append(estimate(metric, whole, sums.groups[group].n, drawn.get(group), sizes))
    return out


def draws_of(clusters: int) -> int:
    """Bootstrap samples of an interval: fewer of very many clusters, which leave less to chance and cost more."""
    return max(FEWEST, min(RESAMPLES, WORK // max(1, clusters)))


def estimate(
    metric: Metric, sums: np.ndarray, n: int, drawn: np.ndarray | None = None, sizes: np.ndarray | None = None
) -> Estimate:
    """Value and 95 % interval from per-cluster sums `[clusters, k]`.

    Proportions: Wilson's interval at the effective sample size, n / design effect (exact formula for independent
    samples, where the design effect is 1). Everything else: percentile bootstrap over clusters, standard error from the
    same draws; Wilson's interval where so few clusters are not perfect (or not hopeless) that the draws say little.

    Args:
        metric: What is estimated.
        sums: Of each cluster.
        n: Samples that they are of.
        drawn: Bootstrap sums `[draws, k]` if they are at hand.
        sizes: Samples in each cluster; None: the same in all.
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
    degrees = freedom(clusters, sizes)
    ends = percentiles(values, clusters, degrees, jackknife(metric.value(all_but_one(sums))))
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


def percentiles(
    drawn: np.ndarray, clusters: int, degrees: float | None = None, stderr: float = 0.0
) -> tuple[float, float, float] | None:
    """95 % interval and standard error from bootstrap values; None where half of them or more are undefined.

    Percentiles are taken a little further out, for a bootstrap sample varies less than a sample of so few clusters
    does: the quantiles of Student's t, times sqrt(C / (C - 1)), as levels of the normal distribution ("expanded
    percentile interval", Hesterberg 2015, "What teachers should know about the bootstrap", section 4.3). Where a few
    clusters are far larger than the rest the bootstrap falls short by more: the jackknife tells by how much.

    Args:
        drawn: Values of the bootstrap samples.
        clusters: That were drawn from.
        degrees: Of freedom (see `freedom`); None: C - 1.
        stderr: By the jackknife; taken where it is the larger.
    """
    from scipy.special import ndtr

    kept = drawn[np.isfinite(drawn)]
    if 2 * len(kept) <= len(drawn):
        return None
    spread = float(kept.std(ddof=1))
    wider = float(np.sqrt(clusters / (clusters - 1)))
    if stderr > wider * spread > 0:
        wider = stderr / spread
    level = ndtr(-wider * student(clusters - 1 if degrees is None else degrees))
    low, high = np.quantile(kept, [level, 1 - level])
    return float(low), float(high), wider * spread


def freedom(clusters: int, sizes: np.ndarray | None) -> float:
    """Degrees of freedom of clusters: one less than they would be if all had one size (Kish 1965, section 11.7).

    Some large clusters among many small ones tell less than as many equal ones (Carter, Schnepel and Steigerwald 2017,
    "Asymptotic behavior of a t-test robust to cluster heterogeneity").
    """
    alike = clusters if sizes is None else sizes.sum() ** 2 / (sizes.astype(np.float64) ** 2).sum()
    return max(1.0, float(min(alike, clusters)) - 1)


def all_but_one(sums: np.ndarray) -> np.ndarray:
    """The sums without each cluster in turn: `[clusters, k]`."""
    total = sums.sum(axis=0)
    rest = total - sums
    return np.where(np.abs(rest) < 1e-12 * np.abs(total), 0.0, rest)  # what only rounding leaves is nothing


def jackknife(values: np.ndarray) -> float:
    """Standard error from the values without each cluster in turn; 0 where too few are defined.

    Efron and Tibshirani 1993, chapter 11: of clusters (CV3 of MacKinnon, Nielsen and Webb 2023, "Cluster-robust
    inference", section 2) it errs on the careful side where their sizes differ.
    """
    kept = values[np.isfinite(values)]
    return float(np.sqrt(len(kept) - 1) * kept.std()) if len(kept) > 1 else 0.0


def _proportion(sums: np.ndarray) -> tuple[float, float, float]:
    """Wilson's interval with the design effect of the clusters (Kish 1965), and the cluster-robust standard error.

    Clusters of several are as many degrees of freedom as they are (see `freedom`): their effective sample size is
    scaled by the squared ratio of the normal's quantile to Student's (Korn and Graubard 1998, "Confidence intervals for
    proportions with small expected number of positive counts").
    """
    clusters, hits, counts = len(sums), sums[:, 0], sums[:, 1]
    n = counts.sum()
    p = hits.sum() / n
    # a cluster pulls the mean to itself by its share, and is that much further from the mean of the others
    robust = (clusters - 1) / clusters * (((hits - p * counts) / (1 - counts / n)) ** 2).sum() / n**2
    simple = p * (1 - p) / (n - 1)
    # clusters can only be trusted to tell a design effect above 1; at 0 or 1 they agree altogether: one unit each
    effective = float(clusters) if simple == 0 else n * min(1.0, simple / robust if robust > 0 else 1.0)
    if counts.max() > 1 and simple > 0:
        effective *= (Z95 / student(freedom(clusters, counts))) ** 2
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


def student(df: float) -> float:
    """97.5 % quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.975))


def _clustered(records: Sequence[dict[str, Any]], metric: Metric) -> tuple[int, list[list[dict[str, Any]]]]:
    kept = [r for r in records if metric.keep is None or metric.keep(r)]
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in kept:
        groups.setdefault(str(record["cluster"]), []).append(record)
    return len(kept), [groups[name] for name in sorted(groups)]  # so that the order of records changes no interval
