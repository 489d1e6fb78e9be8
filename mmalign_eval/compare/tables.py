"""Comparisons as tables: the same cells whoever prints them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..tables import (
    MINIATURE_NOTE,
    ROUGH_NOTE,
    SIGNIFICANT,
    UNLIKE,
    UNLIKE_NOTE,
    TextTable,
    counted,
    cut,
    one_line,
    shown_change,
    shown_delta,
    shown_metric,
    shown_n,
    shown_p,
    shown_value,
    unit_notes,
)
from .changes import LEVEL, Change, Comparison
from .checks import Pair
from .flips import Flip

SAID = 60  # characters of an answer in a table; files have it whole
NUMBERS = frozenset(range(2, 8)) | {9, 10, 11}  # columns of a comparison that hold numbers


def comparison_table(comparison: Comparison) -> TextTable:
    """Every change of a comparison, and what to know about them."""
    columns = (
        *("task", "metric", comparison.base, comparison.other, "change", "95% CI", "p", "", "verdict"),
        *("won/lost/tied", "n (clusters)", "detectable"),
    )
    rows = tuple(_row(change) for change in comparison.changes)
    return TextTable(columns, rows, NUMBERS, tuple(_notes(comparison)))


def shown_against(change: Change) -> str:
    """A change in one cell: `+2.5 p=.054`, with its marks; what the table of a run says of the base."""
    if change.paired.delta is None:
        return "-"
    delta = shown_delta(change.paired.delta, change.unit, change.scale)
    return " ".join(filter(None, (delta, shown_p(change.p_holm), marks(change))))


def marks(change: Change) -> str:
    """`*` for a significant change, `!` for one between results that are not alike."""
    return (SIGNIFICANT if change.significant else "") + (UNLIKE if change.differs else "")


def family_note(comparison: Comparison) -> str:
    """Over what the p-values were adjusted."""
    tests = sum(change.paired.p is not None for change in comparison.changes)
    return f"p: adjusted for {counted(tests, 'test')} (Holm); {SIGNIFICANT} below {100 * LEVEL:.0f} %"


def flips_table(flips: Sequence[Flip], names: tuple[str, str], most: int) -> TextTable:
    """The samples of one task that changed, at most so many to each side; how many there are is a note."""
    rows: list[tuple[str, ...]] = []
    notes = []
    for better in (False, True):
        side = [flip for flip in flips if flip.better == better]
        shown = side[:most] if most else side
        rows += [_flip(flip) for flip in shown]
        here = f", {len(shown)} of them here" if len(shown) < len(side) else ""
        notes.append(f"{counted(len(side), 'sample')} {'better' if better else 'worse'}{here}")
    columns = ("sample", "change", *(f"{name} said" for name in names), "reference", "metric")
    return TextTable(columns, tuple(rows), notes=("; ".join(notes),))


def _flip(flip: Flip) -> tuple[str, ...]:
    if flip.binary:
        change = "wrong -> right" if flip.better else "right -> wrong"
    else:
        change = f"{shown_value(flip.base, flip.unit)} -> {shown_value(flip.other, flip.unit)}"
    said = (cut(text, SAID) for text in (flip.base_answer, flip.other_answer, flip.reference))
    return (one_line(flip.id), change, *said, flip.metric)


def difference(change: Change) -> tuple[str, ...]:
    """The cells that every row of a comparison begins with: task, metric, both values, the difference, its interval."""
    found, unit, scale = change.paired, change.unit, change.scale
    return (
        change.label,
        shown_metric(change.metric, change.better),
        shown_value(found.base, unit),
        shown_value(found.other, unit),
        shown_delta(found.delta, unit, scale),
        shown_change(found.low, found.high, unit, scale, found.clusters),
    )


def marks_notes(changes: Iterable[Change], pairs: Iterable[Pair]) -> list[str]:
    """What the marks in these rows mean, and whether they are of toy data."""
    known = list(changes)
    said = (
        (ROUGH_NOTE, any(change.rough for change in known)),
        (UNLIKE_NOTE, any(change.differs for change in known)),
        (MINIATURE_NOTE, any(pair.other.miniature for pair in pairs)),
    )
    return [note for note, holds in said if holds]


def _row(change: Change) -> tuple[str, ...]:
    found, unit, scale = change.paired, change.unit, change.scale
    return (
        *difference(change),
        shown_p(change.p_holm).removeprefix("p").removeprefix("=") or "-",
        marks(change),
        change.verdict if change.significant else "",
        f"{found.wins}/{found.losses}/{found.ties}" if found.wins is not None else "-",
        shown_n(found.n, found.clusters),
        shown_delta(found.detectable, unit, scale).lstrip("+"),
    )


def _notes(comparison: Comparison) -> list[str]:
    changes = comparison.changes
    notes = unit_notes([change.unit for change in changes])
    if any(change.paired.p is not None for change in changes):
        notes.append(family_note(comparison))
    if any(change.paired.p is None for change in changes):
        notes.append("no p: made of all samples at once, undefined on a side, or all samples in one cluster")
    if any(change.paired.detectable is not None for change in changes):
        notes.append("detectable: the smallest change that would be found in 80 % of such comparisons")
    return [*notes, *marks_notes(changes, comparison.pairs), *comparison.notes]
