"""Several training seeds of one recipe against one base: what the recipe does, beyond one lucky run.

Two things are random: the seed, and the samples that all runs share. A run's difference to the base is

    d_i = mu + a_i + e_i,  Var(a) = tau^2,  Var(e_i) = v_i,  Cov(e_i, e_j) = c,

seeds a random effect (independent, normal), sampling errors e correlated, for the runs answer the same questions and
share a base. The usual random-effects methods (DerSimonian and Laird 1986; Hartung and Knapp 2001) take the e_i for
independent, as of different trials, and would promise too much here: more seeds make no new questions. The mean of k
seeds has the variance tau^2 / k + (v - c) / k + c; the spread of the d_i estimates tau^2 + v - c, so

    Var(mean) = s^2 / k + c,

and the two parts' intervals, Student's with k - 1 degrees for the seeds and the normal's for the samples, are joined in
quadrature (Howe 1974, "Approximate confidence limits on the mean of X + Y"): exact where one of them is nothing, a
little wide between. (Satterthwaite's degrees of freedom, simulated, cover 87 to 95 % with two or three seeds.) The base
is taken as it is: one model, not a draw from those its own training could have given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .draws import resample
from .intervals import Z95, student
from .paired import DRAWS, paired
from .pairs import Pairs
from .sums import Sums


@dataclass(frozen=True)
class Seeds:
    """One metric's difference to the base over several seeds.

    Attributes:
        mean: Of the seeds' differences, each counting the same.
        sd: Their standard deviation; None of one seed.
        seed_sd: The part of it that sampling does not explain: the estimate of tau (0 at least); None of one seed.
        low: Lower end of the 95 % interval of mu, the difference expected of another seed on other samples; of one
            seed, of that run's difference: sampling alone.
        high: Upper end.
        stderr: Standard error of the mean.
        seeds: How many.
    """

    mean: float
    sd: float | None
    seed_sd: float | None
    low: float
    high: float
    stderr: float
    seeds: int


def over_seeds(differences: Sequence[float], variances: Sequence[float], shared: float | None = None) -> Seeds:
    """Mean and interval with the seed as a random effect.

    Args:
        differences: Each seed's difference to the base.
        variances: Sampling variance of each (its squared standard error).
        shared: Covariance of two seeds' sampling errors. None: not known; the largest it can be, the mean variance,
            which makes the interval too wide rather than too narrow.

    Raises:
        ValueError: No seed, or not one variance for each.
    """
    if not differences or len(differences) != len(variances):
        raise ValueError("give at least one difference, and a variance for each")
    mean, sampling = float(np.mean(differences)), float(np.mean(variances))
    k = len(differences)
    if k == 1:
        stderr = float(np.sqrt(sampling))
        return Seeds(mean, None, None, mean - Z95 * stderr, mean + Z95 * stderr, stderr, 1)
    common = sampling if shared is None else min(max(shared, 0.0), sampling)
    spread = float(np.var(differences, ddof=1))
    stderr = float(np.sqrt(spread / k + common))
    half = float(np.hypot(student(k - 1) * np.sqrt(spread / k), Z95 * np.sqrt(common)))
    tau = float(np.sqrt(max(0.0, spread - (sampling - common))))
    return Seeds(mean, float(np.sqrt(spread)), tau, mean - half, mean + half, stderr, k)


def paired_over_seeds(
    base: Sums, seeds: Sequence[Sums], better: Mapping[str, str], draws: int = DRAWS
) -> dict[str, Seeds]:
    """The same from results: differences on shared samples, variances and covariance from a joint bootstrap.

    Metrics for which a seed has no difference or no standard error are left out. Where seeds lost different samples to
    errors there is no joint bootstrap: the covariance then counts as not known.

    Args:
        base: Result of the base.
        seeds: Results of the checkpoints, one a seed.
        better: The metrics, each with the direction that is better.
        draws: Of the bootstrap.
    """
    each = [paired(base, one, better, draws) for one in seeds]
    found = {}
    for name in better:
        runs = [compared[name] for compared in each if name in compared]
        deltas = [run.delta for run in runs if run.delta is not None]
        errors = [run.stderr for run in runs if run.stderr is not None]
        if seeds and len(deltas) == len(errors) == len(seeds):
            shared = _covariance(base, seeds, name, np.array(errors), draws)
            found[name] = over_seeds(deltas, [error**2 for error in errors], shared)
    return found


def _covariance(base: Sums, seeds: Sequence[Sums], name: str, errors: np.ndarray, draws: int) -> float | None:
    """Mean covariance of two seeds' sampling errors: their correlation over the same bootstrap samples."""
    formula = base.metrics[name].formula
    sides = [Pairs(base, one).shared(base.metrics[name].group, one.metrics[name].group).by_cluster for one in seeds]
    first = sides[0][0]
    if formula is None or len(seeds) < 2 or any(not np.array_equal(first, side[0]) for side in sides):
        return None
    drawn = np.split(resample(np.concatenate([first, *(side[1] for side in sides)], axis=1), draws), len(seeds) + 1, 1)
    values = np.stack([formula(one) - formula(drawn[0]) for one in drawn[1:]])
    covariance = np.cov(values[:, np.isfinite(values).all(axis=0)])
    spread = np.sqrt(np.diag(covariance))
    scale = np.divide(errors, spread, out=np.zeros_like(spread), where=spread > 0)
    k = len(seeds)
    return float((scale @ covariance @ scale - (errors[spread > 0] ** 2).sum()) / (k * (k - 1)))
