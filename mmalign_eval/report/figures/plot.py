"""The point chart: panels with two axes, for lines over steps or severities and for one metric against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .scale import Scale, drawable, scale
from .svg import (
    DASHES,
    LINE,
    SERIES_LIGHT,
    SMALL,
    WIDTH,
    document,
    element,
    heading,
    label,
    legend,
    line,
    mark,
    number,
    stroke,
    text_width,
    whisker,
)

EDGE, AIR = 12.0, 16.0  # around the panels, between them
LABELLED = 8  # points in a panel: up to so many of one series have their value beside them


@dataclass(frozen=True)
class Point:
    """A point.

    Attributes:
        x: Where.
        y: Its value; None: a gap in the line.
        y_ends: Of the interval of y.
        x_ends: Of the interval of x.
        text: Shown when pointed at.
        value: Written beside it, where there is room.
    """

    x: float | None
    y: float | None
    y_ends: tuple[float | None, float | None] = (None, None)
    x_ends: tuple[float | None, float | None] = (None, None)
    text: str = ""
    value: str = ""


@dataclass(frozen=True)
class Line:
    """Points of one series.

    Attributes:
        series: Decides on colour, shape and dashes.
        points: In order.
        joined: Whether by a line.
        marked: Whether each has its mark.
        shift: To the right, in the drawing's units: keeps the intervals of several models at one x apart.
    """

    series: int
    points: tuple[Point, ...]
    joined: bool = True
    marked: bool = True
    shift: float = 0.0


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: Above it.
        lines: What it shows.
        levels: Horizontal reference lines: value and series.
        uprights: Vertical reference lines.
        names: Legend of its own, if it has more than one line.
    """

    title: str
    lines: tuple[Line, ...]
    levels: tuple[tuple[float, int], ...] = ()
    uprights: tuple[float, ...] = ()
    names: tuple[str, ...] = field(default=())

    def xs(self) -> list[float | None]:
        """All that its horizontal axis has to cover."""
        points = [p for line in self.lines for p in line.points]
        return [*(x for p in points for x in (p.x, *p.x_ends)), *self.uprights]

    def ys(self) -> list[float | None]:
        """All that its vertical axis has to cover."""
        points = [p for line in self.lines for p in line.points]
        return [*(y for p in points for y in (p.y, *p.y_ends)), *(value for value, _ in self.levels)]


@dataclass(frozen=True)
class _Place:
    x: Scale
    y: Scale
    panel: Panel
    inset: float


def point_chart(
    title: str,
    note: str,
    panels: Sequence[Panel],
    names: Sequence[str] = (),
    *,
    x_label: str = "",
    y_label: str = "",
    same_y: bool = True,
    whole_x: bool = False,
    inset: float = 0.0,
) -> str:
    """Draws panels side by side, up to three in a line.

    Args:
        title: Of the drawing.
        note: Below the title; also the description.
        panels: At least one.
        names: Of the series, for a legend common to all panels; none is drawn for fewer than two.
        x_label: What the horizontal axes are in.
        y_label: What the vertical axes are in.
        same_y: One vertical scale for all panels.
        whole_x: Horizontal ticks at whole numbers only.
        inset: How far the first and the last x are from the ends of the axis.
    """
    body, top = heading(title, note)
    joined = any(line.joined for panel in panels for line in panel.lines)
    if len(names) > 1:
        drawn, top = legend(names, top, lines=joined)
        body += drawn
    count = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    wide = (WIDTH - 2 * EDGE - AIR * (count - 1)) / count
    high = {1: 260.0, 2: 200.0, 3: 150.0}[count]
    every_x = [x for panel in panels for x in panel.xs()]
    every_y = [y for panel in panels for y in panel.ys()]
    room = _room(panels, every_y, same_y)
    own_legend = any(len(panel.names) > 1 for panel in panels)
    for i, panel in enumerate(panels):
        left = EDGE + (i % count) * (wide + AIR)
        if i and i % count == 0:
            top += high + 3 * LINE + 22 + own_legend * LINE
        body.append(label(panel.title, left, top + LINE, width=wide, kind="strong"))
        upper = top + LINE + 14
        if own_legend:
            if len(panel.names) > 1:
                body += _names(panel, upper - 8, left, left + wide)
            upper += LINE
        x = scale(every_x, left + room + inset, left + wide - 8 - inset, whole=whole_x, ticks=6 if count == 1 else 4)
        y = scale(every_y if same_y else panel.ys(), upper + high, upper, ticks=5)
        body += _axes(x, y, x_label, y_label, inset)
        body += _panel(_Place(x, y, panel, inset))
    return document(title, note or title, top + high + 3 * LINE + 30 + own_legend * LINE, body)


