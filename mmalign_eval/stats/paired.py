"""Paired tests of two results on the samples that both scored: the difference, its interval, and how likely by chance.

Both sides answered the same questions, so what is drawn, or swapped, is a cluster with both its sides. Intervals:
percentile bootstrap over clusters (Efron and Tibshirani 1993, chapter 13), with the same seed for equal data; where
every cluster is one 0/1 outcome, the adjusted Wald interval of paired proportions, which holds when few outcomes differ
(Bonett and Price 2012). Tests: there, exact McNemar (McNemar 1947); elsewhere approximate randomisation over clusters
(Noreen 1989; Riezler and Maxwell 2005).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..metrics.formula import Formula
from .draws import exhaustive, resample, swapped
from .intervals import Z95, all_but_one, freedom, jackknife, percentiles
from .pairs import Pairs, Shared
from .sums import MetricSums, Sums

DRAWS = 10_000
Z80 = 0.8416212335729143  # 80 % quantile of the standard normal: the power of `detectable`
TIE = 1e-9  # relative: differences this close are equal but for rounding
_SHARE = re.compile(r"(?:(?P<scale>\d+) \* )?(?P<open>\()?s\[(?P<hit>\d+)\] / s\[(?P<count>\d+)\](?(open)\))")


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
            None where units have no value or no direction is better. A unit undefined on a side is not counted.
        losses: On which the first has.
        ties: On which they are equal.
        n: Samples compared.
        clusters: Clusters they fall into.
        left_out: Samples that only one side scored, or that share a cluster with such where it must be whole.
        detectable: Smallest difference found with 80 % power at the 5 % level: 2.8 standard errors; None where that
            is 0 (the sides do not differ, or everywhere alike), which says nothing of it.
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


def paired(
    base: Sums, other: Sums, better: Mapping[str, str], draws: int = DRAWS, *, intervals: bool = True
) -> dict[str, Paired]:
    """Compares metrics that both results have.

    One without a formula, or with another one on each side, has counts alone: its values are not to be had of sums.

    Args:
        base: What is compared with.
        other: What is compared.
        better: The metrics, each with the direction that is better (`higher`, `lower`, `neither`).
        draws: Of the bootstrap and of the randomisation.
        intervals: Without, there is p alone: neither interval nor wins and losses, in half the time.
    """
    names = [name for name in better if name in base.metrics and name in other.metrics]
    groups = {name: (base.metrics[name].group, other.metrics[name].group) for name in names}
    formulas = {name: _common(base.metrics[name], other.metrics[name]) for name in names}
    pairs = Pairs(base, other)
    drawn = {
        key: _Drawn(pairs.shared(*key), _columns(formulas[name] for name in names if groups[name] == key), draws)
        for key in set(groups.values())
    }
    found = {}
    for name in names:
        shared, formula = pairs.shared(*groups[name]), formulas[name]
        found[name] = _counts(shared)
        if formula is not None and shared.clusters:
            compared = _compared(found[name], drawn[groups[name]], formula, intervals)
            found[name] = _judged(compared, shared, formula, better[name]) if intervals else compared
    return found


def mcnemar(wins: int, losses: int, mid: bool = False) -> float:
    """McNemar's exact test of 0/1 outcomes in pairs: two-sided binomial p of the pairs that differ (McNemar 1947).

    Args:
        wins: Pairs in which only the second is right.
        losses: Pairs in which only the first is.
        mid: Count the observed outcome half (mid-p: Fagerland, Lydersen and Laake 2013): less conservative, of the
            nominal size only on average.
    """
    from scipy.special import bdtr  # of scipy.stats, which has it too, the import alone takes half a second

    fewer, differ = min(wins, losses), wins + losses
    at_most = bdtr(fewer, differ, 0.5)
    fewer_still = bdtr(fewer - 1, differ, 0.5) if fewer else 0.0
    return min(1.0, float(at_most + (fewer_still if mid else at_most)))


def holm(p_values: Iterable[float | None]) -> list[float | None]:
    """Holm's adjusted p-values (Holm 1979) of one family; None stays None and does not count."""
    given = list(p_values)
    order = sorted((p, i) for i, p in enumerate(given) if p is not None)
    adjusted: list[float | None] = [None] * len(given)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        adjusted[i] = highest
    return adjusted


class _Drawn:
    """Sums of both sides of one group, drawn and swapped once for all its metrics."""

    def __init__(self, shared: Shared, columns: list[int], draws: int) -> None:
        self.base, self.other = shared.by_cluster
        self.clusters, self.columns, self.draws = shared.clusters, columns, draws
        self.degrees = freedom(shared.clusters, shared.sizes) if shared.clusters else 1.0
        self._resampled: tuple[np.ndarray, np.ndarray] | None = None
        self._swapped: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def exact(self) -> bool:
        """Whether every way to swap clusters is tried."""
        return exhaustive(self.clusters, self.draws)

    def resampled(self) -> tuple[np.ndarray, np.ndarray]:
        """Both sides of each bootstrap sample: `[draws, k]` each."""
        if self._resampled is None:
            used = [one[:, self.columns] for one in (self.base, self.other)]
            both = resample(np.concatenate(used, axis=1), self.draws)
            self._resampled = self._full(both[:, : len(self.columns)]), self._full(both[:, len(self.columns) :])
        return self._resampled

    def swapped(self) -> tuple[np.ndarray, np.ndarray]:
        """Both sides after a coin for each cluster said whether they change places."""
        if self._swapped is None:
            moved = self._full(swapped((self.other - self.base)[:, self.columns], self.draws))
            self._swapped = self.base.sum(axis=0) + moved, self.other.sum(axis=0) - moved
        return self._swapped

    def _full(self, used: np.ndarray) -> np.ndarray:
        """With the columns that no formula reads, undefined."""
        full = np.full((len(used), self.base.shape[1]), np.nan)
        full[:, self.columns] = used
        return full


