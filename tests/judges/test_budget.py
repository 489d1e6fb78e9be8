import math

import pytest

from mmalign_eval.errors import BadInput
from mmalign_eval.judges.budget import PRICES, Limit, Price, Spending, read_limit
from mmalign_eval.requests import Generate, Prompt, Response, greedy


def request(length=300, new=10):
    return Generate(Prompt("x" * length), greedy(new))


@pytest.mark.parametrize(
    ("text", "dollars", "calls"),
    [("", math.inf, math.inf), ("5", 5, math.inf), ("$2.50", 2.5, math.inf), ("500calls", math.inf, 500),
     ("5,500calls", 5, 500), (" 500 calls , 5 usd ", 5, 500)],
)  # fmt: skip
def test_limits(text, dollars, calls):
    limit = read_limit(text)
    assert (limit.dollars, limit.calls) == (dollars, calls)


@pytest.mark.parametrize("text", ["x", "0", "0calls", "5,6", "5calls,6calls", "-1", "5euros", "1.5calls", "1e3", "nan"])
def test_limits_that_are_none(text):
    with pytest.raises(BadInput, match="--judge-budget"):
        read_limit(text)


def test_a_reply_costs_what_its_tokens_cost():
    price = Price(*PRICES["gpt-4-0613"])
    reply = Response("ok", text="0.5", prompt_tokens=1000, new_tokens=3)
    assert price.of(reply, request()) == pytest.approx(0.03 + 3 * 60e-6)
    uncounted = Response("ok", text="abc")
    assert price.of(uncounted, request(length=300)) == pytest.approx((100 * 30 + 1 * 60) / 1e6)


def test_room_ends_before_the_limit_does():
    calls = Spending(Limit("3calls", calls=3))
    assert calls.room([request()] * 5) == 3
    for _ in range(3):
        calls.add(request(), Response("error", error="x"))
    assert calls.room([request()]) == 0
    price = Price(30.0, 60.0)
    one = price.at_most(request())
    dollars = Spending(Limit("", dollars=2.5 * one), price)
    assert dollars.room([request()] * 5) == 2
    dollars.add(request(), Response("ok", text="x", prompt_tokens=100, new_tokens=10))
    assert dollars.dollars <= 2.5 * one
    assert dollars.room([request()] * 5) == 1
    assert str(dollars) == "1 calls, 0.00 US dollars"


def test_what_was_spent_since():
    before, now = Spending(calls=2, dollars=1.0, price=Price(1, 1)), Spending(calls=5, dollars=1.5, price=Price(1, 1))
    assert now.since(before) == {"calls": 3, "prompt_tokens": 0, "new_tokens": 0, "dollars": 0.5}
    assert Spending().since(Spending())["dollars"] is None
