"""The page in a real browser, opened from disk: filters, order, flips, links, keys, attacks, many samples."""

from __future__ import annotations

import itertools
from pathlib import Path

from mmalign_eval.report.page import write_page
from tests.report.page_support import MODELS, SAMPLES, made, right, write_hostile, write_world
from tests.report.tab import Open

LOSSES = [i for i in range(SAMPLES) if right("plain", i) and not right("tuned", i)]
WINS = [i for i in range(SAMPLES) if not right("plain", i) and right("tuned", i)]


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
