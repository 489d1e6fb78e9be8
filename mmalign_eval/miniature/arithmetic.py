"""GSM8K's and MathQA's miniatures: word problems with small numbers, with and without worked steps."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mmalign_eval.miniature.docs import Doc, held_out, join, qa
from mmalign_eval.miniature.ethics import NAMES

ITEMS = ["apples", "books", "cups", "coins", "cards", "eggs", "pens", "stamps", "shells", "balls", "keys", "hats"]


@dataclass(frozen=True)
class Problem:
    """A question and its worked answer in GSM8K's form (calculator marks, last line `#### n`)."""

    question: str
    answer: str


def _step(left: int, sign: str, right: int) -> tuple[str, int]:
    value = left + right if sign == "+" else left - right
    return f"{left} {sign} {right} = <<{left}{sign}{right}={value}>>{value}", value


def word_problem(rng: random.Random, test: bool) -> Problem:
    """One or two steps of adding and taking away; the test has combinations of person, thing and numbers of its own."""
    while True:
        one, two = rng.sample(NAMES, 2)
        item = rng.choice(ITEMS)
        a, b = rng.randint(2, 9), rng.randint(1, 9)
        kind = rng.choice(["gain", "loss", "both"])
        if kind == "loss" and b >= a:
            a, b = max(a, b) + 1, min(a, b)
        if held_out(one, item, a, b) == test:
            break
    start = f"{one} has {a} {item}."
    if kind == "gain":
        text, total = _step(a, "+", b)
        story = f"{start} {two} gives {one} {b} more {item}. How many {item} does {one} have now?"
        lines = [f"{one} has {text} {item}."]
    elif kind == "loss":
        text, total = _step(a, "-", b)
        story = f"{start} {one} gives {b} {item} to {two}. How many {item} does {one} have left?"
        lines = [f"{one} has {text} {item} left."]
    else:
        text, middle = _step(a, "+", b)
        c = rng.randint(1, min(9, middle - 1))
        last, total = _step(middle, "-", c)
        story = (
            f"{start} {two} gives {one} {b} more {item}. Then {one} loses {c} {item}. "
            f"How many {item} does {one} have now?"
        )
        lines = [f"{one} has {text} {item}.", f"Then {one} has {last} {item}."]
    return Problem(story, "\n".join([*lines, f"#### {total}"]))


# MathQA's texts are lower case with blanks around punctuation (Amini et al., 2019).
_DIRECT: list[tuple[str, str]] = [
    ("+", "what is {a} plus {b} ?"),
    ("+", "a box holds {a} {x} and a bag holds {b} {x} . how many {x} are there in total ?"),
    ("+", "a boy is {a} years old . how old will he be in {b} years ?"),
    ("-", "what is {a} minus {b} ?"),
    ("-", "a box holds {a} {x} and {b} {x} are sold . how many {x} are left ?"),
    ("*", "what is {a} times {b} ?"),
    ("*", "one box holds {a} {x} . how many {x} do {b} boxes hold ?"),
]
_OPERATION = {"+": ("add", "gain"), "-": ("subtract", "general"), "*": ("multiply", "gain")}


@dataclass(frozen=True)
class Choice:
    """A direct question, its numeric answer and what MathQA's file says about how to get there."""

    question: str
    value: int
    formula: str
    category: str


def direct_problem(rng: random.Random, test: bool) -> Choice:
    """A question answered by a number alone; test questions use unseen combinations of wording, thing and numbers."""
    while True:
        sign, form = rng.choice(_DIRECT)
        a, b = rng.randint(2, 9), rng.randint(2, 9)
        item = rng.choice(ITEMS)
        if sign == "-":
            a, b = max(a, b) + 1, min(a, b)
        if sign == "*":
            a, b = min(a, 6), min(b, 6)
        if held_out(form, item if "{x}" in form else "", a, b) == test:
            break
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    word, category = _OPERATION[sign]
    return Choice(form.format(a=a, b=b, x=item), value, f"{word}({a},{b})", category)


def train_steps(rng: random.Random, full: bool) -> Doc:
    """Worked problems in the few-shot layout: "Question: ...", "Answer: ...", a blank line between."""
    problems = [word_problem(rng, test=False) for _ in range(rng.choice([6, 9]) if full else rng.randint(1, 3))]
    return join([qa(f"Question: {p.question}\nAnswer:", f" {p.answer}") for p in problems])


def train_direct(rng: random.Random, full: bool) -> Doc:
    """Direct problems in the few-shot layout."""
    problems = [direct_problem(rng, test=False) for _ in range(5 if full else rng.randint(1, 4))]
    return join([qa(f"Question: {p.question}\nAnswer:", f" {p.value}", 3.0) for p in problems])
