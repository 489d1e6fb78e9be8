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

from . import registry
from .errors import BadInput, did_you_mean
from .requests import MODEL_TEMPLATE, GenParams, Generate, ImageRef, Prompt, Request, Response

if TYPE_CHECKING:
    from .data.source import Source, TaskData
    from .metrics.base import Metric

Record = dict[str, Any]
Modality = Literal["text", "image"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One item of a benchmark.

    Attributes:
        id: Unique within the task, stable over data sources.
        data: The row: question, label, references ... (JSON values).
        images: Its images.
        cluster: What samples share that makes them dependent (an image, a subject); the id when empty.
        part: The part of the benchmark it belongs to (a split, a subset); `--limit` counts within parts.
    """

    id: str
    data: Mapping[str, Any]
    images: tuple[ImageRef, ...] = ()
    cluster: str = ""
    part: str = ""


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

    def __init__(self, protocol: str = "", few_shot: int | None = None) -> None:
        """Chooses a protocol by name.

        Raises:
            BadInput: Unknown protocol, or shots for a task that has none.
        """
        self.protocol_name = protocol or self.default_protocol
        if self.protocol_name not in self.protocols:
            hint = did_you_mean(self.protocol_name, self.protocols)
            raise BadInput(f"task {self.name} has no protocol {protocol!r}{hint}; it has {', '.join(self.protocols)}")
        self.protocol = self.protocols[self.protocol_name]
        self.few_shot = few_shot
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

    def finish(self, records: Sequence[Record]) -> None:
        """Corpus-level work before aggregation (tokenising all captions at once); adds fields to the records."""

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
        images = tuple(
            ImageRef(i.path, i.row, i.column, i.transforms + self.protocol.image) for i in sample.images
        )
        text = self.protocol.ask.format_map(sample.data)
        prompt = Prompt(text, images, demos=self.demos(sample), template=self.protocol.template)
        return (Generate(prompt, self.protocol.params),)

    def demos(self, sample: Sample) -> tuple[tuple[str, str], ...]:
        """Text-only (user, assistant) turns before the question."""
        return ()

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """Parses the answer and scores it."""
        return self.score(sample, self.protocol.parse(responses[0].text))

    @abstractmethod
    def score(self, sample: Sample, answer: Any) -> Record:
        """The record of one parsed answer."""


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
