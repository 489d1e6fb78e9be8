"""What each sample is worth on its own, and what was said to it: what flips, a report and data frames show of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .results import Result, headline
from .stats import Sums


@dataclass(frozen=True)
class Score:
    """One sample's own value of a metric.

    Attributes:
        metric: Its name.
        value: In the metric's unit.
    """

    metric: str
    value: float


def unit_values(sums: Sums, metric: str) -> dict[str, float] | None:
    """A metric's value on each of its samples alone, by sample id.

    None where a sample on its own has no value: the metric needs whole clusters, has no formula, or is undefined for
    some of its samples (a ratio whose denominator a sample may lack; F1).
    """
    made = sums.metrics[metric]
    group = sums.groups[made.group]
    if made.formula is None or group.level != "sample" or len(group.rows) == 0:
        return None
    values = made.formula(group.sums)
    if not np.isfinite(values).all():
        return None
    return {sums.samples[row]: float(value) for row, value in zip(group.rows, values, strict=True)}


def sample_scores(result: Result, sums: Sums) -> dict[str, Score]:
    """Each sample's value of the first metric that has one for it, by sample id.

    The headline's metrics come first, then the others in the file's order; those with no better direction count for
    nothing. Several metrics serve one result where each is of a part of its samples (splits, subtasks). Samples that
    failed, or that no metric has a value for, are not in it.
    """
    metrics = result["metrics"]
    found: dict[str, Score] = {}
    for name in dict.fromkeys([*headline(result), *metrics]):
        if metrics[name]["better"] == "neither":
            continue
        for sample, value in (unit_values(sums, name) or {}).items():
            found.setdefault(sample, Score(name, value))
        if len(found) == len(sums.samples):
            break
    return found


def judged(row: Mapping[str, Any]) -> bool:
    """Whether a row's score is a judge's: False where a judge was asked and no reply held a verdict.

    Metrics count such an answer as the benchmark's tool does; of the answer itself that score says nothing.
    """
    verdicts = [one.get("verdict") for one in row.get("judged", ())]
    return not verdicts or any(verdict is not None for verdict in verdicts)


def said(row: Mapping[str, Any]) -> str:
    """What a model answered to a sample, as text; of options the likeliest, in the words of `row["reference"]`.

    Args:
        row: A row of the samples file.
    """
    return "\n".join(dict.fromkeys(answer_text(answer) for answer in row["answers"]))


def answer_text(answer: Mapping[str, Any]) -> str:
    """One answer of a row as text: what was generated, or the likeliest option (`option 2` where it has no words)."""
    if "text" in answer:
        return str(answer["text"]).strip()
    best, options = likeliest(answer.get("logprobs") or ()), answer.get("options") or ()
    if best is None:
        return ""
    return str(options[best]).strip() if best < len(options) else f"option {best + 1}"


def likeliest(logprobs: Sequence[float | None]) -> int | None:
    """Place of the likeliest option, the first of equal ones; None where no likelihood is a number.

    In result files None stands for what JSON cannot say: minus infinity, as a rule.
    """
    known = [place for place, value in enumerate(logprobs) if value is not None]
    return max(known, key=lambda place: logprobs[place] or 0.0, default=None)
