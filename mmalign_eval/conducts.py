"""How scripted models behave in `mmeval tasks check`: right, empty, refusing, failing ..., and nasty texts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .models.scripted import ScriptedModel
from .requests import Choose, Request, Response

REFUSAL = "I'm sorry, I can't help with that."
LONG = ("word " * 2000)[:10_000]
EVEN = -50.0  # log-likelihood of every option for a model that has no preference
EVEN_LONG = -500.0  # the same further out; still above where exp() becomes 0
Act = Callable[[Request, Response, int], Response]  # (request, its right response, number of its sample)


@dataclass(frozen=True)
class Conduct:
    """One way to answer.

    Attributes:
        name: As the table shows it.
        act: What is answered; raises where the model fails.
        wrong: Whether its answers are wrong: it must not beat right ones, and the metrics must tell it from them.
        indifferent: Likes all options alike, so that a task which only asks `Choose` may call it right by their order.
    """

    name: str
    act: Act
    wrong: bool = False
    indifferent: bool = False

    def model(self, right: Mapping[Request, tuple[Response, int]]) -> ScriptedModel:
        """A model of this conduct, told the right response and the sample's number for each request."""
        return ScriptedModel(lambda request: self.act(request, *right[request]), name=self.name, version=self.name)


def _right(request: Request, right: Response, sample: int) -> Response:
    return right


def _wrong_case(request: Request, right: Response, sample: int) -> Response:
    return right if isinstance(request, Choose) else _text(right.text.swapcase())


def _empty(request: Request, right: Response, sample: int) -> Response:
    return _even(request, EVEN) if isinstance(request, Choose) else _text("")


def _refusing(request: Request, right: Response, sample: int) -> Response:
    return _reversed(right) if isinstance(request, Choose) else _text(REFUSAL)


def _long(request: Request, right: Response, sample: int) -> Response:
    return _even(request, EVEN_LONG) if isinstance(request, Choose) else _text(LONG)


def _odd(request: Request, right: Response, sample: int) -> Response:
    return right if isinstance(request, Choose) else _text(ODD_TEXTS[37 * sample % len(ODD_TEXTS)])


def _half_right(request: Request, right: Response, sample: int) -> Response:
    return (_right if random.Random(sample).random() < 0.5 else _refusing)(request, right, sample)


def _failing(request: Request, right: Response, sample: int) -> Response:
    raise RuntimeError("this model fails on every request")


def _text(text: str) -> Response:
    return Response("ok", text=text, finish="stop", new_tokens=1)


def _even(request: Choose, value: float) -> Response:
    count = len(request.options)
    return Response("ok", logprobs=(value,) * count, greedy=(False,) * count)


def _reversed(right: Response) -> Response:
    """The worst option is likeliest; where there is nothing to reverse, everything is unlikely."""
    low, high = min(right.logprobs), max(right.logprobs)
    count = len(right.logprobs)
    values = tuple(low + high - value for value in right.logprobs) if low < high else (low - 100.0,) * count
    return Response("ok", logprobs=values, greedy=(False,) * count)


def nasty_texts(seed: int = 0) -> list[str]:
    """A few hundred texts that break careless parsers, always the same ones; the last has a million characters."""
    rng = random.Random(seed)
    alphabets = [
        [chr(c) for c in [*range(32), *range(127, 160)]],  # control characters
        list("\u00e9e\u0301\u00df\u0130\u0131\u017f\ufb01\u01c5\u03a3\u03c2\u1e9e"),  # change with case
        list("\u200b\u200e\u202e\u2028\u2029\u0085\ufeff\u00a0\u3000"),  # invisible, and line ends that are none
        list("\U0001f600\U0001f468\u200d\U0001f469\U0001f3fd\U000e0041"),  # beyond 16 bits, joined and modified
        list("\u0645\u05d0\u4e2d\u65e5\ud55c\u0e01\u0915\u0661\u0967\u00b2\u00bd\u216b"),  # scripts; digits not 0-9
        list("()[]{}<>#$%&*+-./:;,=?!@\\^_`|~'\" \n\t"),
        list("yesnoYESNOabcdABCD0123456789 .,:\n"),
    ]
    fixed = [
        "", " ", "\n", ".", ",", "-", "\0", "None", "null", "nan", "inf", "-0", "1e999", "9" * 400, "1.2.3",
        "1,000,000", "{}", "[]", "{question}", "%s%n", "\\", "\\1", "(", "*", "A" * 500, "((((" * 50, "a.b.c. " * 20,
        "\u0660.\u0665", '{"answer": ', "<image>", "</s>", "###", "USER: ASSISTANT:",
        "The answer is", "####", "Answer:", "(A) (B) (C)",
    ]  # fmt: skip
    drawn = ["".join(rng.choices(rng.choice(alphabets), k=rng.randint(1, 60))) for _ in range(250)]
    return [*fixed, *drawn, "no yes. A) 7\n" * 76_924]


ODD_TEXTS = [text for text in nasty_texts() if len(text) < 10_000]
RIGHT, EMPTY = Conduct("right", _right), Conduct("empty", _empty, wrong=True, indifferent=True)
WRONG_CASE, ODD = Conduct("wrong case", _wrong_case), Conduct("odd characters", _odd)
REFUSING = Conduct("refusing", _refusing, wrong=True)
WORDY = Conduct("10,000-character", _long, wrong=True, indifferent=True)
FAILING, HALF_RIGHT = Conduct("failing", _failing), Conduct("half right", _half_right)
CONDUCTS = (RIGHT, WRONG_CASE, EMPTY, REFUSING, WORDY, ODD, HALF_RIGHT, FAILING)
