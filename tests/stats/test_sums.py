from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mmalign_eval.metrics.base import Metric, by, mean, ratio, whole
from mmalign_eval.metrics.formula import Formula
from mmalign_eval.metrics.yes_no import BINARY_METRICS
from mmalign_eval.stats import estimates, sums_of

Rows = list[dict[str, Any]]


def rows(n: int = 60, each: int = 4, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    return [
        {"id": f"q{i}", "cluster": f"c{i // each}", "x": float(rng.random() < 0.6), "split": "ab"[i % 2]}
        for i in range(n)
    ]


def all_right(records: Sequence[dict[str, Any]]) -> tuple[float, float]:
    return float(all(r["x"] for r in records)), 1.0


def test_what_adds_up_is_kept_by_sample() -> None:
    found = sums_of([mean("m", "x")], rows())
    group = found.groups[0]
    assert (group.level, group.n, group.sums.shape) == ("sample", 60, (60, 2))
    places, by_cluster = found.by_cluster(0)
    assert places.tolist() == list(range(15))
    assert by_cluster[:, 1].tolist() == [4.0] * 15
    for place, sums in zip(places, by_cluster, strict=True):
        members = [r["x"] for r in rows() if r["cluster"] == found.clusters[place]]
        assert sums[0] == sum(members)


def test_what_does_not_add_up_is_kept_by_cluster() -> None:
    found = sums_of([Metric("all", all_right, ratio)], rows())
    assert (found.groups[0].level, found.groups[0].sums.shape, found.groups[0].n) == ("cluster", (15, 2), 60)
    singles = sums_of([Metric("all", all_right, ratio)], rows(each=1))
    assert singles.groups[0].level == "sample"  # of one sample each, a cluster is its sample


def test_groups_are_shared_by_statistics_and_subset() -> None:
    first, second = mean("m", "x"), mean("m", "x")
    metrics = [
        first,
        Metric("double", first.stat, Formula("2 * s[0] / s[1]")),
        second,
        *by("split", "ab", [Metric("all", all_right, ratio), Metric("none", all_right, Formula("1 - s[0] / s[1]"))]),
    ]
    found = sums_of(metrics, rows())
    numbers = [found.metrics[m.name].group for m in metrics]
    assert numbers[0] != numbers[1]  # the later `m` stands for both of the name
    assert found.metrics["a/all"].group == found.metrics["a/none"].group != found.metrics["b/all"].group
    assert found.groups[found.metrics["a/all"].group].n == 30


def test_empty_subsets_are_there_without_rows() -> None:
    found = sums_of(by("split", ["a", "c"], [mean("m", "x")]), rows())
    group = found.groups[found.metrics["c/m"].group]
    assert (group.n, len(group.rows), len(group.sums)) == (0, 0, 0)
    places, by_cluster = found.by_cluster(found.metrics["c/m"].group)
    assert (len(places), len(by_cluster)) == (0, 0)
    assert sums_of([mean("m", "x")], []).groups[0].n == 0


@pytest.mark.parametrize("each", [1, 18])
def test_values_come_back_from_the_sums(each: int) -> None:
    """Every metric's formula of its summed sums is the value of its statistics of all records."""
    rng = np.random.default_rng(1)
    outcomes = rng.choice(["TP", "FP", "FN", "TN"], 180)
    records = [
        {
            "id": str(i), "cluster": f"image{i // each}", "split": ("one", "two")[i % 2], "outcome": outcome, "x": 1.0,
            "answer": "yes" if outcome[1] == "P" else "no", "label": "yes" if outcome in ("TP", "FN") else "no",
        }
        for i, outcome in enumerate(outcomes)
    ]  # fmt: skip
    metrics = [*BINARY_METRICS, *by("split", ["one", "two"], BINARY_METRICS)]
    found = sums_of(metrics, records)
    values = {e.name: e.value for e in estimates(metrics, records)}
    for metric in metrics:
        kept = [r for r in records if metric.keep is None or metric.keep(r)]
        expected = float(metric.value(np.array(metric.stat(kept), dtype=float)))
        made = found.metrics[metric.name]
        assert made.formula is not None
        assert float(made.formula(found.by_cluster(made.group)[1].sum(axis=0))) == pytest.approx(expected), metric.name
        assert values[metric.name] == pytest.approx(expected), metric.name


def test_metrics_of_all_records_and_of_code_have_no_formula() -> None:
    found = sums_of([whole("w", lambda r: 1.0), Metric("code", all_right, lambda s: s[..., 0])], rows())
    assert [m.formula for m in found.metrics.values()] == [None, None]
    assert found.groups[found.metrics["w"].group].n == 60


def test_clusters_are_named_in_order_whatever_the_records_order() -> None:
    there, back = sums_of([mean("m", "x")], rows()), sums_of([mean("m", "x")], rows()[::-1])
    assert there.clusters == back.clusters == sorted(there.clusters)
    assert (there.by_cluster(0)[1] == back.by_cluster(0)[1]).all()
