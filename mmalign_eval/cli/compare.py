"""`mmeval compare`: what changed from a base to other models, and is it real? Reads result files only."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EXIT_WANTING, BadInput, MmevalError
from .files import STDOUT, write_json
from .names import split_names

if TYPE_CHECKING:
    from ..compare import Comparison
    from ..flips import Flip
    from ..gates import Gate, Outcome
    from ..runs import Run
    from ..tables import TextTable

Texts = list[str] | None
DRAWS = 10_000


def compare(
    runs: Annotated[
        Texts, typer.Argument(metavar="BASE OTHER...", help="A model's folder of results, or one result file, each")
    ] = None,
    tasks: Annotated[Texts, typer.Option("--tasks", "-t", help="Names or globs [all that both have]")] = None,
    metrics: Annotated[Texts, typer.Option(help="Names or globs, or TASK/NAME [each task's headline]")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All metrics")] = False,
    flips: Annotated[bool, typer.Option("--flips", help="Show the samples that changed, with both answers")] = False,
    flips_limit: Annotated[
        int, typer.Option(help="With --flips: at most N worse and N better of a task; 0: all", min=0)
    ] = 10,
    force: Annotated[
        bool, typer.Option("--force", help="Compare other task versions, protocols, judges, data or prompts, marked")
    ] = False,
    fail_if_worse: Annotated[
        Texts,
        typer.Option(
            metavar="METRIC[:MARGIN]",
            help="Exit 1 if METRIC (or TASK/METRIC) got worse by more than MARGIN, 0 if not, 3 if undecided. "
            "Repeatable. MARGIN is in the table's unit (points of percent for fractions). "
            "What decides is the 95% interval of the change: 1 if all of it is beyond MARGIN, 0 if none of it. "
            "Without MARGIN: 1 if the change is for the worse with p < .05, 0 if the interval holds nothing worse "
            "than no change (so too of equal results)",
        ),
    ] = None,
    tuned: Annotated[
        Texts,
        typer.Option(
            metavar="CKPT_RUN",
            help="Results of a checkpoint of mmeval tune: its base is found beside it, instead of BASE OTHER; "
            "repeatable",
        ),
    ] = None,
    json_to: Annotated[str, typer.Option("--json", help="FILE or -: everything found, as one object")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables as markdown")] = False,
    draws: Annotated[int, typer.Option(help="Of bootstrap and randomisation", min=1000)] = DRAWS,
) -> int:
    """What changed, and is it real? Each difference with its 95% interval and a paired test, clustered."""
    from ..gates import exit_code, read_gate

    given = Given(
        split_names(tasks or ()), split_names(metrics or ()), everything, force, draws,
        [read_gate(text) for text in fail_if_worse or ()],
    )  # fmt: skip
    sides = _Sides()
    try:
        found = [_compared(*side, given) for side in sides.read(runs or (), tuned or (), given.tasks)]
        if flips:
            for one in found:
                one.find_flips(sides)
    except BadInput as error:
        if not sides.problems:
            raise
        print(f"mmeval: {error}", file=sys.stderr)  # what is missing may be in a file that is damaged
        return EXIT_WANTING
    if json_to != STDOUT:
        for one in found:
            _print(one, flips_limit, markdown)
    if json_to:
        write_json(json_to, {"comparisons": [_as_json(one) for one in found], "problems": sides.problems})
    return EXIT_WANTING if sides.problems else exit_code([outcome for one in found for outcome in one.outcomes])


@dataclass(frozen=True)
class Given:
    """What was asked for."""

    tasks: list[str]
    metrics: list[str]
    everything: bool
    force: bool
    draws: int
    gates: list[Gate]


@dataclass
class Found:
    """One comparison, with the samples behind it and what its gates say."""

    comparison: Comparison
    outcomes: list[Outcome]
    flips: dict[str, list[Flip]] = field(default_factory=dict)

    def find_flips(self, sides: _Sides) -> None:
        """Reads the samples; where they are missing or damaged a line says so."""
        from ..flips import flips_of

        for pair in self.comparison.pairs:
            try:
                self.flips[pair.label] = flips_of(pair)
            except MmevalError as error:
                sides.problem(str(error))


class _Sides:
    """Opens results; every damaged file is told once, at once."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def problem(self, line: str) -> None:
        if line not in self.problems:
            self.problems.append(line)
            print(f"mmeval: {line}", file=sys.stderr)

    def read(
        self, runs: Sequence[str], tuned: Sequence[str], tasks: Sequence[str]
    ) -> list[tuple[list[Run], list[Run]]]:
        """Base and other, for each other."""
        if tuned:
            if runs:
                raise BadInput(f"--tuned {tuned[0]}: finds its base itself; leave out {' '.join(runs)}")
            return [self._tuned(place, tasks) for place in tuned]
        if len(runs) < 2:
            raise BadInput("expected BASE and at least one OTHER: folders of results, or result files (or --tuned)")
        first, *rest = [self._open(place, tasks) for place in runs]
        return [(first, other) for other in rest]

    def _open(self, place: str | Path, tasks: Sequence[str]) -> list[Run]:
        from ..compare import model_runs

        runs, problems = model_runs(place, tasks)
        for line in problems:
            self.problem(line)
        if not runs:
            raise BadInput(f"{place}: no result there that can be compared")
        return runs

    def _tuned(self, place: str, tasks: Sequence[str]) -> tuple[list[Run], list[Run]]:
        from ..bases import folder_of_base_of

        runs = self._open(place, tasks)
        return self._open(folder_of_base_of(runs), tasks), runs


def _compared(base: list[Run], other: list[Run], given: Given) -> Found:
    from ..compare import compare_runs
    from ..gates import decide, find_change

    wanted = [gate.metric for gate in given.gates]
    comparison = compare_runs(
        base, other, everything=given.everything, force=given.force, metrics=given.metrics, also=wanted,
        draws=given.draws,
    )  # fmt: skip
    names = comparison.base, comparison.other
    outcomes = [decide(gate, find_change(gate, comparison.changes), *names) for gate in given.gates]
    return Found(comparison, outcomes)


def _print(found: Found, flips_limit: int, markdown: bool) -> None:
    from ..compare_tables import comparison_table, flips_table

    names = found.comparison.base, found.comparison.other
    _title(f"{names[1]} against {names[0]}", markdown)
    _table(comparison_table(found.comparison), markdown)
    for label, flips in found.flips.items():
        if flips:
            _title(f"{label}: samples that changed", markdown)
            _table(flips_table(flips, names, flips_limit), markdown)
        else:
            _title(f"{label}: no sample changed", markdown)
    for outcome in found.outcomes:
        print(f"- {outcome.line}" if markdown else outcome.line)


def _title(text: str, markdown: bool) -> None:
    from ..tables import escaped, one_line

    print(f"\n### {escaped(text)}\n" if markdown else f"\n{one_line(text)}")


def _table(table: TextTable, markdown: bool) -> None:
    from ..tables import markdown as as_markdown
    from .table import print_table

    if markdown:
        print(as_markdown(table))
    else:
        print_table(table)


def _as_json(found: Found) -> dict[str, Any]:
    """Values in the metrics' own units, nothing rounded."""
    from ..compare import as_row

    comparison = found.comparison
    return {
        "base": comparison.base,
        "other": comparison.other,
        "changes": [as_row(change) for change in comparison.changes],
        "notes": comparison.notes,
        "flips": [asdict(flip) for flips in found.flips.values() for flip in flips],
        "fail_if_worse": [
            {"metric": one.gate.metric, "margin": one.gate.margin, "code": one.code, "line": one.line}
            for one in found.outcomes
        ],
    }
