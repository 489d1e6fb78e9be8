"""What a leaderboard page is made of: plain data that every writer (markdown, CSV, LaTeX, JSON, model cards) takes.

Numbers stand here as tables show them: scaled to their column's unit, not yet rounded. What could not be compared is
None, never a made-up zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..tables import SIGNIFICANT

Origin = Literal["published", "measured"]
PUBLISHED: Origin = "published"
MEASURED: Origin = "measured"
MINUS = "-"  # what papers print, and what sorts and greps as expected


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: Name in the published YAML; unique in its table.
        title: Heading.
        task: Task whose results fill it; empty for a column that only published rows have.
        metric: Metric of that task.
        unit: `percent` or `points`: what the cells are in.
        better: `higher`, `lower` or `neither`.
        suffix: Printed after every value and difference (`%`, or nothing).
        decimals: Printed digits after the point.
        small_decimals: The same of values below 10 (one paper prints three digits of everything).
        inside: Key of the column in whose cells this one stands in brackets, as one paper prints relative changes.
        notes: Keys of footnotes to the heading.
    """

    key: str
    title: str
    task: str = ""
    metric: str = ""
    unit: str = "percent"
    better: str = "higher"
    suffix: str = ""
    decimals: int = 1
    small_decimals: int = 1
    inside: str = ""
    notes: tuple[str, ...] = ()

    def shown(self, value: float | None) -> str:
        """A value as printed: `46.0%`; `-` where there is none."""
        if value is None:
            return MINUS
        decimals = self.small_decimals if round(abs(value), self.decimals) < 10 else self.decimals
        text = f"{value:.{decimals}f}"
        return (text.lstrip(MINUS) if float(text) == 0 else text) + self.suffix

    def shown_delta(self, delta: float) -> str:
        """A difference as printed: `+7.1%`; zero is `+0.0%`, as the papers have it."""
        text = f"{delta:+.{self.decimals}f}"
        return ("+" + text[1:] if float(text) == 0 else text) + self.suffix


@dataclass(frozen=True)
class Cell:
    """One number.

    Attributes:
        value: In the column's unit; None where there is none.
        origin: Printed in a paper, or measured with mmeval.
        delta: Difference to the same column of the row's base; None without a base.
        significant: A paired test tells it from the base's (Holm over the row's columns, 5 %).
        notes: Keys of the page's footnotes.
        signature: Of a measured cell, in full; empty for a published one.
        result: Of a measured cell its result file below `results/`, without suffix (`MODEL/TASK`): the details page
            has a section for each (`details.anchor`).
        metric: Of a measured cell the metric in that file; a judge's stand-in has another name than the column's.
        low: Lower end of the value's 95 % interval; None where there is none (published cells have none).
        high: Upper end.
        p: Holm-adjusted p-value of the difference; None without a test.
        n: Samples counted; None where it is published.
    """

    value: float | None
    origin: Origin
    delta: float | None = None
    significant: bool = False
    notes: tuple[str, ...] = ()
    signature: str = ""
    result: str = ""
    metric: str = ""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        model: Name; of a published tuned model the name of what was tuned, as the papers print it.
        tuning: How it was tuned (`MM-ft`); empty for a base.
        base: Name of the model its differences are to; empty without one.
        origin: As that of its cells.
        cells: By column key; a column without one is empty.
        notes: Keys of footnotes that hold for the whole row.
        order: Place among rows of one model and protocol (several judges).
    """

    model: str
    tuning: str
    base: str
    origin: Origin
    cells: dict[str, Cell]
    notes: tuple[str, ...] = ()
    order: int = 0

    @property
    def name(self) -> str:
        """What tells the row from others: `LLaMA2 + MM-lora`, `my-model (mm-lora of llama2)`, or the model's name."""
        if not self.tuning:
            return self.model
        if self.origin == PUBLISHED:
            return f"{self.model} + {self.tuning}"
        return f"{self.model} ({self.tuning} of {self.base})" if self.base else f"{self.model} ({self.tuning})"


@dataclass(frozen=True)
class Footnote:
    """A footnote.

    Attributes:
        key: What cells refer to; unique on the page.
        text: One line of plain text.
    """

    key: str
    text: str


@dataclass(frozen=True)
class Table:
    """A table: the published rows, then the measured ones.

    Attributes:
        key: Unique on the page.
        title: Heading.
        caption: Where it is printed: paper, table, page.
        columns: In order.
        rows: In order; published rows before measured ones.
        notes: Keys of footnotes to the heading.
    """

    key: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def of(self, origin: Origin) -> list[Row]:
        """The rows of one origin."""
        return [row for row in self.rows if row.origin == origin]

    @property
    def shown_columns(self) -> tuple[Column, ...]:
        """The columns that are printed as such: all but those that stand in another's brackets."""
        return tuple(column for column in self.columns if not column.inside)

    def text(self, row: Row, column: Column) -> str:
        """A cell as printed, without footnotes: `46.0% (+7.1%)*`; empty where the row has nothing there.

        Where brackets hold another column (`48.6 (-17.9%)`), a difference to the base stands in square ones.
        """
        cell = row.cells.get(column.key)
        if cell is None:
            return ""
        text = column.shown(cell.value)
        opening, closing = "(", ")"
        for other in self.columns:
            if other.inside == column.key and (within := row.cells.get(other.key)) and within.value is not None:
                text += f" ({other.shown_delta(within.value)})"
                opening, closing = "[", "]"
        if cell.delta is not None:
            text += f" {opening}{column.shown_delta(cell.delta)}{closing}"
        return text + (SIGNIFICANT if cell.significant else "")


@dataclass(frozen=True)
class Claim:
    """A derived figure of a paper, computed anew from its tables.

    Attributes:
        group: Heading that it stands under.
        name: What it says, in a few words.
        where: Where it is printed.
        formula: How it is computed, in writing.
        inputs: The numbers that went in, as printed.
        printed: As printed, with its unit.
        recomputed: From the table, written alike.
        agrees: Whether the two agree to the printed digits; None where nothing is printed.
        note: What to know, if they do not.
    """

    group: str
    name: str
    where: str
    formula: str
    inputs: str
    printed: str
    recomputed: str
    agrees: bool | None
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure beside a page.

    Attributes:
        file: Name of its SVG file.
        alt: What it shows, for those who do not see it.
        about: A line below it.
        svg: The file's content.
    """

    file: str
    alt: str
    about: str
    svg: str


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        name: Of its file, without suffix.
        title: Heading.
        intro: One paragraph of plain text.
        tables: In order.
        footnotes: Those that its headings, rows and cells refer to, in the order of their first use.
        figure: If it has one.
        claims: Derived figures computed anew.
        lists: Headings with a line of plain text for each item.
        figures: Further ones, below the tables.
    """

    name: str
    title: str
    intro: str
    tables: tuple[Table, ...] = ()
    footnotes: tuple[Footnote, ...] = ()
    figure: Figure | None = None
    claims: tuple[Claim, ...] = ()
    lists: tuple[tuple[str, tuple[str, ...]], ...] = ()
    figures: tuple[Figure, ...] = ()

    def cells(self) -> Iterator[tuple[Table, Row, Column, Cell]]:
        """Every cell that is there, with its place; tables, rows and columns in order."""
        for table in self.tables:
            for row in table.rows:
                for column in table.columns:
                    if column.key in row.cells:
                        yield table, row, column, row.cells[column.key]


def slug(text: str) -> str:
    """A text as part of a footnote's key or a label: ASCII letters and digits, `-` for all else."""
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in text)
