"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..results import Result

FEW_CLUSTERS = 50  # below it a cluster-robust interval is too narrow more often than it says; marked

TABLE_WIDTH = 1000  # columns; more than any table has


def print_results(results: Sequence[Result], paths: Sequence[Path]) -> None:
    """Prints headline metrics with intervals, then where the files are."""
    # as wide as the table is: rich would fit it to the terminal, and to 80 columns in a pipe, by cutting metric names
    console = Console(highlight=False, soft_wrap=True, width=TABLE_WIDTH)
    folder_names = [path.parent.name for path in paths]  # tells models of one name apart, as the files do
    several = len(set(folder_names)) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (["model"] if several else []) + ["task", "metric"]:
        table.add_column(column)
    for column in ("value", "95% CI", "n"):
        table.add_column(column, justify="right")
    for column in ("protocol", "data"):
        table.add_column(column)
    few = False
    for result, folder_name in zip(results, folder_names, strict=True):
        for name, metric in shown_metrics(result):
            few |= bool(metric["low"] is not None and metric["clusters"] < FEW_CLUSTERS)
            row = ([folder_name] if several else []) + _cells(result, name, metric)
            table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    for line in _notes(results, few):
        console.print(Text(line))
    folders = list(dict.fromkeys(str(path.parent) for path in paths))
    console.print(Text(f"results  {'  '.join(folders)}"))


def shown_metrics(result: Result) -> list[tuple[str, dict[str, Any]]]:
    """Headline metrics of a result (all, if its task names none)."""
    names = result["task"]["headline"] or list(result["metrics"])
    return [(name, result["metrics"][name]) for name in names if name in result["metrics"]]


def shown_value(value: float | None, unit: str) -> str:
    """Fractions as percent, other units as they are; `-` where a metric is undefined."""
    if value is None:
        return "-"
    if unit == "fraction":
        return f"{100 * value:.1f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


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
        result["task"]["protocol"],
        result["data"]["source"] + (f", first {result['data']['limit']}" if result["data"]["limit"] else ""),
    ]


def _notes(results: Sequence[Result], few: bool) -> list[str]:
    notes = ["fractions are in percent"] if results else []
    if few:
        notes.append(f"~ fewer than {FEW_CLUSTERS} clusters: the interval is rough")
    if any(r["data"]["source"] == "miniature" for r in results):
        notes.append("miniature data: shows that the machinery works, says nothing about real models")
    truncated = sum(r["counts"]["n_truncated"] for r in results)
    if truncated:
        notes.append(f"{truncated} prompts were cut on the left to fit the model's context")
    return notes
