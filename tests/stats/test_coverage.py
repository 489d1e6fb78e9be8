"""Intervals cover the truth as often as they say, in 2,000 made-up results of 200 clusters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmalign_eval.metrics.base import Metric
from mmalign_eval.metrics.formula import Formula
from mmalign_eval.stats import Estimate, estimate, resample
from mmalign_eval.stats.intervals import RESAMPLES, all_but_one, freedom, jackknife, percentiles
from mmalign_eval.stats.paired import _adjusted_wald as paired_outcomes

from .world import FORMULAS, WIDTH, World, metric

RESULTS = 2000
TOGETHER = 50  # results drawn in one go, as metrics over the same clusters are
RECALL = Metric("recall", lambda _: (), Formula("s[0] / s[2]"))
ONE_SIDED = 0.05  # of truths may lie on either side of their interval: skewed metrics do not miss evenly


def covered(clusters: int, draws: int, results: int = RESULTS) -> dict[str, np.ndarray]:
    """Share of truths below and above the interval, and of true differences within theirs, for each metric."""
    world = World(gain=0.3)
    truths = world.truth()
    found = {name: np.zeros(3) for name in FORMULAS}
    for start in range(0, results, TOGETHER):
        block = [world.sides(clusters, np.random.default_rng([1, start, i])) for i in range(TOGETHER)]
        drawn = resample(np.concatenate([side for sides in block for side in sides], axis=1), draws)
        for (base, _), first, second in zip(block, *halves(drawn), strict=True):
            for name, formula in FORMULAS.items():
                low, high = ends(estimate(metric(name), base, clusters * world.each, first))
                difference = percentiles(formula(second) - formula(first), clusters)
                assert difference is not None
                truth, other = truths[name]
                within = difference[0] <= other - truth <= difference[1]
                found[name] += truth < low, truth > high, within
    return {name: shares / results for name, shares in found.items()}


def halves(drawn: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    sides = np.split(drawn, drawn.shape[1] // WIDTH, axis=1)
    return sides[::2], sides[1::2]


def ends(found: Estimate) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def check(shares: dict[str, np.ndarray]) -> None:
    for name, (below, above, difference) in shares.items():
        assert 0.935 <= 1 - below - above <= 0.965, (name, below, above)
        assert max(below, above) <= ONE_SIDED, (name, below, above)
        assert 0.935 <= difference <= 0.965, (name, difference)


def test_intervals_of_values_and_differences_cover_at_200_clusters() -> None:
    check(covered(200, 1000))


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [200, 500])
def test_intervals_cover_with_all_draws(clusters: int) -> None:
    check(covered(clusters, RESAMPLES))


@pytest.mark.parametrize(("won", "lost"), [(0.1, 0.1), (0.05, 0.02), (0.02, 0.01), (0.01, 0.002)])
def test_differences_of_outcomes_are_covered_however_few_differ(won: float, lost: float) -> None:
    """Single 0/1 outcomes: percentiles of 3 differing ones of 300 would cover 87 %."""
    counts = np.random.default_rng(6).multinomial(300, [won, lost, 1 - won - lost], RESULTS)
    inside = 0
    for wins, losses, _ in counts:
        low, high, _ = paired_outcomes(int(wins), int(losses), 300, 1.0)
        inside += low <= won - lost <= high
    assert 0.935 <= inside / RESULTS <= (0.965 if won > 0.02 else 1.0)


@pytest.mark.parametrize("p", [0.005, 0.02, 0.98, 0.995])
def test_fractions_near_an_end_are_covered(p: float) -> None:
    """A ratio that is no declared proportion: where few clusters are not perfect, Wilson's interval takes over."""
    rng, clusters, inside = np.random.default_rng(3), 300, 0
    for _ in range(400):
        sums = np.column_stack([rng.random(clusters) < p, np.zeros(clusters), np.ones(clusters)]).astype(float)
        found = estimate(RECALL, sums, clusters)
        low, high = ends(found)
        assert 0 <= low <= found.value <= high <= 1  # type: ignore[operator]
        inside += low <= p <= high
    assert inside / 400 >= 0.92  # binomial counts this small come in steps: 93 to 99 % in truth


