"""The page in a real browser, opened from disk: filters, order, flips, links, keys, colours, print, attacks."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.metrics.base import mean
from mmalign_eval.report.page import write_page
from tests.report.page_support import MODELS, SAMPLES, made, right, write_hostile, write_world
from tests.support_results import write_run

LOSSES = [i for i in range(SAMPLES) if right("plain", i) and not right("tuned", i)]
WINS = [i for i in range(SAMPLES) if not right("plain", i) and right("tuned", i)]


class Tab:
    """A tab that remembers what it was asked to load and what it complained about."""

    def __init__(self, browser: Any, file: Path, address: str, **options: Any) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1200, "height": 900}, **options})
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(file.as_uri() + address)

    def done(self) -> None:
        """Nothing but the file itself was loaded, and nothing was complained about."""
        assert [url[:80] for url in self.requests if not url.startswith(("file://", "data:"))] == []
        assert len({url.split("#")[0] for url in self.requests if url.startswith("file://")}) == 1
        assert self.complaints == []
        self.page.close()

    def ids(self) -> list[str]:
        return [text.split(" · ")[1] for text in self.page.locator(".card h3").all_inner_texts()]

    def count(self) -> int:
        found = re.match(r"([\d,]+) of", self.page.locator("#count").inner_text())
        assert found
        return int(found[1].replace(",", ""))

    def choose(self, **values: str) -> None:
        for name, value in values.items():
            if name == "search":
                self.page.fill("#search", value)
            else:
                self.page.select_option(f"#{name}", value)

    def current(self) -> str:
        return str(self.page.locator(".card[aria-current]").get_attribute("data-index"))


Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_page(made(write_world(folder)), folder / "a report.html")
    return folder / "a report.html"


@pytest.fixture
def tab(chromium: Any, world: Path) -> Iterator[Open]:
    tabs: list[Tab] = []

    def opened(address: str = "", file: Path | None = None, **options: Any) -> Tab:
        tabs.append(Tab(chromium, file or world, address, **options))
        return tabs[-1]

    yield opened
    for one in tabs:
        one.done()


def test_it_opens_with_all_samples(tab: Open) -> None:
    one = tab()
    assert one.count() == SAMPLES + 8
    assert one.page.locator(".card").count() == 50
    assert one.page.locator(".pages").first.inner_text() == "page 1 of 3"
    one.page.click("#top .next")
    assert one.page.locator(".pages").first.inner_text() == "page 2 of 3"
    assert one.ids()[0] == "q/42"
    assert one.page.url.endswith("#page=2")


def test_filter_by_task_outcome_and_model(tab: Open) -> None:
    one = tab()
    one.choose(task="quiz")
    assert one.count() == SAMPLES
    one.choose(model="0", outcome="wrong")
    assert one.count() == sum(not right("plain", i) for i in range(SAMPLES))
    one.choose(model="1")  # `other`
    assert one.count() == 0
    assert "No sample fits" in one.page.locator("#list").inner_text()
    one.choose(model="")
    assert one.count() == sum(not all(right(m, i) for m in MODELS) for i in range(SAMPLES))
    one.choose(task="describe", outcome="marked")
    assert one.count() == 8
    one.page.click("#reset")
    assert one.count() == SAMPLES + 8


def test_flips(tab: Open) -> None:
    one = tab("#task=quiz&model=2")
    one.choose(change="lost")
    assert one.ids() == [f"q/{i}" for i in LOSSES]
    first = one.page.locator(".card").first.inner_text()
    assert "✓ right" in first
    assert "✗ wrong" in first
    assert "worse than the base" in first
    one.choose(change="won")
    assert one.count() == len(WINS)
    one.choose(change="flipped")
    assert one.count() == len(LOSSES) + len(WINS)
    one.choose(change="worse")
    assert one.count() == len(LOSSES)
    one.choose(change="better")
    assert one.count() == len(WINS)
    one.choose(change="other")
    assert one.count() == SAMPLES
    one.choose(task="describe")
    assert one.count() == 0  # both wrote the same


def test_search(tab: Open) -> None:
    one = tab()
    one.choose(search="ZEBRA7 ")
    assert one.count() == 0
    one.choose(search="zebra77")
    assert one.ids() == ["q/77"]
    one.choose(search="says tuned indeed")
    assert one.count() == sum(i % 7 > 0 for i in range(SAMPLES))
    one.choose(search="names a dog")
    assert one.count() == 8  # the judge's words


def test_sort(tab: Open) -> None:
    one = tab("#task=quiz&sort=id&order=desc")
    assert one.ids()[:3] == ["q/119", "q/118", "q/117"]
    one.choose(sort="length", order="", model="0")
    lengths = [int(i.split("/")[1]) % 7 for i in one.ids()]
    assert lengths == sorted(lengths)
    one.choose(sort="delta", model="2")
    assert one.ids()[: len(LOSSES)] == [f"q/{i}" for i in LOSSES]
    one.choose(order="desc")
    assert one.ids()[: len(WINS)] == [f"q/{i}" for i in WINS]
    one.choose(sort="score", order="", model="0")
    assert all(not right("plain", int(i.split("/")[1])) for i in one.ids())


def test_a_link_to_a_sample_restores_it(tab: Open) -> None:
    first = tab("#task=quiz&outcome=wrong&model=0&sort=id&order=desc")
    link = first.page.locator(".card .link").nth(3)
    href = str(link.get_attribute("href"))
    name = first.ids()[3]
    assert href == f"#task=quiz&id={name.replace('/', '%2F')}"
    link.click()
    first.page.wait_for_selector(".card[aria-current]")
    again = tab(href)
    assert again.page.locator(".card[aria-current] h3").inner_text() == f"quiz · {name}"
    assert again.page.evaluate("document.activeElement.matches('.card[aria-current]')")
    assert again.page.locator(".card[aria-current]").evaluate("e => e.getBoundingClientRect().top") < 600
    assert again.count() == SAMPLES


def test_the_address_keeps_filters_and_sample(tab: Open) -> None:
    first = tab("#task=quiz&change=lost&model=2")
    for _ in range(3):
        first.page.keyboard.press("j")
    address = first.page.url.partition("#")[2]
    again = tab(f"#{address}")
    assert again.page.locator(".card[aria-current] h3").inner_text() == f"quiz · q/{LOSSES[2]}"
    assert again.count() == len(LOSSES)
    assert again.page.locator("#change").input_value() == "lost"


def test_back_takes_back_what_was_chosen(tab: Open) -> None:
    one = tab()
    shown = "([name, value]) => document.getElementById(name).value === value"
    one.choose(task="quiz")
    one.choose(outcome="wrong")
    one.choose(search="zeb")
    one.page.click("#top .next")
    assert one.page.url.endswith("#task=quiz&outcome=wrong&search=zeb&page=2")
    one.page.go_back()
    one.page.wait_for_function("document.querySelector('.pages').textContent === 'page 1 of 2'")
    one.page.go_back()
    one.page.wait_for_function(shown, arg=["outcome", ""])
    assert one.page.locator("#task").input_value() == "quiz"
    one.page.go_back()
    one.page.wait_for_function(shown, arg=["task", ""])
    assert one.count() == SAMPLES + 8
    one.page.go_forward()
    one.page.wait_for_function(shown, arg=["task", "quiz"])
    assert one.count() == SAMPLES


def test_the_pages_are_turned_from_below_as_well(tab: Open) -> None:
    one = tab("#task=quiz")
    one.page.click("#below .next")
    assert one.ids()[0] == "q/50"
    assert one.page.evaluate("document.activeElement === document.querySelector('.card')")
    assert 0 <= one.page.locator("#top").evaluate("e => e.getBoundingClientRect().top") < 100
    one.choose(task="describe")
    assert not one.page.locator("#below").is_visible()


def test_pictures_keep_their_room_before_they_are_drawn(tab: Open) -> None:
    one = tab("#task=quiz&id=q/25")
    sizes = "[...document.images].map(e => `${e.getAttribute('width')}x${e.getAttribute('height')}`)"
    assert set(one.page.evaluate(sizes)) == {"160x120"}
    assert one.page.locator(".card[aria-current]").evaluate("e => e.getBoundingClientRect().top") < 100


def test_what_is_left_out_is_told_above_the_samples(tab: Open, tmp_path: Path) -> None:
    write_page(made(write_world(tmp_path), per_task=20), tmp_path / "report.html")
    one = tab(file=tmp_path / "report.html")
    told = one.page.locator("details.cut")
    assert "quiz: 20 of 120 samples are here" in told.inner_text()
    assert told.bounding_box()["y"] < one.page.locator("#count").bounding_box()["y"]


def test_a_link_beyond_the_filters_and_one_to_nowhere(tab: Open) -> None:
    one = tab("#task=quiz&change=lost&id=q/1")
    assert one.page.locator(".card[aria-current] h3").inner_text() == "quiz · q/1"
    two = tab("#task=quiz&id=q/99999")
    assert "q/99999 is not on this page" in two.page.locator("#count").inner_text()
    three = tab("#task=%3Cscript%3E&sort=x&page=-7")
    assert three.count() == SAMPLES + 8


def test_keys(tab: Open) -> None:
    one = tab("#task=quiz")
    one.page.keyboard.press("/")
    assert one.page.evaluate("document.activeElement.id") == "search"
    one.page.keyboard.type("jk/")
    assert one.page.locator("#search").input_value() == "jk/"
    one.page.keyboard.press("Escape")
    one.page.click("#reset")
    one.choose(task="quiz")
    one.page.evaluate("document.activeElement.blur()")
    for key, expected in (("j", "8"), ("ArrowRight", "9"), ("k", "8"), ("ArrowLeft", "8")):
        one.page.keyboard.press(key)
        assert one.current() == expected
    for _ in range(50):
        one.page.keyboard.press("j")
    assert one.page.locator(".pages").first.inner_text() == "page 2 of 3"
    assert one.page.locator(".card[aria-current] h3").inner_text() == "quiz · q/50"


def test_tab_order_and_visible_focus(tab: Open) -> None:
    one = tab()
    seen = []
    for _ in range(40):
        one.page.keyboard.press("Tab")
        seen.append(one.page.evaluate("document.activeElement.id || document.activeElement.className"))
        if seen[-1] == "search":
            break
    assert seen[0] == "skip"
    assert [name for name in seen if name in ("theme", "task", "model", "outcome", "change", "search")] == [
        *("theme", "task", "model", "outcome", "change", "search")
    ]
    assert one.page.locator("#search").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    fresh = tab()
    fresh.page.keyboard.press("Tab")
    assert fresh.page.locator(".skip").first.bounding_box()["x"] >= 0
    fresh.page.keyboard.press("Enter")
    assert fresh.page.url.endswith("#results")


def test_what_is_read_aloud(tab: Open) -> None:
    one = tab()
    assert one.page.locator("#count").get_attribute("aria-live") == "polite"
    assert one.page.locator(".card img:not([alt])").count() == 0
    assert one.page.locator(".card img").first.get_attribute("alt") == "image of sample d0"
    ids = one.page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    for control in one.page.locator("select, input").all():
        assert control.evaluate("e => e.labels.length") == 1
    unnamed = "[...document.querySelectorAll('button, a')].filter(e => !e.textContent.trim() && !e.ariaLabel).length"
    assert one.page.evaluate(unnamed) == 0
    levels = one.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_images_and_marks_are_drawn(tab: Open) -> None:
    one = tab("#task=describe")
    sizes = one.page.evaluate("Promise.all([...document.images].map(e => e.decode().then(() => e.naturalWidth)))")
    assert sizes
    assert set(sizes) == {160}
    assert one.page.locator(".card").first.locator("mark").all_inner_texts() == ["dogs", "hot dog", "dogs"]
    assert "judge: {" in one.page.locator(".card").first.inner_text()


def test_attacks_do_nothing(tab: Open, tmp_path: Path) -> None:
    write_page(made(write_hostile(tmp_path)), tmp_path / "report.html")
    one = tab(file=tmp_path / "report.html")
    assert one.page.evaluate("window.hacked") is None
    for search in ("", "script"):
        one.choose(search=search)
        assert one.page.evaluate("window.hacked") is None
    one.page.click("#reset")
    assert one.page.locator("#list script, #list b, #list i, #list a:not(.link), #list [onerror]").count() == 0
    text = one.page.locator("#list").inner_text()
    assert "<script>window.hacked = 1</script>" in text
    assert "U+202E" in text
    assert "\u202e" not in text
    assert "U+0000" in text
    assert "U+D83D" in text
    assert "1,048,576 characters, first 4,000 shown" in text
    # what turns text round stays in its own box: everything before and after keeps its place
    card = one.page.locator(".card").nth(4)
    assert card.locator(".text").first.get_attribute("dir") == "auto"
    head = card.locator("h3").bounding_box()
    assert head["x"] < 100


def test_long_texts_open_and_close(tab: Open, tmp_path: Path) -> None:
    write_page(made(write_hostile(tmp_path)), tmp_path / "report.html")
    one = tab(file=tmp_path / "report.html")
    card = one.page.locator(".card").last
    more = card.locator(".more").nth(1)
    body = card.locator(".text").nth(1)
    short = len(body.inner_text())
    more.click()
    assert more.get_attribute("aria-expanded") == "true"
    assert len(body.inner_text()) > 3 * short
    more.click()
    assert len(body.inner_text()) == short


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


def test_without_javascript_there_are_tables_and_figures(tab: Open) -> None:
    one = tab(java_script_enabled=False)
    assert one.page.locator("table").first.is_visible()
    assert one.page.locator("svg").first.is_visible()
    assert "need JavaScript" in one.page.locator("#samples").inner_text()
    assert not one.page.locator("#samples").locator("button, select, input").first.is_visible()  # none would do a thing


TIMED = """async () => {
  const set = (name, value) => {
    const control = document.getElementById(name);
    control.value = value;
    const start = performance.now();
    control.dispatchEvent(new Event('input', { bubbles: true }));
    return performance.now() - start;
  };
  const acts = [
    ['outcome', 'wrong'], ['change', 'lost'], ['sort', 'delta'], ['search', 'zebra12'], ['search', ''], ['sort', 'id'],
  ];
  acts.forEach(([name, value]) => set(name, value));  // once to warm up
  const best = acts.map(() => Infinity);  // of several: other processes take time as well
  for (let round = 0; round < 5; round++) {
    document.getElementById('reset').click();
    acts.forEach(([name, value], at) => { best[at] = Math.min(best[at], set(name, value)); });
  }
  return acts.map(([name, value], at) => [name, value, best[at]]);
}"""


def test_three_thousand_samples_answer_at_once(tab: Open, tmp_path: Path) -> None:
    write_page(made(write_world(tmp_path, samples=3000)), tmp_path / "report.html")
    one = tab(file=tmp_path / "report.html")
    assert one.count() == 3000
    slow = {f"{name} {value}": round(took) for name, value, took in one.page.evaluate(TIMED)}
    assert max(slow.values()) < 100, slow
