"""A page's figure: printed rows of one of its tables as grouped bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..report.figures import grouped_bars
from .model import Figure
from .published import PrintedTable


def figure_of(table: PrintedTable, raw: Mapping[str, Any]) -> Figure:
    """Draws some rows of a printed table, a group of bars for each of some columns.

    Args:
        table: Whose rows.
        raw: `file`, `title`, `about`, `keys` and `rows` of the page's data.
    """
    columns = {column.key: column for column in table.columns}
    keys, rows = raw["keys"], [table.row(name).name for name in raw["rows"]]
    values = [[table.value(row, key) for row in rows] for key in keys]
    titles = [columns[key].title for key in keys]
    texts = [[columns[key].shown(value) for value in group] for key, group in zip(keys, values, strict=True)]
    made = grouped_bars(raw["title"], titles, rows, values, columns[keys[0]].unit, texts=texts, caption=raw["about"])
    assert made is not None  # a printed table has values
    said = [
        f"{title}: {', '.join(f'{row} {text}' for row, text in zip(rows, group, strict=True))}"
        for title, group in zip(titles, texts, strict=True)
    ]
    return Figure(raw["file"], f"{raw['title']}. {'; '.join(said)}.", raw["about"], made.svg)
