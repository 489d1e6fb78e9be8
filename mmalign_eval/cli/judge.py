"""`mmeval judge agree`: do two judges say the same of the same answers?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EXIT_OK, BadInput, did_you_mean
from .files import STDOUT, write_json

if TYPE_CHECKING:
    from ..judges.agreement import Agreement, Judged, Ranking

Texts = list[str] | None
Key = tuple[str, str]  # task, fingerprint of the model
app = typer.Typer(help="About judges.", no_args_is_help=True)


@dataclass(frozen=True)
class _Settings:
    """What was said about a judge that is to be asked (`judges.opening.JudgeSettings`)."""

    judge: str
    judge_budget: str
    judge_runs: int = 1


@app.callback()
def _about() -> None:
    """About judges."""


@app.command("agree")
def agree(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs, or result files")],
    judge: Annotated[
        Texts,
        typer.Option(
            help="A judge that the results name, or a model to ask (openai:NAME, hf:PATH), or rule; give two "
            "[the two that the results name]"
        ),
    ] = None,
    judge_budget: Annotated[str, typer.Option(help="Most that asking may cost: dollars (5), calls (500calls)")] = "",
    store: Annotated[str, typer.Option(help="Where verdicts are kept [RUN/store.sqlite]")] = "",
    json_to: Annotated[str, typer.Option("--json", help="FILE or -: everything found, as one object")] = "",
    include: Annotated[Texts, typer.Option(help="Task plugin FILE.py; repeatable")] = None,
) -> int:
    """How two judges agree on the same answers: exact, Spearman, and whether the models change places."""
    from ..judges.agreement import agreement, ranking
    from ..registry import TASKS

    for path in include or ():
        TASKS.include(path)
    found, paths = _read(run)
    place = store or str((Path(run[0]) if Path(run[0]).is_dir() else Path(run[0]).parent) / "store.sqlite")
    sides = [
        _side(name, found, paths, _Settings(name, judge_budget), place) for name in _two(judge or [], found, paths)
    ]
    common = [key for key in sides[0] if key in sides[1]]
    if not common:
        named = [sorted({one.judge for one in side.values()}) for side in sides]
        raise BadInput(f"{' '.join(run)}: no answers that both {', '.join(named[0])} and {', '.join(named[1])} judged")
    rows: list[Agreement] = []
    orders: list[Ranking] = []
    for task in dict.fromkeys(key[0] for key in common):
        keys = [key for key in common if key[0] == task]
        one, other = ([side[key] for key in keys] for side in sides)
        rows += [agreement([a], [b], model=a.model) for a, b in zip(one, other, strict=True)]
        if len(keys) > 1:
            rows.append(agreement(one, other))
            orders.append(ranking(one, other))
    names = tuple(next(iter(side.values())).judge for side in sides)
    if json_to != STDOUT:
        _print(names, rows, orders)
    if json_to:
        rankings = [{**asdict(order), "changes": order.changes} for order in orders]
        write_json(json_to, {"judges": names, "agreement": [asdict(row) for row in rows], "rankings": rankings})
    return EXIT_OK


def _read(runs: Sequence[str]) -> tuple[dict[str, dict[Key, Judged]], dict[Key, Path]]:
    """Judge to (task, model) to its verdicts, and a result file of each (task, model)."""
    from ..judges.agreement import read_judged
    from ..results import find_results

    found: dict[str, dict[Key, Judged]] = {}
    paths: dict[Key, Path] = {}
    for run in runs:
        if not Path(run).exists():
            raise BadInput(f"{run}: no such folder or file")
        for path in find_results(run):
            one = read_judged(path)
            if one is not None:
                key = (one.task, one.fingerprint)
                found.setdefault(one.judge, {})[key] = one
                paths[key] = path
    if not found:
        raise BadInput(f"{' '.join(runs)}: no result there in which something was judged")
    return found, paths


def _two(given: Sequence[str], found: dict[str, Any], paths: dict[Key, Path]) -> list[str]:
    """The two judges to compare."""
    known = list(found)
    if len(given) > 2:
        raise BadInput(f"--judge {given[2]}: two judges are compared, not {len(given)}")
    chosen = [*given]
    if len(chosen) < 2:
        rest = [name for name in known if name not in chosen]
        if len(rest) != 2 - len(chosen):
            raise BadInput(f"--judge: name two judges; the results have {', '.join(known)}, or give one to ask")
        chosen = [*rest, *chosen]
    for name in chosen:
        if name not in known and ":" not in name and name not in ("rule", "mini"):
            raise BadInput(f"--judge {name}: the results have {', '.join(known)}{did_you_mean(name, known)}")
    return chosen


def _side(
    name: str, found: dict[str, dict[Key, Judged]], paths: dict[Key, Path], settings: _Settings, place: str
) -> dict[Key, Judged]:
    """One judge's verdicts: those that the results have, else asked for now."""
    known = found.get(name, {})
    if known and name != "rule":
        return known
    from ..judges.agreement import ask_judge
    from ..judges.opening import open_judge
    from ..store import Store

    if name == "rule":
        settings = _Settings(name, "")
    kept = Store(place)
    try:
        judge = open_judge(settings, kept)
        try:
            # `rule` is each task's stand-in: a result may name it so, and those of other tasks cost nothing to ask
            return {key: known.get(key) or ask_judge(path, judge) for key, path in paths.items()}
        finally:
            judge.close()
    finally:
        kept.close()


def _print(names: Sequence[str], rows: Sequence[Agreement], orders: Sequence[Ranking]) -> None:
    print(f"judges  A {names[0]}  B {names[1]}")
    header = ("task", "model", "n", "failed", "exact", "Spearman", "mean A", "mean B", "B-A", "total A", "total B")
    lines = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        words = [
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(words).rstrip())
    for order in orders:
        if not order.changes:
            print(f"{order.task}: both rank the models alike: {' > '.join(order.orders[0])}")
            continue
        print(f"{order.task}: the ranking changes: A {' > '.join(order.orders[0])}; B {' > '.join(order.orders[1])}")
        for model, rival, one, other in order.swapped:
            print(f"  {model} against {rival}: {one:+.1f} by A, {other:+.1f} by B")


def _cells(row: Agreement) -> tuple[str, ...]:
    a, b = row.means
    difference = None if a is None or b is None else b - a
    figures = (row.spearman, a, b, difference, *row.totals)
    exact = "-" if row.exact is None else f"{100 * row.exact:.1f}%"
    shown = ["-" if value is None else f"{value:.3f}" if i < 4 else f"{value:.1f}" for i, value in enumerate(figures)]
    return (row.task, row.model or "all", str(row.n), str(row.n_failed), exact, *shown)
