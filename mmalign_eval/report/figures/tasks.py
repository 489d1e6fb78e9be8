"""Figures of one task: how each kind of family (see `families`) is drawn for all models that have a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...runs import Run
from ...tables import FEW_CLUSTERS, ROUGH, is_rough, shown_value
from . import families
from .bars import AXES, shown_scale
from .figure import Figure, named
from .plot import Line, Panel, Point, point_chart
from .rows import Block, Cell, Row, row_chart

INSET = 16.0  # of severities from the ends of their axis
CROWD = 8  # models: of more, panels that all share show no intervals
INTERVALS = "Whiskers: 95 % intervals"


@dataclass(frozen=True)
class TaskRuns:
    """Results that may stand in one figure: same task, protocol and judge.

    Attributes:
        label: What the task is called.
        runs: By model.
    """

    label: str
    runs: dict[str, Run]

    @property
    def metrics(self) -> dict[str, Mapping[str, Any]]:
        """Metrics of all models by name; of each, the first that has it."""
        out: dict[str, Mapping[str, Any]] = {}
        for run in self.runs.values():
            for name, metric in run.result["metrics"].items():
                out.setdefault(name, metric)
        return out

    @property
    def headline(self) -> list[str]:
        """Headline metrics of all models."""
        return list(dict.fromkeys(name for run in self.runs.values() for name in run.headline))

    def of(self, model: str, name: str) -> Mapping[str, Any]:
        """A metric of a model; empty if it has none."""
        found: Mapping[str, Any] = self.runs[model].result["metrics"].get(name, {})
        return found

    def titled(self, text: str) -> str:
        """A title that names the task, and the model if there is but one."""
        return f"{self.label}: {text}" + (f", {next(iter(self.runs))}" if len(self.runs) == 1 else "")

    @property
    def crowded(self) -> bool:
        """Whether intervals of all models in one panel would hide one another."""
        return len(self.runs) > CROWD

    def rough(self, names: Sequence[str]) -> str:
        """A sentence on intervals of these metrics."""
        few = any(_rough(self.of(model, name)) for model in self.runs for name in names)
        return f"{INTERVALS}" + (f" ({ROUGH}: from fewer than {FEW_CLUSTERS} clusters, rough)." if few else ".")


def severity_figures(task: TaskRuns) -> list[Figure]:
    """Rule 1: lines over severity, a panel for each kind."""
    return [_severity_figure(task, family) for family in families.severities(task.metrics)]


def _severity_figure(task: TaskRuns, family: families.Severities) -> Figure:
    names = [name for by in family.names.values() for name in by.values()]
    unit = str(task.metrics[names[0]].get("unit", ""))
    levels = []
    for i, model in enumerate(task.runs):
        value = _scaled(task.of(model, family.clean))[0]
        levels += [] if value is None else [(value, i)]
    panels = [_severity_panel(task, kind, by, levels) for kind, by in family.names.items()]
    title = task.titled(f"{family.metric} by kind and severity")
    caption = ("Dashed level, open mark: without corruption. " if levels else "") + _panel_note(task, names)
    svg = point_chart(
        title,
        caption,
        panels,
        list(task.runs),
        x_label="severity",
        y_label=_called(family.metric, unit),
        whole_x=True,
        inset=INSET,
    )
    shown = ([(families.CLEAN, "", family.clean)] if levels else []) + [
        (kind, str(severity), name) for kind, by in family.names.items() for severity, name in by.items()
    ]
    data = (
        ("kind", "severity", *task.runs),
        *((kind, severity, *(_text(task.of(m, name)) for m in task.runs)) for kind, severity, name in shown),
    )
    return Figure(named(task.label, family.metric, "by severity"), title, caption, svg, data)


def _severity_panel(
    task: TaskRuns, kind: str, names: Mapping[int, str], levels: Sequence[tuple[float, int]]
) -> Panel:  # fmt: skip
    """A line for each model; names of the metric by severity."""
    step = min(6.0, 1.6 * INSET / len(task.runs))
    lines = tuple(
        Line(
            i,
            tuple(_at(severity, model, task.of(model, name), task.crowded) for severity, name in names.items()),
            shift=(i - (len(task.runs) - 1) / 2) * step,
        )
        for i, model in enumerate(task.runs)
    )
    return Panel(kind, lines, tuple(levels))


def _panel_note(task: TaskRuns, names: Sequence[str]) -> str:
    return f"Without intervals: more than {CROWD} models." if task.crowded else task.rough(names)


def yes_ratio_figures(task: TaskRuns) -> list[Figure]:
    """Rule 2: accuracy against the share of yes, a panel for each part."""
    pairs = families.yes_ratios(task.metrics)
    if not pairs:
        return []
    panels = []
    known = False
    for part, (ratio, accuracy) in pairs.items():
        lines = tuple(
            Line(i, (_against(model, task.of(model, ratio), task.of(model, accuracy), task.crowded),), joined=False)
            for i, model in enumerate(task.runs)
        )
        share = families.truth(task.metrics, part)
        known = known or share is not None
        panels.append(Panel(part, lines, uprights=() if share is None else (100 * share,)))
    title = task.titled("accuracy against how often yes is said")
    names = [name for pair in pairs.values() for name in pair]
    caption = ("Dotted: share of yes in the reference. " if known else "") + _panel_note(task, names)
    svg = point_chart(title, caption, panels, list(task.runs), x_label="yes said, %", y_label="accuracy, %")
    data = (
        ("part", "model", "yes ratio", "accuracy"),
        *(
            (part, model, _text(task.of(model, ratio)), _text(task.of(model, accuracy)))
            for part, (ratio, accuracy) in pairs.items()
            for model in task.runs
        ),
    )
    return [Figure(named(task.label, "yes ratio"), title, caption, svg, data)]


def plus_figures(task: TaskRuns) -> list[Figure]:
    """Rule 3: a metric and its stricter kind beside one another, a row for each part and model; then their scores."""
    figures = []
    for metric, pairs in families.pluses(task.metrics):
        if scores := families.scores(task.metrics, pairs):
            figures.append(_rows(task, f"*/{families.SCORE}", ("",), scores))
        both = (metric, f"{metric}{families.PLUS}")
        figures.append(_rows(task, " and ".join(both), both, pairs))
    return figures


def part_figures(task: TaskRuns) -> list[Figure]:
    """Rule 4: a row for each part and model."""
    return [
        _rows(task, pattern, ("",), {part: (name,) for part, name in family.items()})
        for pattern, family in families.parts(task.metrics, task.headline)
    ]


def _in_words(pattern: str) -> str:
    """`*/acc` as a reader has it: `acc, part by part`."""
    return "/".join(name for name in pattern.split("/") if name != "*") + ", part by part"


def _rows(task: TaskRuns, called: str, panels: tuple[str, ...], names: Mapping[str, tuple[str, ...]]) -> Figure:
    several = len(task.runs) > 1
    rows = tuple(
        Row(*((part, model) if several else ("", part)), i, tuple(_cell(task.of(model, name)) for name in of))
        for part, of in names.items()
        for i, model in enumerate(task.runs)
    )
    flat = [name for of in names.values() for name in of]
    metric = task.metrics[flat[0]]
    unit = str(metric.get("unit", ""))
    title = task.titled(_in_words(called) if "*" in called else called)
    better = {"lower": " Lower is better.", "higher": " Higher is better."}.get(str(metric.get("better")), "")
    caption = task.rough(flat) + better
    svg = row_chart(title, caption, [Block(panels, AXES.get(unit, unit), rows)])
    data = (
        ("part", "model", *(panel or called for panel in panels)),
        *((part, m, *(_text(task.of(m, name)) for name in of)) for part, of in names.items() for m in task.runs),
    )
    return Figure(named(task.label, called), title, caption, svg, data)


def _cell(metric: Mapping[str, Any]) -> Cell:
    value, *ends = _scaled(metric)
    return Cell(value, (ends[0], ends[1]), (_value(metric), ROUGH * _rough(metric)))


def _at(severity: int, model: str, metric: Mapping[str, Any], crowded: bool) -> Point:
    value, low, high = _scaled(metric)
    return Point(
        severity,
        value,
        (None, None) if crowded else (low, high),
        text=f"{model}, {severity}: {_text(metric)}",
        value=_short(metric),
    )


def _against(model: str, ratio: Mapping[str, Any], accuracy: Mapping[str, Any], crowded: bool) -> Point:
    x, y = _scaled(ratio), _scaled(accuracy)
    text = f"{model}: yes {_text(ratio)}, accuracy {_text(accuracy)}"
    if crowded:
        return Point(x[0], y[0], text=text)
    return Point(x[0], y[0], (y[1], y[2]), (x[1], x[2]), text, f"{_short(ratio)}, {_short(accuracy)}")


def _scaled(metric: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    """Value and ends of the interval as tables show them."""
    factor = shown_scale(str(metric.get("unit", "")))
    value, low, high = (
        None if (found := metric.get(key)) is None else float(found) * factor for key in ("value", "low", "high")
    )
    return value, low, high


def _rough(metric: Mapping[str, Any]) -> bool:
    return is_rough(metric.get("low"), metric.get("clusters", 0))


def _value(metric: Mapping[str, Any]) -> str:
    return shown_value(metric.get("value"), str(metric.get("unit", "")))


def _short(metric: Mapping[str, Any]) -> str:
    return _value(metric) + f" {ROUGH}" * _rough(metric)


def _text(metric: Mapping[str, Any]) -> str:
    """Value and interval in writing."""
    unit = str(metric.get("unit", ""))
    if metric.get("low") is None or metric.get("high") is None:
        return _value(metric)
    return f"{_short(metric)} ({shown_value(metric['low'], unit)} .. {shown_value(metric['high'], unit)})"


def _called(metric: str, unit: str) -> str:
    return f"{metric}, {AXES.get(unit, unit)}" if unit else metric
