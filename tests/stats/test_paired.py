from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.special import ndtr, stdtrit
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from mmalign_eval.metrics.base import Metric, mean, whole
from mmalign_eval.metrics.formula import Formula
from mmalign_eval.stats import Sums, sums_of
from mmalign_eval.stats.paired import Paired, holm, mcnemar, paired

from .world import FORMULAS, TOTAL, World, as_sums

Rows = list[dict[str, Any]]
ACCURACY = mean("accuracy", "right", proportion=True)
SCORE = mean("score", "score", best=None)
F1 = Metric(
    "f1",
    lambda rows: [float(sum(r["kind"] == k for r in rows)) for k in range(3)],
    Formula("2 * s[0] / (2 * s[0] + s[1] + s[2])"),
)
ALL_RIGHT = Metric("all", lambda rows: (float(all(r["right"] for r in rows)), 1.0), Formula("s[0] / s[1]"))
MEDIAN = whole("median", lambda rows: float(np.median([r["score"] for r in rows])))
METRICS = (ACCURACY, SCORE, F1, ALL_RIGHT, MEDIAN)
BETTER = {m.name: "higher" for m in METRICS}


def rows(right: Any, each: int = 1, seed: int = 0) -> Rows:
    """Samples with a 0/1 outcome, a score and a cell of a confusion table, `each` to a cluster."""
    rng = np.random.default_rng(seed)
    return [
        {
            "id": f"q{i:04}",
            "cluster": f"c{i // each:04}",
            "right": float(x),
            "score": float(rng.normal(x)),
            "kind": int(rng.integers(4)),
        }
        for i, x in enumerate(right)
    ]


def compare(base: Rows, other: Rows, draws: int = 2000, **better: str) -> dict[str, Paired]:
    return paired(sums_of(METRICS, base), sums_of(METRICS, other), BETTER | better, draws)


def coins(n: int, p: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < p


def test_single_outcomes_have_mcnemar_s_exact_test() -> None:
    first, second = coins(300, 0.6, 1), coins(300, 0.7, 2)
    found = compare(rows(first), rows(second))["accuracy"]
    wins, losses = int((second & ~first).sum()), int((first & ~second).sum())
    table = [[0, losses], [wins, 0]]
    assert found.test == "mcnemar"
    assert (found.wins, found.losses, found.ties) == (wins, losses, 300 - wins - losses)
    assert found.p == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, rel=1e-9)
    assert found.delta == pytest.approx(second.mean() - first.mean())
    assert (found.n, found.clusters, found.left_out) == (300, 300, 0)


def test_outcomes_are_told_by_what_they_are() -> None:
    """A share of answers with a fault, in percent and of sums that other metrics share, is of 0/1 outcomes too."""
    metric = Metric(
        "faulty", lambda rows: [7.0, sum(r["right"] for r in rows), len(rows)], Formula("100 * (s[1] / s[2])")
    )
    first, second = coins(300, 0.02, 1), coins(300, 0.06, 2)
    found = paired(sums_of([metric], rows(first)), sums_of([metric], rows(second)), {"faulty": "lower"})["faulty"]
    wins, losses = int((second & ~first).sum()), int((first & ~second).sum())
    assert found.test == "mcnemar"
    assert found.p == mcnemar(wins, losses)
    assert (found.wins, found.losses) == (losses, wins)
    plain = paired(sums_of([ACCURACY], rows(first)), sums_of([ACCURACY], rows(second)), {"accuracy": "higher"})
    assert (found.low, found.high) == pytest.approx([100 * x for x in (plain["accuracy"].low, plain["accuracy"].high)])


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (0, 7), (5, 5), (12, 3), (400, 350)])
def test_mcnemar_agrees_with_statsmodels(wins: int, losses: int) -> None:
    exact = statsmodels_mcnemar([[9, losses], [wins, 9]], exact=True).pvalue if wins + losses else 1.0
    assert mcnemar(wins, losses) == pytest.approx(exact)
    assert mcnemar(wins, losses) == mcnemar(losses, wins)
    assert mcnemar(wins, losses, mid=True) <= mcnemar(wins, losses)


