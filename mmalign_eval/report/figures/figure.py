"""What a figure is, and figures as files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import MmevalError
from ...files import write_whole

Data = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A drawing and what it is of.

    Attributes:
        name: Of its file, without suffix: lower-case letters, digits, hyphens.
        title: What it shows; stands in the drawing, too.
        caption: How to read it; plain text.
        svg: The drawing.
        data: What is drawn, as a table: the headings, then the rows.
    """

    name: str
    title: str
    caption: str
    svg: str
    data: Data


def named(*parts: str) -> str:
    """A figure's name of what it is about."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")[:100] or "figure"


def unique(figures: Iterable[Figure]) -> list[Figure]:
    """The figures, those whose name is taken with `-2`, `-3`, ... behind it."""
    out: list[Figure] = []
    taken: set[str] = set()
    for figure in figures:
        name, count = figure.name, 1
        while name in taken:
            count += 1
            name = f"{figure.name}-{count}"
        taken.add(name)
        out.append(replace(figure, name=name))
    return out


def write_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Writes `<name>.svg` for each, for pages that show pictures from files; returns the paths.

    Raises:
        MmevalError: The folder cannot be written, or the disk is full.
    """
    paths = [folder / f"{figure.name}.svg" for figure in figures]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure, path in zip(figures, paths, strict=True):
            write_whole(path, [figure.svg.encode("utf-8")])
    except OSError as error:
        raise MmevalError(f"cannot write figures to {folder}: {error.strerror or error}") from error
    return paths
