"""How the page looks in a real browser: contrast, colours chosen, print, widths."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mmalign_eval.metrics.base import mean
from mmalign_eval.report.page import write_page
from tests.report.page_support import made
from tests.report.tab import Open
from tests.support_results import write_run


def channel(value: float) -> float:
    value /= 255
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def luminance(colour: str) -> float:
    red, green, blue = (channel(float(c)) for c in re.findall(r"[\d.]+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, two: str) -> float:
    """WCAG 2.2, "contrast ratio"."""
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


COLOURS = """() => [...document.querySelectorAll(
  'h1, nav a, .label, dd, dt, td, th, .muted, .chip, .text, mark, .better, .worse, .keys, .small, button, select, li'
)].filter(e => e.offsetParent && !e.disabled).map(e => {
  const ground = e => getComputedStyle(e).backgroundColor;
  let back = e;
  while (back.parentElement && ground(back) === 'rgba(0, 0, 0, 0)') back = back.parentElement;
  return [getComputedStyle(e).color, ground(back), e.className || e.tagName];
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(tab: Open, scheme: str) -> None:
    one = tab("#task=quiz", color_scheme=scheme)
    pairs = {tuple(pair) for pair in one.page.evaluate(COLOURS)}
    one.choose(task="describe")
    pairs |= {tuple(pair) for pair in one.page.evaluate(COLOURS)}
    assert len(pairs) > 10
    assert {pair: round(contrast(*pair[:2]), 1) for pair in pairs if contrast(*pair[:2]) < 4.5} == {}
    back = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(back) < 0.05) == (scheme == "dark")


def test_the_colours_can_be_chosen(tab: Open) -> None:
    one = tab()
    back = "getComputedStyle(document.body).backgroundColor"
    light = one.page.evaluate(back)
    figure = one.page.evaluate("getComputedStyle(document.querySelector('svg .bg')).fill")
    one.page.click("#theme")
    assert one.page.locator("#theme").inner_text() == "Light colours"
    assert luminance(one.page.evaluate(back)) < 0.05 < luminance(light)
    assert (
        luminance(one.page.evaluate("getComputedStyle(document.querySelector('svg .bg')).fill"))
        < 0.05
        < luminance(figure)
    )
    one.page.reload()
    assert luminance(one.page.evaluate(back)) < 0.05
    one.page.emulate_media(media="print")
    assert one.page.evaluate(back) == light


def test_print(tab: Open) -> None:
    one = tab("#task=describe")
    one.page.emulate_media(media="print")
    for hidden in ("#controls", "nav", "#theme", ".keys", ".next", ".link"):
        assert not one.page.locator(hidden).first.is_visible(), hidden
    for shown in ("table", "svg", ".card", "#count", ".chip"):
        assert one.page.locator(shown).first.is_visible(), shown
    wide = "[...document.querySelectorAll('.wide')].map(e => getComputedStyle(e).overflowX)"
    assert set(one.page.evaluate(wide)) == {"visible"}
    assert len(one.page.pdf(format="A4")) > 10_000
    assert not any(one.is_visible() for one in one.page.locator("summary").all())  # nothing can be opened on paper
    one.page.set_viewport_size({"width": 718, "height": 1000})  # what A4's margins leave
    assert one.page.evaluate("document.querySelector('#results .wide').scrollWidth") <= 720


@pytest.mark.parametrize("width", [360, 400, 1200])
def test_no_sideways_scrolling(tab: Open, width: int) -> None:
    one = tab("#task=quiz", viewport={"width": width, "height": 800})
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    assert one.page.locator("figure svg").first.bounding_box()["width"] > 600  # smaller, and nobody reads it


@pytest.mark.parametrize("width", [400, 1200])
def test_long_names_widen_nothing(tab: Open, tmp_path: Path, width: int) -> None:
    long = "x" * 300
    records = [{"id": f"{long}{i}", "cluster": long, "part": long, "x": i % 2, "answer": long} for i in range(3)]
    path = write_run(tmp_path / "out", "m", "quiz", [mean(f"{long}/acc", "x"), mean("b" * 200, "x")], records)
    result = json.loads(path.read_text())
    result["model"]["name"], result["task"]["name"] = long, long
    path.write_text(json.dumps(result))
    write_page(made(tmp_path / "out"), tmp_path / "report.html")
    one = tab(file=tmp_path / "report.html", viewport={"width": width, "height": 800})
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
