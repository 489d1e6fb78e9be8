"""Tables on the console: at the end of a run, of scoring, and of a comparison."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..result_tables import Line, Shown, results_table, shown_metrics
from ..results import Result
from ..tables import TextTable, one_line

if TYPE_CHECKING:
    from ..answers import Scored
    from ..compare import Comparison

TABLE_WIDTH = 1000  # columns; more than any table has


def print_table(table: TextTable, console: Console | None = None) -> None:
    """Prints a table and its notes; what models and tasks are called cannot drive the terminal."""
    console = console or _console()
    made = Table(box=None, pad_edge=False, header_style="bold")
    for place, title in enumerate(table.columns):
        made.add_column(Text(one_line(title)), justify="right" if place in table.right else "left")
    for row in table.rows:
        made.add_row(*(Text(one_line(cell)) for cell in row))
    console.print(made)
    for note in table.notes:
        console.print(Text(one_line(note)))


def print_results(
    results: Sequence[Result], paths: Sequence[Path], against: Mapping[Path, tuple[Comparison, Path]] | None = None
) -> None:
    """Prints headline metrics with intervals, then where the files are and what to do with them.

    Args:
        results: Of a run.
        paths: Their files.
        against: Folder of a model to its comparison with its base, and the base's folder.
    """
    against = against or {}
    lines = []
    for result, path in zip(results, paths, strict=True):
        comparison = against[path.parent][0] if path.parent in against else None
        # the folder's name tells models of one name apart, as the files do
        lines.append(Line(path.parent.name, result, shown_metrics(result), comparison))
    print_table(results_table(lines))
    if paths:
        folders = list(dict.fromkeys(path.parent for path in paths))
        bases = list(dict.fromkeys(base for _, base in against.values()))
        _console().print(Text(_ways_on(folders, bases)))


def _ways_on(folders: Sequence[Path], bases: Sequence[Path]) -> str:
    """Where the results are, and the commands that go on from there."""
    named = shlex.join(map(str, folders))
    if len(bases) == 1:
        rest = [folder for folder in folders if folder != bases[0]]
        compared = shlex.join(map(str, [bases[0], *rest]))
    else:
        compared = named if len(folders) > 1 and not bases else f"BASE {named}"
    return (
        f"results  {'  '.join(map(str, folders))}   report  mmeval report {named}   compare  mmeval compare {compared}"
    )


def print_scores(found: Sequence[Scored], paths: Sequence[Path], *, to_stderr: bool = False) -> None:
    """Prints what scoring gave: of the headline the metrics that these answers define, then what to know."""
    console = _console(stderr=to_stderr)
    table = results_table([Line(one.result["model"]["name"], one.result, _defined(one.result)) for one in found])
    print_table(table, console)
    for note in _scoring_notes(found):
        console.print(Text(one_line(note)))
    folders = list(dict.fromkeys(str(path.parent) for path in paths))
    if folders:
        console.print(Text(f"results  {'  '.join(folders)}"))


def _console(*, stderr: bool = False) -> Console:
    # as wide as the table is: rich would fit it to the terminal, and to 80 columns in a pipe, by cutting metric names
    return Console(highlight=False, soft_wrap=True, width=TABLE_WIDTH, stderr=stderr)


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