def _names(panel: Panel, top: float, left: float, right: float) -> list[str]:
    marks = [line.marked for line in panel.lines]
    return legend(panel.names, top, left=left, right=right, lines=True, marks=marks)[0]


def _room(panels: Sequence[Panel], every_y: list[float | None], same_y: bool) -> float:
    """Width of the ticks' texts left of each panel."""
    scales = [scale(every_y if same_y else panel.ys(), 1.0, 0.0) for panel in panels]
    return max(text_width(y.written(tick), SMALL) for y in scales for tick in y.ticks) + 8


def _axes(x: Scale, y: Scale, x_label: str, y_label: str, inset: float) -> list[str]:
    body = []
    bottom = y.start
    for tick in y.ticks:
        body.append(line(x.start - inset, y(tick), x.end + inset, y(tick), "axis" if tick == y.ticks[0] else "grid"))
        body.append(label(y.written(tick), x.start - inset - 5, y(tick) + 4, anchor="end", kind="muted", size=SMALL))
    for tick in x.ticks:
        body.append(line(x(tick), bottom, x(tick), bottom + 4, "axis"))
        body.append(label(x.written(tick), x(tick), bottom + 16, anchor="middle", kind="muted", size=SMALL))
    wide = x.end - x.start
    below = "; ".join(filter(None, (x_label and f"across: {x_label}", y_label and f"up: {y_label}")))
    body.append(
        label(below, (x.start + x.end) / 2, bottom + 31, width=wide + 30, anchor="middle", kind="muted", size=SMALL)
    )
    return body


def _panel(place: _Place) -> list[str]:
    x, y, panel = place.x, place.y, place.panel
    body = [line(x(value), y.start, x(value), y.end, "axis", DASHES[2]) for value in panel.uprights]
    for value, series in panel.levels:
        body.append(line(x.start - place.inset, y(value), x.end + place.inset, y(value), stroke(series), DASHES[1]))
        body.append(mark(x.end + place.inset, y(value), series, is_open=True))
    for drawn in panel.lines:
        body += _line(drawn, place)
    if len(panel.lines) == 1 and len(panel.lines[0].points) <= LABELLED:
        body += [text for point in panel.lines[0].points for text in _value(point, place)]
    return body


def _line(drawn: Line, place: _Place) -> list[str]:
    x, y = place.x, place.y
    body = []
    if drawn.joined:
        path, down = [], False
        for point in drawn.points:
            px, py = drawable(point.x), drawable(point.y)
            if px is None or py is None:
                down = False
                continue
            path.append(f"{'L' if down else 'M'}{number(x(px) + drawn.shift)} {number(y(py))}")
            down = True
        if path:
            dash = DASHES[drawn.series % len(DASHES)] or None
            body.append(element("path", class_=stroke(drawn.series), d="".join(path), stroke_dasharray=dash))
    return [*body, *(part for point in drawn.points for part in _point(point, drawn, place))]


def _point(point: Point, drawn: Line, place: _Place) -> list[str]:
    x, y = place.x, place.y
    px, py = drawable(point.x), drawable(point.y)
    if px is None or py is None:
        return []
    at = x(px) + drawn.shift
    body = []
    kind = f"whisker l{drawn.series % len(SERIES_LIGHT)}"
    low, high = map(drawable, point.y_ends)
    if low is not None and high is not None:
        body.append(whisker(at, y(low), at, y(high), kind, cap=3))
    low, high = map(drawable, point.x_ends)
    if low is not None and high is not None:
        body.append(whisker(x(low), y(py), x(high), y(py), kind, cap=3))
    if drawn.marked:
        body.append(mark(at, y(py), drawn.series, title=point.text))
    return body


def _value(point: Point, place: _Place) -> list[str]:
    px, py = drawable(point.x), drawable(point.y)
    if px is None or py is None or not point.value:
        return []
    at, wide = place.x(px), text_width(point.value, SMALL)
    fits = at + 8 + wide <= place.x.end + 8
    x, anchor = (at + 8, "start") if fits else (at - 8, "end")
    return [label(point.value, x, place.y(py) - 7, anchor=anchor, kind="value", size=SMALL)]
