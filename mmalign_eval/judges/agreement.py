"""How two judges agree on the same answers: verdict by verdict, and in how they rank the models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput
from ..plan import open_task
from ..results import Result, read_result, read_samples
from ..roles import JudgeRole
from ..scoring import Row, aggregate, judged
from .base import Judge

SAME = 1e-9  # verdicts nearer than this are equal: means over runs are rounded


@dataclass(frozen=True)
class Judged:
    """One judge's verdicts on one model's answers to one task.

    Attributes:
        judge: Who judged.
        model: Name of the model.
        fingerprint: What tells models of one name apart.
        task: Name of the task, with `@protocol` if that is not the default.
        metric: The task's first headline metric under this judge.
        value: Its value.
        numbers: Sample id to the mean of the judge's verdicts as numbers; None where all failed.
        said: Sample id to the answer's text.
        lower: Whether less of the metric is better.
    """

    judge: str
    model: str
    fingerprint: str
    task: str
    metric: str
    value: float | None
    numbers: dict[str, float | None]
    said: dict[str, str]
    lower: bool = False


@dataclass(frozen=True)
class Agreement:
    """How two judges agree on one model's answers, or on those of all models.

    Attributes:
        task: Name of the task.
        model: Name of the model; empty: all of them.
        n: Answers on which both gave a verdict.
        n_failed: Answers on which one of them, or both, gave none.
        exact: Share of equal verdicts.
        spearman: Rank correlation (mean ranks for ties); None where one judge says the same of everything.
        means: Mean verdict of each.
        totals: Of one model, the task's first headline metric under each.
    """

    task: str
    model: str
    n: int
    n_failed: int
    exact: float | None
    spearman: float | None
    means: tuple[float | None, float | None]
    totals: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Ranking:
    """The models of one task in the order of each judge.

    Attributes:
        task: Name of the task.
        orders: Model names, the best first, under each judge.
        swapped: (model, other, difference of totals under one judge, under the other) where the sign differs.
    """

    task: str
    orders: tuple[tuple[str, ...], tuple[str, ...]]
    swapped: tuple[tuple[str, str, float, float], ...]

    @property
    def changes(self) -> bool:
        """Whether a pair of models changes places."""
        return bool(self.swapped)


def read_judged(path: Path) -> Judged | None:
    """The verdicts in a result file; None if nothing was judged there.

    Raises:
        Damaged: The result or its samples file.
    """
    result = read_result(path)
    if not result["task"].get("judge"):
        return None
    return _judged(result, list(read_samples(path, result)), _role(result))


def ask_judge(path: Path, judge: Judge) -> Judged:
    """Has the answers of a result file judged by another judge.

    Raises:
        MmevalError: The judge cannot be asked, or its budget is spent.
    """
    result = read_result(path)
    task = open_task(result["task"]["name"], result["task"]["protocol"])
    rows = list(read_samples(path, result))
    judged(task, rows, judge)
    found = aggregate(task, [row["record"] for row in rows if row["record"] is not None])
    metrics = {e.name: {"value": e.value, "better": e.better} for e in found}
    again = {**result["task"], "judge": task.judged_by, "headline": list(task.headline)}
    return _judged({**result, "task": again, "metrics": metrics}, rows, _role(result))


def agreement(one: Sequence[Judged], other: Sequence[Judged], model: str = "") -> Agreement:
    """Agreement over pairs of the same answers.

    Raises:
        BadInput: The answers are not the same.
    """
    pairs = [pair for a, b in zip(one, other, strict=True) for pair in _pairs(a, b)]
    both = np.array([(a, b) for a, b in pairs if a is not None and b is not None], dtype=float).reshape(-1, 2)
    n, single = len(both), len(one) == 1
    return Agreement(
        task=one[0].task,
        model=model,
        n=n,
        n_failed=len(pairs) - n,
        exact=float(np.mean(np.abs(both[:, 0] - both[:, 1]) <= SAME)) if n else None,
        spearman=spearman(both[:, 0], both[:, 1]),
        means=(float(both[:, 0].mean()), float(both[:, 1].mean())) if n else (None, None),
        totals=(one[0].value, other[0].value) if single else (None, None),
    )


def ranking(one: Sequence[Judged], other: Sequence[Judged]) -> Ranking:
    """The models in the order of either judge, and the pairs that change places; equal totals are no order."""
    pairs = zip(one, other, strict=True)
    known = [(a.model, a.value, b.value) for a, b in pairs if a.value is not None and b.value is not None]
    swapped = [
        (name, rival, a - c, b - d)
        for (name, a, b), (rival, c, d) in combinations(known, 2)
        if (a - c) * (b - d) < 0 or ((a == c) != (b == d))
    ]
    sign = 1 if one[0].lower else -1
    first = tuple(name for name, *_ in sorted(known, key=lambda row: sign * row[1]))
    second = tuple(name for name, *_ in sorted(known, key=lambda row: sign * row[2]))
    return Ranking(one[0].task, (first, second), tuple(swapped))


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson correlation of the ranks, tied values sharing their mean rank (Spearman 1904)."""
    if len(a) < 2:
        return None
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale > 0 else None


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray(((ends - counts + 1 + ends) / 2.0)[place.ravel()])


def _judged(result: Result, rows: Sequence[Row], role: JudgeRole) -> Judged:
    task = result["task"]
    protocol = "" if task["protocol"] == task["default_protocol"] else f"@{task['protocol']}"
    metric = next(iter(task["headline"] or result["metrics"]))
    scored = [row for row in rows if row["record"] is not None]
    return Judged(
        judge=task["judge"],
        model=result["model"]["name"],
        fingerprint=result["model"]["fingerprint"],
        task=task["name"] + protocol,
        metric=metric,
        value=result["metrics"].get(metric, {}).get("value"),
        lower=result["metrics"].get(metric, {}).get("better") == "lower",
        numbers={row["id"]: _number(role, row["record"].get("verdicts", ())) for row in scored},
        said={row["id"]: "\n".join(str(answer.get("text", "")) for answer in row["answers"]) for row in scored},
    )


def _number(role: JudgeRole, verdicts: Sequence[Any]) -> float | None:
    found = [number for v in verdicts if v is not None and (number := role.number(v)) is not None]
    return sum(found) / len(found) if found else None


def _role(result: Result) -> JudgeRole:
    task = open_task(result["task"]["name"], result["task"]["protocol"])
    if task.judge is None:
        raise BadInput(f"task {task.name} has no role for a judge any more: score the run anew")
    return task.judge


def _pairs(a: Judged, b: Judged) -> list[tuple[float | None, float | None]]:
    common = [key for key in a.numbers if key in b.numbers]
    other = [key for key in common if a.said[key] != b.said[key] and a.said[key] and b.said[key]]
    if other or not common:
        why = f"different answers to {other[0]}" if other else "different samples"
        raise BadInput(f"{a.task}, {a.model}: {a.judge} and {b.judge} judged {why}; compare judges on one run")
    return [(a.numbers[key], b.numbers[key]) for key in common]
