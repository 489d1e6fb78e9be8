"""Formulas: the same numbers as the same expression in Python, and nothing but arithmetic is ever taken."""

import json
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.formula import DEEPEST, FUNCTIONS, Formula, at, over, put

WIDTH = 4
NUMBERS = st.sampled_from(["0", "1", "2", "0.5", "1e-09", "100"])
LEAVES = st.integers(0, WIDTH - 1).map("s[{}]".format) | NUMBERS
SUMS = st.lists(st.floats(-100, 100) | st.sampled_from([0.0, 1.0, 2.0]), min_size=WIDTH, max_size=WIDTH)
NUMPYS = ("exp", "log", "sqrt", "minimum", "maximum")


@st.composite
def texts(draw, depth=4):
    """An expression, as text."""
    kind = draw(st.sampled_from(["leaf", "operator", "minus", "one", "two", "where"])) if depth else "leaf"
    if kind == "leaf":
        return draw(LEAVES)
    a, b, c, d = (draw(texts(depth - 1)) for _ in range(4)) if kind == "where" else (draw(texts(depth - 1)), *"000")
    match kind:
        case "minus":
            return f"-{a}"
        case "one":
            return f"{draw(st.sampled_from(['exp', 'log', 'sqrt']))}({a})"
        case "where":
            return f"where({a} {draw(st.sampled_from(['>', '>=', '<', '<=', '==']))} {b}, {c}, {d})"
    b = draw(texts(depth - 1))
    if kind == "operator":
        return f"({a} {draw(st.sampled_from('+-*/'))} {b})"
    return f"{draw(st.sampled_from(['minimum', 'maximum', 'sum', 'mean']))}({a}, {b})"


TEXTS = texts()


def plainly(function):
    return lambda *values: float(function(*values))


def plain(text, sums):
    """The expression as Python has it; nan where Python refuses."""
    names = {
        **{name: plainly(getattr(np, name)) for name in NUMPYS},
        "s": sums,
        "sum": lambda *v: sum(v),
        "mean": lambda *v: sum(v) / len(v),
        "where": lambda condition, a, b: a if condition else b,
    }
    try:
        with np.errstate(all="ignore"):
            return float(eval(text, {"__builtins__": {}}, names))
    except (ZeroDivisionError, OverflowError):
        return math.nan


@given(TEXTS, st.lists(SUMS, min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_values_are_those_of_the_same_expression(text, rows):
    found = Formula(text)(np.array(rows))
    for value, row in zip(found, rows, strict=True):
        expected = plain(text, row)
        if math.isfinite(expected):  # Python stops where something in it is undefined, here other parts may still count
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(TEXTS, SUMS)
@settings(max_examples=100, deadline=None)
def test_one_row_and_many_are_alike(text, row):
    formula = Formula(text)
    one, many = formula(np.array(row)), formula(np.array([[row, row], [row, row]]))
    assert one.shape == ()
    assert many.shape == (2, 2)
    np.testing.assert_array_equal(many, np.broadcast_to(one, (2, 2)))
    assert formula.width <= WIDTH


def test_dividing_by_zero_is_undefined_and_stays_so():
    rows = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 2.0]])
    assert Formula("s[0] / s[1]")(rows)[2] == 0.5
    for text in ("s[0] / s[1]", "1 + 0 * (s[0] / s[1])", "mean(1, s[0] / s[1])", "where(s[1] > 0, 1, nan)"):
        assert np.isnan(Formula(text)(rows)).tolist() == [True, True, False], text
    assert Formula("mean_defined(1, s[0] / s[1])")(rows).tolist() == [1.0, 1.0, 0.75]
    assert Formula("defined_or(s[0] / s[1], -1)")(rows).tolist() == [-1.0, -1.0, 0.5]
    assert np.isnan(Formula("mean_defined(1 / s[1], nan)")(rows)).tolist() == [True, True, False]
    assert Formula("2 ** -1")(rows).tolist() == [0.5] * 3


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_reach_is_linear_between_the_points_around_the_level(data):
    number = data.draw(st.integers(1, 6))
    xs = data.draw(st.lists(st.integers(0, 8), min_size=number, max_size=number))
    ys = data.draw(st.lists(st.integers(-5, 5), min_size=number, max_size=number))
    level = data.draw(st.integers(0, 20)) / 2
    flat = [float(v) for pair in zip(xs, ys, strict=True) for v in pair]
    formula = Formula(f"reach(s[0], {', '.join(f's[{1 + i}]' for i in range(2 * number))})")
    value = float(formula(np.array([level, *flat])))
    after = next((i for i in range(number) if xs[i] >= level), None)
    if after is None:
        assert math.isnan(value)
    elif after == 0:
        assert value == ys[0]
    else:
        assert value == pytest.approx(np.interp(level, xs[after - 1 : after + 1], ys[after - 1 : after + 1]))