def test_tests_do_without_scipy_stats() -> None:
    """Importing it takes longer than most comparisons."""
    code = (
        "import sys; from mmalign_eval.stats.paired import mcnemar; mcnemar(3, 9); "
        "assert 'scipy.stats' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_differences_of_outcomes_have_the_interval_of_bonett_and_price() -> None:
    """By hand: 3 wins and 1 loss of 18, so 4/20 and 2/20."""
    first, second = np.zeros(18), np.zeros(18)
    second[:3], first[3] = 1, 1
    found = compare(rows(first), rows(second))["accuracy"]
    half = 1.959964 * ((0.2 + 0.1 - 0.1**2) / 20) ** 0.5
    assert (found.low, found.high) == (pytest.approx(0.1 - half), pytest.approx(0.1 + half))
    assert found.stderr == pytest.approx(np.std(second - first, ddof=1) / 18**0.5)
    percent = Metric("accuracy", ACCURACY.stat, Formula("100 * s[0] / s[1]"), unit="percent", proportion=True)
    times = paired(sums_of([percent], rows(first)), sums_of([percent], rows(second)), BETTER)["accuracy"]
    assert (times.low, times.stderr) == (pytest.approx(100 * _(found.low)), pytest.approx(100 * _(found.stderr)))


def test_a_side_that_is_always_better_is_not_certain_to_be() -> None:
    found = compare(rows(np.zeros(20)), rows(np.ones(20)))["accuracy"]
    assert (found.delta, found.high, found.detectable) == (1.0, 1.0, None)
    assert found.low is not None
    assert 0.6 < found.low < 0.9


def test_outcomes_that_share_an_image_are_not_counted_as_independent() -> None:
    first = np.repeat(coins(40, 0.5, 1), 10)
    second = np.repeat(coins(40, 0.8, 2), 10)
    found = compare(rows(first, 10), rows(second, 10))["accuracy"]
    naive = mcnemar(int((second & ~first).sum()), int((first & ~second).sum()))
    one = compare(rows(first[::10]), rows(second[::10]))["accuracy"]
    assert found.test == "randomisation"
    assert one.p is not None
    assert found.p is not None
    assert naive < 1e-6 < found.p
    assert found.p == pytest.approx(one.p, rel=0.5, abs=0.005)  # ten copies of a question are one question


@pytest.mark.parametrize("each", [1, 5])
def test_identical_sides_never_differ(each: int) -> None:
    same = rows(coins(60, 0.5, 3), each)
    for name, found in compare(same, same).items():
        if name == "median":
            continue
        assert (found.delta, found.low, found.high, found.stderr, found.p) == (0, 0, 0, 0, 1)
        assert (found.wins, found.losses, found.detectable) == (0, 0, None)


def test_what_only_one_side_scored_is_left_out() -> None:
    first, second = rows(coins(60, 0.5, 1), 3), rows(coins(60, 0.6, 2), 3, seed=1)
    shared = compare(first[:57], second[:57])
    found = compare(first[:59], [*second[:57], second[59]])
    for name in ("accuracy", "score", "f1", "all"):
        expected, got = shared[name], found[name]
        assert (got.delta, got.low, got.p, got.n, got.clusters) == (
            expected.delta, expected.low, expected.p, expected.n, expected.clusters,
        )  # fmt: skip
    assert found["accuracy"].left_out == 3  # two of the base, one of the other
    partly = compare(first, second[:59])  # the last cluster is whole on one side only
    assert (partly["all"].n, partly["all"].clusters, partly["all"].left_out) == (57, 19, 5)
    assert (partly["accuracy"].n, partly["accuracy"].clusters, partly["accuracy"].left_out) == (59, 20, 1)


def test_nothing_shared_is_nothing_to_say() -> None:
    found = compare(rows([1, 0, 1]), [{**r, "id": "x" + r["id"]} for r in rows([1, 0, 1])])["accuracy"]
    assert (found.base, found.delta, found.p, found.test, found.n, found.left_out) == (None, None, None, "", 0, 6)


def test_one_sample_has_a_difference_but_no_evidence() -> None:
    found = compare(rows([0]), rows([1]))["accuracy"]
    assert found.delta == 1.0
    assert (found.low, found.stderr, found.p, found.test) == (None, None, None, "")


def test_of_one_cluster_alone_the_samples_are_drawn() -> None:
    one, other = [0, 0, 1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 0, 1, 1, 1]
    together, apart = compare(rows(one, 8), rows(other, 8)), compare(rows(one), rows(other))
    assert together["accuracy"] == apart["accuracy"]
    assert together["f1"] == apart["f1"]


def test_metrics_without_one_formula_have_counts_alone() -> None:
    other = Metric("score", SCORE.stat, Formula("2 * s[0] / s[1]"))
    found = paired(sums_of([SCORE, MEDIAN], rows([0, 1])), sums_of([other, MEDIAN], rows([1, 1])), BETTER)
    assert set(found) == {"score", "median"}
    for one in found.values():
        assert (one.base, one.delta, one.p, one.test, one.wins, one.n) == (None, None, None, "", None, 2)


def test_undefined_values_are_none() -> None:
    nothing = Metric("f1", lambda rows: (0.0, 0.0, 0.0), F1.value)
    found = paired(sums_of([nothing], rows([0, 1, 1])), sums_of([F1], rows([0, 1, 1])), BETTER)["f1"]
    assert (found.base, found.delta, found.p) == (None, None, None)


def test_mostly_undefined_draws_give_no_interval() -> None:
    """One sample of 200 with an object: most resamples have none, on one side or on both."""
    first = rows(np.zeros(200))
    for r in first:
        r["kind"] = 3
    second = [dict(r) for r in first]
    first[0]["kind"], second[0]["kind"] = 0, 1
    first[1]["kind"], second[1]["kind"] = 1, 3
    found = compare(first, second)["f1"]
    assert found.delta == pytest.approx(-2 / 3)
    assert found.p is not None
    assert found.p > 0.4


def test_direction_decides_who_wins() -> None:
    first, second = rows([0, 0, 1, 0]), rows([1, 1, 0, 0])
    lower = compare(first, second, accuracy="lower")["accuracy"]
    assert (lower.wins, lower.losses, lower.ties) == (1, 2, 1)
    assert compare(first, second, accuracy="neither")["accuracy"].wins is None


def test_swapping_the_sides_negates_the_difference_and_keeps_p() -> None:
    first, second = rows(coins(300, 0.5, 1), 3), rows(coins(300, 0.6, 2), 3, seed=1)
    there, back = compare(first, second), compare(second, first)
    for name in ("accuracy", "score", "f1", "all"):
        one, other = there[name], back[name]
        assert one.delta == pytest.approx(-_(other.delta))
        assert (one.low, one.high) == (pytest.approx(-_(other.high)), pytest.approx(-_(other.low)))
        assert (one.p, one.wins, one.losses) == (other.p, other.losses, other.wins)


def test_few_clusters_are_swapped_in_every_way() -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 9))
    base = [{**r, "score": x} for r, x in zip(rows(np.zeros(9)), first, strict=True)]
    other = [{**r, "score": x} for r, x in zip(rows(np.zeros(9)), second, strict=True)]
    expected = permutation(first, second, lambda a, b, axis: b.mean(axis) - a.mean(axis), np.inf)
    assert compare(base, other)["score"].p == pytest.approx(expected)


