"""The results that the leaderboards are made of: their intervals are those that today's statistics give."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mmalign_eval.leaderboard.laboratory import FACTS
from mmalign_eval.metrics.base import Metric
from mmalign_eval.results import find_results, read_result, read_sums
from mmalign_eval.stats import estimate

ROOT = Path(__file__).parents[2] / "leaderboards" / "results"
RESULTS = [path for path in find_results(ROOT) if path.name != FACTS]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_intervals_are_those_of_the_sums(path: Path) -> None:
    """If not: run the miniature again and `mmeval leaderboard add` it."""
    result = read_result(path)
    sums = read_sums(path, result)
    for name, found in result["metrics"].items():
        made = sums.metrics[name]
        if made.formula is None:
            continue
        metric = Metric(name, lambda _: (), made.formula, unit=found["unit"], proportion=made.proportion)
        clusters, sizes = sums.drawn(made.group)
        again = estimate(metric, clusters, sums.groups[made.group].n, sizes=sizes)
        for part in ("value", "low", "high", "stderr", "n", "clusters"):
            known = getattr(again, part)
            if found[part] is None:  # not defined: a recall that no sample's answers reach
                assert known is None or math.isnan(known), (name, part)
            else:
                assert known == pytest.approx(found[part], rel=1e-9, abs=1e-12), (name, part)