REFUSED = [
    "", " ", "s", "s[-1]", "s[0.5]", "s[True]", "s[s[0]]", "s[0:2]", "s[0][1]", "s[999999999]", "t[0]", "x", "True",
    "None", "1j", "1e999", "9" * 5000, "'a'", "b'a'", "f'{s[0]}'", "[1]", "(1, 2)", "{1}", "lambda: 1",
    "s[0] if s[1] else 1", "s[0] and 1", "s[0] // 2", "s[0] % 2", "s[0] @ 2", "s[0] << 2", "~s[0]", "not s[0]",
    "+s[0]", "s[0] > 1", "1 < s[0] < 2", "s[0] != 1", "where(s[0], 1, 2)", "where(1 < s[0] < 2, 1, 2)",
    "where(s[0] > 1, 2)", "where()", "exp()", "exp(1, 2)", "mean()", "sum()", "reach(1)", "reach(1, 2)",
    "reach(1, 2, 3, 4)", "minimum(1)", "exp(x=1)", "exp(*s)", "mean(*[1])", "print(1)", "abs(1)",
    "__import__('os').system('true')", "s.__class__", "s[0].real", "(1).real", "exp.__call__(1)", "().__class__",
    "x := 1", "[i for i in s]", "s[0]; 1", "s[0] = 1", "import os", "await s", "yield", "*s", "s[0]\x00", "s[0] #",
    "ｓ[0]", "s[0] \\\n+ 1", "(" * 300 + "1" + ")" * 300, "-" * 100_000 + "1", "1 + " * 5000 + "1",
    "exp(" * 3000 + "1" + ")" * 3000, "1" + " " * 200_000,
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_everything_else_is_refused_in_a_line(text):
    with pytest.raises(BadInput) as raised:
        Formula(text)
    said = str(raised.value)
    assert said.startswith("not a formula: ")
    assert len(said.splitlines()) == 1
    assert len(said) < 500


@given(st.text(alphabet="s[]0123456789().,+-*/<>= \nexpwhermanfd_'\"x:;{}@\\#", max_size=30))
@settings(max_examples=500, deadline=None)
@example("1if s[0] else 2")
@example("s[0]\n+1")
def test_any_text_is_a_formula_that_can_be_computed_or_is_refused(text):
    try:
        formula = Formula(text)
    except BadInput:
        return
    assert formula(np.ones((3, max(1, formula.width)))).shape == (3,)


def test_as_deep_as_allowed():
    Formula("-" * (DEEPEST - 1) + "1")
    with pytest.raises(BadInput, match="levels"):
        Formula("-" * DEEPEST + "1")


@given(TEXTS, SUMS, st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_at_takes_sums_that_stand_further_on(text, row, offset):
    shifted = at(text, offset)
    np.testing.assert_array_equal(shifted(np.array([0.0] * offset + row)), Formula(text)(np.array(row)))
    assert shifted.width == (Formula(text).width + offset if Formula(text).width else 0)


def test_over_and_put():
    rows = np.array([[1.0, 2.0, 3.0, 0.0], [1.0, 4.0, 1.0, 2.0]])
    parts = [at("s[0] / s[1]", place) for place in (0, 2)]
    assert over("sum", parts)(rows).tolist()[1] == 0.75
    assert over("mean", parts)(rows)[1] == 0.375
    assert np.isnan(over("mean", parts)(rows)[0])
    assert over("mean_defined", parts)(rows).tolist() == [0.5, 0.375]
    assert over("sum", [f"s[{i}]" for i in range(1000)]).width == 1000
    assert put("s[0] - s[1] * s[0]", lambda i: ["s[2] + 1", "3"][i]) == "s[2] + 1 - 3 * (s[2] + 1)"
    with pytest.raises(BadInput):
        over("eval", parts)
    with pytest.raises(BadInput):
        at("s[0]", -1)


def test_a_formula_is_its_text():
    formula = Formula("exp(s[1])")
    assert json.dumps([formula]) == '["exp(s[1])"]'
    again = pickle.loads(pickle.dumps(formula))
    assert (again, again.width, float(again(np.array([1.0, 0.0])))) == ("exp(s[1])", 2, 1.0)
    assert sorted(FUNCTIONS) == sorted(
        ["defined_or", "exp", "log", "maximum", "mean", "mean_defined", "minimum", "reach", "sqrt", "sum", "where"]
    )


def test_the_example_of_the_plugin_page():
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "def lamps" in block]
    names = {}
    exec("from collections.abc import Sequence\nfrom mmalign_eval.metrics.base import Metric, Record\n" + code, names)
    metric = names["F1"]
    sums = np.array(metric.stat([{"right": 2, "named": 3, "there": 4}, {"right": 1, "named": 1, "there": 1}]))
    assert float(metric.value(sums)) == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
