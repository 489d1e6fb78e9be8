"""Taking results into a leaderboard: checked against their own sums, and without what is nobody's business.

What is kept of a run is the result and its sums. Samples stay where they are: they are large, and they hold the
prompts, answers and images of data sets whose licences are not ours to pass on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from ..errors import BadInput, Damaged, MmevalError
from ..files import write_whole
from ..results import AGAIN, Result, model_folder, read_result, signature
from ..runs import Run
from .measured import RESULTS

TOLERANCE = 1e-9  # of values computed anew from their sums, relative to max(1, |value|)
KEPT = ("date", "seed", "versions", "python", "hardware", "model", "run", "earlier_runs")  # of the provenance
HARDWARE = ("machine", "system", "torch_threads", "gpus")
HALVES = ("part", "processor")  # of a model's identity: what differs between its language model and the whole
_ADDRESS = re.compile(r"\b[a-z][a-z+]*://[^\s\"'(),;]+", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w/.])(?:~|[a-z]:)?[/\\][^\s\"'(),;:]+", re.IGNORECASE)  # absolute, of either kind of system


@dataclass(frozen=True)
class Added:
    """What became of one result.

    Attributes:
        path: Its file in the leaderboard.
        what: `new`, `replaced` or `unchanged`.
    """

    path: Path
    what: str


def add(root: Path, runs: Sequence[Run], *, force: bool = False, below: str = "") -> tuple[list[Added], list[str]]:
    """Copies results and their sums to `<root>/results/<model>/`; samples are not copied.

    Args:
        root: The leaderboard.
        runs: What to take in.
        force: Also partial results (first samples only, failed or missing samples).
        below: Folder below `results/`: apart from the others, as those of the laboratory are. There a name says all:
            a model trained anew takes the place of the one before, and is no other model.

    Returns:
        What was taken in, and one line for each result that was not, with its reason.

    Raises:
        BadInput: The leaderboard cannot be written.
    """
    place = root / RESULTS / below
    added: list[Added] = []
    last: dict[str, Run] = {}
    problems: list[str] = []
    for run in runs:
        try:
            check(run, force=force)
        except MmevalError as error:
            problems.append(str(error))
            continue
        added.append(_copy(place, run, named=bool(below)))
        last[model_folder(run.model)] = run
    for name, run in last.items() if below else ():  # once all are there: what fails before loses nothing
        _clear(place / name, run)
    return added, problems


def check(run: Run, *, force: bool = False) -> None:
    """Whether a result is what it says it is: its values are those of its sums, its signature that of its content.

    Args:
        run: The result.
        force: Let partial results pass.

    Raises:
        Damaged: It is not, or it is partial (without `force`).
    """
    result = run.result
    try:
        said, found = result.get("signature"), signature(result)
        wrong = list(_wrong_values(run))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise Damaged(f"{run.path}: damaged result file ({type(error).__name__}: {error})") from error
    if said != found:
        raise Damaged(f"{run.path}: changed by hand: its signature is {said}, its content's {found}")
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise Damaged(f"{run.path}: {wrong[0]}{more}; {AGAIN}")
    if not force and (missing := partial(result)):
        raise Damaged(f"{run.path}: partial: {missing}; run it whole, or take it as it is with --force")


def partial(result: Result) -> str:
    """What a result lacks to be of the whole benchmark; empty for a whole one."""
    counts, limit = result["counts"], result["data"]["limit"]
    found = [f"the first {limit} samples of each part only"] if limit is not None else []
    for key, words in (("n_error", "failed"), ("n_refused", "refused"), ("n_missing", "not answered")):
        if counts.get(key):
            found.append(f"{counts[key]} samples {words}")
    return ", ".join(found)


def without_machine(result: Result) -> Result:
    """The result without what tells of the machine it was made on: command line, paths, addresses of servers."""
    who = [result["model"], result.get("judge", {})]
    servers = {str(one["identity"]["server"]) for one in who if one.get("identity", {}).get("server")}
    found = {key: value for key, value in result["provenance"].items() if key in KEPT}
    if isinstance(hardware := found.get("hardware"), dict):
        found["hardware"] = {key: value for key, value in hardware.items() if key in HARDWARE}
    parts = {"model": who[0], "judge": who[1], "errors": result.get("errors", []), "provenance": found}
    return {**result, **{key: _anonymous(value, servers) for key, value in parts.items()}}


def _wrong_values(run: Run) -> Iterable[str]:
    """Metrics whose value, or count, is not that of the sums."""
    sums, metrics = run.sums, run.result["metrics"]
    scored = run.result["counts"]["n_ok"] + run.result["counts"]["n_truncated"]
    if len(sums.samples) != scored:
        yield f"sums of {len(sums.samples)} samples, {scored} were scored"
    for name, made in sums.metrics.items():
        said, group = metrics[name], sums.groups[made.group]
        if said["n"] != group.n:
            yield f"{name} says n={said['n']}, its sums are of {group.n}"
        if made.formula is None:
            continue  # of all records at once: nothing here gives it again
        value = float(made.formula(sums.by_cluster(made.group)[1].sum(axis=0))) if group.n else math.nan
        if not _same(said["value"], value):
            yield f"{name} is {said['value']}, its sums give {value}"


def _same(said: float | None, found: float) -> bool:
    if said is None or not np.isfinite(found):
        return said is None and not np.isfinite(found)
    return abs(said - found) <= TOLERANCE * max(1.0, abs(found))


def _copy(results: Path, run: Run, *, named: bool) -> Added:
    """Writes the sums, then the result that names them; nothing where they are there already."""
    folder = results / model_folder(run.model)
    if not named and any(_others(folder, run)):
        folder = results / f"{folder.name}-{run.result['model']['fingerprint'][:8]}"
    path = folder / run.path.name
    text = json.dumps(without_machine(run.result), indent=1, ensure_ascii=False, allow_nan=False)
    data = text.encode("utf-8", "surrogatepass") + b"\n"
    try:
        sums = (run.path.parent / run.result["sums"]["file"]).read_bytes()
        kept = folder / run.result["sums"]["file"]
        before = path.exists()
        if before and path.read_bytes() == data and kept.is_file() and kept.read_bytes() == sums:
            return Added(path, "unchanged")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(kept, [sums])
        write_whole(path, [data])
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error
    return Added(path, "replaced" if before else "new")


def _clear(folder: Path, run: Run) -> None:
    """Removes results of other models from a run's folder."""
    for file, other in list(_others(folder, run)):
        try:
            file.unlink()
            (folder / other["sums"]["file"]).unlink(missing_ok=True)
        except OSError as error:
            raise BadInput(f"cannot remove {file}: {error.strerror or error}") from error


