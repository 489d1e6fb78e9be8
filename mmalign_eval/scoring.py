"""Answers to numbers: records of samples, a judge's verdicts, metrics, and the task's part of a result file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .cycles import cycles_left
from .errors import MmevalError, PluginError, located
from .registry import source_file
from .requests import Choose, ImageRef, Request, Response
from .results import SCHEMA, Result, Summary
from .stats import Estimate, estimates_of, sums_of
from .task import Record, Sample, Task

if TYPE_CHECKING:
    from .judges.base import Judge
    from .plan import TaskPlan

REFERENCE = 2000  # characters of a reference that a row shows; scores are of the whole
Row = dict[str, Any]


@cycles_left()
def score(plan: TaskPlan, responses: Sequence[Response]) -> list[Row]:
    """One row a sample: what was asked, what came back, and the record if it could be scored.

    Raises:
        PluginError: The task's code fails on an answer (with its cause and line).
    """
    rows, at = [], 0
    for sample, requests in zip(plan.samples, plan.requests, strict=True):
        answers = responses[at : at + len(requests)]
        at += len(requests)
        rows.append(row(plan.task, sample, answers, requests))
    return rows


def row(task: Task, sample: Sample, answers: Sequence[Response], requests: Sequence[Request] = ()) -> Row:
    """One sample as the samples file has it; without requests (answers made elsewhere) nothing is said of prompts.

    Raises:
        PluginError: The task's code fails on an answer (with its cause and line).
    """
    failed = next((a for a in answers if not a.answered), None)
    truncated = any(a.status == "truncated" for a in answers)
    asked: Sequence[Request | None] = requests or [None] * len(answers)
    return {
        "id": sample.id,
        "part": sample.part,
        "cluster": sample.cluster or sample.id,
        "status": failed.status if failed else "truncated" if truncated else "ok",
        "error": failed.error if failed else "",
        "images": [_image(ref) for ref in sample.images],
        "prompts": [request.prompt.text for request in requests],
        "answers": [_answer(q, a) for q, a in zip(asked, answers, strict=True)],
        "reference": _reference(task, sample, requests),
        "judged": [],
        "record": None if failed else _record(task, sample, answers),
    }


def _image(ref: ImageRef) -> dict[str, Any]:
    """Where a sample's image is, with what was done to it: for those who look at the samples later."""
    path = ref.path if os.path.isabs(ref.path) else os.path.abspath(ref.path)
    return {"path": path, "row": ref.row, "column": ref.column, "transforms": ref.transforms}


def _reference(task: Task, sample: Sample, requests: Sequence[Request]) -> str:
    """What a model that answers right says, at most `REFERENCE` characters; of options the text.

    Of a sample that is asked several things, each answer is a line; one without a choice counts only by itself.
    """
    try:
        right = task.right_answer(sample)
    except MmevalError:
        raise
    except Exception as error:
        cause = located(error, source_file(type(task)))
        raise PluginError(f"task {task.name} has no right answer to sample {sample.id}: {cause}") from error
    said: list[str] = []
    forced: list[str] = []
    for number, response in enumerate(right):
        request = requests[number] if number < len(requests) else None
        if isinstance(request, Choose) and response.logprobs:
            option = request.options[max(range(len(response.logprobs)), key=response.logprobs.__getitem__)]
            (said if len(request.options) > 1 else forced).append(option.strip())
        else:
            said.append(response.text.strip())
    text = "\n".join(dict.fromkeys(filter(None, said))) or "\n".join(dict.fromkeys(forced))
    return text if len(text) <= REFERENCE else f"{text[:REFERENCE]} …"


def _record(task: Task, sample: Sample, answers: Sequence[Response]) -> Record:
    try:
        record = task.record(sample, answers)
    except MmevalError:
        raise
    except Exception as error:
        raise PluginError(
            f"task {task.name} cannot score sample {sample.id}: "
            f"{located(error, source_file(type(task)))} (the answers are kept in the store)"
        ) from error
    record.setdefault("id", sample.id)
    record.setdefault("cluster", sample.cluster or sample.id)
    return record


