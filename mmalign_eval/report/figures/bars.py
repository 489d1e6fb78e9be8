"""Grouped bars: a few models on a few things, each bar with its name and its number."""

from __future__ import annotations

from collections.abc import Sequence

from ...tables import shown_value
from .figure import Figure, named
from .rows import Block, Cell, Row, row_chart

Values = Sequence[Sequence[float | None]]
AXES = {"fraction": "%", "percent": "%"}  # what numbers are in as they are shown; other units are called by their name


def shown_scale(unit: str) -> float:
    """What a value is multiplied with to stand as tables show it."""
    return 100.0 if unit == "fraction" else 1.0


def grouped_bars(
    title: str,
    groups: Sequence[str],
    series: Sequence[str],
    values: Values,
    unit: str,
    *,
    texts: Sequence[Sequence[str]] | None = None,
    caption: str = "",
) -> Figure | None:
    """A group of bars for each thing measured, a bar for each model; None if there is not one value.

    Args:
        title: Of the figure.
        groups: What was measured.
        series: The models.
        values: Of each group and series; None where there is none.
        unit: Of all values: `fraction` is shown as percent, as in tables.
        texts: The values as printed; as tables write them if not given.
        caption: How to read it; stands below the title.
    """
    if all(value is None for row in values for value in row):
        return None
    texts = texts or [[shown_value(value, unit) for value in row] for row in values]

    def cell(g: int, s: int) -> Cell:
        value = values[g][s]
        return Cell(None if value is None else value * shown_scale(unit), texts=(texts[g][s],))

    rows = tuple(
        Row(group, model, s, (cell(g, s),)) for g, group in enumerate(groups) for s, model in enumerate(series)
    )
    svg = row_chart(title, caption, [Block(("",), AXES.get(unit, unit), rows)], bars=True)
    data = (("", *series), *((group, *texts[g]) for g, group in enumerate(groups)))
    return Figure(named(title), title, caption, svg, data)
