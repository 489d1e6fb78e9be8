"""The row chart: one line of text and marks a row, in panels beside one another; as high as it has rows.

Bars, dot plots and forest plots are row charts. Every row says what it is in words and numbers, so no legend, no
colour and no number of models stands between the reader and a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .scale import Scale, drawable, scale
from .svg import (
    BOLD,
    LINE,
    SERIES_LIGHT,
    SIZE,
    SMALL,
    WIDTH,
    element,
    escape,
    heading,
    label,
    line,
    mark,
    plain,
    text_width,
    whisker,
)
from .svg import document as svg_document

EDGE = 12  # left and right of everything
GAP = 10  # between columns
GROUP, NAME, VALUE = 190.0, 190.0, 190.0  # widest that a column of text gets
TURN = "\u2190"  # in the text below an axis that has a better and a worse side of zero
TALL = 40  # rows: from there on the axis stands above the rows as well


@dataclass(frozen=True)
class Cell:
    """What a row shows in one panel.

    Attributes:
        value: Where its mark is; None: no mark.
        ends: Of its interval.
        texts: Written beside it, in columns.
        is_open: Mark as outline.
    """

    value: float | None
    ends: tuple[float | None, float | None] = (None, None)
    texts: tuple[str, ...] = ("-",)
    is_open: bool = False


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        group: What it belongs to; written once for neighbours of the same group.
        name: What tells it from others of its group.
        series: Decides on colour and shape.
        cells: One a panel.
    """

    group: str
    name: str
    series: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """Rows, and panels, that share one scale.

    Attributes:
        panels: Title of each panel.
        axis: What the axes are in, below them.
        rows: From the top.
    """

    panels: tuple[str, ...]
    axis: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class _Panel:
    start: float  # of the marks
    end: float
    edges: tuple[float, ...]  # right edge of each column of texts


@dataclass(frozen=True)
class _Columns:
    group: float  # left edge of each
    name: float
    panels: tuple[_Panel, ...]
    group_width: float
    name_width: float


def row_chart(title: str, note: str, blocks: Sequence[Block], *, bars: bool = False) -> str:
    """Draws blocks below one another.

    Args:
        title: Of the drawing.
        note: Below the title; also the description.
        blocks: At least one, all with the same number of panels.
        bars: Bars from zero rather than dots.
    """
    body, top = heading(title, note)
    columns = _columns(blocks)
    for block in blocks:
        drawn, top = _block(block, columns, top, bars)
        body += drawn
    return svg_document(title, note or title, top + 4, body)


def _columns(blocks: Sequence[Block]) -> _Columns:
    rows = [row for block in blocks for row in block.rows]
    group = min(GROUP, max(text_width(plain(row.group), SIZE * BOLD) for row in rows)) + 2
    name = min(NAME, max(text_width(plain(row.name)) for row in rows)) + 2
    at_name = EDGE + (group + GAP if group > 2 else 0)
    left = at_name + (name + GAP if name > 2 else 0)
    count = len(blocks[0].panels)
    wide = (WIDTH - EDGE - left - GAP * 2 * (count - 1)) / count
    panels = []
    for i in range(count):
        start = left + i * (wide + GAP * 2)
        edges = _edges([row.cells[i].texts for row in rows], start + wide)
        panels.append(_Panel(start + 8, edges[0], edges[1:]))
    return _Columns(EDGE, at_name, tuple(panels), group, name)


def _edges(texts: Sequence[tuple[str, ...]], right: float) -> tuple[float, ...]:
    """Where the marks end, then the right edge of each column of texts."""
    edges = [right]
    for i in reversed(range(max(map(len, texts)))):
        widest = max(text_width(plain(row[i]), SMALL) if i < len(row) else 0.0 for row in texts)
        edges.append(edges[-1] - (min(VALUE, widest) + 8 if widest else 0))
    return (edges[-1] - GAP, *reversed(edges[:-1]))


def _block(block: Block, columns: _Columns, top: float, bars: bool) -> tuple[list[str], float]:
    body: list[str] = []
    tall = len(block.rows) > TALL
    if any(block.panels):
        top += LINE
        for title, place in zip(block.panels, columns.panels, strict=True):
            body.append(label(title, place.start, top, width=place.edges[-1] - place.start, kind="strong"))
    top += LINE + 4 if tall else 8
    rows = _placed(block.rows, top)
    bottom = rows[-1][1] + LINE / 2 + 2
    values = [v for row in block.rows for cell in row.cells for v in (cell.value, *cell.ends)]
    for i, place in enumerate(columns.panels):
        cells = [row.cells[i] for row in block.rows]
        axis = scale(values, place.start, place.end, zero=True, ticks=5 if len(columns.panels) == 1 else 3)
        body += _axis(axis, top, bottom, block.axis, tall)
        for cell, (row, y) in zip(cells, rows, strict=True):
            body.append(_cell(cell, row, axis, y, place, bars))
    return [*body, *_names(rows, columns)], bottom + 2 * LINE + 8


def _placed(rows: Sequence[Row], top: float) -> list[tuple[Row, float]]:
    """Rows with the middle of each; some air between groups."""
    out, y = [], top + LINE / 2
    for i, row in enumerate(rows):
        if i:
            y += LINE + (6 if row.group != rows[i - 1].group else 0)
        out.append((row, y))
    return out


def _names(rows: Sequence[tuple[Row, float]], columns: _Columns) -> list[str]:
    body = []
    before = None
    for row, y in rows:
        if row.group and row.group != before:
            body.append(label(row.group, columns.group, y + 4, width=columns.group_width, kind="strong"))
        before = row.group
        if row.name:
            body.append(label(row.name, columns.name, y + 4, width=columns.name_width))
    return body


def _axis(axis: Scale, top: float, bottom: float, unit: str, tall: bool) -> list[str]:
    body = []
    for tick in axis.ticks:
        x = axis(tick)
        body.append(line(x, top - 2, x, bottom, "axis" if abs(tick) < 1e-9 else "grid"))
        body.append(label(axis.written(tick), x, bottom + 14, anchor="middle", kind="muted", size=SMALL))
        if tall:
            body.append(label(axis.written(tick), x, top - 7, anchor="middle", kind="muted", size=SMALL))
    middle, half = (axis.start + axis.end) / 2, text_width(unit, SMALL) / 2
    if TURN in unit and axis.end - axis.start > 2 * half:  # what lies on either side of zero: said below zero
        middle = min(max(axis(0.0), axis.start + half), axis.end - half)
    body.append(label(unit, middle, bottom + 29, anchor="middle", kind="muted", size=SMALL))
    return body


def _cell(cell: Cell, row: Row, axis: Scale, y: float, place: _Panel, bars: bool) -> str:
    value, low, high = map(drawable, (cell.value, *cell.ends))
    parts = [element("title", escape(" ".join(filter(None, (row.group, row.name, *cell.texts)))))]
    if value is not None and bars:
        ends = sorted((axis(0.0), axis(value)))
        colour = f"bar s{row.series % len(SERIES_LIGHT)}"
        parts.append(element("rect", class_=colour, x=ends[0], y=y - 4.5, width=ends[1] - ends[0], height=9.0))
    if value is not None and low is not None and high is not None:
        parts.append(whisker(axis(low), y, axis(high), y))
    if value is not None and not bars:
        parts.append(mark(axis(value), y, row.series, is_open=cell.is_open))
    for text, right in zip(cell.texts, place.edges, strict=False):
        if text:
            parts.append(label(text, right, y + 4, width=VALUE, anchor="end", size=SMALL))
    return element("g", "".join(parts))