def judged(task: Task, rows: Sequence[Row], judge: Judge) -> None:
    """Puts a judge's verdicts on the scored records of a task that has a role for one, and its words on the rows.

    Raises:
        MmevalError: The judge cannot be asked, or its budget is spent.
    """
    if task.judge is None:
        return
    scored = [row for row in rows if row["record"] is not None]
    verdicts = judge.verdicts(task.judge, [row["record"] for row in scored])
    task.judged_by = judge.name_for(task.judge)  # a server tells its snapshot only with its answers
    replies = judge.replies() or [[]] * len(scored)
    for one, given, said in zip(scored, verdicts, replies, strict=True):
        take_verdicts(one, given, said)


def take_verdicts(row: Row, verdicts: Sequence[Any], replies: Sequence[str]) -> None:
    """Puts verdicts on a row's record; `judged` tells what the judge said for each, and is empty if it said nothing."""
    row["record"]["verdicts"] = list(verdicts)
    row["judged"] = [
        {"text": text, "verdict": verdict} for text, verdict in zip(replies, verdicts, strict=bool(replies))
    ]


def aggregate(task: Task, records: Sequence[Record]) -> list[Estimate]:
    """Metrics of scored records, as `summarize` gives them."""
    return summarize(task, records).estimates


@cycles_left()
def summarize(task: Task, records: Sequence[Record]) -> Summary:
    """Metrics of scored records and what they are made of; corpus-level fields are added to the records.

    Raises:
        PluginError: The task's code fails (with its cause and line).
    """
    try:
        if records:
            task.finish(records)
        metrics = task.metrics()
        sums = sums_of(metrics, records)
        if len(set(sums.samples)) < len(sums.samples):
            twice = next(name for name, n in Counter(sums.samples).items() if n > 1)
            raise PluginError(f"task {task.name} calls two samples {twice!r}: results are compared sample by sample")
        return Summary(estimates_of(metrics, records, sums), sums)
    except MmevalError:
        raise
    except Exception as error:
        cause = located(error, source_file(type(task)))
        raise PluginError(f"task {task.name} cannot aggregate: {cause} (the answers are kept in the store)") from error


def described(task: Task, rows: Sequence[Row], *, judge: Mapping[str, Any] | None = None) -> Result:
    """The part of a result file that tells of the task, its samples and its judge."""
    statuses = [row["status"] for row in rows]
    return {
        "kind": "mmeval-result",
        "schema": SCHEMA,
        "task": {
            "name": task.name,
            "version": task.version,
            "protocol": task.protocol_name,
            "default_protocol": task.default_protocol,
            "modality": task.modality,
            "shots": task.shots,
            "headline": list(task.headline),
            "sources": list(task.sources),
            "note": task.protocol.note,
            "judge": task.judged_by if task.judge else "",
            "extra": dict(task.signature_extra()),
        },
        "judge": dict(judge or {}),
        "counts": {
            "n": len(rows),
            "n_ok": statuses.count("ok"),
            "n_truncated": statuses.count("truncated"),
            "n_error": statuses.count("error"),
            "n_refused": statuses.count("refused"),
        },
        "errors": list(dict.fromkeys(f"{row['id']}: {row['error']}" for row in rows if row["error"]))[:5],
    }


def _answer(request: Request | None, response: Response) -> dict[str, Any]:
    found: dict[str, Any]
    if isinstance(request, Choose):
        found = {"options": request.options, "logprobs": response.logprobs}
        return {**found, "greedy": response.greedy} if any(response.greedy) else found
    if request is None and response.logprobs:
        return {"logprobs": response.logprobs}
    found = {"text": response.text, "finish": response.finish, "new_tokens": response.new_tokens}
    return {**found, "marks": response.marks} if response.marks else found
