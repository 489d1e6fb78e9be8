"""The base of a tuned checkpoint among result folders: found by the weights that its tuning recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput, MmevalError
from ..results import read_result
from ..runs import RESCORED, Run, tuned_from, weights_of
from .changes import ONLY, Comparison, compare_runs, model_runs


def folder_of_base(runs: Sequence[Run], place: Path) -> Path | None:
    """The folder of results of the model that another was tuned from; None if there is none.

    Of several (the same weights in another number format, say) it is the one whose number format is the tuned
    model's, then the one with more of its tasks.

    Args:
        runs: Results of the tuned model, in one folder.
        place: Where the folders of models lie.

    Raises:
        BadInput: Several that fit alike.
    """
    tuned = tuned_from(runs)
    base = weights_of(tuned["base"]) if tuned else None
    if base is None:
        return None
    stems = {run.path.name for run in runs}
    mine = runs[0].result["model"]["identity"].get("dtype")
    found: list[tuple[tuple[bool, int], Path]] = []
    for folder, identity in _models(place):
        if folder.resolve() != runs[0].path.parent.resolve() and weights_of(identity) == base:
            common = sum((folder / stem).is_file() for stem in stems)
            found.append(((identity.get("dtype") != mine, -common), folder))
    found.sort(key=lambda one: (one[0], str(one[1])))
    if len(found) > 1 and found[0][0] == found[1][0]:
        names = " and ".join(str(folder) for rank, folder in found if rank == found[0][0])
        raise BadInput(f"{names} are both results of the base of {runs[0].model}: name the one to compare with")
    return found[0][1] if found else None


def folder_of_base_of(runs: Sequence[Run]) -> Path:
    """The same among the folders beside the tuned model's own.

    Raises:
        BadInput: Not tuned, as far as is on record, or no results of its base there, or several that fit alike.
    """
    folder = runs[0].path.parent
    tuned = tuned_from(runs)
    if not tuned:
        raise BadInput(f"{folder}: no base is on record for {runs[0].model}; name it: mmeval compare BASE OTHER")
    found = folder_of_base(runs, folder.parent)
    if found is None:
        base = tuned["base"]
        raise BadInput(
            f"{folder.parent}: no results of {base.get('name', 'the base')} (weights {str(base.get('weights'))[:8]}), "
            f"which {runs[0].model} was tuned from; score it with the same --out, or name it: mmeval compare BASE OTHER"
        )
    return found


def against_bases(paths: Sequence[Path], named: str = "") -> tuple[dict[Path, tuple[Comparison, Path]], list[str]]:
    """What a run has to say of the bases of its models: the comparisons that `mmeval compare BASE MODEL` makes.

    All results in a model's folder are compared, not those of the run alone, so that p-values are those of that
    command.

    Args:
        paths: Result files of a run.
        named: Folder (or file) of the results to compare with; empty: of each model's own base, if it has results
            beside it.

    Returns:
        Folder of a model to its comparison and the base's folder (without changes where nothing is comparable: its
        notes say why), and a line for each that could not be made.
    """
    found: dict[Path, tuple[Comparison, Path]] = {}
    problems: list[str] = []
    for folder in dict.fromkeys(path.parent for path in paths):
        try:
            runs, damaged = model_runs(folder)
            place = Path(named) if named else folder_of_base(runs, folder.parent)
            if place is None or place.resolve() == folder.resolve():
                continue
            base, more = model_runs(place)
            problems += [*damaged, *more]
            found[folder] = compare_runs(base, runs, skip=True), place
        except MmevalError as error:
            problems.append(str(error))
    common = {
        folder: one
        for folder, one in found.items()
        if one[0].changes or any(not n.startswith(ONLY) for n in one[0].notes)
    }
    return common, list(dict.fromkeys(problems))


def _models(place: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Folders of results just below a place, each with what its model is."""
    found = []
    for folder in sorted(path for path in place.iterdir() if path.is_dir() and path.name != RESCORED):
        for path in sorted(folder.glob("*.json")):
            try:
                found.append((folder, read_result(path)["model"]["identity"]))
                break
            except MmevalError:  # a damaged file, or another tool's: the next one tells as well
                continue
    return found
