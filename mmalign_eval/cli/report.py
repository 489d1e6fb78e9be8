"""`mmeval report`: one HTML file to look at."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_OK, EXIT_WANTING, BadInput

if TYPE_CHECKING:
    from ..report.thumbnails import Watch

SUFFIXES = (".html", ".htm")


def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Folders of results (of one model or several), or files"),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="HTML file to write")] = "report.html",
    base: Annotated[
        str, typer.Option(help="Model that the others are compared with [the first, or what that was tuned from]")
    ] = "",
    samples: Annotated[
        int | None, typer.Option(help="Most samples of a task [3,000 in all, shared between the tasks]", min=1)
    ] = None,
    no_samples: Annotated[bool, typer.Option("--no-samples", help="Tables and figures only")] = False,
    thumbnail: Annotated[int, typer.Option(help="Longest side of thumbnails in pixels", min=16, max=640)] = 160,
    training: Annotated[
        list[str] | None,
        typer.Option(
            help="Training log to draw: what mmeval tune left, a trainer_state.json or JSON lines; repeatable"
        ),
    ] = None,
    figures: Annotated[str | None, typer.Option(help="Folder to write the figures to as well, as SVG")] = None,
) -> int:
    """Write a page with the tables, the figures and the samples behind the numbers; it needs no network."""
    from ..report.collect import collect
    from ..report.figures import figures_of, training_curves, write_figures
    from ..report.page import page, write_page

    path = Path(out)
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"--out {out}: must end in .html")
    if path.is_dir():
        raise BadInput(f"--out {out}: is a folder; name the file, as in {path / 'report.html'}")
    if no_samples and samples is not None:
        raise BadInput("--samples and --no-samples exclude each other")
    curves = [training_curves(Path(log)) for log in training or ()]
    material = collect(runs, base)
    drawn = [*figures_of(material.models, material.comparisons), *curves]
    with _progress() as watch:
        made = page(material, drawn, with_samples=not no_samples, per_task=samples, side=thumbnail, watch=watch)
    write_page(made, path)
    if figures is not None:
        write_figures(drawn, Path(figures))
    for line in made.problems:
        print(f"mmeval: {line}", file=sys.stderr)
    print(path)
    return EXIT_WANTING if made.problems else EXIT_OK


@contextlib.contextmanager
def _progress() -> Iterator[Watch]:
    """Bars on a terminal; elsewhere nothing: a report takes seconds."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:

        def watch(what: str, total: int) -> Callable[[int, int], None]:
            bar = bars.add_task(what, total=total)
            return lambda good, bad: bars.update(bar, advance=good + bad)

        yield watch
