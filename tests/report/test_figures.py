"""Figures of results: which ones there are, and that each mark stands where its number says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.errors import MmevalError
from mmalign_eval.report.figures import Figure, figures_of, grouped_bars, write_figures
from mmalign_eval.report.figures.families import parts, pluses, severities, truth, yes_ratios
from mmalign_eval.report.figures.figure import unique

from .figures_support import (
    CHANGES,
    across,
    bars,
    change,
    compared,
    marks,
    outside,
    overlaps,
    parsed,
    results,
    texts,
    whiskers,
    words,
)

SEVERE = {
    "clean/CIDEr": 0.9,
    **{f"{kind}/{s}/CIDEr": 0.9 - s / 10 for kind in ("fog", "glass_blur") for s in (1, 3, 5)},
}
SAID = {f"{part}/{name}": v for part in ("random", "hard") for name, v in (("accuracy", 0.8), ("yes_ratio", 0.6))}
PLUS = {f"{part}/{m}": v for part in ("count", "color", "OCR") for m, v in (("acc", 0.7), ("acc_plus", 0.4))}
KINDS = {f"skill/{name}": 0.2 + i / 10 for i, name in enumerate(("total", "rec", "ocr", "math"))}


def drawn(tmp_path: Path, values: dict[str, float], models: int = 1, **facts: Any) -> Figure:
    names = [f"model-{i}" for i in range(models)]
    figures = figures_of(results(tmp_path, names, "toy", values, **facts), [])
    assert len(figures) == 1
    return figures[0]


def metric(unit: str = "fraction", better: str = "higher", value: float = 0.5) -> dict[str, object]:
    return {"unit": unit, "better": better, "value": value}


# ---- which figures


def test_no_results_no_figures() -> None:
    assert figures_of({}, []) == []
    assert figures_of({"m": []}, [compared()]) == []
    assert figures_of({}, [compared(change("a", None, None, None))]) == []
    assert grouped_bars("t", ["g"], ["s"], [[None]], "percent") is None
    assert grouped_bars("t", [], [], [], "percent") is None


def test_families_by_name() -> None:
    assert [f.metric for f in severities(dict.fromkeys(SEVERE, metric()))] == ["CIDEr"]
    assert list(severities(dict.fromkeys(SEVERE, metric()))[0].names) == ["fog", "glass_blur"]
    assert severities({"fog/3/CIDEr": metric(), "snow/3/CIDEr": metric()}) == [], "one severity is no curve"
    assert yes_ratios(dict.fromkeys([*SAID, "yes_ratio", "acc", "alone/yes_ratio"], metric())) == {
        "random": ("random/yes_ratio", "random/accuracy"),
        "hard": ("hard/yes_ratio", "hard/accuracy"),
        "": ("yes_ratio", "acc"),
    }
    assert [m for m, _ in pluses(dict.fromkeys(PLUS, metric()))] == ["acc"]
    assert pluses(dict.fromkeys(["a/acc", "a/acc_plus", "b/acc", "b/acc_plus", "c/acc"], metric())) == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (list(KINDS), {"skill/*": ["total", "rec", "ocr", "math"]}),
        (["mean/acc", "a/acc", "b/acc"], {"*/acc": ["mean", "a", "b"]}),
        (["judge/a/rel", "judge/b/rel", "judge/c/rel"], {"judge/*/rel": ["a", "b", "c"]}),
        (["type/yes/no", "type/number", "type/other", "all"], {"type/*": ["yes/no", "number", "other"]}),
        (["g/a/acc", "g/b/acc", "g/c/acc", "h/d/acc"], {"*/acc": ["g/a", "g/b", "g/c", "h/d"]}),
        (["a", "b", "c"], {}),
        (["g/a", "g/b"], {}),
        (["g/a", "g/b", "g/c", "h/x", "h/y", "h/z", "h/w"], {"h/*": ["x", "y", "z", "w"], "g/*": ["a", "b", "c"]}),
    ],
)
def test_families_of_parts(names: list[str], expected: dict[str, list[str]]) -> None:
    found = parts(dict.fromkeys(names, metric()), names)
    assert {pattern: list(family) for pattern, family in found} == expected


def test_families_share_unit_and_direction() -> None:
    assert parts({"g/a": metric(), "g/b": metric(), "g/c": metric("percent")}, ["g/a", "g/b", "g/c"]) == []
    assert parts({"g/a": metric(), "g/b": metric(), "g/c": metric(better="lower")}, ["g/a", "g/b", "g/c"]) == []


def test_share_of_yes_in_the_reference() -> None:
    counts = {f"x/{key}": metric(value=v) for key, v in {"TP": 30, "FN": 20, "FP": 5, "TN": 45}.items()}
    assert truth(counts, "x") == 0.5
    assert truth(counts, "y") is None


def test_the_first_rule_that_fits_makes_the_figures(tmp_path: Path) -> None:
    assert drawn(tmp_path / "1", {**SEVERE, **SAID, **PLUS}).name == "toy-cider-by-severity"
    assert drawn(tmp_path / "2", {**SAID, **PLUS, **KINDS}).name == "toy-yes-ratio"
    assert drawn(tmp_path / "3", {**PLUS, **KINDS}).name == "toy-acc-and-acc-plus"
    assert drawn(tmp_path / "4", KINDS).name == "toy-skill"


def test_protocols_never_share_a_figure(tmp_path: Path) -> None:
    results(tmp_path, ["m"], "toy", KINDS)
    models = results(tmp_path, ["m"], "toy", KINDS, protocol="paper")
    titles = [figure.title for figure in figures_of(models, [])]
    assert titles == ["toy: skill, part by part, m", "toy@paper: skill, part by part, m"]


# ---- that they are right


def test_severities(tmp_path: Path) -> None:
    figure = drawn(tmp_path, SEVERE, models=2, headline=["CIDEr"])
    root = parsed(figure)
    assert {"fog", "glass_blur", "model-0", "model-1"} <= set(words(root))
    ups = {float(t.shown): t.y - 4 for t in texts(root) if t.anchor == "end"}
    titled = [mark for mark in marks(root) if mark.title]
    assert len(titled) == 2 * 2 * 3
    for mark in titled:
        value = float(mark.title.split(": ")[1].split()[0])
        low, high = min(ups), max(ups)
        assert mark.y == pytest.approx(ups[low] + (value - low) / (high - low) * (ups[high] - ups[low]), abs=0.2)
    assert "Dashed level" in figure.caption
    assert figure.data[1][:2] == ("clean", "")
    assert ("fog", "3") in {row[:2] for row in figure.data}


def test_yes_ratio_against_accuracy(tmp_path: Path) -> None:
    figure = drawn(tmp_path, SAID, models=2)
    root = parsed(figure)
    (first, *_) = [mark for mark in marks(root) if mark.title]
    assert first.title.startswith("model-0: yes 60.0")
    slope, origin = across(root, first.y, right=380)
    assert (first.x - origin) / slope == pytest.approx(60.0, abs=0.3)
    assert figure.data[0] == ("part", "model", "yes ratio", "accuracy")
    assert [row[0] for row in figure.data[1:]] == ["random", "random", "hard", "hard"]


def test_two_panels_of_a_stricter_metric(tmp_path: Path) -> None:
    figure = drawn(tmp_path, PLUS, models=1)
    root = parsed(figure)
    assert {"acc", "acc_plus", "count", "color", "OCR", "70.0", "40.0"} <= set(words(root))
    left, right = sorted({mark.x for mark in marks(root)})
    for x, value, edges in ((left, 70.0, (0, 400)), (right, 40.0, (430, 760))):
        slope, origin = across(root, 50, *edges)
        assert (x - origin) / slope == pytest.approx(value, abs=0.3)


def test_scores_stand_before_what_they_are_made_of(tmp_path: Path) -> None:
    scored = {f"{part}/score": value for part, value in (("count", 0.75), ("color", 0.5), ("OCR", 0.25))}
    first, second = figures_of(results(tmp_path, ["m"], "toy", {**PLUS, **scored}), [])
    assert (first.name, first.title) == ("toy-score", "toy: score, part by part, m")
    assert second.name == "toy-acc-and-acc-plus"
    root = parsed(first)
    slope, origin = across(root, marks(root)[0].y)
    at = [(mark.x - origin) / slope for mark in marks(root)]
    assert at == pytest.approx([75.0, 50.0, 25.0], abs=0.2 / slope)


def test_panels_side_by_side_share_their_scale(tmp_path: Path) -> None:
    root = parsed(drawn(tmp_path, PLUS))
    slopes = [across(root, 50, *edges)[0] for edges in ((0, 400), (430, 760))]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.01)


@pytest.mark.parametrize("values", [SEVERE, SAID])
def test_many_models_in_one_panel_go_without_intervals(tmp_path: Path, values: dict[str, float]) -> None:
    few, many = drawn(tmp_path / "few", values, models=8), drawn(tmp_path / "many", values, models=9)
    assert whiskers(parsed(few))
    assert "Whiskers" in few.caption
    assert not whiskers(parsed(many))
    assert "Without intervals: more than 8 models." in many.caption
    assert " .. " in many.data[1][-1], "the table has them"


def test_what_is_without_corruption_has_the_mark_of_its_model(tmp_path: Path) -> None:
    root = parsed(drawn(tmp_path, SEVERE, models=3, headline=["CIDEr"]))
    ends = [mark for mark in marks(root) if "open" in mark.classes]
    assert [mark.classes[1] for mark in ends] == ["l0", "l1", "l2"] * 2
    assert len({mark.y for mark in ends}) == 3


def test_rough_intervals_are_marked(tmp_path: Path) -> None:
    assert "~" in words(parsed(drawn(tmp_path / "few", KINDS, n=40)))
    assert "~" not in words(parsed(drawn(tmp_path / "many", KINDS, n=60)))


def test_bars_stand_at_their_numbers() -> None:
    figure = grouped_bars("T", ["g", "h"], ["a", "b"], [[0.25, -0.5], [None, 1.0]], "fraction")
    assert figure is not None
    root = parsed(figure)
    slope, origin = across(root, 60)
    assert [((x - origin) / slope, (x + wide - origin) / slope) for x, _, wide in bars(root)] == [
        pytest.approx((0, 25), abs=0.3),
        pytest.approx((-50, 0), abs=0.3),
        pytest.approx((0, 100), abs=0.3),
    ]
    assert {"25.0", "-50.0", "-", "100.0"} <= set(words(root))
    assert figure.data == (("", "a", "b"), ("g", "25.0", "-50.0"), ("h", "-", "100.0"))


def test_what_cannot_be_drawn_is_written() -> None:
    values = [[float("inf"), 1e300, 2.0]]
    figure = grouped_bars("T", ["g"], ["a", "b", "c"], values, "points", texts=[["inf", "huge", "2"]])
    assert figure is not None
    assert len(bars(parsed(figure))) == 1
    assert {"inf", "huge", "2"} <= set(words(parsed(figure)))


# ---- that they can be read


def everything(tmp_path: Path, models: int) -> list[Figure]:
    names = [f"org/model-with-a-rather-long-name-{i:02d}-bpo" for i in range(models)]
    for i, values in enumerate((SEVERE, SAID, PLUS, KINDS)):
        found = results(tmp_path, names, f"task{i}", values)
    return [*figures_of(found, [CHANGES]), _bars(names)]


def _bars(names: list[str]) -> Figure:
    figure = grouped_bars("Bars", ["one", "two"], names, [[i / 40 for i in range(len(names))]] * 2, "fraction")
    assert figure is not None
    return figure


@pytest.mark.parametrize("models", [1, 2, 30])
def test_no_text_lies_on_another_or_leaves_the_drawing(tmp_path: Path, models: int) -> None:
    figures = everything(tmp_path, models)
    assert len(figures) == 6
    for figure in figures:
        root = parsed(figure)
        assert overlaps(root) == [], figure.name
        assert outside(root) == [], figure.name
        wide, high = map(float, root.attrib["viewBox"].split()[2:])
        assert wide == 760
        assert all(0 <= mark.x <= wide and 0 <= mark.y <= high for mark in marks(root))


def test_long_names_are_cut_with_the_whole_in_reach() -> None:
    name = "a-task-with-an-endless-name-" * 9
    (figure,) = figures_of({}, [compared(change("x" * 300, 0.1, 0.0, 0.2, task=name), base="b" * 300)])
    root = parsed(figure)
    cut = [text for text in texts(root) if "…" in text.shown]
    assert {text.whole for text in cut} >= {name, "x" * 300}
    assert outside(root) == []
    assert len(figure.name) <= 100


def test_names_are_text_and_nothing_else() -> None:
    evil = ['<script>alert("1")</script>', "]]>", "a&b", "שלום <b>", "\u202eevil", "x\0y"]
    (figure,) = figures_of({}, [compared(*(change(text, 0.1, 0.0, 0.2, task=text) for text in evil), base=evil[0])])
    root = parsed(figure)
    tags = {node.tag.split("}")[1] for node in root.iter()}
    assert tags <= {"svg", "title", "desc", "style", "rect", "text", "path", "line", "g"}
    assert {"]]>", "a&b", "שלום <b>", "\ufffdevil", "x\ufffdy"} <= set(words(root))
    assert not any(key.startswith("on") or key.endswith("href") for node in root.iter() for key in node.attrib)


def test_figures_on_one_page_do_not_meddle(tmp_path: Path) -> None:
    figures = everything(tmp_path, 2)
    for figure in figures:
        root = parsed(figure)
        assert not any("id" in node.attrib or "style" in node.attrib for node in root.iter())
        assert root.attrib["role"] == "img"
        assert [root[0].text, root[1].text] == [figure.title, figure.caption or figure.title]
        assert "width" not in root.attrib
    assert len({figure.svg.split("<style>")[1].split("</style>")[0] for figure in figures}) == 1
    assert len({figure.name for figure in figures}) == len(figures)


def test_names_of_figures_are_unique() -> None:
    one = grouped_bars("Same", ["g"], ["s"], [[1.0]], "points")
    assert one is not None
    assert [figure.name for figure in unique([one, one, one])] == ["same", "same-2", "same-3"]


def test_every_table_behind_a_figure_is_a_table(tmp_path: Path) -> None:
    for figure in everything(tmp_path, 2):
        assert len(figure.data) > 1
        assert {len(row) for row in figure.data} == {len(figure.data[0])}


# ---- that they stay the same

SCRIPT = """
import json, sys
from mmalign_eval.report.figures import figures_of
from mmalign_eval.runs import by_model, open_runs
runs, _ = open_runs(sys.argv[1])
print(json.dumps([figure.svg for figure in figures_of(by_model(runs), [])]))
"""


def test_bytes_are_equal_in_other_circumstances(tmp_path: Path) -> None:
    models = results(tmp_path, ["a", "b"], "toy", {**SEVERE, "overall": 0.5})
    here = [figure.svg for figure in figures_of(models, [])]
    other = {**os.environ, "PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=other)
    assert json.loads(ran.stdout) == here


def test_golden() -> None:
    """A small figure, to the byte: what changes it changes every figure that is committed somewhere."""
    figure = grouped_bars("Two", ["g"], ["a & b"], [[0.5]], "fraction", caption="How.")
    assert figure is not None
    assert figure.svg.encode() == Path(__file__).with_name("test_figures_golden.svg").read_bytes()


# ---- as files


def test_files(tmp_path: Path) -> None:
    figures = figures_of({}, [CHANGES])
    (path,) = write_figures(figures, tmp_path / "new" / "folder")
    assert path.name == "differences-base-tuned.svg"
    assert path.read_text(encoding="utf-8") == figures[0].svg
    assert write_figures(figures, tmp_path / "new" / "folder") == [path]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MmevalError, match="cannot write figures to .*file") as caught:
        write_figures(figures_of({}, [CHANGES]), tmp_path / "file")
    assert "\n" not in str(caught.value)
