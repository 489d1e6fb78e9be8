from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmalign_eval.tables import (
    TextTable,
    counted,
    cut,
    escaped,
    markdown,
    one_line,
    shown_change,
    shown_delta,
    shown_interval,
    shown_metric,
    shown_n,
    shown_p,
    shown_value,
    unit_notes,
)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.6749, "fraction", "67.5"),
        (0.0, "fraction", "0.0"),
        (None, "fraction", "-"),
        (1540.26, "points", "1540.3"),
        (9.8765, "points", "9.877"),
        (-12.34, "points", "-12.3"),
        (46.0, "percent", "46.0"),
    ],
)
def test_values(value: float | None, unit: str, shown: str) -> None:
    assert shown_value(value, unit) == shown


@pytest.mark.parametrize(
    ("delta", "unit", "scale", "shown"),
    [
        (0.0251, "fraction", None, "+2.5"),
        (-0.0004, "fraction", None, "+0.0"),  # no negative zero
        (0.5, "points", 1540.0, "+0.5"),  # as many decimals as the value that it belongs to
        (0.5, "points", 1.2, "+0.500"),
        (-12.0, "points", None, "-12.0"),
        (None, "points", 3.0, "-"),
    ],
)
def test_differences(delta: float | None, unit: str, scale: float | None, shown: str) -> None:
    assert shown_delta(delta, unit, scale) == shown


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (None, ""),
        (0.00004, "p<.0001"),
        (0.0005, "p=.0005"),
        (0.0321, "p=.032"),
        (0.0999, "p=.100"),
        (0.684, "p=.68"),
        (0.994, "p=.99"),
        (1.0, "p=1.00"),
    ],
)
def test_p_values(p: float | None, shown: str) -> None:
    assert shown_p(p) == shown


def test_intervals_are_marked_below_50_clusters() -> None:
    assert shown_interval(0.658, 0.691, "fraction", 50) == "65.8 .. 69.1"
    assert shown_interval(0.658, 0.691, "fraction", 49) == "~65.8 .. 69.1"
    assert shown_interval(None, None, "fraction", 1) == "-"
    assert shown_change(-0.014, 0.02, "fraction", 0.7, 200) == "-1.4 .. +2.0"
    assert shown_change(-0.5, 2.0, "points", 1540.0, 14) == "~-0.5 .. +2.0"
    assert shown_change(None, None, "points", None, 14) == "-"


def test_counts_and_names() -> None:
    assert shown_n(3600, 200) == "3600 (200)"
    assert shown_n(100, 100) == "100"
    assert [counted(n, "sample") for n in (0, 1, 2)] == ["0 samples", "1 sample", "2 samples"]
    assert shown_metric("Resp", "lower") == "Resp (lower=better)"
    assert shown_metric("yes_ratio", "neither") == "yes_ratio"
    assert unit_notes(["points", "fraction"]) == ["fractions are in percent"]
    assert unit_notes(["points"]) == []


def test_long_texts_are_cut_with_a_sign() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"


def test_texts_of_models_stay_on_a_line_and_drive_no_terminal() -> None:
    assert one_line("a\n\tb\x1b[31mred\x07\u202ec\u2028d") == "a b [31mred c d"


def cells(line: str) -> list[str]:
    """An independent reader of a markdown row: bars that no backslash precedes."""
    inner = line.strip()[1:-1].replace("\\\\", "\0").replace("\\|", "\1")
    row = next(csv.reader(io.StringIO(inner), delimiter="|", quoting=csv.QUOTE_NONE))
    return [cell.strip().replace("\1", "|").replace("\0", "\\") for cell in row]


def test_markdown_has_headings_rules_rows_and_notes() -> None:
    table = TextTable(("task", "n"), (("a_b", "3"), ("c", "12")), frozenset({1}), ("a note",))
    assert markdown(table) == "| task | n |\n| :--- | ---: |\n| a_b | 3 |\n| c | 12 |\n\n- a note\n"


@given(st.lists(st.text(max_size=20), min_size=3, max_size=3))
def test_no_name_breaks_out_of_its_cell(names: list[str]) -> None:
    lines = markdown(TextTable(("x", "y", "z"), (tuple(names),))).rstrip("\n").split("\n")
    assert len(lines) == 3
    assert len(cells(lines[2])) == 3
    assert "<" not in lines[2]


def test_markdown_shows_what_was_written() -> None:
    assert escaped("**a** [x](y) `c` <b> ~d~ & |") == r"\*\*a\*\* \[x\](y) \`c\` &lt;b&gt; \~d\~ &amp; \|"
    assert escaped("_a_ b_c __d") == r"\_a\_ b_c \_\_d"
