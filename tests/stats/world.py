"""A made-up benchmark whose true values are known: clusters of questions, answered by one side or by two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmalign_eval.metrics.base import Metric, ratio
from mmalign_eval.metrics.formula import Formula
from mmalign_eval.stats import Group, MetricSums, Sums

PARTS = 4  # a cluster is of one part; the total adds up the parts' scores

# columns of the sums of a sample: 0 right, 1 count, 2-4 TP FP FN, 5 gained, 6 hallucinated, 7 mentioned, then for each
# part right, count, all right of the cluster (acc+), clusters
WIDTH = 8 + 4 * PARTS
TOTAL = Formula(" + ".join(f"100 * s[{i}] / s[{i + 1}] + 100 * s[{i + 2}] / s[{i + 3}]" for i in range(8, WIDTH, 4)))
FORMULAS = {
    "accuracy": ratio,
    "mean": Formula("s[5] / s[1]"),
    "f1": Formula("2 * s[2] / (2 * s[2] + s[3] + s[4])"),
    "ratio": Formula("100 * s[6] / s[7]"),
    "total": TOTAL,
}


def metric(name: str) -> Metric:
    """As a task declares it; the statistics are given, not computed."""
    unit = {"ratio": "percent", "mean": "points", "total": "points"}.get(name, "fraction")
    return Metric(name, lambda _: (), FORMULAS[name], unit=unit, proportion=name == "accuracy")


@dataclass(frozen=True)
class World:
    """How answers come about.

    Attributes:
        shared: Standard deviation of what the questions of a cluster share (on the logit scale).
        own: Of what a question has for both sides.
        side: Of what it has for one side only.
        level: Mean logit.
        gain: How much the second side's is higher.
        each: Questions in a cluster.
    """

    shared: float = 0.8
    own: float = 1.0
    side: float = 0.7
    level: float = 1.0
    gain: float = 0.0
    each: int = 4

    def sides(self, clusters: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Sums of every cluster of two sides: `[clusters, WIDTH]` each, equal in distribution if `gain` is 0."""
        both = rng.normal(0, self.shared, (clusters, 1)) + rng.normal(0, self.own, (clusters, self.each))
        amount = rng.poisson(2.0, (clusters, self.each)) + 1.0
        yes = rng.random((clusters, self.each)) < 0.5
        return tuple(  # type: ignore[return-value]
            _answered(self.level + gain + both + rng.normal(0, self.side, both.shape), amount, yes, rng)
            for gain in (0.0, self.gain)
        )

    def truth(self) -> dict[str, tuple[float, float]]:
        """The metrics' values of both sides, of very many clusters."""
        totals = np.sum([self.sides(100_000, np.random.default_rng([9, i])) for i in range(2)], axis=(0, 2))
        return {name: (float(formula(totals[0])), float(formula(totals[1]))) for name, formula in FORMULAS.items()}


def _answered(logit: np.ndarray, amount: np.ndarray, yes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    clusters = len(logit)
    chance = 1 / (1 + np.exp(-logit))
    right = rng.random(logit.shape) < chance
    gained = rng.gamma(1.0, np.exp(0.5 * logit))  # skewed
    mentioned = rng.poisson(1 + amount)
    columns = [right, np.ones_like(logit), right & yes, ~right & ~yes, ~right & yes, gained]
    columns += [rng.binomial(mentioned, 0.5 * (1 - chance)), mentioned]
    out = np.zeros((clusters, WIDTH))
    out[:, :8] = np.stack([column.sum(axis=1) for column in columns], axis=1)
    part = np.arange(clusters) % PARTS
    whole = [right.sum(axis=1), np.full(clusters, logit.shape[1]), right.all(axis=1), np.ones(clusters)]
    for i, column in enumerate(whole):
        out[np.arange(clusters), 8 + 4 * part + i] = column
    return out


def as_sums(by_cluster: np.ndarray, names: tuple[str, ...] = tuple(FORMULAS)) -> Sums:
    """One side's clusters as a result keeps them: a sample each."""
    clusters = len(by_cluster)
    labels = [f"{i:06}" for i in range(clusters)]
    rows = np.arange(clusters, dtype=np.int32)
    made = {name: MetricSums(0, FORMULAS[name], name == "accuracy") for name in names}
    return Sums(labels, labels, rows, [Group("sample", rows, by_cluster, clusters)], made)
