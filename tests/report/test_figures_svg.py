"""The small code that figures are written with: escaping, cutting, colours, axes."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmalign_eval.report.figures import STYLE, svg
from mmalign_eval.report.figures.scale import scale

EVIL = [
    "<script>alert(1)</script>",
    "]]>",
    "a & b",
    "\"quoted\" and 'this'",
    "</svg><img src=x onerror=y>",
    "<!-- x -->",
]


@pytest.mark.parametrize("text", EVIL)
def test_whatever_it_says_is_text(text: str) -> None:
    drawn = svg.document(text, text, 50, [svg.label(text, 0, 10), svg.mark(1, 1, 0, title=text)])
    root = ET.fromstring(drawn)
    assert [t.text for t in root.iter(f"{{{root.tag[1:].split('}')[0]}}}text")] == [text]
    assert "<script" not in drawn
    assert "<img" not in drawn
    assert {node.tag.split("}")[1] for node in root.iter()} == {"svg", "title", "desc", "style", "rect", "text", "path"}


@given(st.text())
def test_any_text_is_well_formed(text: str) -> None:
    ET.fromstring(svg.document(text, text, 9, [svg.label(text, 0, 0, width=40.0), svg.mark(0, 0, 0, title=text)]))


@pytest.mark.parametrize("char", ["\0", "\x1b", "\ud800", "\u202e", "\u2066", "\uffff"])
def test_what_xml_forbids_or_turns_text_round_is_seen(char: str) -> None:
    assert svg.plain(f"a{char}b") == "a\ufffdb"


def test_right_to_left_names_stay_as_they_are() -> None:
    assert svg.plain("نموذج  שלום") == "نموذج שלום"


@given(st.text(), st.floats(20, 300))
def test_cut_texts_fit(text: str, width: float) -> None:
    shown = svg.fit(text, width)
    assert svg.text_width(shown) <= width
    if "…" not in text:
        assert ("…" in shown) == (svg.text_width(svg.plain(text)) > width)


def test_a_cut_text_keeps_both_ends_and_the_whole_in_its_title() -> None:
    name = "llava-v1.5-13b-with-a-very-long-description-bpo"
    node = ET.fromstring(svg.label(name, 0, 0, width=120.0))
    assert node[0].text == name
    shown = node[0].tail or ""
    assert shown.startswith("llava")
    assert shown.endswith("-bpo")
    assert "…" in shown


def test_coordinates_have_one_decimal_and_no_negative_zero() -> None:
    assert [svg.number(v) for v in (-0.04, 0.0, 12.3456, -7.25, 1e5)] == ["0.0", "0.0", "12.3", "-7.2", "100000.0"]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    one, two = sorted((luminance(a), luminance(b)), reverse=True)
    return (one + 0.05) / (two + 0.05)


def colours(rules: str, root: str = "") -> dict[str, str]:
    """Class to colour of one set of rules of the style sheet."""
    scope = re.escape(f"{root} svg.mmfig".strip())
    found = {}
    for selectors, colour in re.findall(rf"((?:{scope} [.\w]+,?)+)\{{(?:fill|stroke):(#\w{{6}})\}}", rules):
        for one in selectors.split(","):
            found[one.split()[-1]] = colour
    return found


def modes() -> dict[str, dict[str, str]]:
    before, media = STYLE.split("@media screen and (prefers-color-scheme:dark){")
    dark, themed = media.split("@media screen{")
    return {
        "light": colours(before),
        "dark": colours(dark),
        "themed light": colours(themed, ":root[data-theme=light]"),
        "themed dark": colours(themed, ":root[data-theme=dark]"),
    }


@pytest.mark.parametrize("mode", ["light", "dark", "themed light", "themed dark"])
def test_contrast(mode: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 for text; 1.4.11: 3 for what is drawn (marks and bars: their outline)."""
    known = modes()[mode]
    assert contrast(known["text"], known[".bg"]) >= 4.5
    assert contrast(known[".muted"], known[".bg"]) >= 4.5
    for outline in (".axis", ".whisker", ".mark", ".bar"):
        assert contrast(known[outline], known[".bg"]) >= 3
    first = [contrast(known[f".l{i}"], known[".bg"]) for i in range(3)]
    assert min(first) >= 3, "the first three series are lines that anybody sees"
    assert len({known[f".s{i}"] for i in range(7)}) == 7


def test_a_theme_of_the_page_is_the_readers_setting() -> None:
    found = modes()
    assert found["themed light"] == found["light"]
    assert found["themed dark"] == found["dark"]
    assert found["light"] != found["dark"]


def test_series_differ_by_more_than_colour() -> None:
    looks = {(i % len(svg.SERIES_LIGHT), i % len(svg.SHAPES), i % len(svg.DASHES)) for i in range(30)}
    assert len(looks) == 30
    neighbours = itertools.pairwise(range(30))
    assert all(svg.SHAPES[a % 5] != svg.SHAPES[b % 5] and svg.DASHES[a % 4] != svg.DASHES[b % 4] for a, b in neighbours)


def test_the_style_says_nothing_about_the_page_around_it() -> None:
    rules = re.sub(r"@media[^{]*\{", "", STYLE)
    selectors = [one for part in re.findall(r"([^{}]+)\{", rules) for one in part.split(",")]
    assert selectors
    assert all("svg.mmfig" in one for one in selectors)
    assert "<" not in STYLE
    assert "&" not in STYLE


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.booleans())
def test_a_scale_covers_its_values(values: list[float], zero: bool) -> None:
    axis = scale(values, 100.0, 500.0, zero=zero)
    assert axis(axis.ticks[0]) == pytest.approx(100)
    assert axis(axis.ticks[-1]) == pytest.approx(500)
    assert all(99.99 <= axis(v) <= 500.01 for v in [*values, *([0.0] if zero else [])])
    assert 2 <= len(axis.ticks) <= 14
    assert len({axis.written(t) for t in axis.ticks}) == len(axis.ticks)
    assert all(float(axis.written(t)) == pytest.approx(t, rel=1e-5, abs=1e-12) for t in axis.ticks)


def test_scales_without_anything_to_cover_still_are() -> None:
    for values in ([], [None], [math.nan, math.inf], [1e300]):
        assert scale(values, 0.0, 1.0).ticks


def test_small_steps_are_written_short() -> None:
    assert scale([0.0, 1e-6], 0.0, 1.0).written(2e-7) == "2e-07"
    assert scale([1, 5], 0.0, 1.0, whole=True).ticks == (1, 2, 3, 4, 5)
