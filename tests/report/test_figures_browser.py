"""Figures in a real browser: that they draw, that nothing leaves the drawing, and that no text lies on another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.report.figures import Figure, training_curves

from .test_figures import everything
from .test_figures_training import state

MEASURE = """() => [...document.querySelectorAll("svg.mmfig")].map(svg => {
  const view = svg.viewBox.baseVal, frame = svg.getBoundingClientRect(), by = view.width / frame.width;
  const boxes = [...svg.querySelectorAll("text,path,line,rect:not(.bg)")].map(node => {
    const at = node.getBoundingClientRect();
    const own = [...node.childNodes].filter(child => child.nodeType === 3).map(child => child.data).join("");
    return {tag: node.tagName, text: own,
            box: [at.left - frame.left, at.top - frame.top, at.right - frame.left, at.bottom - frame.top]
              .map(value => value * by)};
  });
  return {name: svg.querySelector("title").textContent, wide: view.width, high: view.height, boxes};
})"""


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> list[Figure]:
    folder = tmp_path_factory.mktemp("figures")
    return [
        *everything(folder / "few", 2),
        *everything(folder / "many", 30),
        training_curves(state(folder)),
    ]


def opened(chromium: Any, figures: list[Figure], scheme: str = "light", theme: str = "") -> tuple[Any, list[str]]:
    page = chromium.new_page(viewport={"width": 800, "height": 600}, color_scheme=scheme)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: trouble.append(request.url))
    root = f'<html data-theme="{theme}">' if theme else "<html>"
    page.set_content(f"<!doctype html>{root}<body>{''.join(figure.svg for figure in figures)}</body></html>")
    return page, trouble


def test_everything_is_drawn_inside_and_no_text_on_another(chromium: Any, figures: list[Figure]) -> None:
    page, trouble = opened(chromium, figures)
    measured = page.evaluate(MEASURE)
    assert [one["name"] for one in measured] == [figure.title for figure in figures]
    for one in measured:
        assert one["boxes"]
        for item in one["boxes"]:
            left, top, right, bottom = item["box"]
            assert left >= -1, (one["name"], item)
            assert top >= -1, (one["name"], item)
            assert right <= one["wide"] + 1, (one["name"], item)
            assert bottom <= one["high"] + 1, (one["name"], item)
        texts = [(item["text"], item["box"]) for item in one["boxes"] if item["tag"] == "text"]
        for i, (a, first) in enumerate(texts):
            for b, second in texts[i + 1 :]:
                apart = max(first[0], second[0]) - min(first[2], second[2])
                above = max(first[1], second[1]) - min(first[3], second[3])
                assert apart > -0.5 or above > -4, (one["name"], a, b)  # boxes hold room for accents above and below
    assert trouble == []


@pytest.mark.parametrize(
    ("scheme", "theme", "expected"),
    [
        ("light", "", "rgb(255, 255, 255)"),
        ("dark", "", "rgb(20, 23, 26)"),
        ("light", "dark", "rgb(20, 23, 26)"),
        ("dark", "light", "rgb(255, 255, 255)"),
    ],
)
def test_light_and_dark(chromium: Any, figures: list[Figure], scheme: str, theme: str, expected: str) -> None:
    page, _ = opened(chromium, figures[:1], scheme, theme)
    fill = "node => getComputedStyle(node).fill"
    assert page.eval_on_selector("svg.mmfig .bg", fill) == expected
    assert page.eval_on_selector("svg.mmfig text", fill) != expected
    page.emulate_media(media="print")
    assert page.eval_on_selector("svg.mmfig .bg", fill) == "rgb(255, 255, 255)"


def test_a_figures_file_opens_by_itself(chromium: Any, figures: list[Figure], tmp_path: Path) -> None:
    path = tmp_path / "figure.svg"
    path.write_text(figures[0].svg, encoding="utf-8")
    page = chromium.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.goto(path.as_uri())
    assert page.title() == figures[0].title
    assert page.eval_on_selector("text", "node => getComputedStyle(node).fontFamily").startswith("system-ui")
    assert trouble == []
