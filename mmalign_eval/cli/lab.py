"""`mmeval lab`: both papers in miniature."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_OK, EXIT_WANTING, BadInput, did_you_mean
from .names import split_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..lab.steps import Ledger, Step

Texts = list[str] | None


def lab(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is made; resumed if it is there")] = Path(
        "lab"
    ),
    full: Annotated[bool, typer.Option("--full", help="Three training seeds: hours rather than one")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Every kind of step in seconds; its numbers mean nothing")] = (
        False
    ),
    choose: Annotated[
        bool, typer.Option("--choose", help="Score on the scenes for choosing settings, not on the judged ones")
    ] = False,
    only: Annotated[Texts, typer.Option(help="Only these arms (and the base), comma-separated; repeatable")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the commands; do nothing")] = False,
    processes: Annotated[int, typer.Option(help="Steps at once, each with one thread", min=1)] = 2,
) -> int:
    """Run the laboratory: tune the miniature as both papers tune, and score everything on scenes held out.

    The same command goes on where it was stopped. It leaves result files for `mmeval leaderboard add` and `compare`.
    Nothing it measures is a fact about a real model.
    """
    from ..lab.arms import ScaleName, load
    from ..lab.plan import ends_of, steps_of
    from ..lab.record import leave_facts, register
    from ..lab.steps import Ledger, run, run_inside, wanted

    if full and smoke:
        raise BadInput("--full and --smoke exclude each other")
    arms = load()
    judged = not (choose or smoke)
    size: ScaleName = "full" if full else "smoke" if smoke else "lab"
    steps = steps_of(arms, arms.scales[size], "judge" if judged else "choose")
    names = [arm.name for arm in (*arms.instruct, *arms.prefer)]
    if chosen := split_names(only or []):
        for name in chosen:
            if name not in names:
                raise BadInput(f"--only {name}: no such arm{did_you_mean(name, names)}; there are {', '.join(names)}")
        steps = wanted(steps, ends_of(steps, chosen))
    if plan:
        return _print_plan(steps, Ledger(out))
    out = out.resolve()
    if judged:
        register(out)
    work = run_inside(out, steps, print) if smoke else run(out, steps, processes, _tell)
    for line in work:
        print(f"mmeval: {line}", file=sys.stderr)
    if not work:
        leave_facts(out, arms, arms.scales[size], judged=judged)
        print(f"results {out / 'results'}   page  mmeval leaderboard add {out / 'results'} --as lab")
    return EXIT_WANTING if work else EXIT_OK


def _tell(line: str) -> None:
    print(line, flush=True)


def _print_plan(steps: Sequence[Step], ledger: Ledger) -> int:
    import shlex

    for step in steps:
        state = "done" if ledger.done(step) else f"{step.minutes:.1f} min"
        print(f"{state:>8}  {step.name}\n          {shlex.join(('python', '-m', *step.command))}")
    left = sum(step.minutes for step in steps if not ledger.done(step))
    print(f"{len(steps)} steps, about {left:.0f} minutes of one core left")
    return EXIT_OK
