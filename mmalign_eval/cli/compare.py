"""`mmeval compare`: what changed from a base to other models, and is it real? Reads result files only."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EXIT_WANTING, BadInput, MmevalError
from .files import STDOUT, write_json
from .names import split_names

if TYPE_CHECKING:
    from ..compare import Comparison
    from ..compare.flips import Flip
    from ..compare.gates import Gate, Outcome
    from ..compare.seeds import RecipeChange
    from ..runs import Run
    from ..tables import TextTable

Texts = list[str] | None


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
    seeds: Annotated[
        bool, typer.Option("--seeds", help="The OTHERs are training seeds of one recipe: what it does, over seeds")
    ] = False,
    json_to: Annotated[str, typer.Option("--json", help="FILE or -: everything found, as one object")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables as markdown")] = False,
    draws: Annotated[int | None, typer.Option(help="Of bootstrap and randomisation [10000]", min=1000)] = None,
) -> int:
    """What changed, and is it real? Each difference with its 95% interval and a paired test, clustered."""
    from ..compare.gates import exit_code, read_gate
    from ..stats.paired import DRAWS

    gates = [read_gate(text) for text in fail_if_worse or ()]
    given = Given(split_names(metrics or ()), everything, force, draws or DRAWS, gates)
    sides = _Sides()
    try:
        found = _find(sides, sides.read(runs or (), tuned or (), split_names(tasks or ())), given, seeds, flips)
    except BadInput as error:
        if not sides.problems:
            raise
        print(f"mmeval: {error}", file=sys.stderr)  # what is missing may be in a file that is damaged
        return EXIT_WANTING
    if json_to != STDOUT:
        found.show(flips_limit, markdown)
    if json_to:
        write_json(json_to, {**found.as_json(), "problems": sides.problems})
    return EXIT_WANTING if sides.problems else exit_code(found.outcomes)


@dataclass(frozen=True)
class Given:
    """What was asked for."""

    metrics: list[str]
    everything: bool
    force: bool
    draws: int
    gates: list[Gate]


@dataclass
class Found:
    """The comparisons, the samples behind them, and what the gates say.

    Attributes:
        comparisons: One for each other model.
        flips: For each of them, the samples that changed, by task; empty where not asked for.
        recipe: With `--seeds`: the changes over all of them.
        outcomes: Of the gates.
    """

    comparisons: list[Comparison]
    flips: list[dict[str, list[Flip]]]
    recipe: list[RecipeChange] | None
    outcomes: list[Outcome]

    def show(self, most: int, markdown: bool) -> None:
        """Prints everything; of flips at most so many to each side."""
        from ..compare.seeds import seeds_table
        from ..compare.tables import comparison_table, flips_table
        from ..tables import escaped, printable

        if self.recipe is not None:
            _title(f"{len(self.comparisons)} seeds against {self.comparisons[0].base}", markdown)
            _table(seeds_table(self.comparisons, self.recipe), markdown)
        for one, by_task in zip(self.comparisons, self.flips, strict=True):
            names = one.base, one.other
            if self.recipe is None or by_task:
                _title(f"{one.other} against {one.base}", markdown)
            if self.recipe is None:
                _table(comparison_table(one), markdown)
            for label, flips in by_task.items():
                _title(f"{label}: {'samples that' if flips else 'no sample'} changed", markdown)
                if flips:
                    _table(flips_table(flips, names, most), markdown)
        for outcome in self.outcomes:
            print(f"- {escaped(outcome.line)}" if markdown else printable(outcome.line))

    def as_json(self) -> dict[str, Any]:
        """Values in the metrics' own units, nothing rounded."""
        from ..compare.changes import as_row

        comparisons = [
            {
                "base": one.base,
                "other": one.other,
                "changes": [as_row(change) for change in one.changes],
                "notes": one.notes,
                "flips": [asdict(flip) for flips in by_task.values() for flip in flips],
            }
            for one, by_task in zip(self.comparisons, self.flips, strict=True)
        ]
        recipe = {} if self.recipe is None else {"seeds": [change.as_row() for change in self.recipe]}
        gates = [
            {"metric": o.gate.metric, "margin": o.gate.margin, "other": o.other, "code": o.code, "line": o.line}
            for o in self.outcomes
        ]
        return {"comparisons": comparisons, **recipe, "fail_if_worse": gates}


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
        for place in runs:
            if place.isdecimal() and not Path(place).exists():
                raise BadInput(f"{place}: no such file or folder - for a number of flips: --flips-limit {place}")
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
        from ..compare.bases import folder_of_base_of

        runs = self._open(place, tasks)
        return self._open(folder_of_base_of(runs), tasks), runs


def _find(sides: _Sides, pairs: Sequence[tuple[list[Run], list[Run]]], given: Given, seeds: bool, flips: bool) -> Found:
    from ..compare import compare_runs
    from ..compare.gates import decide, find_change
    from ..compare.seeds import over_recipe

    comparisons = [
        compare_runs(
            base, other, everything=given.everything, force=given.force, metrics=given.metrics,
            also=[gate.metric for gate in given.gates], draws=given.draws,
        )
        for base, other in pairs
    ]  # fmt: skip
    recipe = over_recipe(comparisons, given.draws) if seeds else None
    if recipe is None:
        judged = [(one.changes, one.base, one.other) for one in comparisons]
    else:
        judged = [([one.change for one in recipe], comparisons[0].base, f"mean of {len(comparisons)} seeds")]
    outcomes = [
        decide(gate, find_change(gate, changes), base, other) for changes, base, other in judged for gate in given.gates
    ]
    return Found(comparisons, [_flips(one, sides) if flips else {} for one in comparisons], recipe, outcomes)


def _flips(comparison: Comparison, sides: _Sides) -> dict[str, list[Flip]]:
    """Reads the samples; where they are missing or damaged a line says so."""
    from ..compare.flips import flips_of

    found = {}
    for pair in comparison.pairs:
        try:
            found[pair.label] = flips_of(pair)
        except MmevalError as error:
            sides.problem(str(error))
    return found


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
