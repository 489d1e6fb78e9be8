"""Task: what a benchmark has to say - its samples, its prompts, its parser and its metrics.

A task never sees a model: it turns samples into frozen requests and typed responses into records, and its metrics
are pure functions of those records.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from typing import Protocol as Interface

from . import registry
from .errors import BadInput, did_you_mean
from .requests import MODEL_TEMPLATE, Generate, GenParams, ImageRef, Prompt, Request, Response
from .requests import Sample as Sample  # plugins take it from here

if TYPE_CHECKING:
    from .data.source import Source, TaskData
    from .metrics.base import Metric
    from .roles import AnswerFiles, JudgeRole, Submission

Record = dict[str, Any]
Modality = Literal["text", "image"]


@dataclass(frozen=True)
class Protocol:
    """A way to run a benchmark, as a whole record; numbers of different protocols are not comparable.

    Attributes:
        ask: Question text, a format string over the sample's data.
        params: Decoding.
        parse: Text to what the metric needs.
        template: Conversation template: `model`, `raw`, or a name in `templates.py`.
        shots: Number of demonstrations (text only).
        image: Image transforms before the model's own processor.
        source: Where the protocol is defined (official file, paper section).
        note: What to know when comparing its numbers.
        options: Anything else the task's own code reads (an lm-eval task name, an aggregation switch).
    """

    ask: str
    params: GenParams
    parse: Callable[[str], Any] = str.strip
    template: str = MODEL_TEMPLATE
    shots: int = 0
    image: tuple[str, ...] = ()
    source: str = ""
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


class Task(ABC):
    """Base of all tasks; `@task` fills in name, version, protocols and data."""

    name: ClassVar[str]
    version: ClassVar[int]
    protocols: ClassVar[Mapping[str, Protocol]]
    default_protocol: ClassVar[str]
    data: ClassVar[TaskData]
    modality: ClassVar[Modality]
    groups: ClassVar[tuple[str, ...]] = ()
    sources: ClassVar[tuple[str, ...]] = ()
    headline: ClassVar[tuple[str, ...]] = ()  # metrics that the end table shows; empty: all
    submission: ClassVar[str] = ""  # the format that `mmeval score` reads, in a line; empty: none
    judge: ClassVar[JudgeRole | None] = None
    judged_by: str = ""  # who gave the verdicts: a stand-in's name or a model's; set before `finish` and `metrics`

    def __init__(self, protocol: str = "", few_shot: int | None = None) -> None:
        """Chooses a protocol by name.

        Raises:
            BadInput: Unknown protocol, or shots for a task that has none.
        """
        self.protocol_name = protocol or self.default_protocol
        if self.protocol_name not in self.protocols:
            hint = did_you_mean(self.protocol_name, self.protocols)
            raise BadInput(
                f"task {self.name} has no protocol {protocol!r}{hint}; it has {', '.join(self.protocols)} "
                f"(--protocol TASK=NAME sets that of one task)"
            )
        self.protocol = self.protocols[self.protocol_name]
        self.few_shot = few_shot
        self.judged_by = self.judge.stand_in if self.judge else ""
        if few_shot is not None and not self.takes_shots:
            raise BadInput(f"--few-shot {few_shot}: task {self.name} ({self.protocol_name}) takes no shots")

    @property
    def takes_shots(self) -> bool:
        """Whether `--few-shot` means anything for this protocol."""
        return self.protocol.shots > 0

    @property
    def shots(self) -> int:
        """Demonstrations in effect."""
        return self.protocol.shots if self.few_shot is None else self.few_shot

    def samples(self, source: Source) -> Iterable[Sample]:
        """All samples of a source, in the benchmark's own order."""
        return self.data.samples(source)

    @abstractmethod
    def requests(self, sample: Sample) -> Sequence[Request]:
        """What to ask for one sample (at least one request)."""

    @abstractmethod
    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """The scored record of an answered sample: JSON values, everything the metrics need.

        Responses are in the order of `requests` and all answered; failed samples never get here.
        """

    @abstractmethod
    def metrics(self) -> Sequence[Metric]:
        """The metrics, in the order in which tables show them."""

    def finish(self, records: Sequence[Record]) -> None:  # noqa: B027 - most tasks score sample by sample
        """Corpus-level work before aggregation (tokenising all captions at once); adds fields to the records."""

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Reads answers that were made elsewhere, in the benchmark's own submission format.

        Raises:
            BadInput: The task reads no submissions, or the files are not in its format.
        """
        raise BadInput(f"task {self.name} reads no answer files; it can score runs of mmeval only")

    @abstractmethod
    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """Responses of a model that answers right: `mmeval tasks check` expects full marks for them."""

    def signature_extra(self) -> Mapping[str, Any]:
        """More for the score's signature (an upstream task version, a tokeniser)."""
        return {}


class ImageTask(Task):
    """A task that asks one question about one image: fill in `score` and `metrics`."""

    modality = "image"

    def requests(self, sample: Sample) -> Sequence[Request]:
        """One `Generate`: the protocol's question, its template and its image transforms."""
        images = tuple(ImageRef(i.path, i.row, i.column, i.transforms + self.protocol.image) for i in sample.images)
        prompt = Prompt(self.ask(sample), images, demos=self.demos(sample), template=self.protocol.template)
        return (Generate(prompt, self.protocol.params),)

    def ask(self, sample: Sample) -> str:
        """The question text."""
        return self.protocol.ask.format_map(sample.data)

    def demos(self, sample: Sample) -> tuple[tuple[str, str], ...]:
        """Text-only (user, assistant) turns before the question."""
        return ()

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """Parses the answer and scores it."""
        return self.score(sample, self.protocol.parse(responses[0].text))

    @abstractmethod
    def score(self, sample: Sample, answer: Any) -> Record:
        """The record of one parsed answer."""


