"""What a task may want of a judge, and what it may find in a submission: declared by tasks, supplied by evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .requests import Generate, Response, Sample

Record = dict[str, Any]


@dataclass(frozen=True)
class JudgeRole:
    """A part for a judge to play: what it is asked about a scored record and how its reply is read.

    The judge's verdicts come back as `record["verdicts"]`, one a run: what `parse` made of the reply, or None where
    every attempt failed. `failed` is what the benchmark's own tool scores then; the task's metrics apply it under the
    official names, count failures, and give the value without failures a name of its own.

    Attributes:
        name: What the judge does, in a word (`grader`, `extractor`).
        official: The snapshot that the benchmark's own tool asks.
        ask: A record to the request, or None where nothing has to be asked (the verdict is then `unasked`).
        parse: A reply to a verdict, or None if it cannot be read; never raises.
        offline: A record to the verdict of the deterministic stand-in that needs no model.
        stand_in: Name of the stand-in (`rule`, `lexical`): metrics made of its verdicts carry it.
        attempts: How often a reply that cannot be read is asked again before it counts as failed, first time included.
        again: The request of attempt 1, 2, ... made of the first one (another temperature, a plainer question).
        failed: The official tool's verdict where every attempt failed.
        unasked: The verdict where there is nothing to ask.
        number: A verdict as a number, to compare judges by; None where verdicts are no numbers.
    """

    name: str
    official: str
    ask: Callable[[Record], Generate | None]
    parse: Callable[[str], Any]
    offline: Callable[[Record], Any]
    stand_in: str
    attempts: int = 1
    again: Callable[[Generate, int], Generate] = lambda request, attempt: request
    failed: Any = None
    unasked: Any = None
    number: Callable[[Any], float | None] = lambda verdict: float(verdict) if isinstance(verdict, int | float) else None


@dataclass(frozen=True)
class AnswerFiles:
    """A submission: answers that were made elsewhere.

    Attributes:
        paths: Part to file or folder; the part is empty where `--answers` named a single one.
        options: What else was said about them: `column` of a csv, `synonyms` file, `na_probs` file.
    """

    paths: Mapping[str, Path]
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Submission:
    """A submission as read.

    Attributes:
        samples: Everything that was to be answered, in the benchmark's order.
        responses: Sample id to its responses, in the order of the task's requests; a sample that is not answered is
            missing here.
        verdicts: Sample id to a judge's verdicts, where the files hold grades (None: a failed one).
        replies: Sample id to what the judge said for each of them, where the files tell.
        judge: Who gave them, if the files say so.
        unknown: Ids that were answered and are no sample.
        notes: What else to know.
    """

    samples: Sequence[Sample]
    responses: dict[str, Sequence[Response]]
    verdicts: dict[str, Sequence[Any]] = field(default_factory=dict)
    replies: dict[str, Sequence[str]] = field(default_factory=dict)
    judge: str = ""
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """Ids of samples without an answer."""
        return [sample.id for sample in self.samples if sample.id not in self.responses]
