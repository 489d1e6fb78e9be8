"""`mmeval leaderboard`: pages made anew from files, results taken in, tables for other files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ..errors import EXIT_OK, EXIT_WANTING, BadInput, did_you_mean
from .files import STDOUT

Texts = list[str] | None
ROOT = "leaderboards"

app = typer.Typer(
    help="Regenerate the leaderboards from published numbers and results; add results to them.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
)
RootOption = Annotated[str, typer.Option("--root", metavar="DIR", help=f"The leaderboards' folder [{ROOT}]")]


@app.callback()
def leaderboard(
    context: typer.Context,
    root: RootOption = "",
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a page is not up to date")] = False,
    update: Annotated[
        Texts,
        typer.Option(
            metavar="FILE.md",
            help="Fill the regions of this file between <!-- mmeval:page NAME --> (or mmeval:table, mmeval:run, "
            "mmeval:compare) and <!-- /mmeval -->, and write no page; repeatable",
        ),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="Print as csv, latex, json or model-index; write no page")] = "",
    page: Annotated[Texts, typer.Option(help="With --format: only this page; repeatable [all]")] = None,
    model: Annotated[str, typer.Option(help="With --format model-index: whose numbers")] = "",
    out: Annotated[str, typer.Option("-o", "--out", help="With --format: FILE to write [-: standard output]")] = "",
) -> int:
    """Regenerate the markdown pages; only what changed is written."""
    if context.invoked_subcommand is not None:
        for option, value in (("--check", check), ("--update", update), ("--format", form)):
            if value:
                raise BadInput(
                    f"{option}: does not go with `{context.invoked_subcommand}`; run them one after the other"
                )
        context.obj = root
        return EXIT_OK
    if form and (check or update):
        raise BadInput(f"--format {form}: does not go with --{'check' if check else 'update'}")
    for option, given in (("--page", page), ("--model", model), ("--out", out)):
        if given and not form:
            raise BadInput(f"{option}: goes with --format")
    place = Path(root or ROOT)
    if form:
        return _export(place, form, page or [], model, out)
    if update:
        return _update(place, update, check=check)
    return _regenerate(place, check=check)


@app.command("add")
def add(
    context: typer.Context,
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of mmeval run, or result files")],
    root: RootOption = "",
    force: Annotated[
        bool, typer.Option("--force", help="Take partial results too: --limit, failed or missing samples")
    ] = False,
    apart: Annotated[
        str, typer.Option("--as", metavar="lab", help="Results of mmeval lab: apart from the others, on their own page")
    ] = "",
) -> int:
    """Check results against their own sums and copy them in.

    Samples are not copied: they are large, and prompts, images and answers are not ours to publish. Nor are command
    lines, paths and server addresses. A result that is damaged or partial, or whose values or signature are not those
    of its content, is left out, and the exit code is 1; the others are taken.
    """
    from ..leaderboard.add import add as take
    from ..leaderboard.laboratory import FOLDER, take_facts
    from ..leaderboard.measured import RESULTS
    from ..runs import open_runs

    if apart not in ("", FOLDER):
        raise BadInput(f"--as {apart}: only `--as {FOLDER}`, for results of mmeval lab")
    place = Path(root or context.obj or ROOT)
    found, problems = open_runs(*runs)
    added, refused = take(place, found, force=force, below=apart)
    for given in runs if apart else ():
        take_facts(Path(given), place / RESULTS)
    for one in added:
        print(f"{one.what:<9}  {one.path}")
    _complain([*problems, *refused])
    if any(one.what != "unchanged" for one in added):
        again = f"mmeval leaderboard{_said_root(place)}"
        print(f"samples, paths and addresses were left behind; now regenerate the pages: {again}")
    return EXIT_WANTING if problems or refused else EXIT_OK


def _regenerate(place: Path, *, check: bool) -> int:
    from ..leaderboard.files import stale, write
    from ..leaderboard.pages import leaderboard as read

    board = read(place)
    files, found = board.files(), []
    if check:
        found = stale(place, files)
        for path, why in found:
            print(f"mmeval: {path}: {why}; run mmeval leaderboard{_said_root(place)}", file=sys.stderr)
        if not found:
            print(f"{len(files)} files are up to date")
    else:
        written = write(place, files)
        for path, what in written:
            print(f"{what:<9}  {path}")
        if len(written) < len(files):
            print(f"unchanged  {len(files) - len(written)} files")
    _complain(board.problems, place)
    return EXIT_WANTING if found or board.problems else EXIT_OK


def _update(place: Path, names: list[str], *, check: bool) -> int:
    from ..leaderboard.files import write_file
    from ..leaderboard.regions import Regions
    from ..leaderboard.update import filled

    regions = Regions(place)
    files = {Path(name): filled(Path(name), regions.fills) for name in names}  # all are read before one is written
    stale = False
    for file, (before, after) in files.items():
        if before == after:
            print(f"unchanged  {file}")
        elif check:
            stale = True
            cure = f"mmeval leaderboard{_said_root(place)} --update {file}"
            print(f"mmeval: {file}: a region is not up to date; run {cure}", file=sys.stderr)
        else:
            write_file(file, after)
            print(f"updated    {file}")
    _complain(regions.problems, place)
    return EXIT_WANTING if stale or regions.problems else EXIT_OK


def _export(place: Path, form: str, names: list[str], model: str, out: str) -> int:
    from ..leaderboard import formats
    from ..leaderboard.files import write_file
    from ..leaderboard.pages import leaderboard as read

    if form not in formats.FORMATS:
        raise BadInput(f"--format {form}: unknown{did_you_mean(form, formats.FORMATS)}; {', '.join(formats.FORMATS)}")
    if bool(model) != (form == "model-index"):
        raise BadInput("--model NAME goes with --format model-index, which needs it")
    board = read(place)
    pages = [board.page(name) for name in names] or list(board.pages)
    for page in pages:
        if names and form != "json" and not page.tables:
            raise BadInput(f"--page {page.name}: has no table of models; --format json has all of it")
    if form == "model-index":
        text = formats.as_model_index(pages, board.runs, model)
    else:
        text = {"csv": formats.as_csv, "latex": formats.as_latex, "json": formats.as_json}[form](pages)
    if out in ("", STDOUT):
        sys.stdout.write(text)
    else:
        write_file(Path(out), text)
    _complain(board.problems, place)
    return EXIT_WANTING if board.problems else EXIT_OK


def _said_root(place: Path) -> str:
    """How the command is to be repeated for the same leaderboard."""
    return "" if place == Path(ROOT) else f" --root {place}"


def _complain(problems: Iterable[str], place: Path | None = None) -> None:
    """A line each; of results in the leaderboard of `place` with the cure that is theirs: no run wrote them there."""
    from ..results import AGAIN

    for problem in problems:
        if place is not None and problem.startswith(f"{place / 'results'}{os.sep}"):
            problem = problem.replace(AGAIN, f"take it in again with mmeval leaderboard add{_said_root(place)}")
        print(f"mmeval: {problem}", file=sys.stderr)