def permutation(first: np.ndarray, second: np.ndarray, statistic: Callable[..., Any], draws: float) -> float:
    found = scipy_stats.permutation_test(
        (first, second),
        statistic,
        permutation_type="samples",
        n_resamples=draws,
        vectorized=True,
        batch=500,
        rng=np.random.default_rng(3),
    )
    return float(found.pvalue)


@pytest.mark.parametrize("name", ["mean", "f1", "ratio", "total"])
def test_intervals_and_tests_agree_with_scipy(name: str) -> None:
    """Each cluster's sums stand behind its number, so that SciPy can draw and swap clusters of corpus metrics."""
    draws, clusters = 8000, 120
    base, other = World(gain=0.25).sides(clusters, np.random.default_rng(2))
    found = paired(as_sums(base), as_sums(other), {name: "higher"}, draws)[name]
    formula, table = FORMULAS[name], np.concatenate([base, other])

    def difference(first: np.ndarray, second: np.ndarray, axis: int = -1) -> Any:
        one, two = (np.moveaxis(x, axis, -1).astype(int) for x in (first, second))
        return formula(table[two].sum(axis=-2)) - formula(table[one].sum(axis=-2))

    places = np.arange(clusters), np.arange(clusters, 2 * clusters)
    level = 1 - 2 * float(ndtr(-np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, 0.975)))
    drawn = scipy_stats.bootstrap(
        places,
        difference,
        paired=True,
        method="percentile",
        n_resamples=draws,
        confidence_level=level,
        batch=500,
        rng=np.random.default_rng(1),
    )
    width = drawn.confidence_interval.high - drawn.confidence_interval.low
    assert found.low == pytest.approx(drawn.confidence_interval.low, abs=0.04 * width)
    assert found.high == pytest.approx(drawn.confidence_interval.high, abs=0.04 * width)
    assert found.stderr == pytest.approx(drawn.standard_error, rel=0.05)
    p = permutation(*places, difference, draws)
    assert found.p == pytest.approx(p, abs=4 * np.sqrt(2 * p * (1 - p) / draws) + 1e-3)


