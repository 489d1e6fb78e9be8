"""Result files as tables, comparisons and reports read them: found, opened, and told apart."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import BadInput, Damaged
from .results import Result, check_sums, find_results, headline, read_result, read_samples, read_sums
from .stats import Sums

RESCORED = "rescored"  # folder of what `mmeval score` made anew of a run, below the run's


@dataclass(frozen=True)
class Run:
    """One result file.

    Attributes:
        path: The file.
        result: Its content.
    """

    path: Path
    result: Result

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.result["model"]["name"])

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.result["task"]["name"])

    @property
    def protocol(self) -> str:
        """The task's protocol."""
        return str(self.result["task"]["protocol"])

    @property
    def judge(self) -> str:
        """Who judged; empty for a task without a role for one."""
        return str(self.result["task"].get("judge") or "")

    @property
    def key(self) -> tuple[str, str, str]:
        """What two comparable results share: task, protocol, judge."""
        return self.task, self.protocol, self.judge

    @property
    def label(self) -> str:
        """The task, with its protocol where that is not the default, and the judge."""
        task = self.result["task"]
        named = self.task if self.protocol == task["default_protocol"] else f"{self.task}@{self.protocol}"
        return f"{named}+{self.judge}" if self.judge else named

    @property
    def tuned(self) -> Mapping[str, Any]:
        """How the model was tuned (`method`, `recipe`, `base` ...); empty if that is not on record."""
        found: Mapping[str, Any] = self.result["model"].get("tuned") or {}
        return found

    @property
    def miniature(self) -> bool:
        """Whether it is of the embedded toy data."""
        return bool(self.result["data"]["source"] == "miniature")

    @property
    def headline(self) -> list[str]:
        """Names of the metrics that tables show (all, if the task names none)."""
        return headline(self.result)

    @cached_property
    def sums(self) -> Sums:
        """What its metrics are made of.

        Raises:
            Damaged: The file of sums is missing or not the one that the result was written with.
        """
        return read_sums(self.path, self.result)

    def samples(self) -> Iterator[dict[str, Any]]:
        """Its samples.

        Raises:
            Damaged: The samples file is missing or not the one that the result was written with.
        """
        return read_samples(self.path, self.result)


def open_runs(*places: str | os.PathLike[str]) -> tuple[list[Run], list[str]]:
    """The result files at or below some places, in the order of the places, then of their names.

    What was scored anew (`rescored/`) is left out unless the place is such a folder or file, and so are other JSON
    files in a folder.

    Returns:
        The results, and one line for each that is damaged (or whose file of sums is missing or damaged) or of another
        version: the others are still of use.

    Raises:
        BadInput: A place that is not there, or has no result file at all.
    """
    found: list[Run] = []
    problems: list[str] = []
    for place in map(Path, places):
        if not place.exists():
            raise BadInput(f"{place}: no such file or folder; expected results of mmeval run or mmeval score")
        before = len(found) + len(problems)
        for path in _paths(place):
            try:
                result = read_result(path)
                check_sums(path, result)
            except BadInput:
                if path == place:
                    raise
            except Damaged as error:
                problems.append(str(error))
            else:
                found.append(Run(path, result))
        if len(found) + len(problems) == before:
            raise BadInput(f"{place}: no result file of mmeval there")
    return found, problems


def by_model(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by model: by name, with the folder's where two models (or settings of one) have one name."""
    folders: dict[str, list[Run]] = {}
    for run in runs:
        folders.setdefault(str(run.path.parent), []).append(run)
    names = [runs[0].model for runs in folders.values()]
    return {
        (runs[0].model if names.count(runs[0].model) == 1 else f"{runs[0].model} ({folder})"): runs
        for folder, runs in folders.items()
    }


def tuned_from(runs: Iterable[Run]) -> Mapping[str, Any]:
    """How the model of these results was tuned; empty if none of them has it on record."""
    return next((run.tuned for run in runs if run.tuned), {})


def weights_of(model: Mapping[str, Any]) -> tuple[str, str] | None:
    """What a model is, whatever it is called: hashes of its weights and of its PEFT adapter (empty without one).

    Args:
        model: A result's `model.identity`, or the `base` that a tuning recorded: a tuned model's base is the model
            whose `weights_of` is the same.

    Returns:
        The two; None where they are not on record, or images are weakened (`-M weaken=`).
    """
    # weakened images make another model of the same weights: nobody's base
    weights = None if model.get("weaken") else model.get("weights")
    return (str(weights), str(model.get("peft") or "")) if weights else None


def _paths(place: Path) -> Iterator[Path]:
    for path in find_results(place):
        if path == place or RESCORED not in path.relative_to(place).parts:
            yield path
