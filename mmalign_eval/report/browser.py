"""The samples of a report: which ones, each with every model's answer side by side."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import Damaged
from ..requests import ImageRef
from ..runs import Run
from ..scores import Score, sample_scores
from .rows import LONGEST, SCORED, Row, sample_of, trimmed
from .thumbnails import Watch, spread

SHARED = 3000  # samples of a page unless told otherwise, shared between its tasks
# characters kept of a text: the first at which the budget holds
LENGTHS = (LONGEST, 3000, 2000, 1500, 1200, 1000, 800, 650, 500, 400, 320, 250)


@dataclass
class Browser:
    """What the page's script gets.

    Attributes:
        tasks: One object a task: `name`, places of the `models` that have results of it, `metrics` that its scores are
            of, `shown` and `total` samples.
        samples: One object a sample: `rows.sample_of`.
        images: Different images in the order of their first use; samples name them by place.
        notes: What was left out or cut.
        problems: One line for each damaged samples file.
        without: Tasks whose results have no samples file beside them (leaderboards keep none), by model.
    """

    tasks: list[Row] = field(default_factory=list)
    samples: list[Row] = field(default_factory=list)
    images: list[ImageRef] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    without: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Task:
    """Results of one task: of each model in turn, None or empty where it has none."""

    label: str
    runs: list[Run | None]
    scores: list[dict[str, Score]]
    ids: list[str]
    failed: set[str]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that the scores are of."""
        return list(dict.fromkeys(score.metric for scores in self.scores for score in scores.values()))


def browse(models: Mapping[str, Sequence[Run]], per_task: int | None, budget: int, watch: Watch) -> Browser:
    """Reads the samples of results.

    Args:
        models: Results of each model; the first is the base.
        per_task: Most samples of a task; None: `SHARED` in all, shared between the tasks.
        budget: Most bytes that the samples may take in the page: long texts are cut further until it holds.
        watch: Hears about progress.
    """
    found = Browser()
    tasks = list(_opened(models, found))
    for model, labels in found.without.items():
        found.notes.append(f"{model}: no samples files beside {', '.join(labels)}: in the tables and figures only")
    shares = _shares([len(task.ids) for task in tasks], per_task)
    chosen = [_choose(task, share) for task, share in zip(tasks, shares, strict=True)]
    for task, names in zip(tasks, chosen, strict=True):
        if len(names) < len(task.ids):
            which = "failed or scored differently than the base" if len(models) > 1 else "failed"
            found.notes.append(
                f"{task.label}: {len(names):,} of {len(task.ids):,} samples are here, half of them such as {which} "
                "(if there are as many), the rest spread evenly"
            )
    advance = watch("samples", len(tasks))
    loaded = []
    for task, names in zip(tasks, chosen, strict=True):
        loaded.append(_load(task, names))
        advance(1, 0)

    def holds(length: int) -> bool:
        _fill(found, tasks, chosen, loaded, length)
        return len(to_json(found.samples).encode("utf-8")) <= budget

    if not holds(LENGTHS[0]):
        length = LENGTHS[1 + bisect_left(LENGTHS[1:-1], True, key=holds)]
        _fill(found, tasks, chosen, loaded, length)
        found.notes.append(f"to keep the page's size, of long texts {length:,} characters are shown")
    return found


def _opened(models: Mapping[str, Sequence[Run]], found: Browser) -> Iterator[_Task]:
    """The tasks, with the ids and scores of their samples."""
    keys = dict.fromkeys(run.key for runs in models.values() for run in runs)
    for key in keys:
        runs = [next((run for run in own if run.key == key), None) for own in models.values()]
        task = _Task(next(run.label for run in runs if run), [], [], [], set())
        for run in runs:
            told = _told(run, found) if run else None
            task.runs.append(run if told is not None else None)
            task.scores.append(_scores(run) if run and told is not None else {})
            known = set(task.ids)
            task.ids.extend(name for name in told or () if name not in known)
            task.failed.update(name for name, status in (told or {}).items() if status not in SCORED)
        if task.ids:
            yield task


def _told(run: Run, found: Browser) -> dict[str, str] | None:
    """Ids and statuses of a result's samples; None without a file of samples."""
    file = run.path.parent / str(run.result["samples"].get("file") or "")
    if not file.is_file():
        found.without.setdefault(run.model, []).append(run.label)
        return None
    try:
        return {str(row["id"]): str(row["status"]) for row in run.samples()}
    except Damaged as error:
        found.problems.append(str(error))
    except (ValueError, KeyError, TypeError) as error:
        found.problems.append(f"{file}: damaged samples file ({error}); run the same command again to rewrite it")
    return None


def _scores(run: Run) -> dict[str, Score]:
    try:
        return sample_scores(run.result, run.sums)
    except Damaged:  # a problem that the comparisons have told of
        return {}


def _shares(totals: Sequence[int], per_task: int | None) -> list[int]:
    """Samples of each task: as many as it has, up to a common limit that makes `SHARED` together."""
    if per_task is not None:
        return [min(total, per_task) for total in totals]
    shares, left = [0] * len(totals), SHARED
    for done, place in enumerate(sorted(range(len(totals)), key=totals.__getitem__)):  # what small ones leave is shared
        shares[place] = min(totals[place], left // (len(totals) - done))
        left -= shares[place]
    return shares


def _choose(task: _Task, count: int) -> list[str]:
    """Half of the places go to samples that failed or scored differently, the others to the rest, spread evenly."""
    base = task.scores[0]
    telling = [
        i
        for i, name in enumerate(task.ids)
        if name in task.failed or any(_differ(base.get(name), other.get(name)) for other in task.scores[1:])
    ]
    others = sorted(set(range(len(task.ids))) - set(telling))
    first = min(len(telling), max(count // 2, count - len(others)))
    return [task.ids[i] for i in sorted([*spread(telling, first), *spread(others, count - first)])]


def _differ(base: Score | None, other: Score | None) -> bool:
    return base is not None and other is not None and base.value != other.value


def _load(task: _Task, names: Sequence[str]) -> list[dict[str, Row]]:
    """The chosen samples of each model; nothing longer than needed is kept."""
    wanted = set(names)
    return [
        {str(row["id"]): trimmed(row) for row in run.samples() if str(row["id"]) in wanted} if run else {}
        for run in task.runs
    ]


def _fill(
    found: Browser, tasks: Sequence[_Task], chosen: Sequence[Sequence[str]], loaded: Sequence[list[dict[str, Row]]],
    length: int,
) -> None:  # fmt: skip
    """Puts tasks and samples together, their texts cut to a length."""
    images: dict[ImageRef, int] = {}
    found.tasks, found.samples = [], []
    for number, (task, names, rows) in enumerate(zip(tasks, chosen, loaded, strict=True)):
        metrics = task.metrics
        whose = [place for place, run in enumerate(task.runs) if run]
        about = {"name": task.label, "models": whose, "shown": len(names), "total": len(task.ids), "metrics": metrics}
        found.tasks.append(about)
        for name in names:
            scores = [own.get(name) for own in task.scores]
            sample = sample_of([own.get(name) for own in rows], task.runs, scores, metrics, images, length)
            found.samples.append({"t": number, "i": name, **sample})
    found.images = list(images)


def to_json(value: Any) -> str:
    """JSON that may stand inside a script element: `<`, `>`, `&`, line separators, lone surrogates are escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_UNSAFE = re.compile("[<>&\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