def test_totals_are_of_their_parts() -> None:
    """A sum of parts' scores: a part weighs the same however many clusters it has."""
    base, other = World(gain=0.4).sides(80, np.random.default_rng(5))
    found = paired(as_sums(base), as_sums(other), {"total": "higher"}, 1000)["total"]
    by_hand = sum(
        100 * other[:, i].sum() / other[:, i + 1].sum() - 100 * base[:, i].sum() / base[:, i + 1].sum()
        for i in range(8, base.shape[1], 2)
    )
    assert found.delta == pytest.approx(by_hand)
    assert found.base == pytest.approx(float(TOTAL(base.sum(axis=0))))
    assert found.wins is None  # one cluster has no total: it is of one part


def test_ratios_of_sums_weigh_samples_by_what_they_mention() -> None:
    """Resp and Obj: hallucinated of mentioned, so a long answer counts more than a short one."""
    base, other = np.array([[0, 10], [9, 10], [1, 1]]), np.array([[0, 10], [3, 10], [0, 1]])
    found = paired(*(as_ratio(side) for side in (base, other)), {"ratio": "lower"}, 100)["ratio"]
    assert (found.base, found.other) == (pytest.approx(100 * 10 / 21), pytest.approx(100 * 3 / 21))
    assert (found.wins, found.losses, found.ties) == (2, 0, 1)
    assert found.p == 0.5  # 2 of 8 ways to swap differ as much twice: every way in which both changed ones agree


def as_ratio(pairs: np.ndarray) -> Sums:
    table = np.zeros((len(pairs), 8))
    table[:, 6:8] = pairs
    return as_sums(table, ("ratio",))


def test_holm_agrees_with_statsmodels() -> None:
    p = np.random.default_rng(0).random(40) ** 3
    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([0.5, None, 0.01, 0.04]) == [pytest.approx(0.5), None, pytest.approx(0.03), pytest.approx(0.08)]
    assert holm([]) == []
    assert holm([None]) == [None]


def _(value: float | None) -> float:
    assert value is not None
    return value
