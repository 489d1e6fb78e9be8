"""The row chart: one line of text and marks a row, in panels beside one another; as high as it has rows.

Bars, dot plots and forest plots are row charts. Every row says what it is in words and numbers, so no legend, no
colour and no number of models stands between the reader and a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .scale import Scale, drawable, scale
from .svg import LINE, SIZE, SMALL, WIDTH, element, escape, heading, label, line, mark, plain, text_width, whisker
from .svg import document as svg_document

EDGE = 12  # left and right of everything
GAP = 10  # between columns
GROUP, NAME, VALUE = 170.0, 190.0, 190.0  # widest that a column of text gets
TALL = 40  # rows: from there on the axis stands above the rows as well


@dataclass(frozen=True)
class Cell:
    """What a row shows in one panel.

    Attributes:
        value: Where its mark is; None: no mark.
        low: Lower end of its interval.
        high: Upper end.
        text: Written beside it.
        is_open: Mark as outline.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    text: str = "-"
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
    """Rows that share their axes.

    Attributes:
        panels: Title of each panel.
        axis: What the axes are in, below them.
        rows: From the top.
    """

    panels: tuple[str, ...]
    axis: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class _Columns:
    group: float  # left edge of each
    name: float
    panels: tuple[tuple[float, float, float], ...]  # start and end of the marks, right edge of the texts
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
    group = min(GROUP, max(text_width(plain(row.group), SIZE + 1) for row in rows)) + 2  # bold is wider
    name = min(NAME, max(text_width(plain(row.name)) for row in rows)) + 2
    at_name = EDGE + (group + GAP if group > 2 else 0)
    left = at_name + (name + GAP if name > 2 else 0)
    count = len(blocks[0].panels)
    wide = (WIDTH - EDGE - left - GAP * 2 * (count - 1)) / count
    panels = []
    for i in range(count):
        texts = min(VALUE, max(text_width(plain(row.cells[i].text), SMALL) for row in rows)) + 4
        start = left + i * (wide + GAP * 2)
        panels.append((start + 8, start + wide - texts - GAP, start + wide))
    return _Columns(EDGE, at_name, tuple(panels), group, name)


def _block(block: Block, columns: _Columns, top: float, bars: bool) -> tuple[list[str], float]:
    body: list[str] = []
    tall = len(block.rows) > TALL
    if any(block.panels):
        top += LINE
        for title, (start, _, right) in zip(block.panels, columns.panels, strict=True):
            body.append(label(title, start, top, width=right - start, kind="strong"))
    top += LINE + 4 if tall else 8
    rows = _placed(block.rows, top)
    bottom = rows[-1][1] + LINE / 2 + 2
    for i, (start, end, _) in enumerate(columns.panels):
        cells = [row.cells[i] for row in block.rows]
        values = [v for cell in cells for v in (cell.value, cell.low, cell.high)]
        axis = scale(values, start, end, zero=True, ticks=5 if len(columns.panels) == 1 else 3)
        body += _axis(axis, top, bottom, block.axis, tall)
        for cell, (row, y) in zip(cells, rows, strict=True):
            body.append(_cell(cell, row, axis, y, columns.panels[i][2], bars))
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
    middle = (axis.start + axis.end) / 2
    body.append(label(unit, middle, bottom + 29, anchor="middle", kind="muted", size=SMALL))
    return body


def _cell(cell: Cell, row: Row, axis: Scale, y: float, right: float, bars: bool) -> str:
    value, low, high = map(drawable, (cell.value, cell.low, cell.high))
    parts = [element("title", escape(" ".join(filter(None, (row.group, row.name, cell.text)))))]
    if value is not None and bars:
        ends = sorted((axis(0.0), axis(value)))
        colour = f"bar s{row.series % 7}"
        parts.append(element("rect", class_=colour, x=ends[0], y=y - 4.5, width=ends[1] - ends[0], height=9.0))
    if value is not None and low is not None and high is not None:
        parts.append(whisker(axis(low), y, axis(high), y))
    if value is not None and not bars:
        parts.append(mark(axis(value), y, row.series, is_open=cell.is_open))
    parts.append(label(cell.text, right, y + 4, width=right - axis.end - 2, anchor="end", size=SMALL))
    return element("g", "".join(parts))
