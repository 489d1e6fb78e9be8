"""All sixteen benchmarks (and classic CHAIR) on the miniature through the real command line, held away from the ends.

A metric that sits at chance or at its best value shows nothing when a scorer breaks; here each headline metric's
interval must exclude both, and those that cannot are named with the reason.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.results import find_results, read_result

MINUTES = 4  # on two cores; the budget of the whole run

# What a model scores that knows nothing of the question: the better of guessing and of the best constant answer.
CHANCE = {
    "truthfulqa": {"rougeL_acc": 0.0, "mc1": 0.25, "mc2": 0.34},
    "ethics": {"": 0.5, "ethics_virtue/acc": 0.8, "mean/acc": 0.56},
    "mmlu": {"": 0.25},
    "mathqa": {"": 0.2},
    "boolq": {"": 0.5},
    "pope": {"": 0.5, "mean/f1": 2 / 3},
    "mme": {
        "perception/total": 750.0,
        "cognition/total": 300.0,
        "perception_paper/total": 600.0,
    },
    "coco_c": {"relative_change": -100.0},  # nothing left of the clean captions' CIDEr; 0 is no harm done
    "vqav2": {"": 0.0, "answer_type/yes/no": 50.0},
}

UNIT_CEILING = {"fraction": 1.0, "percent": 100.0}
CEILING = {"perception/total": 2000.0, "cognition/total": 800.0, "perception_paper/total": 1600.0,
           "relative_change": 0.0}  # fmt: skip

# (task, metric): why its interval reaches an end.
EXCEPTIONS = {
    ("boolq", "acc"): "the language model reads worse since it learnt to see (.74 before, .59 now), on a hundred rows",
    ("ethics", "ethics_justice/acc"): "the miniature has learnt this world's justice whole",
    ("ethics", "ethics_utilitarianism/acc"): "and its utilities",
    ("ethics", "ethics_virtue/acc"): "at the best constant answer, which is .80 where one trait of five is right",
    ("squad2", "NoAns_f1"): "the miniature never leaves an answer empty, and only that is credited",
}


def chance(task: str, metric: str) -> float:
    known = CHANCE.get(task, {})
    return known.get(metric, known.get("", 0.0))


def held(result: dict[str, Any], metric: str) -> str:
    """Why a headline metric does not exclude chance and its best value; empty if it does."""
    found = result["metrics"][metric]
    if found["low"] is None:
        return "no interval"
    if found["better"] == "neither":
        return ""
    floor = chance(result["task"]["name"], metric)
    ceiling = CEILING.get(metric, UNIT_CEILING.get(found["unit"], math.inf))
    fine = floor < found["low"] and found["high"] < ceiling
    return "" if fine else f"{found['low']:.3f} .. {found['high']:.3f} reaches {floor} or {ceiling}"


@pytest.mark.slow
def test_all_tasks_end_in_time_away_from_chance_and_full_marks(tmp_path: Path) -> None:
    start = time.monotonic()
    assert main(["run", "--model", "mini", "--tasks", "all", "--out", str(tmp_path)]) == 0
    assert time.monotonic() - start < 60 * MINUTES
    results = {r["task"]["name"]: r for r in map(read_result, find_results(tmp_path))}
    assert len(results) == 17  # the sixteen of the papers, and classic CHAIR beside Object HalBench
    causes = {
        (task, metric): cause
        for task, result in results.items()
        for metric in result["task"]["headline"] or result["metrics"]
        if (cause := held(result, metric))
    }
    assert {key: causes[key] for key in causes if key not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) <= set(causes), "an exception is no longer needed: strike it out"
