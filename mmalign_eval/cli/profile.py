"""`mmeval run --profile`: where a run's time went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..phases import PHASES
from ..results import Result
from ..tables import TextTable
from .table import print_table

Run = Mapping[str, Any]
# Columns of the table, each with what it shows of `provenance.run`; the phases' seconds follow.
COLUMNS: dict[str, Callable[[Run], float | None]] = {
    "asked": lambda run: run["asked"],
    "requests/s": lambda run: run["requests_per_second"],
    "tokens/s": lambda run: run["tokens_per_second"],
    "sequences": lambda run: run["sequence_tokens"],
    "tree": lambda run: run["tree_tokens"],
    "computed": lambda run: run["computed_tokens"],
    "computed/tree": lambda run: run["computed_to_tree"],
    "decoded": lambda run: run["decoded_tokens"],
    "hits": lambda run: run["cache_hits"],
    "images": lambda run: run["images_encoded"],
}
WHAT = (
    "sequences, tree, computed: tokens of prompts and options with a row for each, with each shared prefix once, and "
    "as they went through the model; hits: rows that went on from tokens that were held; then seconds by phase"
)


def print_profile(results: Sequence[Result], paths: Sequence[Path]) -> None:
    """Prints one table a model: what each task asked, what of it went through the model, and how long that took.

    Args:
        results: Of a run.
        paths: Their files; those in one folder are one model's.
    """
    for folder in dict.fromkeys(path.parent for path in paths):
        own = [result for result, path in zip(results, paths, strict=True) if path.parent == folder]
        print_table(profile_table(folder.name, own))


def profile_table(model: str, results: Sequence[Result]) -> TextTable:
    """The table of one model's tasks; those that asked nothing stand in a note."""
    asked = [result for result in results if result["provenance"]["run"]["asked"]]
    idle = [result["task"]["name"] for result in results if not result["provenance"]["run"]["asked"]]
    notes = [f"{', '.join(idle)}: nothing was asked, all answers were there"] if idle else []
    if not asked:
        return TextTable((f"profile of {model}",), (), notes=tuple(notes))
    rows = [_row(result["task"]["name"], result["provenance"]["run"]) for result in asked]
    columns = (f"profile of {model}", *COLUMNS, *(f"{name} s" for name in PHASES))
    return TextTable(columns, tuple(rows), frozenset(range(1, len(columns))), (WHAT, *notes))


def _row(task: str, run: Run) -> tuple[str, ...]:
    seconds = (run["seconds_by_phase"].get(name) for name in PHASES)
    return (task, *(_cell(name, show(run)) for name, show in COLUMNS.items()), *(_cell("s", s) for s in seconds))


def _cell(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if column in ("s", "computed/tree") else f"{value:,.1f}"
