"""An earlier run scored anew: its stored answers, another protocol's parser or another judge, no model."""

from __future__ import annotations

import fnmatch
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .answers import (
    Scored,
    judge_rows,
    named,
    open_for_scoring,
    refuse_missing,
    score_source,
    scored_result,
    stem_of,
    without_data,
)
from .data.files import NotThere
from .data.source import Source
from .errors import BadInput, MmevalError, PluginError, did_you_mean, located
from .judges.base import Judge, OfflineJudge
from .plan import asked, limited, open_task, rows_hash
from .registry import source_file
from .requests import Response
from .results import Result, find_results, read_result, read_samples, signature
from .runs import RESCORED
from .scoring import Row, row
from .task import LmEvalTask, Sample, Task


def find_runs(folder: Path, tasks: Sequence[str] = ()) -> list[Path]:
    """Result files of a run that are to be scored anew.

    Args:
        folder: Of a run; what was scored anew before is left out.
        tasks: Names or globs; empty: all.

    Raises:
        BadInput: No result file there, or none of a task named.
    """
    paths = [p for p in find_results(folder) if RESCORED not in p.relative_to(folder).parts]
    named_tasks = [(task_of(path), path) for path in paths]
    if not paths:
        raise BadInput(f"{folder}: no result file of mmeval there; to score answers of another tool give --answers")
    for pattern in tasks:
        if not any(fnmatch.fnmatchcase(name, pattern) or name == pattern for name, _ in named_tasks):
            known = sorted({name for name, _ in named_tasks})
            raise BadInput(f"--tasks {pattern}: {folder} has {', '.join(known)}{did_you_mean(pattern, known)}")
    wanted = [
        path for name, path in named_tasks
        if not tasks or any(fnmatch.fnmatchcase(name, p) or name == p for p in tasks)
    ]  # fmt: skip
    return wanted


def task_of(path: Path) -> str:
    """The task that a result is of."""
    return str(read_result(path)["task"]["name"])


def has_role(path: Path) -> bool:
    """Whether a result is of a task in which something is judged."""
    task = read_result(path)["task"]
    return open_task(task["name"], task["protocol"]).judge is not None


def rescore(
    path: Path, *, data: str = "", protocol: str = "", judge: Judge | None = None, allow_missing: bool = False
) -> Scored:
    """Scores the answers of a result file anew; the file is left as it is.

    Args:
        path: The result file, its samples file beside it.
        data: Where the gold comes from; empty: the miniature if the run was on it, else `$MMEVAL_DATA`.
        protocol: Whose parser and aggregation; empty: the run's own.
        judge: Who judges; None: the task's stand-in.
        allow_missing: Score although samples of these data have no answer.

    Raises:
        BadInput: Data missing or others than the run's, a protocol that asks for something else.
        Damaged: The samples file is not the one the result was written with.
    """
    started = time.time()
    old = read_result(path)
    task = open_task(old["task"]["name"], protocol or old["task"]["protocol"])
    source = _source(task, data, old)
    samples = _samples(task, source, old)
    stored = {one["id"]: one for one in read_samples(path, old)}
    notes = _same_data(task, old, samples, stored)
    kept = [sample for sample in samples if sample.id in stored]
    missing = [sample.id for sample in samples if sample.id not in stored]
    refuse_missing(missing, len(samples), f"{path.name} has no answer", allow_missing)
    rows = [_rescored(task, sample, stored[sample.id]) for sample in kept]
    if task.protocol_name != old["task"]["protocol"]:
        notes.append(_asked_otherwise(task, old, kept, stored))
    found = judge_rows(task, rows, judge or OfflineJudge())
    result, sums = scored_result(task, rows, found, model=old["model"], source=source, samples=kept, started=started)
    result["data"] = {**old["data"], "source": str(source)}
    for key in ("seed", "params", "prompt", "prompt_hash", "contamination"):
        if key in old:
            result[key] = old[key]
    result["task"]["shots"] = old["task"]["shots"]
    result["counts"]["n_missing"] = len(missing)
    result["rescored"] = {"signature": old.get("signature", ""), "protocol": old["task"]["protocol"]}
    result["signature"] = signature(result)
    return Scored(result, sums, rows, missing, stem_of(task), notes)


