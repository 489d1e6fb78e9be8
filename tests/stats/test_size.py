"""Tests hold their size: under no difference, p is below a no more often than a; at `detectable`, 4 of 5 are found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, kstest

from mmalign_eval.metrics.base import mean
from mmalign_eval.stats import sums_of
from mmalign_eval.stats.paired import mcnemar, paired

from .world import FORMULAS, World, as_sums

RESULTS = 1000
LEVELS = (0.01, 0.05, 0.1)


def too_often(p: np.ndarray, level: float) -> bool:
    """Whether p <= level came more often than chance explains (one in 10,000)."""
    return bool(binomtest(int((p <= level).sum()), len(p), level, alternative="greater").pvalue < 1e-4)


def too_seldom(p: np.ndarray, level: float) -> bool:
    return bool(binomtest(int((p <= level).sum()), len(p), level, alternative="less").pvalue < 1e-4)


@pytest.mark.parametrize("each", [1, 4])
def test_randomisation_is_uniform_under_no_difference(each: int) -> None:
    """For means, F1, ratios of sums and totals of parts, with and without clusters."""
    names = ("mean", "f1", "ratio", "total") if each > 1 else ("mean",)
    world = World(each=each)
    better = dict.fromkeys(names, "neither")
    found = []
    for i in range(RESULTS):
        base, other = world.sides(200, np.random.default_rng([3, each, i]))
        one = paired(as_sums(base, names), as_sums(other, names), better, 500)
        assert {x.test for x in one.values()} == {"randomisation"}
        found.append([one[name].p for name in names])
    for name, p in zip(names, np.array(found, dtype=float).T, strict=True):
        for level in LEVELS:
            assert not too_often(p, level), (name, level, (p <= level).mean())
            assert not too_seldom(p, level), (name, level, (p <= level).mean())
        assert kstest(p, "uniform").pvalue > 1e-3, name


def test_clustered_outcomes_are_tested_by_cluster() -> None:
    """Images differ in how the sides fare on them: the test that takes questions for independent finds too much."""
    better, found, naive = {"accuracy": "neither"}, [], []
    for i in range(RESULTS):
        rng = np.random.default_rng([5, i])
        lean = rng.normal(0, 1.5, (2, 100, 1))  # of an image, for each side
        right = rng.random((2, 100, 8)) < 1 / (1 + np.exp(-lean))
        tables = np.zeros((2, 100, 8))
        tables[:, :, 0], tables[:, :, 1] = right.sum(axis=2), 8
        names = ("accuracy",)
        one = paired(as_sums(tables[0], names), as_sums(tables[1], names), better, 500)["accuracy"]
        found.append(one.p)
        naive.append(mcnemar(int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())))
    p = np.array(found, dtype=float)
    for level in LEVELS:
        assert not too_often(p, level)
    assert kstest(p, "uniform").pvalue > 1e-3
    assert (np.array(naive) <= 0.05).mean() > 0.2  # so the simulation can tell


@pytest.mark.parametrize("differ", [12, 60, 5000])
def test_mcnemar_holds_its_size_and_mid_p_is_nearly_uniform(differ: int) -> None:
    wins = np.random.default_rng(1).binomial(differ, 0.5, 5 * RESULTS)
    exact = np.array([mcnemar(int(w), int(differ - w)) for w in wins])
    mid = np.array([mcnemar(int(w), int(differ - w), mid=True) for w in wins])
    for level in LEVELS:
        assert not too_often(exact, level)
        if differ == 5000:
            assert not too_often(mid, level)
            assert not too_seldom(mid, level)
    assert mid.mean() == pytest.approx(0.5, abs=0.03)
    if differ == 5000:
        assert np.abs(np.sort(mid) - np.linspace(0, 1, len(mid))).max() < 0.03


def test_mcnemar_of_results_holds_its_size() -> None:
    """From results, as tables get it: the same counts, no more found than the level says."""
    metric, p = mean("accuracy", "right", proportion=True), []
    for i in range(500):
        rng = np.random.default_rng([7, i])
        sides = rng.random((2, 80)) < rng.random(80)
        base, other = (
            sums_of([metric], [{"id": str(j), "cluster": str(j), "right": float(x)} for j, x in enumerate(side)])
            for side in sides
        )
        p.append(paired(base, other, {"accuracy": "higher"}, 100)["accuracy"].p)
    assert not too_often(np.array(p, dtype=float), 0.05)


@pytest.mark.parametrize("test", ["randomisation", "mcnemar"])
def test_a_detectable_difference_is_found_four_times_in_five(test: str) -> None:
    names, clusters, results = ("accuracy",), 400, 400
    found, sizes = 0, []
    for i in range(results):
        rng = np.random.default_rng([8, i])
        tables = np.zeros((2, clusters, 8))
        tables[:, :, 1] = 1
        if test == "mcnemar":
            tables[0, :, 0] = rng.random(clusters) < 0.5
            change = rng.random(clusters)  # 20 % change their answer; 2.8 standard errors more for the better
            gain = 2.8016 * np.sqrt(0.2 / clusters)
            right, lost = tables[0, :, 0] > 0, (0.2 - gain) / 2
            tables[1, :, 0] = np.where(right, change > 2 * lost, change < 2 * (lost + gain))
        else:
            tables[0, :, 0] = rng.normal(0, 1, clusters)
            tables[1, :, 0] = tables[0, :, 0] + rng.normal(2.8016 / np.sqrt(clusters), 1, clusters)
        one = paired(as_sums(tables[0], names), as_sums(tables[1], names), {"accuracy": "higher"}, 500)["accuracy"]
        assert one.test == test
        assert one.p is not None
        assert one.detectable is not None
        found += one.p <= 0.05
        sizes.append(one.detectable)
    # exact McNemar spends less than its 5 %
    assert found / results == pytest.approx(0.8, abs=0.05 if test == "randomisation" else 0.08)
    expected = 2.8016 * np.sqrt((1 if test == "randomisation" else 0.2) / clusters)
    assert np.mean(sizes) == pytest.approx(expected, rel=0.05)


def test_the_worlds_sides_are_equal_but_for_the_gain() -> None:
    equal, better = World().truth(), World(gain=0.5).truth()
    for name in FORMULAS:
        assert equal[name][0] == pytest.approx(equal[name][1], rel=0.01)
        assert better[name][0] != pytest.approx(better[name][1], rel=0.02)
