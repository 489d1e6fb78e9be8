"""Base against tuned over result files: every difference with its interval and a paired test."""

from __future__ import annotations

import fnmatch
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import BadInput, MmevalError, did_you_mean
from ..runs import Run, by_model, open_runs
from ..stats.paired import DRAWS, Paired, holm, paired
from ..tables import counted, is_rough
from .checks import Pair, notes_on, pair_up, refuse_unlike

if TYPE_CHECKING:
    import pandas as pd

ONLY = "only"  # begins the note on what one of two models has results of
LEVEL = 0.05  # of Holm-adjusted p-values: below it a difference is marked


@dataclass(frozen=True)
class Change:
    """One metric of base and other.

    Attributes:
        task: Name of the task.
        protocol: Its protocol.
        judge: Who judged, or empty.
        label: The task, with its protocol where that is not the default, and the judge.
        metric: Name of the metric.
        unit: Its unit.
        better: `higher`, `lower` or `neither`.
        headline: Whether tables show it without being asked.
        paired: The comparison.
        p_holm: p adjusted over the family: the metrics compared between these two models.
        differs: In what the two results differ, where they were compared all the same (`force`), and in what their
            decoding does.
    """

    task: str
    protocol: str
    judge: str
    label: str
    metric: str
    unit: str
    better: str
    headline: bool
    paired: Paired
    p_holm: float | None = None
    differs: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """Task, protocol, judge: `Run.key` of the two results."""
        return self.task, self.protocol, self.judge

    @property
    def full_names(self) -> tuple[str, str]:
        """The metric with its task: by name, and as tables call it."""
        return _full_names(self.task, self.label, self.metric)

    @property
    def scale(self) -> float | None:
        """The larger value: a difference is shown with the decimals of what it is between."""
        values = [abs(value) for value in (self.paired.base, self.paired.other) if value is not None]
        return max(values, default=None)

    @property
    def significant(self) -> bool:
        """Whether the adjusted p is below 5 %."""
        return self.p_holm is not None and self.p_holm < LEVEL

    @property
    def rough(self) -> bool:
        """Whether the interval is from too few clusters to be trusted."""
        return is_rough(self.paired.low, self.paired.clusters)

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
        pairs: The results that were compared.
    """

    base: str
    other: str
    changes: list[Change]
    notes: list[str] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list, repr=False)

    def frame(self) -> pd.DataFrame:
        """The changes as a data frame, one row each.

        Columns: `base_model`, `other_model`; `task`, `protocol`, `judge`, `metric`, `unit`, `better`, `headline`; the
        fields of `Paired` (`base`, `other`, `delta`, `low`, `high`, `stderr`, `p`, `test`, `wins`, `losses`, `ties`,
        `n`, `clusters`, `left_out`, `detectable`), in the metric's unit, missing where there is none; `p_holm`,
        `significant`, `verdict`; `differs` (text; empty for comparable results).
        """
        import pandas as pd

        rows = [{"base_model": self.base, "other_model": self.other, **as_row(change)} for change in self.changes]
        made = pd.DataFrame(rows, columns=["base_model", "other_model", *COLUMNS])
        made["differs"] = ["; ".join(change.differs) for change in self.changes]
        counts = {name: "Int64" for name in ("wins", "losses", "ties", "n", "clusters", "left_out")}
        figures = {
            n: "float64" for n in ("base", "other", "delta", "low", "high", "stderr", "p", "detectable", "p_holm")
        }
        return made.astype({**counts, **figures})


COLUMNS = (
    *("task", "protocol", "judge", "metric", "unit", "better", "headline"),
    *("base", "other", "delta", "low", "high", "stderr", "p", "test", "wins", "losses", "ties"),
    *("n", "clusters", "left_out", "detectable", "p_holm", "significant", "verdict", "differs"),
)


def as_row(change: Change) -> dict[str, object]:
    """A change as one flat object, as `--json` and data frames have it."""
    whole = {**asdict(change), **asdict(change.paired)}
    whole |= {"differs": list(change.differs), "significant": change.significant, "verdict": change.verdict}
    return {name: whole[name] for name in COLUMNS}


def compare(
    base: str | os.PathLike[str],
    *others: str | os.PathLike[str],
    tasks: str | Sequence[str] = (),
    metrics: str | Sequence[str] = (),
    everything: bool = False,
    force: bool = False,
    draws: int = DRAWS,
) -> list[Comparison]:
    """Compares models by their result files, each with the first.

    Files that are damaged or of another version are left out, with a `UserWarning` each.

    Args:
        base: A model's folder of results, or a result file.
        others: Likewise.
        tasks: Names or globs; empty: all that both have.
        metrics: Names or globs; empty: the headline.
        everything: All metrics.
        force: Compare although tasks, protocols, judges, data or prompts differ; each change says in what.
        draws: Of bootstrap and randomisation.

    Raises:
        BadInput: Nothing there, nothing in common, or results that are not comparable (without `force`).
        Damaged: A file of sums.
    """
    tasks, metrics = ([names] if isinstance(names, str) else names for names in (tasks, metrics))
    opened = [model_runs(place, tasks) for place in (base, *others)]
    for line in (line for _, problems in opened for line in problems):
        warnings.warn(line, stacklevel=2)
    (first, _), *rest = opened
    return [
        compare_runs(first, runs, everything=everything, metrics=metrics, force=force, draws=draws) for runs, _ in rest
    ]


def model_runs(place: str | os.PathLike[str], tasks: Sequence[str] = ()) -> tuple[list[Run], list[str]]:
    """The results of one model: its folder, or one file.

    Args:
        place: The folder or file.
        tasks: Names or globs of tasks; empty: all.

    Returns:
        The results whose sums can be read, and one line for each file that is damaged or of another version.

    Raises:
        BadInput: Nothing there, several models, or (where no file is damaged) a name or glob that means no task.
    """
    runs, problems = open_runs(place)
    models = by_model(runs)
    if len(models) > 1:
        folders = [str(one[0].path.parent) for one in models.values()]
        raise BadInput(f"{place}: results of {len(models)} models, give the folder of one: {', '.join(folders)}")
    for pattern in tasks:
        if not problems and not any(_means(pattern, run.task, run.label) for run in runs):
            known = sorted({run.task for run in runs})
            raise BadInput(f"--tasks {pattern}: {place} has {', '.join(known)}{did_you_mean(pattern, known)}")
    kept = []
    for run in runs:
        if not tasks or any(_means(pattern, run.task, run.label) for pattern in tasks):
            try:
                run.sums  # noqa: B018 - read here, where the file can still be left out
                kept.append(run)
            except MmevalError as error:
                problems.append(str(error))
    return kept, problems


def compare_runs(
    base: Sequence[Run],
    other: Sequence[Run],
    *,
    everything: bool = False,
    force: bool = False,
    skip: bool = False,
    metrics: Sequence[str] = (),
    also: Sequence[str] = (),
    draws: int = DRAWS,
) -> Comparison:
    """Compares the results of two models, task by task.

    Args:
        base: Results of the model compared with.
        other: Results of the other model.
        everything: All metrics, not the headline alone.
        force: Compare although tasks, protocols, judges, data or prompts differ; each change says in what.
        skip: Leave out what is not comparable, with a note, instead of refusing it.
        metrics: Names or globs of metrics (or `task/metric`), instead of the headline.
        also: Metrics that are wanted besides, likewise.
        draws: Of bootstrap and randomisation.

    Raises:
        BadInput: No task in common, or results that are not comparable (without `force` or `skip`), or a name that
            means no metric.
        Damaged: A file of sums.
    """
    if not base or not other:
        raise BadInput(
            "nothing to compare: no results of " + ("either" if not base and not other else "one of the two")
        )
    names = _names(base, other)
    pairs, only_base, only_other = pair_up(base, other)
    notes = [
        f"{ONLY} {name} has results of {', '.join(run.label for run in runs)}"
        for name, runs in zip(names, (only_base, only_other), strict=True)
        if runs
    ]
    if not pairs and not skip:
        raise BadInput(f"{names[0]} and {names[1]} have no task in common: {'; '.join(notes) or 'no results'}")
    if skip:
        notes += [f"{pair.label} is not compared: {', '.join(pair.unlike)}" for pair in pairs if pair.unlike]
        pairs = [pair for pair in pairs if not pair.unlike]
    elif not force:
        refuse_unlike(pairs, *names)
    chosen = _chosen(pairs, metrics, also, everything)
    changes = [change for pair, wanted in zip(pairs, chosen, strict=True) for change in _changes(pair, wanted, draws)]
    adjusted = holm(change.paired.p for change in changes)
    changes = [replace(change, p_holm=p) for change, p in zip(changes, adjusted, strict=True)]
    notes += [*_too_few(changes, draws), *(note for pair in pairs for note in notes_on(pair, *names))]
    return Comparison(*names, changes, notes, pairs)


def _too_few(changes: Sequence[Change], draws: int) -> list[str]:
    """Whether some would be found among fewer metrics, or by more draws, but cannot be with so few for so many."""
    tests = sum(change.paired.p is not None for change in changes)
    floor = 2 / (1 + draws)  # below it chance alone never came so far
    tested = [c for c in changes if c.paired.test == "randomisation" and not c.significant]
    if not any(change.paired.p is not None and change.paired.p < floor for change in tested):
        return []
    enough = int(tests / LEVEL)
    return [
        f"{draws} draws are too few for {counted(tests, 'test')}: give --draws {enough} or more, or fewer --metrics"
    ]


def _changes(pair: Pair, wanted: Sequence[str], draws: int) -> list[Change]:
    """The changes of one task."""
    theirs = pair.other.result["metrics"]
    better = {name: str(theirs[name]["better"]) for name in wanted}
    found = paired(pair.base.sums, pair.other.sums, better, draws)
    headline = pair.other.headline
    return [
        Change(
            task=pair.other.task,
            protocol=pair.other.protocol,
            judge=pair.other.judge,
            label=pair.label,
            metric=name,
            unit=str(theirs[name]["unit"]),
            better=better[name],
            headline=name in headline,
            paired=_with_values(pair, name, found[name]),
            differs=(*pair.unlike, *pair.marked),
        )
        for name in wanted
    ]


def _with_values(pair: Pair, name: str, found: Paired) -> Paired:
    """Of a metric that its sums do not give: the values that the two results have, without a test.

    They are of each one's own samples: where these are not the same there is no difference to speak of.
    """
    if found.n == 0 or found.base is not None or found.other is not None:
        return found
    base, other = (run.result["metrics"][name]["value"] for run in (pair.base, pair.other))
    known = base is not None and other is not None and not found.left_out
    return replace(found, base=base, other=other, delta=other - base if known else None)


def _chosen(pairs: Sequence[Pair], metrics: Sequence[str], also: Sequence[str], everything: bool) -> list[list[str]]:
    """For each pair the metrics that both results have and that are wanted: the headline's order, then the file's."""
    found = []
    used: set[str] = set()
    for pair in pairs:
        both = [name for name in pair.other.result["metrics"] if name in pair.base.result["metrics"]]
        headline = [name for name in pair.other.headline if name in both]
        wanted = []
        for name in dict.fromkeys([*headline, *both]):
            names = (name, *_full_names(pair.other.task, pair.label, name))
            asked = [pattern for pattern in (*metrics, *also) if _means(pattern, *names)]
            used.update(asked)
            if asked or (not metrics and (everything or name in headline)):
                wanted.append(name)
        found.append(wanted)
    for pattern in (*metrics, *also):
        if pattern not in used:
            known = sorted(
                {n for pair in pairs for n in pair.other.result["metrics"] if n in pair.base.result["metrics"]}
            )
            some = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
            raise BadInput(f"no metric {pattern!r} that both have{did_you_mean(pattern, known)}; they have {some}")
    return found


def _full_names(task: str, label: str, metric: str) -> tuple[str, str]:
    return f"{task}/{metric}", f"{label}/{metric}"


def _means(pattern: str, *names: str) -> bool:
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for name in names)


def _names(base: Sequence[Run], other: Sequence[Run]) -> tuple[str, str]:
    """What to call two models: by name, with what tells their files apart where they have one name."""
    one, two = base[0], other[0]
    if one.model != two.model or one.path == two.path:
        return one.model, two.model
    if one.path.parent != two.path.parent:
        return f"{one.model} ({one.path.parent})", f"{two.model} ({two.path.parent})"
    return f"{one.model} ({one.path.stem})", f"{two.model} ({two.path.stem})"