def _others(folder: Path, run: Run) -> Iterator[tuple[Path, Result]]:
    """Results of other models that lie where those of this one would."""
    for file in sorted(folder.glob("*.json")):
        try:
            other = read_result(file)
        except MmevalError:
            continue  # damaged: the page says so, and here it tells nothing of whose it is
        if not _one_model(run.result, other):
            yield file, other


def _one_model(a: Result, b: Result) -> bool:
    """Whether two results are of one model: both halves of it count as one, and so do answers to different tasks."""
    if a["model"]["fingerprint"] == b["model"]["fingerprint"]:
        return True
    one, two = a["model"]["identity"], b["model"]["identity"]
    if one.get("kind") == two.get("kind") == "answers":  # each task's has its own fingerprint
        return bool(a["task"]["name"] != b["task"]["name"])
    return "weights" in one and _whole(one) == _whole(two)


def _whole(identity: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in identity.items() if key not in HALVES}


def _anonymous(value: Any, servers: set[str]) -> Any:
    """Without the folders of absolute paths, and without addresses."""
    if isinstance(value, dict):
        return {key: _anonymous(item, servers) for key, item in value.items()}
    if isinstance(value, list):
        return [_anonymous(item, servers) for item in value]
    if isinstance(value, str):
        for server in servers:
            value = value.replace(server, "server")
        return _PATH.sub(lambda found: PureWindowsPath(found[0]).name, _ADDRESS.sub("server", value))
    return value
