"""`--fail-if-worse`: is a model worse than its base by more than a margin, is it not, or can the evidence not tell?

A non-inferiority test by the 95 % interval of the difference (Piaggio et al. 2012, "Reporting of noninferiority and
equivalence randomized trials", figure 1): what counts is on which side of the margin the whole interval lies. Each
metric named is a test of its own, not adjusted for the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import EXIT_OK, EXIT_UNDECIDED, EXIT_WANTING, BadInput, did_you_mean
from ..tables import ROUGH, shown_change, shown_delta, shown_p
from .changes import LEVEL, Change


@dataclass(frozen=True)
class Gate:
    """What is not to get worse.

    Attributes:
        text: As given.
        metric: A metric's name, alone or after its task's and a slash.
        margin: By how much it may, in the unit that tables show (points of percent for fractions); 0 or more.
    """

    text: str
    metric: str
    margin: float


@dataclass(frozen=True)
class Outcome:
    """What the evidence says.

    Attributes:
        gate: What was asked.
        other: Name of the model.
        code: 0: not worse than the margin; 1: worse; 3: undecided.
        line: The same in words, with the numbers.
    """

    gate: Gate
    other: str
    code: int
    line: str


def read_gate(text: str) -> Gate:
    """`METRIC` or `METRIC:MARGIN`.

    Raises:
        BadInput: A margin that is no number, or below 0.
    """
    metric, colon, given = text.rpartition(":")
    if not colon:
        return Gate(text, text, 0.0)
    try:
        margin = float(given)
    except ValueError:
        return Gate(text, text, 0.0)  # a colon of the name's own; if it is not, no metric is called so
    if not metric or not math.isfinite(margin) or margin < 0:
        raise BadInput(f"--fail-if-worse {text}: expected METRIC:MARGIN, the margin 0 or more")
    return Gate(text, metric, margin)


def find_change(gate: Gate, changes: Sequence[Change]) -> Change:
    """The metric that a gate names.

    Raises:
        BadInput: None is called so, several are, or it cannot be worse or tested.
    """
    option = f"--fail-if-worse {gate.text}"
    found = [change for change in changes if gate.metric in (change.metric, *change.full_names)]
    if not found:
        known = sorted({name for change in changes for name in (change.metric, change.full_names[0])})
        raise BadInput(f"{option}: no metric of that name was compared{did_you_mean(gate.metric, known)}")
    if len(found) > 1:
        raise BadInput(
            f"{option}: several are called so; give one of {', '.join(change.full_names[1] for change in found)}"
        )
    if found[0].better == "neither":
        raise BadInput(f"{option}: neither direction is better, so that it cannot be worse")
    return found[0]


def decide(gate: Gate, change: Change, base: str, other: str) -> Outcome:
    """Where the interval of the difference lies: beyond the margin, within it, or across.

    Without a margin the paired test itself decides (p below 5 %, not adjusted), so that no line contradicts it; an
    interval that reaches no worse value than 0 is not worse either: that of two equal results too. Of several seeds,
    which have no p, it is the interval.
    """
    found = change.paired
    scale = 100.0 if change.unit == "fraction" else 1.0
    allowed = f" by more than {gate.margin:g}" if gate.margin else ""

    def outcome(code: int, words: str) -> Outcome:
        head = {EXIT_OK: "ok", EXIT_WANTING: "worse", EXIT_UNDECIDED: "undecided"}[code]
        return Outcome(gate, other, code, f"{head:<9}  {change.full_names[1]}: {words}")

    if found.delta is None:
        return outcome(EXIT_UNDECIDED, f"undefined for {other if found.base is not None else base}")
    shown = f"{other} {shown_delta(found.delta, change.unit, change.scale)} against {base}"
    if found.low is None or found.high is None:
        return outcome(EXIT_UNDECIDED, f"{shown}, without an interval")
    sign = 1.0 if change.better == "higher" else -1.0
    low, high = sorted(sign * scale * end for end in (found.low, found.high))
    interval = shown_change(found.low, found.high, change.unit, change.scale, found.clusters)
    shown += f" (95% CI {interval}{', ' + shown_p(found.p) if found.p is not None else ''})"
    beyond, within = high < -gate.margin, low >= -gate.margin
    if not gate.margin and found.p is not None:
        told = found.p < LEVEL
        beyond, within = told and sign * found.delta < 0, within or (told and sign * found.delta > 0)
    if beyond:
        return outcome(EXIT_WANTING, f"{shown} is worse{allowed}")
    if within:
        return outcome(EXIT_OK, f"{shown} is not worse{allowed}")
    rough = f" {ROUGH}" if change.rough else ""
    return outcome(EXIT_UNDECIDED, f"{shown} may be worse{allowed}, or not{rough}")


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """1 if any is worse, else 3 if any is undecided, else 0."""
    codes = {outcome.code for outcome in outcomes}
    return next((code for code in (EXIT_WANTING, EXIT_UNDECIDED) if code in codes), EXIT_OK)
