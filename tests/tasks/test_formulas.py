"""Every metric can be computed from a result file alone, but for those named here."""

import pytest

from mmalign_eval.check import protocols_of
from mmalign_eval.metrics.base import Metric, percent, ratio
from mmalign_eval.metrics.formula import Formula
from mmalign_eval.plan import open_task
from mmalign_eval.registry import TASKS

# Metrics of all records at once: a value and an interval, no paired test.
OF_ALL_RECORDS = {
    ("squad2", "best_exact"): "the best of all thresholds",
    ("squad2", "best_exact_thresh"): "that threshold",
    ("squad2", "best_f1"): "the best of all thresholds",
    ("squad2", "best_f1_thresh"): "that threshold",
    ("llava_bench", "std"): "a spread over the judge's runs",
    ("mmvet", "std"): "a spread over the judge's runs",
    ("object_halbench", "llm/CHAIRs_refine_std"): "a spread over the judge's runs",
}


def metrics_of(name: str) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for protocol in protocols_of(name):
        task = open_task(name, protocol)
        for judge in (task.judge.stand_in, task.judge.official) if task.judge else ("",):
            task.judged_by = judge or task.judged_by
            found |= {metric.name: metric for metric in task.metrics()}
    return found


@pytest.mark.parametrize("name", TASKS.names())
def test_every_metric_is_a_formula_of_sums(name: str) -> None:
    found = metrics_of(name)
    without = {key for key, m in found.items() if m.corpus is not None or not isinstance(m.value, Formula)}
    assert without == {metric for task, metric in OF_ALL_RECORDS if task == name}
    proportions = {str(metric.value) for metric in found.values() if metric.proportion}
    assert proportions <= {ratio, percent}  # what Wilson's interval is of


@pytest.mark.parametrize("name", TASKS.names())
def test_only_counts_of_what_was_asked_are_without_an_interval(name: str) -> None:
    plain = {metric.value for metric in metrics_of(name).values() if not metric.interval}
    assert all(value in {"s[0]", "s[1]", "s[2]", "s[3]"} for value in plain)