@dataclass(frozen=True)
class GroupMean:
    """A mean over parts that lm-eval reports for a group of tasks.

    Attributes:
        group: Name of the group.
        metric: Metric of its parts, with lm-eval's `,filter` if it has one.
        parts: The parts.
        by_size: Every document counts the same; otherwise every part does.
    """

    group: str
    metric: str
    parts: tuple[str, ...]
    by_size: bool = True


class LmEvalBinding(Interface):
    """What `lmeval.bind` attaches to an `LmEvalTask`: lm-eval's own code behind our vocabulary."""

    def samples(self) -> Iterable[Sample]:
        """The evaluated documents."""

    def requests(self, sample: Sample) -> Sequence[Request]:
        """lm-eval's instances of one document, regrouped."""

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """lm-eval's per-document scores."""

    def metrics(self) -> Sequence[Metric]:
        """lm-eval's aggregations."""

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """Responses that score full marks."""

    def signature(self) -> Mapping[str, Any]:
        """Versions of lm-eval and of its task files."""


class LmEvalTask(Task):
    """A task that lm-eval defines: its prompts, shots, filters and scores.

    A declaration only. Its `TaskData` gives documents: samples with `part` set and `data` = `{"split": name,
    "doc": document}`, of the evaluated split and of every split that shots come from. `lmeval.bind(task, source)`
    turns them into the samples that are asked (`data` = `{"index": n, "doc": processed document}`).

    Attributes:
        parts: Part name to lm-eval's task file below its `tasks` folder, or to a whole lm-eval configuration.
        metric_facts: Metric name to `Metric` fields that lm-eval does not state (unit, best, proportion, help).
        group_means: Means over parts.
        binding: What `lmeval.bind` attached.
        signed: What tells lm-eval's versions where the binding is own code that scores for a protocol of lm-eval's.
    """

    modality = "text"
    parts: ClassVar[Mapping[str, str | Mapping[str, Any]]]
    metric_facts: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    group_means: ClassVar[tuple[GroupMean, ...]] = ()
    binding: LmEvalBinding | None = None
    signed: Callable[[], Mapping[str, Any]] | None = None

    def metric_name(self, part: str, metric: str, filter_name: str) -> str:
        """Our name of an lm-eval metric: `part/metric`, the part only where there are several, `,filter` as lm-eval."""
        name = metric if filter_name == "none" else f"{metric},{filter_name}"
        return f"{part}/{name}" if len(self.parts) > 1 else name

    def score(self, part: str, doc: Mapping[str, Any], results: Sequence[Any]) -> Record | None:
        """A task's own scores in place of lm-eval's `process_results` (same keys); None: lm-eval's.

        Args:
            part: Name of the part.
            doc: The processed document.
            results: Filtered results in instance order: `(log-likelihood, is greedy)`, a text, or a float (rolling).
        """
        return None

    @property
    def part_shots(self) -> int | None:
        """Demonstrations for every part; None: as many as each part's task file says."""
        return self.shots

    def own_binding(self, source: Source | None) -> LmEvalBinding | None:
        """What stands in for lm-eval under the protocol in effect, made for a source; None: lm-eval's own code.

        Profiles that lm-eval's current definitions do not have (an older harness, the benchmark's own script) are the
        task's own code behind the same interface. One that stands in only to score (`source.images` is False; None
        without a source) keeps lm-eval's signature.
        """
        return None

    def downloads(self, source: Source) -> bool:
        """Whether lm-eval fetches the documents of this source itself, instead of the task's `TaskData`."""
        return False

    @property
    def bound(self) -> LmEvalBinding:
        """The binding; it is a programming error to need it before `lmeval.bind`."""
        if self.binding is None:
            raise RuntimeError(f"task {self.name} is not bound: call mmalign_eval.lmeval.bind(task, source) first")
        return self.binding

    def samples(self, source: Source) -> Iterable[Sample]:
        """The evaluated documents of the source that the task was bound to."""
        return self.bound.samples()

    def requests(self, sample: Sample) -> Sequence[Request]:
        """lm-eval's instances of one document, those of equal context in one `Choose`."""
        return self.bound.requests(sample)

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """lm-eval's filters and `process_results`, one entry a metric."""
        return self.bound.record(sample, responses)

    def metrics(self) -> Sequence[Metric]:
        """lm-eval's metrics and aggregations, part by part."""
        return self.bound.metrics()

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The gold option likeliest, the target text generated."""
        return self.bound.right_answer(sample)

    def signature_extra(self) -> Mapping[str, Any]:
        """Version of lm-eval and of each part's task file."""
        return self.signed() if self.signed else self.bound.signature()


def task(
    name: str,
    *,
    version: int,
    protocols: Mapping[str, Protocol],
    data: type[TaskData] | TaskData,
    default: str = "",
) -> Callable[[type[Task]], type[Task]]:
    """Class decorator that makes a `Task` subclass a task of the harness.

    Args:
        name: Its name on the command line.
        version: Raised whenever the same answers would score differently or be asked for differently.
        protocols: By name; the first is the default.
        data: Where samples come from.
        default: Default protocol, if not the first.
    """

    def decorate(cls: type[Task]) -> type[Task]:
        cls.name, cls.version, cls.protocols = name, version, dict(protocols)
        cls.default_protocol = default or next(iter(protocols))
        cls.data = data() if isinstance(data, type) else copy.copy(data)
        cls.data.task = name
        registry.TASKS.register(cls)
        return cls

    return decorate
