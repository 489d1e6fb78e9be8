"""Base against tuned over result files: every difference with its interval and a paired test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .runs import Run
from .stats.paired import DRAWS, Paired, holm, paired
from .tables import FEW_CLUSTERS

LEVEL = 0.05  # of Holm-adjusted p-values: below it a difference is marked


@dataclass(frozen=True)
class Change:
    """One metric of base and other.

    Attributes:
        task: Name of the task.
        protocol: Its protocol.
        judge: Who judged, or empty.
        metric: Name of the metric.
        unit: Its unit.
        better: `higher`, `lower` or `neither`.
        headline: Whether tables show it without being asked.
        paired: The comparison.
        p_holm: p adjusted over the family: the metrics compared between these two models.
        differs: In what the two results differ, where they were compared all the same (`force`).
    """

    task: str
    protocol: str
    judge: str
    metric: str
    unit: str
    better: str
    headline: bool
    paired: Paired
    p_holm: float | None = None
    differs: tuple[str, ...] = ()

    @property
    def significant(self) -> bool:
        """Whether the adjusted p is below 5 %."""
        return self.p_holm is not None and self.p_holm < LEVEL

    @property
    def rough(self) -> bool:
        """Whether the interval is from too few clusters to be trusted."""
        return self.paired.low is not None and self.paired.clusters < FEW_CLUSTERS

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `changed` (no direction is better) if significant, else `same?`."""
        if not self.significant or self.paired.delta is None:
            return "same?"
        if self.better == "neither":
            return "changed"
        return "better" if (self.paired.delta > 0) == (self.better == "higher") else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two models on the tasks that both have results of.

    Attributes:
        base: Name of the one compared with.
        other: Name of the other.
        changes: The metrics, in the order of the other's result files and of their headline.
        notes: What to know: tasks that only one has, what differs, images trained on.
    """

    base: str
    other: str
    changes: list[Change]
    notes: list[str] = field(default_factory=list)


def compare_runs(
    base: Sequence[Run], other: Sequence[Run], *, everything: bool = False, force: bool = False, draws: int = DRAWS
) -> Comparison:
    """Compares the results of two models, task by task.

    Args:
        base: Results of the model compared with.
        other: Results of the other model.
        everything: All metrics, not the headline alone.
        force: Compare although tasks, protocols, judges, data or prompts differ; each change says in what.
        draws: Of bootstrap and randomisation.

    Raises:
        BadInput: No task in common, or results that are not comparable (without `force`).
        Damaged: A file of sums.
    """
    raise NotImplementedError((base, other, everything, force, draws, holm, paired))
