"""What a report is about: whose results, which model is the base, how the others compare with it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..compare import Comparison, compare_runs
from ..errors import BadInput, Damaged, did_you_mean
from ..runs import Run, by_model, open_runs, tuned_from, weights_of


@dataclass(frozen=True)
class Material:
    """Result files, opened.

    Attributes:
        models: Results of each model, by its name; the base comes first.
        comparisons: Of the base with each other model that shares a task with it.
        notes: What a reader must know of the comparisons.
        problems: One line for each damaged file; the rest is shown all the same.
    """

    models: dict[str, list[Run]]
    comparisons: list[Comparison]
    notes: list[str]
    problems: list[str]

    @property
    def base(self) -> str:
        """Name of the model compared with."""
        return next(iter(self.models))


def collect(places: Sequence[str | os.PathLike[str]], base: str = "") -> Material:
    """Opens results and compares them.

    Args:
        places: Folders of models, folders above them, or result files.
        base: Name of the model that the others are compared with; empty: the first, or what that was tuned from if
            that is among them; of the first folder's models the one that most were tuned from.

    Raises:
        BadInput: A place without results, or a base that is not among them.
        Damaged: No file that could be read.
    """
    runs, problems = open_runs(*places)
    runs = list({run.path.resolve(): run for run in runs}.values())  # the same file by two ways counts once
    if not runs:
        raise Damaged(f"no result file could be read: {problems[0]}")
    models = by_model(runs)
    if base and base not in models:
        raise BadInput(f"--base {base}: no such model here ({', '.join(models)}){did_you_mean(base, models)}")
    root = Path(places[0]).resolve()
    first = base or default_base(models, [n for n, own in models.items() if own[0].path.resolve().is_relative_to(root)])
    models = {first: models[first], **models}
    sound = {name: _with_sums(own, problems) for name, own in models.items()}
    notes, comparisons = [], []
    for name in [name for name in models if name != first]:
        shared = {run.task for run in sound[first]} & {run.task for run in sound[name]}
        if not shared:
            notes.append(f"{name} and {first} have no task in common: there are no differences to show")
            continue
        found = compare_runs(sound[first], sound[name], skip=True)
        comparisons.append(replace(found, base=first, other=name))
    return Material(models, comparisons, notes, list(dict.fromkeys(problems)))


def default_base(models: Mapping[str, Sequence[Run]], first: Sequence[str] = ()) -> str:
    """The first model, or the one among the others that it was tuned from, and so on down.

    Args:
        models: Results of each model.
        first: Models that are first together, in no order that anyone chose (a folder's): the first of them is then
            the one that most others were tuned from.
    """
    below = {name: _below(name, models) for name in models}
    choice = list(first) or list(models)[:1]
    return below[max(choice, key=lambda name: sum(found == below[name] for found in below.values()))]


def _below(name: str, models: Mapping[str, Sequence[Run]]) -> str:
    """What a model was tuned from in the end, as far as it is among the models."""
    seen = {name}
    weights = {other: weights_of(runs[0].result["model"]["identity"]) for other, runs in models.items()}
    while True:
        wanted = weights_of(tuned_from(models[name]).get("base", {}))
        base = [other for other in models if other not in seen and wanted and weights[other] == wanted]
        if not base:
            return name
        name = base[0]
        seen.add(name)


def _with_sums(runs: Sequence[Run], problems: list[str]) -> list[Run]:
    """Those whose sums can be read: the others stand in the tables and are compared with nothing."""
    sound = []
    for run in runs:
        try:
            _ = run.sums
            sound.append(run)
        except Damaged as error:
            problems.append(str(error))
    return sound