def test_all_right_is_not_certain() -> None:
    """100 clusters without a fault say that fewer than 3.7 % have one."""
    sums = np.column_stack([np.ones(100), np.zeros(100), np.ones(100)])
    found = estimate(RECALL, sums, 100)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - 3.8415 / (100 + 3.8415), abs=1e-4)


@pytest.mark.parametrize("proportion", [True, False])
def test_clusters_without_a_say_lend_no_certainty(proportion: bool) -> None:
    """Three positive answers among 200, all right: the interval is that of three."""
    sums = np.zeros((200, 3))
    sums[:3] = 1, 1, 1
    precision = replace(RECALL, value=Formula("s[0] / s[1]"), proportion=proportion)
    found = estimate(precision, sums, 200)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(3 / (3 + 3.8415), abs=1e-4)
    alone = estimate(precision, np.concatenate([sums[:1], np.zeros((9, 3))]), 10)
    if proportion:
        assert (alone.value, alone.low, alone.stderr) == (1.0, None, None)


def uneven(sizes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two sides' clusters of these sizes, equal on average, what they share differing from side to side."""
    return tuple(  # type: ignore[return-value]
        np.column_stack([rng.binomial(sizes, 1 / (1 + np.exp(-rng.normal(0, 1, len(sizes))))), sizes]).astype(float)
        for _ in range(2)
    )


@pytest.mark.parametrize("most", [10, 150])
def test_clusters_of_very_different_size_are_covered(most: int) -> None:
    """As many degrees of freedom as clusters, and no word of their leverage, would cover 93 and 87 %."""
    rng = np.random.default_rng(12)
    sizes = np.maximum(1, rng.lognormal(1, 1.6, 200).astype(int)) if most == 10 else np.full(200, 3)
    sizes[:2] = most if most == 150 else sizes[:2]
    metrics = [replace(RECALL, value=Formula("s[0] / s[1]"), proportion=proportion) for proportion in (True, False)]
    found, results, degrees = np.zeros(3), RESULTS, freedom(200, sizes)
    for start in range(0, results, TOGETHER):
        block = [uneven(sizes, np.random.default_rng([11, start, i])) for i in range(TOGETHER)]
        drawn = resample(np.concatenate([side for sides in block for side in sides], axis=1), 500)
        for i, (base, other) in enumerate(block):
            first, second = (metrics[0].value(drawn[:, 4 * i + j : 4 * i + j + 2]) for j in (0, 2))
            for k, one in enumerate(metrics):
                low, high = ends(estimate(one, base, int(sizes.sum()), drawn[:, 4 * i : 4 * i + 2], sizes))
                found[k] += low <= 0.5 <= high
            without = [metrics[0].value(all_but_one(side)) for side in (base, other)]
            difference = percentiles(second - first, 200, degrees, jackknife(without[1] - without[0]))
            assert difference is not None
            found[2] += difference[0] <= 0 <= difference[1]
    assert (found / results >= 0.935).all(), found / results
    assert (found / results <= 0.98).all(), found / results  # two clusters with half of all samples: careful


def test_independent_outcomes_have_wilsons_interval() -> None:
    """Of their number itself, as statsmodels gives it."""
    from statsmodels.stats.proportion import proportion_confint

    sums = np.column_stack([np.arange(100) < 59, np.ones(100)]).astype(float)
    found = estimate(replace(RECALL, value=Formula("s[0] / s[1]"), proportion=True), sums, 100)
    assert (found.low, found.high) == pytest.approx(proportion_confint(59, 100, method="wilson"), abs=1e-9)


def test_what_hangs_on_one_cluster_is_undefined_without_it() -> None:
    """Not a huge number, of what rounding leaves below the line."""
    left = all_but_one(np.array([[0.1, 0.3], [0.2, 0.0], [0.3, 0.0]]))
    assert left[0, 1] == 0
    assert jackknife(Formula("s[0] / s[1]")(left)) == pytest.approx(np.std([0.4 / 0.3, 0.3 / 0.3]))


def test_few_clusters_widen_the_interval() -> None:
    rng, inside = np.random.default_rng(4), 0
    for _ in range(400):
        sums = np.column_stack([np.zeros((12, 5)), rng.normal(3, 1, 12)])
        sums[:, 1] = 1
        found = estimate(metric("mean"), sums, 12)
        low, high = ends(found)
        inside += low <= 3 <= high
    assert 0.92 <= inside / 400 <= 0.98  # plain percentiles: 90 %
