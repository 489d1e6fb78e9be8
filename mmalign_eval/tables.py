"""How numbers are written in every table: values, intervals, differences, marks and footnotes.

One implementation: the table at the end of a run, `mmeval compare`, the leaderboards and the report say the same of the
same results.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

FEW_CLUSTERS = 50  # below it a cluster-robust interval is too narrow more often than it says; marked
ROUGH = "~"  # marks an interval from fewer
SIGNIFICANT = "*"  # marks a difference whose Holm-adjusted p is below 5 %
UNLIKE = "!"  # marks a difference between results that were not asked, decoded or scored alike
ROUGH_NOTE = f"{ROUGH} fewer than {FEW_CLUSTERS} clusters: the interval is rough"
UNLIKE_NOTE = f"{UNLIKE} not asked, decoded or scored alike: the difference is not the models' alone"
PERCENT_NOTE = "fractions are in percent"
MINIATURE_NOTE = "miniature data: shows that the machinery works, says nothing about real models"


@dataclass(frozen=True)
class TextTable:
    """A table of text, as consoles and markdown print it.

    Attributes:
        columns: Headings.
        rows: Cells, as many in each as there are columns.
        right: Places of the columns that hold numbers: they stand at the right.
        notes: Lines below it.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def markdown(table: TextTable) -> str:
    """The table and its notes as GitHub's markdown; ends with a line break.

    What models and tasks are called cannot break out of a cell.
    """
    rules = ["---:" if i in table.right else ":---" for i in range(len(table.columns))]
    rows = [[escaped(cell) for cell in row] for row in (table.columns, *table.rows)]
    lines = [f"| {' | '.join(cells)} |" for cells in (rows[0], rules, *rows[1:])]
    notes = [f"- {escaped(note)}" for note in table.notes]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def escaped(text: str) -> str:
    """Text that markdown and the HTML in it show as it is, on one line; `_` within a word is none of markdown's."""
    shown = (_HTML.get(c) or (f"\\{c}" if c in _MARKUP else c) for c in one_line(text))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", "".join(shown))


_HTML = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_MARKUP = "\\`*[]|~"


def cut(text: str, most: int) -> str:
    """The beginning of a text that is longer than so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def one_line(text: str) -> str:
    """Text without line breaks and control characters: a space for each run of them."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Text with a blank for each line break and control character."""
    return "".join(c if c.isprintable() else " " for c in text)


def counted(number: int, word: str) -> str:
    """`1 sample`, `2 samples`."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def shown_metric(name: str, better: str) -> str:
    """A metric's name, with an arrow's worth of words where less is better."""
    return name + (" (lower=better)" if better == "lower" else "")


def is_rough(low: float | None, clusters: int) -> bool:
    """Whether there is an interval, and from too few clusters to be trusted."""
    return low is not None and clusters < FEW_CLUSTERS


def shown_interval(low: float | None, high: float | None, unit: str, clusters: int) -> str:
    """`65.8 .. 69.1`, marked where it is from few clusters; `-` where there is none."""
    if low is None or high is None:
        return "-"
    return f"{ROUGH * is_rough(low, clusters)}{shown_value(low, unit)} .. {shown_value(high, unit)}"


def shown_change(low: float | None, high: float | None, unit: str, scale_of: float | None, clusters: int) -> str:
    """The interval of a difference: `-1.4 .. +2.0`, marked likewise."""
    if low is None or high is None:
        return "-"
    ends = " .. ".join(shown_delta(end, unit, scale_of) for end in (low, high))
    return f"{ROUGH * is_rough(low, clusters)}{ends}"


def shown_n(n: int, clusters: int) -> str:
    """`3600 (200)`: samples and the clusters they fall into; one number where each is its own."""
    return f"{n}" if n == clusters else f"{n} ({clusters})"


def unit_notes(units: Sequence[str]) -> list[str]:
    """How the numbers of these units are to be read."""
    return [PERCENT_NOTE] if "fraction" in units else []


def shown_value(value: float | None, unit: str) -> str:
    """Fractions as percent, other units as they are (small ones with more decimals); `-` where undefined."""
    if value is None:
        return "-"
    if unit == "fraction":
        return f"{100 * value:.1f}"
    return f"{value:.1f}" if unit == "percent" or abs(value) >= 10 else f"{value:.3f}"


def shown_delta(delta: float | None, unit: str, scale_of: float | None = None) -> str:
    """A difference with its sign; with as many decimals as the value that it belongs to.

    Args:
        delta: The difference, in the metric's unit.
        unit: Of the metric.
        scale_of: A value of the metric: its size decides on the decimals, not that of the difference.
    """
    if delta is None:
        return "-"
    if unit == "fraction":
        return _signed(f"{100 * delta:+.1f}")
    large = unit == "percent" or abs(scale_of if scale_of is not None else delta) >= 10
    return _signed(f"{delta:+.1f}" if large else f"{delta:+.3f}")


def shown_p(p: float | None) -> str:
    """`p=.032`, `p<.0001`, `p=1.00`; empty without a test."""
    if p is None:
        return ""
    if p < 1e-4:
        return "p<.0001"
    if p >= 0.995:
        return "p=1.00"
    return "p=" + (f"{p:.4f}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}").lstrip("0")


def _signed(text: str) -> str:
    return "+" + text[1:] if float(text) == 0 else text  # no negative zero
