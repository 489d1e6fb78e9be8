"""Results as a table: what the end of a run, of scoring and a report say of the same files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .compare.changes import ONLY, Change, Comparison
from .compare.tables import family_note, shown_against
from .overlap import sentence
from .results import Result, headline
from .tables import (
    MINIATURE_NOTE,
    ROUGH_NOTE,
    TextTable,
    is_rough,
    shown_interval,
    shown_metric,
    shown_value,
    unit_notes,
)

Shown = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Line:
    """One result with the metrics that are shown of it.

    Attributes:
        model: What the model is called in the table.
        result: Content of the result file.
        metrics: Names and metrics.
        comparison: With the model's base (or another that was named); None without one.
    """

    model: str
    result: Result
    metrics: Sequence[Shown]
    comparison: Comparison | None = None


def shown_metrics(result: Result) -> list[Shown]:
    """Headline metrics of a result (all, if its task names none)."""
    return [(name, result["metrics"][name]) for name in headline(result)]


def results_table(lines: Sequence[Line]) -> TextTable:
    """Value and interval of every metric, against the base where there is one, and what to know about them."""
    several = len({line.model for line in lines}) > 1
    bases = list(dict.fromkeys(c.base for c in (line.comparison for line in lines) if c and c.changes))
    against = ([f"vs {bases[0]}"] if len(bases) == 1 else ["vs base"]) if bases else []
    columns = [*(["model"] if several else []), "task", "metric", "value", "95% CI", *against, "n", "protocol", "data"]
    rows = tuple(
        (
            *([line.model] if several else []),
            line.result["task"]["name"],
            shown_metric(name, metric["better"]),
            shown_value(metric["value"], metric["unit"]),
            shown_interval(metric["low"], metric["high"], metric["unit"], metric["clusters"]),
            *([_against(line, name)] if against else []),
            *_facts(line.result, metric),
        )
        for line in lines
        for name, metric in line.metrics
    )
    right = frozenset(columns.index(title) for title in ("value", "95% CI", "n"))
    return TextTable(tuple(columns), rows, right, tuple(_notes(lines, len(bases) > 1)))


def _facts(result: Result, metric: Mapping[str, Any]) -> tuple[str, str, str]:
    counts, task, data = result["counts"], result["task"], result["data"]
    bad = counts["n_error"] + counts["n_refused"]
    return (
        f"{metric['n']}" + (f" ({bad} failed)" if bad else ""),
        task["protocol"] + (f" @{task['judge']}" if task.get("judge") else ""),
        shown_data(data),
    )


def shown_data(data: Mapping[str, Any]) -> str:
    """Where a result's samples are from, and whether it is of the first of each part only."""
    return str(data["source"]) + (f", first {data['limit']}" if data["limit"] else "")


def _against(line: Line, metric: str) -> str:
    change = _change(line, metric)
    return shown_against(change) if change else ""


def _change(line: Line, metric: str) -> Change | None:
    """The metric's change since the base."""
    task = line.result["task"]
    key = task["name"], task["protocol"], task.get("judge") or ""
    changes = line.comparison.changes if line.comparison else []
    return next((c for c in changes if (c.key, c.metric) == (key, metric)), None)


def _notes(lines: Sequence[Line], several_bases: bool) -> list[str]:
    shown = [metric for line in lines for _, metric in line.metrics]
    notes = unit_notes([metric["unit"] for metric in shown])
    if any(is_rough(metric["low"], metric["clusters"]) for metric in shown):
        notes.append(ROUGH_NOTE)
    if any(line.result["data"]["source"] == "miniature" for line in lines):
        notes.append(MINIATURE_NOTE)
    notes += _comparing(lines, several_bases)
    for line in lines:
        result = line.result
        if found := result.get("contamination"):
            notes.append(f"{result['model']['name']}, {result['task']['name']}: {sentence(found)}")
        if (judge := result.get("judge", {})).get("kind") == "model":
            notes.append(f"{result['task']['name']}: {_judging(judge)}")
    truncated = sum(line.result["counts"]["n_truncated"] for line in lines)
    if truncated:
        notes.append(f"{truncated} prompts were cut on the left to fit the model's context")
    return notes


def _comparing(lines: Sequence[Line], several_bases: bool) -> list[str]:
    """How the differences were tested, once for each comparison."""
    notes = []
    for one in {id(line.comparison): line.comparison for line in lines}.values():
        if one is not None:
            whose = f"{one.other} against {one.base}: " if several_bases or not one.changes else ""
            told = [family_note(one)] if one.changes else []
            notes += [f"{whose}{note}" for note in (*told, *one.notes) if _matters(note)]
    return notes


def _matters(note: str) -> bool:
    """What a model has beyond the other goes without saying below its own results."""
    return not note.startswith(ONLY)


def _judging(judge: Mapping[str, Any]) -> str:
    """Who judged, what it cost now, and what failed: no table hides the count."""
    spent = f"{judge['calls']} calls, {judge['cached']} answered before"
    if judge.get("dollars") is not None:
        spent += f", ${judge['dollars']:.2f}"
    return f"judged by {judge['name']}: {judge['n_verdicts']} verdicts, {judge['n_failed']} failed; {spent}"
