"""The figures that results allow: forest plots of comparisons, and for each task what its metrics' names call for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...compare import Comparison
from ...runs import Run
from .figure import Figure, unique
from .forest import forest
from .tasks import TaskRuns, part_figures, plus_figures, severity_figures, yes_ratio_figures

RULES = (severity_figures, yes_ratio_figures, plus_figures, part_figures)  # see `families`: the first that fits


def figures_of(models: Mapping[str, Sequence[Run]], comparisons: Sequence[Comparison]) -> list[Figure]:
    """All figures that results allow; their names are unique.

    Args:
        models: Results by model, as `runs.by_model` gives them; models are drawn in this order.
        comparisons: Of some of them: a forest plot each.
    """
    figures: list[Figure] = [figure for figure in map(forest, comparisons) if figure is not None]
    for task in _by_task(models):
        figures += next((drawn for rule in RULES if (drawn := rule(task))), [])
    return unique(figures)


def _by_task(models: Mapping[str, Sequence[Run]]) -> Iterable[TaskRuns]:
    """The results of each task, protocol and judge, in the order they first come in."""
    found: dict[tuple[str, str, str], TaskRuns] = {}
    for model, runs in models.items():
        for run in runs:
            task = found.setdefault(run.key, TaskRuns(run.label, {}))
            task.runs.setdefault(model, run)
    return found.values()
