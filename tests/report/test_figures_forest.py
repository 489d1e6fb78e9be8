"""The forest plot: marks at their numbers, and in words what the table of the comparison says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mmalign_eval.compare.tables import comparison_table
from mmalign_eval.report.figures import figures_of
from mmalign_eval.report.figures.svg import SMALL, text_width

from .figures_support import CHANGES, across, change, compared, marks, outside, parsed, texts, whiskers, words


def test_forest_marks_stand_at_their_numbers() -> None:
    (figure,) = figures_of({}, [CHANGES])
    root = parsed(figure)
    ends = {round(y1, 1): (x1, x2) for x1, y1, x2, _ in whiskers(root)}
    rows = {t.y - 4: t.shown for t in texts(root) if t.kind == "" and t.anchor == "start"}
    expected = {
        "accuracy": (5.0, 2.0, 8.0),
        "yes_ratio ↔": (-8.0, -12.0, -4.0),
        "CHAIRi ↓": (7.5, 4.0, 10.0),  # lower is better: right is better all the same
        "total": (2.0, -4.0, 8.0),
        "sum": (-145.0, -200.0, -50.0),
        "CIDEr": (0.04, 0.01, 0.07),
    }
    found = {}
    for mark in marks(root):
        slope, origin = across(root, mark.y)
        low, high = ends[mark.y]
        found[rows[mark.y]] = tuple((x - origin) / slope for x in (mark.x, low, high))
        assert [(x - origin) / slope for x in (mark.x, low, high)] == pytest.approx(
            expected[rows[mark.y]], abs=0.2 / slope
        )
    assert found.keys() == expected.keys()
    filled = {rows[mark.y]: "open" not in mark.classes for mark in marks(root)}
    assert filled == {name: name != "total" for name in expected}


def test_the_sides_of_a_forest_are_named_below_its_zero() -> None:
    for delta, low, high in ((-0.2, -0.3, -0.1), (0.0, -0.1, 0.1), (0.2, 0.1, 0.3)):
        (figure,) = figures_of({}, [compared(change("accuracy", delta, low, high, p=0.01))])
        root = parsed(figure)
        _, origin = across(root, marks(root)[0].y)
        (named,) = [text for text in texts(root) if text.shown == "worse ← percentage points → better"]
        assert abs(named.x - origin) <= text_width(named.shown, SMALL) / 2 + 0.1
        assert outside(root) == []
    assert named.x < 500


def test_a_forest_says_in_words_what_it_shows() -> None:
    (figure,) = figures_of({}, [CHANGES])
    shown = words(parsed(figure))
    for text in ("-7.5", "p=.0005", "+5.0", "-145.0", "+0.040", "~", "worse ← percentage points → better"):
        assert text in shown
    assert shown.count("worse ← points → better") == 2, "points of one task are not those of another"
    assert shown.count("~") == 1
    assert shown.count("*") == 5
    for sign in ("↓", "↔", "~", "*"):
        assert sign in figure.caption
    assert ("objects", "CHAIRi ↓", "19.0", "11.5", "-7.5", "-10.0 .. -4.0", "p=.0005 *") in figure.data
    assert ("toy", "undefined", "50.0", "-", "-", "-", "") in figure.data


def test_signs_that_do_not_occur_are_not_explained() -> None:
    (figure,) = figures_of({}, [compared(change("accuracy", 0.1, 0.0, 0.2))])
    assert "↓" not in figure.caption
    assert "~" not in figure.caption


def test_equal_runs_are_no_difference() -> None:
    (figure,) = figures_of({}, [compared(change("accuracy", 0.0, 0.0, 0.0, p=1.0))])
    root = parsed(figure)
    (mark,) = marks(root)
    slope, origin = across(root, mark.y)
    assert mark.x == pytest.approx(origin, abs=0.1)
    assert slope > 0
    assert "open" in mark.classes
    assert {"+0.0", "p=1.00"} <= set(words(root))
    assert {"-0.10", "0.00", "0.10"} <= set(words(root)), "worse has its side as well"


def test_a_forest_writes_what_the_table_of_the_comparison_writes() -> None:
    """The same decimals (those of the larger value), the same interval, the same names of tasks."""
    paper = replace(change("m", 0.45, 0.1, 0.8, unit="points", base=9.95), protocol="paper", label="toy@paper")
    comparison = compared(paper, change("few", 0.1, 0.0, 0.2, clusters=20))
    (figure,) = figures_of({}, [comparison])
    table = comparison_table(comparison)
    told = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    drawn = [dict(zip(figure.data[0], row, strict=True)) for row in figure.data[1:]]
    for one, other in zip(told, drawn, strict=True):
        assert (one["task"], one["change"], one["95% CI"]) == (
            other["task"],
            other["difference"],
            other["95 % interval"],
        )
    assert drawn[0]["difference"] == "+0.5"
    assert "+0.5" in words(parsed(figure))
