"""--fail-if-worse: on which side of the margin the evidence lies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmalign_eval.compare import Change
from mmalign_eval.compare.gates import Gate, Outcome, decide, exit_code, find_change, read_gate
from mmalign_eval.errors import BadInput
from mmalign_eval.stats.paired import Paired


def change(
    low: float | None, high: float | None, p: float | None = 0.5, better: str = "higher", unit: str = "fraction",
    delta: float | None = None,
) -> Change:  # fmt: skip
    if delta is None and low is not None and high is not None:
        delta = (low + high) / 2
    found = Paired(0.5, 0.5 + (delta or 0), delta, low, high, 0.01, p, "randomisation", 1, 1, 8, 100, 100, 0, 0.03)
    return Change("toy", "official", "", "toy", "acc", unit, better, True, found, p)


def code(change: Change, margin: float = 0.0) -> int:
    return decide(Gate("acc", "acc", margin), change, "base", "other").code


@pytest.mark.parametrize(
    ("text", "metric", "margin"),
    [
        ("f1", "f1", 0.0),
        ("f1:1.5", "f1", 1.5),
        ("pope/mean/f1:0", "pope/mean/f1", 0.0),
        ("toy+gpt:4/acc", "toy+gpt:4/acc", 0.0),
        ("toy+gpt:4/acc:2", "toy+gpt:4/acc", 2.0),
    ],
)
def test_what_is_asked(text: str, metric: str, margin: float) -> None:
    assert read_gate(text) == Gate(text, metric, margin)


@pytest.mark.parametrize("text", ["f1:-1", "f1:nan", "f1:inf", ":3"])
def test_margins_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match=f"--fail-if-worse {text}: expected METRIC:MARGIN, the margin 0 or more"):
        read_gate(text)


@pytest.mark.parametrize(
    ("low", "high", "margin", "expected"),
    [
        (-0.050, -0.030, 2.0, 1),  # all of it beyond
        (-0.050, -0.010, 2.0, 3),  # across
        (-0.015, 0.010, 2.0, 0),  # none of it beyond, though it may be a little worse
        (-0.015, -0.005, 2.0, 0),  # significantly worse, but within the margin
        (0.010, 0.030, 2.0, 0),
        (-0.040, 0.030, 2.0, 3),
        (-0.020, 0.010, 2.0, 0),  # the margin itself is allowed
    ],
)
def test_the_margin_and_the_interval(low: float, high: float, margin: float, expected: int) -> None:
    assert code(change(low, high), margin) == expected
    mirrored = change(-high, -low, better="lower")
    assert code(mirrored, margin) == expected


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (-0.05, -0.01, 0.01, 1),
        (-0.05, -0.01, 0.06, 3),  # the table's p says no, whatever the bootstrap's interval: undecided
        (-0.05, 0.001, 0.04, 1),
        (-0.05, 0.03, 0.5, 3),
        (0.01, 0.05, 0.01, 0),
        (0.0, 0.0, 1.0, 0),  # equal results
        (0.0, 0.02, 0.25, 0),  # nothing lost in any draw
        (0.001, 0.05, 0.06, 0),
        (-0.001, 0.05, 0.04, 0),  # better by the test
        (-0.05, -0.01, None, 1),  # several seeds: the interval is the test
        (-0.05, 0.01, None, 3),
    ],
)
def test_without_a_margin_the_paired_test_says_worse(low: float, high: float, p: float | None, expected: int) -> None:
    assert code(change(low, high, p)) == expected
    assert code(change(-high, -low, p, better="lower")) == expected


def test_the_margin_is_in_the_unit_of_the_table() -> None:
    assert code(change(-0.05, -0.03), 2) == 1
    assert code(change(-0.05, -0.03, unit="points"), 2) == 0
    assert code(change(-5.0, -3.0, unit="points"), 2) == 1
    assert code(change(-5.0, -3.0, unit="percent"), 2) == 1


def test_without_evidence_it_is_undecided() -> None:
    assert code(change(None, None, None)) == 3
    assert code(change(None, None, None, delta=0.0), 5) == 3
    undefined = replace(change(None, None, None), paired=replace(change(None, None).paired, other=None))
    found = decide(Gate("acc", "acc", 0), undefined, "base", "other")
    assert (found.code, found.line) == (3, "undecided  toy/acc: undefined for other")


def test_each_line_says_what_and_why() -> None:
    gate = Gate("acc:2", "acc", 2.0)
    assert [
        decide(gate, change(*ends), "base", "other").line for ends in ((-0.05, -0.03), (0.0, 0.02), (-0.04, 0.0))
    ] == [
        "worse      toy/acc: other -4.0 against base (95% CI -5.0 .. -3.0, p=.50) is worse by more than 2",
        "ok         toy/acc: other +1.0 against base (95% CI +0.0 .. +2.0, p=.50) is not worse by more than 2",
        "undecided  toy/acc: other -2.0 against base (95% CI -4.0 .. +0.0, p=.50) may be worse by more than 2, or not",
    ]


def test_metrics_are_found_by_name_or_with_their_task() -> None:
    acc = change(0, 0)
    twin = replace(acc, task="more", label="more@paper")
    ratio = replace(acc, metric="yes_ratio", better="neither")
    every = [acc, twin, ratio]

    def find(metric: str) -> Change:
        return find_change(Gate(metric, metric, 0.0), every)

    assert find("toy/acc") is acc
    assert find("more/acc") is twin
    assert find("more@paper/acc") is twin
    with pytest.raises(
        BadInput, match="--fail-if-worse acc: several are called so; give one of toy/acc, more@paper/acc"
    ):
        find("acc")
    with pytest.raises(BadInput, match=r"--fail-if-worse toy/ac: no metric .* - did you mean 'toy/acc'"):
        find("toy/ac")
    with pytest.raises(BadInput, match="--fail-if-worse yes_ratio: neither direction is better"):
        find("yes_ratio")


@given(st.lists(st.sampled_from([0, 1, 3])))
def test_worse_wins_over_undecided(codes: list[int]) -> None:
    found = exit_code([Outcome(Gate("a", "a", 0), "other", code, "") for code in codes])
    assert found == (1 if 1 in codes else 3 if 3 in codes else 0)
