"""Several training seeds of one recipe against one base: the recipe's change, with the seed as a random effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import BadInput
from ..runs import tuned_from
from ..stats.paired import DRAWS, Paired
from ..stats.seeds import Seeds, paired_over_seeds
from ..tables import TextTable, shown_delta, shown_n, unit_notes
from .changes import Change, Comparison
from .tables import difference, marks_notes

NUMBERS = frozenset(range(2, 10))  # columns that hold numbers


@dataclass(frozen=True)
class RecipeChange:
    """One metric of a base and of several seeds of one recipe.

    Attributes:
        first: The change to the first seed: names, unit and counts.
        seeds: Over all seeds; None where a seed has no difference or no interval.
        differences: Of each seed to the base; None where undefined.
    """

    first: Change
    seeds: Seeds | None
    differences: tuple[float | None, ...]

    @property
    def change(self) -> Change:
        """The mean change with the interval over seeds, for gates: no p, for the interval is the test."""
        found, over = self.first.paired, self.seeds
        none: dict[str, Any] = dict.fromkeys(("other", "delta", "low", "high", "stderr", "p", "detectable"))
        if over is not None and found.base is not None:
            none |= {"other": found.base + over.mean, "delta": over.mean, "low": over.low, "high": over.high}
        merged: Paired = replace(found, **none)
        return replace(self.first, paired=merged, p_holm=None)

    def as_row(self) -> dict[str, Any]:
        """One flat object, as `--json` has it, in the metric's unit."""
        found = self.first
        named = {name: getattr(found, name) for name in ("task", "protocol", "judge", "metric", "unit", "better")}
        over = asdict(self.seeds) if self.seeds else None
        return {**named, "base": found.paired.base, "differences": list(self.differences), "over_seeds": over}


def over_recipe(comparisons: Sequence[Comparison], draws: int = DRAWS) -> list[RecipeChange]:
    """What the seeds have in common, metric by metric.

    Args:
        comparisons: Of the base with each seed.
        draws: Of bootstrap and randomisation.

    Raises:
        BadInput: Fewer than two, or one model twice.
    """
    if len(comparisons) < 2:
        raise BadInput("--seeds: give at least two OTHER, runs of one recipe that differ in the training seed")
    _refuse_twice(comparisons)
    found = []
    for pair in comparisons[0].pairs:
        same = [next((p for p in one.pairs if p.label == pair.label), None) for one in comparisons]
        theirs = [p.other.sums for p in same if p is not None]
        mine = [change for change in comparisons[0].changes if change.label == pair.label]
        if len(theirs) < len(comparisons):
            continue
        over = paired_over_seeds(pair.base.sums, theirs, {change.metric: change.better for change in mine}, draws)
        for change in mine:
            each = [_change_of(one, change) for one in comparisons]
            if all(each):
                deltas = tuple(one.paired.delta for one in each if one is not None)
                found.append(RecipeChange(change, over.get(change.metric), deltas))
    return found


def seeds_table(comparisons: Sequence[Comparison], changes: Sequence[RecipeChange]) -> TextTable:
    """Mean, spread over seeds, and interval of every metric, and what to know about them."""
    columns = (
        *("task", "metric", comparisons[0].base, f"mean of {len(comparisons)}", "change", "95% CI", "sd", "seed sd"),
        *("changes", "n (clusters)"),
    )
    rows = tuple(_row(change) for change in changes)
    return TextTable(columns, rows, NUMBERS, tuple(_notes(comparisons, changes)))


def _change_of(comparison: Comparison, change: Change) -> Change | None:
    same = (c for c in comparison.changes if (c.label, c.metric) == (change.label, change.metric))
    return next(same, None)


def _refuse_twice(comparisons: Sequence[Comparison]) -> None:
    seen: dict[str, str] = {}
    for one in comparisons:
        for run in (pair.other for pair in one.pairs):
            print_ = f"{run.label} {run.result['model']['fingerprint']}"
            place = str(run.path.parent)
            if print_ in seen:
                raise BadInput(f"--seeds: {seen[print_]} and {place} are results of one model, not of two seeds")
            seen[print_] = place


def _row(change: RecipeChange) -> tuple[str, ...]:
    whole, over = change.change, change.seeds
    unit, size = whole.unit, whole.scale

    def spread(value: float | None) -> str:
        return shown_delta(value, unit, size).lstrip("+")

    return (
        *difference(whole),
        spread(over.sd if over else None),
        spread(over.seed_sd if over else None),
        "  ".join(shown_delta(delta, unit, size) for delta in change.differences),
        shown_n(whole.paired.n, whole.paired.clusters),
    )


def _notes(comparisons: Sequence[Comparison], changes: Sequence[RecipeChange]) -> list[str]:
    notes = unit_notes([change.first.unit for change in changes])
    notes.append(
        f"seeds: {', '.join(one.other for one in comparisons)}; the interval is of the change to expect of "
        "another seed on other samples, not adjusted for the number of metrics"
    )
    notes.append("sd: of the changes over seeds; seed sd: the part of it that the samples do not explain")
    notes += marks_notes((change.change for change in changes), (pair for one in comparisons for pair in one.pairs))
    tuned = [tuned_from(pair.other for pair in one.pairs) for one in comparisons]
    recipes = {str(t.get("recipe") or t.get("method") or "not on record") for t in tuned}
    if len(recipes) > 1:
        notes.append(f"not of one recipe: {', '.join(sorted(recipes))}")
    given = [t["seed"] for t in tuned if "seed" in t]
    if len(set(given)) < len(given):
        notes.append(f"training seeds on record are not different: {', '.join(map(str, given))}")
    return list(dict.fromkeys([*notes, *(note for one in comparisons for note in one.notes)]))
