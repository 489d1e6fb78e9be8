"""Answers made elsewhere, and those of earlier runs, to results: no model is asked, nothing is generated.

A submission is read by its task (`Task.submitted`); a run's answers come from its samples file (`rescore.py`). Both
are then scored as a run is: records, verdicts, metrics with intervals.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .data.files import NotThere
from .data.source import ENV_DATA, DataChoice, Source
from .errors import BadInput, MmevalError, PluginError, located
from .judges.base import Judge, OfflineJudge
from .plan import base_name, rows_hash
from .provenance import provenance
from .registry import source_file
from .results import Result, digest_json, result_stem, signature
from .roles import AnswerFiles, Submission
from .run_stats import RunStats
from .scoring import Row, described, judged, row, summarize, take_verdicts
from .stats import Sums
from .task import LmEvalTask, Sample, Task

SHOWN = 5  # ids named in a message
SUBMITTED = "submitted"  # who judged, where graded files do not say


class ReadOptions(dict[str, str]):
    """What else was said about a submission; knows which of it the task looked at."""

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> str:
        self.read.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        self.read.add(key)
        return super().get(key, default)


@dataclass(frozen=True)
class Scored:
    """What scoring gives.

    Attributes:
        result: As a result file has it; `metrics` holds every metric by name.
        sums: What the metrics are made of.
        rows: One a sample that was answered, as the samples file has it.
        missing: Ids of samples without an answer; the metrics do not count them.
        stem: Name of its result file without suffix.
        notes: What else to know, a line each.
    """

    result: Result
    sums: Sums
    rows: list[Row]
    missing: list[str]
    stem: str
    notes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Model and task."""
        return f"{self.result['model']['name']}/{self.result['task']['name']}"

    @property
    def values(self) -> dict[str, float | None]:
        """Metric name to value, None where it is undefined."""
        return {name: metric["value"] for name, metric in self.result["metrics"].items()}


def score_source(task: Task, data: str, files: AnswerFiles | None = None) -> tuple[Source, bool]:
    """Where the gold comes from: `--data`, `$MMEVAL_DATA`, or the folder of the answers where they hold it.

    Args:
        task: The task.
        data: `mini`, `hub`, a folder, a file (`TASK=` may stand before it, as in a run), or empty.
        files: The submission; its folder stands in where nothing was said.

    Returns:
        The source, and whether it was said.

    Raises:
        BadInput: Nothing there, or nothing said and no submission.
    """
    name = base_name(task.name)
    place = data.removeprefix(f"{name}=") or os.environ.get(ENV_DATA, "")
    if place:
        return DataChoice(place).source(name, images=False), True
    if files is None:
        raise BadInput(without_data(task))
    first = next(iter(files.paths.values()))
    return Source("dir", str(first if first.is_dir() else first.parent), images=False), False


def without_data(task: Task) -> str:
    """What to say where data are needed and were not named."""
    return f"--data is missing: scoring {task.name} needs {task.data.layout}. Get it: {task.data.get}"


def score_submission(
    task: Task,
    files: AnswerFiles,
    source: Source,
    judge: Judge | None = None,
    *,
    allow_missing: bool = False,
    data_given: bool = True,
    name: str = "",
) -> Scored:
    """Scores answers in the benchmark's own submission format.

    Args:
        task: Opened under its protocol.
        files: The submission.
        source: Where the gold is.
        judge: Who judges what the files hold no grades for; None: the task's stand-in.
        allow_missing: Score a partial submission.
        data_given: Whether the source was named; if not, a file that is not there means that the name is missing.
        name: What to call who answered; empty: after the files.

    Raises:
        BadInput: Not in the format, ids that are no sample, answers missing without leave.
        PluginError: The task's own code fails.
    """
    started = time.time()
    for path in files.paths.values():
        if not path.exists():
            raise BadInput(f"--answers {path}: no such file or folder")
    try:
        submission = _read(task, files, source)
    except NotThere as error:
        raise error if data_given else BadInput(without_data(task)) from error
    _refuse_unread(task, files)
    refuse_unknown(submission.unknown, [sample.id for sample in submission.samples])
    ungraded = _ungraded(submission)
    missing = [*submission.missing, *ungraded]
    refuse_missing(missing, len(submission.samples), "no grade" if ungraded else "no answer", allow_missing)
    kept = [s for s in submission.samples if s.id in submission.responses and s.id not in set(ungraded)]
    rows = [row(task, sample, submission.responses[sample.id]) for sample in kept]
    described_judge = judge_rows(task, rows, judge or OfflineJudge(), submission)
    identity = {"kind": "answers", "sha256": files_hash(list(files.paths.values()))}
    model = {"name": name or _stem(files), "identity": identity, "fingerprint": digest_json(identity)}
    result, sums = scored_result(task, rows, described_judge, model=model, source=source, samples=kept, started=started)
    result["counts"]["n_missing"] = len(missing)
    result["signature"] = signature(result)
    return Scored(result, sums, rows, missing, stem_of(task), list(submission.notes))


