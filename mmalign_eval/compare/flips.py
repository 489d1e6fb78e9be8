"""The samples behind a difference: which of them the other model has better or worse than the base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..runs import Run
from ..scores import Score, answer_text, judged, sample_scores
from ..tables import one_line
from .checks import Pair

ROUNDING = 1e-9  # relative: scores this close are equal
BINARY = (0.0, 1.0)


@dataclass(frozen=True)
class Flip:
    """A sample that two models did not score alike on.

    Attributes:
        label: The task, with its protocol where that is not the default, and the judge.
        id: Of the sample.
        metric: Whose value of this sample alone changed.
        unit: Of the metric.
        base: The first model's value.
        other: The second's.
        better: Whether the second's is the better.
        base_answer: What the first said, on one line.
        other_answer: What the second said.
        reference: What a model that answers right says.
    """

    label: str
    id: str
    metric: str
    unit: str
    base: float
    other: float
    better: bool
    base_answer: str
    other_answer: str
    reference: str

    @property
    def binary(self) -> bool:
        """Whether the sample is right or wrong, and nothing between."""
        return self.base in BINARY and self.other in BINARY


def flips_of(pair: Pair) -> list[Flip]:
    """The samples that changed: those that got worse first, the larger changes before the smaller, then as asked.

    Samples count by the first metric that has a value for each of them alone (`scores.sample_scores`); those on which
    a judge gave one side no verdict are no change.

    Raises:
        Damaged: A samples file is missing (tables do without) or not the one that the result was written with.
    """
    scores = [sample_scores(run.result, run.sums) for run in (pair.base, pair.other)]
    changed = dict(_changed(*scores))
    if not changed:
        return []
    base, other = (_rows(run, changed) for run in (pair.base, pair.other))
    found = []
    for name, row in other.items():
        if not (judged(row) and judged(base[name])):
            continue
        metric, before, after = changed[name]
        about = pair.other.result["metrics"][metric]
        found.append(
            Flip(
                label=pair.label,
                id=name,
                metric=metric,
                unit=str(about["unit"]),
                base=before,
                other=after,
                better=(after > before) == (about["better"] == "higher"),
                base_answer=said(base[name]),
                other_answer=said(row),
                reference=one_line(str(row["reference"])),
            )
        )
    return sorted(found, key=lambda flip: (flip.better, -abs(flip.other - flip.base)))


def said(row: Mapping[str, Any]) -> str:
    """A sample's answers on one line; of options the likeliest."""
    return " / ".join(one_line(answer_text(answer)) for answer in row["answers"])


def _changed(base: Mapping[str, Score], other: Mapping[str, Score]) -> Iterator[tuple[str, tuple[str, float, float]]]:
    for name, after in other.items():
        before = base.get(name)
        if before is None or before.metric != after.metric:
            continue
        if abs(after.value - before.value) > ROUNDING * max(abs(after.value), abs(before.value)):
            yield name, (after.metric, before.value, after.value)


def _rows(run: Run, wanted: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in run.samples() if row["id"] in wanted}
