"""What a sample is worth on its own."""

from __future__ import annotations

import numpy as np
import pytest

from mmalign_eval.metrics.base import Metric, mean, ratio, whole
from mmalign_eval.scores import Score, sample_scores, unit_values
from mmalign_eval.stats import sums_of

RECORDS = [
    {"id": "a", "cluster": "x", "part": "one", "correct": 1.0, "said": 1.0, "objects": 2.0},
    {"id": "b", "cluster": "x", "part": "one", "correct": 0.0, "said": 0.0, "objects": 0.0},
    {"id": "c", "cluster": "y", "part": "two", "correct": 1.0, "said": 1.0, "objects": 1.0},
    {"id": "d", "cluster": "z", "part": "three", "correct": 0.0, "said": 1.0, "objects": 3.0},
]


def part(name: str) -> Metric:
    return mean(f"{name}/accuracy", "correct", proportion=True, keep=lambda record: record["part"] == name)


RATIO = Metric("per_object", lambda rs: (sum(r["correct"] for r in rs), sum(r["objects"] for r in rs)), ratio)
WHOLE_CLUSTERS = Metric("both", lambda rs: (float(all(r["correct"] for r in rs)), 1.0), ratio)
NO_FORMULA = Metric("code", lambda rs: (float(len(rs)),), lambda sums: sums[..., 0])
CORPUS = whole("median", lambda rs: float(np.median([r["correct"] for r in rs])))
SAID = mean("yes_ratio", "said", better="neither")


def result(metrics: list[Metric], headline: list[str]) -> dict[str, dict[str, object]]:
    return {"metrics": {m.name: {"better": m.better} for m in metrics}, "task": {"headline": headline}}


def test_a_mean_has_the_values_of_its_samples() -> None:
    sums = sums_of([part("one"), mean("all", "correct")], RECORDS)
    assert unit_values(sums, "one/accuracy") == {"a": 1.0, "b": 0.0}
    assert unit_values(sums, "all") == {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}


@pytest.mark.parametrize("metric", [RATIO, WHOLE_CLUSTERS, NO_FORMULA, CORPUS, part("nowhere")], ids=lambda m: m.name)
def test_a_metric_that_one_sample_does_not_define_has_none(metric: Metric) -> None:
    assert unit_values(sums_of([metric], RECORDS), metric.name) is None


def test_the_first_metric_of_the_headline_that_counts_a_sample_scores_it() -> None:
    metrics = [SAID, mean("all", "correct"), RATIO, part("one"), part("two")]
    found = sample_scores(result(metrics, ["yes_ratio", "per_object", "two/accuracy"]), sums_of(metrics, RECORDS))
    assert found["c"] == Score("two/accuracy", 1.0)
    assert found["a"] == Score("all", 1.0)  # the headline has nothing for it
    assert {sample: score.metric for sample, score in found.items()}["d"] == "all"


def test_what_no_metric_counts_has_no_score() -> None:
    metrics = [part("one"), SAID]
    assert set(sample_scores(result(metrics, []), sums_of(metrics, RECORDS))) == {"a", "b"}
