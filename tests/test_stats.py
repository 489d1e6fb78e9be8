from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mmalign_eval.metrics.base import Metric, by, mean, ratio
from mmalign_eval.stats import RESAMPLES, estimates, resample

ACCURACY = mean("accuracy", "x", proportion=True)
AVERAGE = mean("average", "x", best=None)


def records(values: list[float], clusters: list[int] | None = None) -> list[dict[str, object]]:
    return [{"x": v, "cluster": str(clusters[i] if clusters else i)} for i, v in enumerate(values)]


@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 400), hits=st.integers(0, 400))
def test_independent_proportions_have_wilson_s_interval(n: int, hits: int) -> None:
    hits = min(hits, n)
    found = estimates([ACCURACY], records([1.0] * hits + [0.0] * (n - hits)))[0]
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    # the sandwich variance of n clusters of one is n/(n-1) times the binomial one
    assert found.low == pytest.approx(expected.low, abs=0.6 / n)
    assert found.high == pytest.approx(expected.high, abs=0.6 / n)
    assert 0 <= found.low <= found.value <= found.high <= 1  # type: ignore[operator]


def test_copies_of_a_cluster_add_no_certainty() -> None:
    rng = random.Random(0)
    values = [float(rng.random() < 0.7) for _ in range(200)]
    single = estimates([ACCURACY], records(values))[0]
    copied = estimates([ACCURACY], records(values * 10, list(range(200)) * 10))[0]
    assert copied.value == single.value
    assert copied.stderr == pytest.approx(single.stderr)
    assert copied.low == pytest.approx(single.low, abs=1e-3)
    assert (copied.n, copied.clusters) == (2000, 200)


def test_bootstrap_of_a_mean_agrees_with_its_formula() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=500).tolist()
    found = estimates([AVERAGE], records(values))[0]
    assert found.stderr == pytest.approx(np.std(values, ddof=1) / 500**0.5, rel=0.06)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high  # type: ignore[operator]


@pytest.mark.parametrize("proportion", [True, False])
def test_intervals_cover_as_often_as_they_say(proportion: bool) -> None:
    rng, covered, draws = np.random.default_rng(7), 0, 150
    metric = ACCURACY if proportion else AVERAGE
    truth = float(np.mean(1 / (1 + np.exp(-(1.0 + np.random.default_rng(3).normal(0, 0.8, 200_000))))))
    for _ in range(draws):
        level = rng.normal(0, 0.8, 200)  # what an image's questions share
        chance = 1 / (1 + np.exp(-(1.0 + np.repeat(level, 4))))
        values = (rng.random(800) < chance).astype(float)
        found = estimates([metric], records(values.tolist(), np.repeat(np.arange(200), 4).tolist()))[0]
        covered += found.low <= truth <= found.high  # type: ignore[operator]
    assert 0.91 <= covered / draws <= 0.985


def test_the_order_of_records_changes_nothing() -> None:
    rows = records(np.random.default_rng(2).random(90).tolist(), [i % 30 for i in range(90)])
    shuffled = rows[:]
    random.Random(3).shuffle(shuffled)
    for metric in (ACCURACY, AVERAGE):
        one, other = estimates([metric], rows)[0], estimates([metric], shuffled)[0]
        assert one.value == pytest.approx(other.value, rel=1e-12)
        assert one.low == pytest.approx(other.low, rel=1e-12)
        assert one.high == pytest.approx(other.high, rel=1e-12)


def test_nothing_to_say_is_none_not_a_number() -> None:
    assert estimates([AVERAGE], [])[0].value is None
    one = estimates([AVERAGE, ACCURACY], records([1.0]))
    assert [(e.value, e.low, e.stderr) for e in one] == [(1.0, None, None)] * 2
    undefined = Metric("u", lambda rows: (0.0, 0.0), ratio)
    assert estimates([undefined], records([1.0, 2.0]))[0].value is None


def test_of_one_cluster_alone_the_samples_are_drawn() -> None:
    values = [float(i % 3 == 0) for i in range(60)]
    together, apart = (estimates([AVERAGE, ACCURACY], records(values, c)) for c in ([0] * 60, list(range(60))))
    assert together[1] == apart[1]
    assert (together[0].n, together[0].clusters) == (60, 60)
    assert together[0].stderr == pytest.approx(apart[0].stderr, rel=0.02)  # drawn in another order


def test_parts_are_counted_apart() -> None:
    rows = [{"x": float(i % 2), "cluster": str(i), "split": "ab"[i % 2]} for i in range(40)]
    found = {e.name: e for e in estimates(by("split", ["a", "b", "c"], [ACCURACY]), rows)}
    assert found["a/accuracy"].value == 0.0
    assert found["b/accuracy"].value == 1.0
    assert (found["a/accuracy"].n, found["c/accuracy"].n, found["c/accuracy"].value) == (20, 0, None)


def test_statistics_are_computed_once_for_metrics_that_share_them() -> None:
    calls = []

    def stat(rows: object) -> tuple[float, float]:
        calls.append(1)
        return (1.0, 2.0)

    metrics = [Metric(name, stat, ratio) for name in "abc"]
    estimates(metrics, records([0.0] * 10))
    assert len(calls) == 10


def test_resampled_sums_have_the_size_and_mean_of_the_sample() -> None:
    sums = np.column_stack([np.arange(3000.0), np.ones(3000)])
    drawn = resample(sums, RESAMPLES)
    assert drawn.shape == (RESAMPLES, 2)
    assert (drawn[:, 1] == 3000).all()  # a bootstrap sample has as many clusters as the sample
    assert drawn[:, 0].mean() == pytest.approx(sums[:, 0].sum(), rel=1e-3)
    assert (resample(sums, 100) == resample(sums, 100)).all()