def _common(ours: MetricSums, theirs: MetricSums) -> Formula | None:
    """The formula that both sides have."""
    return ours.formula if ours.formula == theirs.formula else None


def _columns(formulas: Iterable[Formula | None]) -> list[int]:
    """The sums that some formulas read."""
    return sorted({int(i) for formula in formulas if formula for i in re.findall(r"\[\s*(\d+)\s*\]", formula)})


def _counts(shared: Shared) -> Paired:
    none = None
    return Paired(
        none, none, none, none, none, none, none, "", none, none, none, shared.n, shared.clusters, shared.left_out, none
    )


def _compared(counts: Paired, drawn: _Drawn, formula: Formula, intervals: bool) -> Paired:
    """Values, difference, interval and test."""
    base, other = (_defined(formula(one.sum(axis=0))) for one in (drawn.base, drawn.other))
    if base is None or other is None:
        return replace(counts, base=base, other=other)
    found = replace(counts, base=base, other=other, delta=other - base)
    if drawn.clusters < 2:
        return found
    outcomes = _outcomes(drawn, formula)
    test = "mcnemar" if outcomes else "randomisation"
    if np.array_equal(drawn.base, drawn.other):
        return replace(found, low=0.0, high=0.0, stderr=0.0, p=1.0, test=test)
    p: float | None
    ends: tuple[float, float, float] | None
    if outcomes:
        wins, losses, scale = outcomes
        p, ends = mcnemar(wins, losses), _adjusted_wald(wins, losses, drawn.clusters, scale)
    else:
        p = _randomised(drawn, formula, other - base, TIE * max(abs(base), abs(other)))
        ends = _spread(drawn, formula) if intervals else None
    found = replace(found, p=p, test=test if p is not None else "")
    if ends is None:
        return found
    low, high, stderr = ends
    detectable = (Z95 + Z80) * stderr if stderr > 0 else None
    return replace(found, low=low, high=high, stderr=stderr, detectable=detectable)


def _spread(drawn: _Drawn, formula: Formula) -> tuple[float, float, float] | None:
    """Interval and standard error of the difference, by bootstrap."""
    first, second = (formula(one) for one in drawn.resampled())
    stderr = jackknife(formula(all_but_one(drawn.other)) - formula(all_but_one(drawn.base)))
    return percentiles(second - first, drawn.clusters, drawn.degrees, stderr)


def _adjusted_wald(wins: int, losses: int, n: int, scale: float) -> tuple[float, float, float]:
    """Interval and standard error of the difference of n paired 0/1 outcomes.

    Bonett and Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data": one more win and one more loss, of two more pairs. The standard error is that of the differences as they are.
    """
    more, less = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = Z95 * np.sqrt((more + less - (more - less) ** 2) / (n + 2))
    stderr = np.sqrt((wins + losses - (wins - losses) ** 2 / n) / (n * (n - 1)))
    low, high = max(-1.0, more - less - half), min(1.0, more - less + half)
    return scale * float(low), scale * float(high), scale * float(stderr)


def _randomised(drawn: _Drawn, formula: Formula, delta: float, tie: float) -> float | None:
    """Two-sided p: how often chance alone makes a difference as large; None where most swaps leave it undefined."""
    first, second = (formula(one) for one in drawn.swapped())
    found = np.abs(second - first)
    found = found[np.isfinite(found)]
    if 2 * len(found) <= len(first):
        return None
    as_large = int((found >= abs(delta) - tie).sum())
    # the observed labels are one of the enumerated ways; of drawn ones they are counted as one more
    return as_large / len(found) if drawn.exact else (1 + as_large) / (1 + len(found))


def _outcomes(drawn: _Drawn, formula: Formula) -> tuple[int, int, float] | None:
    """Clusters on which only the second side is 1, and only the first, and the value of a 1.

    None where the metric is no share, or a cluster not one outcome, 0 or 1, on both sides.
    """
    share = _SHARE.fullmatch(formula)
    if not share:
        return None
    hit, count = int(share["hit"]), int(share["count"])
    for side in (drawn.base, drawn.other):
        if not ((side[:, count] == 1).all() and np.isin(side[:, hit], (0, 1)).all()):
            return None
    gain = drawn.other[:, hit] - drawn.base[:, hit]
    return int((gain > 0).sum()), int((gain < 0).sum()), float(share["scale"] or 1)


def _judged(found: Paired, shared: Shared, formula: Formula, direction: str) -> Paired:
    """With the units that each side won."""
    first, second = formula(shared.base), formula(shared.other)
    both = np.isfinite(first) & np.isfinite(second)
    if direction == "neither" or not both.any():
        return found
    gain = (second - first)[both] if direction == "higher" else (first - second)[both]
    margin = TIE * np.maximum(np.abs(first), np.abs(second))[both]
    wins, losses = int((gain > margin).sum()), int((gain < -margin).sum())
    return replace(found, wins=wins, losses=losses, ties=len(gain) - wins - losses)


def _defined(value: np.ndarray) -> float | None:
    return float(value) if np.isfinite(value) else None