def _source(task: Task, data: str, old: Result) -> Source:
    if not data and old["data"]["source"] == "miniature":
        data = "mini"
    try:
        return score_source(task, data)[0]
    except NotThere as error:
        raise BadInput(without_data(task)) from error


def _samples(task: Task, source: Source, old: Result) -> list[Sample]:
    try:
        open_for_scoring(task, source)
        return limited(task.samples(source), old["data"]["limit"])
    except MmevalError:
        raise
    except Exception as error:
        cause = located(error, source_file(type(task)))
        raise PluginError(f"task {task.name} cannot read its data: {cause}") from error


def _same_data(task: Task, old: Result, samples: Sequence[Sample], stored: dict[str, Row]) -> list[str]:
    """Refuses answers to samples that the data do not have, unless another protocol takes fewer; that is noted."""
    known = {sample.id for sample in samples}
    unknown = [key for key in stored if key not in known]
    if not unknown:
        same = task.protocol_name != old["task"]["protocol"] or old["data"].get("rows") in (None, rows_hash(samples))
        return [] if same else ["these data are not those of the run: same ids, other rows"]
    if task.protocol_name == old["task"]["protocol"] or len(unknown) == len(stored):
        raise BadInput(f"{len(unknown)} answers of the run are no samples of these data: {named(unknown)}; see --data")
    return [f"{len(unknown)} answers of the run are no samples under protocol {task.protocol_name}"]


def _rescored(task: Task, sample: Sample, stored: Row) -> Row:
    """The row of a sample with the answers of an earlier one; what failed then is still failed."""
    made = row(task, sample, _responses(stored))
    return {**made, **{key: stored[key] for key in ("images", "prompts", "answers", "reference")}}


def _responses(stored: Row) -> list[Response]:
    if stored["status"] not in ("ok", "truncated"):
        return [Response(stored["status"], error=stored["error"])]
    return [_response(answer, stored["status"]) for answer in stored["answers"]]


def _response(answer: dict[str, Any], status: Any) -> Response:
    if "logprobs" in answer:
        # JSON has no infinity: what was impossible is null in the file
        values = tuple(-math.inf if value is None else float(value) for value in answer["logprobs"])
        return Response(status, logprobs=values, greedy=tuple(answer.get("greedy", ())))
    told = {"finish": answer["finish"], "new_tokens": answer["new_tokens"], "marks": tuple(answer.get("marks", ()))}
    return Response(status, text=answer["text"], **told)


def _asked_otherwise(task: Task, old: Result, samples: Sequence[Sample], stored: dict[str, Row]) -> str:
    """One line on whether the other protocol would have asked the same."""
    was, now = old["task"]["protocol"], task.protocol_name
    said = f"answers were given under protocol {was} and are scored as {now}"
    if isinstance(task, LmEvalTask) or task.shots:  # their demonstrations are not read for scoring
        return f"{said}; prompts with demonstrations are not compared"
    for sample in samples:
        prompts = [request.prompt.text for request in asked(task, sample, 0)]
        if len(prompts) != len(stored[sample.id]["prompts"]):
            raise BadInput(
                f"{task.name}: protocol {now} asks {len(prompts)} questions a sample, the run under {was} asked "
                f"{len(stored[sample.id]['prompts'])}: its answers cannot be scored so"
            )
        if prompts != stored[sample.id]["prompts"]:
            return f"{said}; that protocol would have asked otherwise (the first: {sample.id})"
    decoding = "the same text" if old["params"] else "the same"
    return f"{said}, which asks {decoding}"
