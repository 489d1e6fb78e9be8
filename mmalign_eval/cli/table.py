"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..overlap import sentence
from ..results import Result
from ..tables import FEW_CLUSTERS, shown_value

if TYPE_CHECKING:
    from ..answers import Scored

Shown = tuple[str, dict[str, Any]]

TABLE_WIDTH = 1000  # columns; more than any table has


def print_results(results: Sequence[Result], paths: Sequence[Path]) -> None:
    """Prints headline metrics with intervals, then where the files are."""
    folder_names = [path.parent.name for path in paths]  # tells models of one name apart, as the files do
    _print(_stdout(), results, folder_names, [shown_metrics(result) for result in results], paths)


def print_scores(found: Sequence[Scored], paths: Sequence[Path], *, to_stderr: bool = False) -> None:
    """Prints what scoring gave: of the headline the metrics that these answers define, then what to know."""
    results = [one.result for one in found]
    shown = [_defined(result) for result in results]
    console = Console(highlight=False, soft_wrap=True, width=TABLE_WIDTH, stderr=True) if to_stderr else _stdout()
    _print(console, results, [result["model"]["name"] for result in results], shown, paths, _scoring_notes(found))


def _stdout() -> Console:
    # as wide as the table is: rich would fit it to the terminal, and to 80 columns in a pipe, by cutting metric names
    return Console(highlight=False, soft_wrap=True, width=TABLE_WIDTH)


def _print(
    console: Console, results: Sequence[Result], models: Sequence[str], shown: Sequence[Sequence[Shown]],
    paths: Sequence[Path], more_notes: Sequence[str] = (),
) -> None:  # fmt: skip
    several = len(set(models)) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (["model"] if several else []) + ["task", "metric"]:
        table.add_column(column)
    for column in ("value", "95% CI", "n"):
        table.add_column(column, justify="right")
    for column in ("protocol", "data"):
        table.add_column(column)
    few = False
    for result, model, metrics in zip(results, models, shown, strict=True):
        for name, metric in metrics:
            few |= bool(metric["low"] is not None and metric["clusters"] < FEW_CLUSTERS)
            row = ([model] if several else []) + _cells(result, name, metric)
            table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    for line in [*_notes(results, few), *more_notes]:
        console.print(Text(line))
    folders = list(dict.fromkeys(str(path.parent) for path in paths))
    if folders:
        console.print(Text(f"results  {'  '.join(folders)}"))


def _defined(result: Result) -> list[Shown]:
    """Headline metrics that have a value, else all that have one, else the headline."""
    everything = list(result["metrics"].items())
    for choice in (shown_metrics(result), everything):
        if defined := [(name, metric) for name, metric in choice if metric["value"] is not None]:
            return defined
    return shown_metrics(result)


def _scoring_notes(found: Sequence[Scored]) -> list[str]:
    notes = []
    for one in found:
        name = f"{one.result['task']['name']}: " if len(found) > 1 else ""
        if one.missing:
            total = len(one.missing) + one.result["counts"]["n"]
            notes.append(f"{name}{len(one.missing)} of {total} samples are not answered and do not count")
        notes += [f"{name}{note}" for note in one.notes]
    return notes


def shown_metrics(result: Result) -> list[Shown]:
    """Headline metrics of a result (all, if its task names none)."""
    names = result["task"]["headline"] or list(result["metrics"])
    return [(name, result["metrics"][name]) for name in names if name in result["metrics"]]


def _cells(result: Result, name: str, metric: dict[str, Any]) -> list[str]:
    unit = metric["unit"]
    interval = f"{shown_value(metric['low'], unit)} .. {shown_value(metric['high'], unit)}"
    mark = "~" if metric["low"] is not None and metric["clusters"] < FEW_CLUSTERS else ""
    arrow = " (lower=better)" if metric["better"] == "lower" else ""
    counts = result["counts"]
    bad = counts["n_error"] + counts["n_refused"]
    return [
        result["task"]["name"],
        name + arrow,
        shown_value(metric["value"], unit),
        mark + interval if metric["low"] is not None else "-",
        f"{metric['n']}" + (f" ({bad} failed)" if bad else ""),
        result["task"]["protocol"] + (f" @{result['task']['judge']}" if result["task"].get("judge") else ""),
        result["data"]["source"] + (f", first {result['data']['limit']}" if result["data"]["limit"] else ""),
    ]


def _notes(results: Sequence[Result], few: bool) -> list[str]:
    units = {metric["unit"] for result in results for _, metric in shown_metrics(result)}
    notes = ["fractions are in percent"] if "fraction" in units else []
    if few:
        notes.append(f"~ fewer than {FEW_CLUSTERS} clusters: the interval is rough")
    if any(r["data"]["source"] == "miniature" for r in results):
        notes.append("miniature data: shows that the machinery works, says nothing about real models")
    for result in results:
        if found := result.get("contamination"):
            whose = f"{result['model']['name']}, {result['task']['name']}"
            notes.append(f"{whose}: {sentence(found)}")
        if (judge := result.get("judge", {})).get("kind") == "model":
            notes.append(f"{result['task']['name']}: {_judging(judge)}")
    truncated = sum(r["counts"]["n_truncated"] for r in results)
    if truncated:
        notes.append(f"{truncated} prompts were cut on the left to fit the model's context")
    return notes


def _judging(judge: dict[str, Any]) -> str:
    """Who judged, what it cost now, and what failed: no table hides the count."""
    spent = f"{judge['calls']} calls, {judge['cached']} answered before"
    if judge.get("dollars") is not None:
        spent += f", ${judge['dollars']:.2f}"
    return f"judged by {judge['name']}: {judge['n_verdicts']} verdicts, {judge['n_failed']} failed; {spent}"
