from __future__ import annotations

import numpy as np
import pytest

from mmalign_eval.stats.paired import paired
from mmalign_eval.stats.seeds import over_seeds, paired_over_seeds

from .world import World, as_sums


def test_by_hand() -> None:
    """Differences 1, 2, 3 (variance 1), sampling variance 0.5, of which 0.2 shared; t(2) = 4.30265."""
    found = over_seeds([1.0, 2.0, 3.0], [0.4, 0.5, 0.6], shared=0.2)
    assert (found.mean, found.sd, found.seeds) == (pytest.approx(2.0), pytest.approx(1.0), 3)
    assert found.seed_sd == pytest.approx((1 - 0.3) ** 0.5)
    assert found.stderr == pytest.approx((1 / 3 + 0.2) ** 0.5)
    half = (4.30265**2 / 3 + 1.95996**2 * 0.2) ** 0.5
    assert (found.low, found.high) == (pytest.approx(2 - half, abs=1e-4), pytest.approx(2 + half, abs=1e-4))


def test_one_seed_knows_of_sampling_alone() -> None:
    found = over_seeds([0.3], [0.01])
    assert (found.mean, found.sd, found.seed_sd, found.seeds) == (0.3, None, None, 1)
    assert (found.low, found.high) == (pytest.approx(0.3 - 0.196, abs=1e-4), pytest.approx(0.3 + 0.196, abs=1e-4))


def test_seeds_that_agree_add_no_samples() -> None:
    one, five = over_seeds([0.3], [0.01]), over_seeds([0.3] * 5, [0.01] * 5)
    assert (five.low, five.high) == (pytest.approx(one.low), pytest.approx(one.high))
    assert five.seed_sd == 0


def test_an_unknown_covariance_is_taken_for_the_largest() -> None:
    known, unknown = (over_seeds([1.0, 2.0], [0.5, 0.5], shared) for shared in (0.1, None))
    assert unknown.high - unknown.low > known.high - known.low
    assert unknown == over_seeds([1.0, 2.0], [0.5, 0.5], 0.5)
    assert over_seeds([1.0, 2.0], [0.5, 0.5], 9.0) == unknown  # an estimate beyond what it can be
    assert over_seeds([1.0, 2.0], [0.5, 0.5], -0.01) == over_seeds([1.0, 2.0], [0.5, 0.5], 0.0)


@pytest.mark.parametrize(("differences", "variances"), [([], []), ([1.0], [0.1, 0.2])])
def test_a_variance_for_each_seed(differences: list[float], variances: list[float]) -> None:
    with pytest.raises(ValueError, match="variance"):
        over_seeds(differences, variances)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("tau", [0.0, 0.01, 0.05])
def test_the_interval_covers_another_seed_s_mean(seeds: int, tau: float) -> None:
    """2,000 experiments; the interval may be wide where both parts count, never narrow."""
    rng, results, clusters, mu = np.random.default_rng([seeds, int(1000 * tau)]), 2000, 400, 0.05
    common, own = 0.15**2 / clusters, 0.15**2 / clusters
    shared = rng.normal(0, common**0.5, (results, 1))
    differences = mu + shared + rng.normal(0, tau, (results, seeds)) + rng.normal(0, own**0.5, (results, seeds))
    found = [over_seeds(list(row), [common + own] * seeds, common) for row in differences]
    covered = np.mean([one.low <= mu <= one.high for one in found])
    assert covered >= 0.935
    if seeds == 10:
        assert covered <= 0.97
    naive = np.mean([abs(row.mean() - mu) <= 1.96 * ((common + own) / seeds) ** 0.5 for row in differences])
    assert naive < 0.93  # independent samples, no seeds: what the model is for


def test_from_results_with_the_covariance_of_shared_samples() -> None:
    """Runs of one base on the same clusters: half of what their differences vary by, they vary by together."""
    rng, clusters = np.random.default_rng(0), 600
    tables = np.zeros((4, clusters, 8))
    tables[:, :, 1] = 1
    tables[0, :, 0] = rng.normal(0, 1, clusters)
    tables[1:, :, 0] = rng.normal(0.2, 1, (3, clusters))
    base, *runs = (as_sums(table, ("accuracy",)) for table in tables)
    better = {"accuracy": "higher"}
    found = paired_over_seeds(base, runs, better, 2000)["accuracy"]
    each = [paired(base, run, better, 2000)["accuracy"] for run in runs]
    deltas = [one.delta for one in each if one.delta is not None]
    expected = over_seeds(deltas, [one.stderr**2 for one in each if one.stderr is not None], 1 / clusters)
    assert found.mean == pytest.approx(expected.mean)
    assert found.sd == pytest.approx(expected.sd)
    assert found.stderr == pytest.approx(expected.stderr, rel=0.06)


def test_results_that_lost_different_samples_and_metrics_without_values() -> None:
    sides = [World().sides(60, np.random.default_rng(i))[0] for i in range(3)]
    base, one, other = (as_sums(table) for table in sides)
    fewer = as_sums(sides[1][:50])
    better = {"accuracy": "higher", "mean": "higher", "gone": "higher"}
    found = paired_over_seeds(base, [fewer, other], better, 500)
    assert set(found) == {"accuracy", "mean"}
    runs = [paired(base, run, better, 500)["mean"] for run in (fewer, other)]
    expected = over_seeds([r.delta or 0 for r in runs], [(r.stderr or 0) ** 2 for r in runs])
    assert found["mean"] == expected
    assert paired_over_seeds(base, [one], better, 500)["mean"].sd is None
    assert paired_over_seeds(base, [], better, 500) == {}