def judge_rows(task: Task, rows: Sequence[Row], judge: Judge, submission: Submission | None = None) -> dict[str, Any]:
    """Verdicts onto the records: those of graded files, else the judge's; what to say of the judge."""
    if task.judge is None:
        return {}
    if submission is None or not submission.verdicts:
        judged(task, rows, judge)
        return judge.describe()
    task.judged_by = submission.judge or SUBMITTED
    for one in rows:
        if one["record"] is not None:
            take_verdicts(one, submission.verdicts[one["id"]], submission.replies.get(one["id"], ()))
    return {"kind": SUBMITTED, "name": task.judged_by}


def scored_result(
    task: Task,
    rows: Sequence[Row],
    judge: dict[str, Any],
    *,
    model: dict[str, Any],
    source: Source,
    samples: Sequence[Sample],
    started: float,
) -> tuple[Result, Sums]:
    """A result as files have it, with its sums, of rows with their verdicts; no prompt was sent, nothing decoded."""
    begin = time.perf_counter()
    found = summarize(task, [one["record"] for one in rows if one["record"] is not None])
    result = {
        **described(task, rows, judge=judge),
        "model": model,
        "data": {"source": str(source), "hash": rows_hash(samples), "limit": None, "rows": rows_hash(samples)},
        "seed": 0,
        "params": {},
        "prompt": "",
        "prompt_hash": digest_json([]),
        "metrics": found.as_json(),
        "provenance": {
            **provenance(0, started, RunStats(), time.perf_counter() - begin, model["identity"]),
            "earlier_runs": [],
        },
    }
    return result, found.sums


def stem_of(task: Task) -> str:
    """Name of a scored task's result file: another judge's lies beside the stand-in's."""
    judge = task.judged_by if task.judge and task.judged_by != task.judge.stand_in else ""
    return result_stem(task.name, task.protocol_name, task.default_protocol, judge)


def refuse_unknown(unknown: Sequence[str], ids: Sequence[str]) -> None:
    """Raises BadInput where answers have ids that no sample has."""
    if unknown:
        example = f"; ids are like {ids[0]!r}" if ids else ""
        raise BadInput(
            f"--answers: {len(unknown)} ids are no samples of these data: {named(unknown)}{example} "
            f"(answers of another edition or split?)"
        )


def refuse_missing(missing: Sequence[str], total: int, what: str, allowed: bool) -> None:
    """Raises BadInput where answers are missing, unless that is allowed or leaves nothing."""
    if len(missing) >= total:
        raise BadInput(f"--answers: {what} for any of the {total} samples (the first: {named(missing)})")
    if missing and not allowed:
        raise BadInput(
            f"--answers: {what} for {len(missing)} of {total} samples: {named(missing)}; "
            f"--allow-missing scores the others alone"
        )


def named(ids: Sequence[str]) -> str:
    """The first few of many ids."""
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(map(repr, ids[:SHOWN])) + more


def files_hash(paths: Sequence[Path]) -> str:
    """SHA-256 over files, those of folders included, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in inside:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def open_for_scoring(task: Task, source: Source) -> None:
    """Makes a task ready to read and score: lm-eval's tasks need their documents first."""
    if isinstance(task, LmEvalTask):
        from .lmeval import bind

        bind(task, source)


def _read(task: Task, files: AnswerFiles, source: Source) -> Submission:
    try:
        open_for_scoring(task, source)
        return task.submitted(files, source)
    except MmevalError:
        raise
    except UnicodeDecodeError as error:
        raise BadInput(f"--answers: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except Exception as error:
        cause = located(error, source_file(type(task)))
        raise PluginError(f"task {task.name} cannot read the answers: {cause}") from error


def _refuse_unread(task: Task, files: AnswerFiles) -> None:
    """An option that the task does not look at is a mistake, not a wish to be ignored."""
    if isinstance(files.options, ReadOptions):
        for option in files.options:
            if option not in files.options.read:
                raise BadInput(f"--{option.replace('_', '-')}: means nothing for these answers of {task.name}")


def _ungraded(submission: Submission) -> list[str]:
    """Answered samples without a grade where others have one: two judges in one metric would mean nothing."""
    if not submission.verdicts:
        return []
    return [s.id for s in submission.samples if s.id in submission.responses and s.id not in submission.verdicts]


def _stem(files: AnswerFiles) -> str:
    return "+".join(dict.fromkeys(path.stem for path in files.paths.values()))
