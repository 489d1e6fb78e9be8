"""What a run will ask: samples and requests of every selected task, before any weight is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .cycles import cycles_left
from .data.source import DataChoice, Source
from .errors import BadInput, MmevalError, PluginError, did_you_mean, located
from .images import digest
from .models.base import ModelAdapter
from .models.encoding import Scored
from .models.tree_size import sizes
from .registry import TASKS, source_file
from .requests import Choose, Generate, ImageRef, Request, with_seed
from .results import digest_json_list
from .task import LmEvalTask, Sample, Task


@dataclass
class TaskPlan:
    """One task's part of a run.

    Attributes:
        task: The task, with its protocol.
        source: Where its samples come from.
        samples: In the benchmark's order, after `--limit`.
        requests: One tuple a sample.
        keys: Store keys of the flattened requests, once an engine has made them.
    """

    task: Task
    source: Source
    samples: list[Sample]
    requests: list[tuple[Request, ...]]
    keys: list[str] = field(default_factory=list)

    @property
    def flat(self) -> list[Request]:
        """All requests, sample by sample."""
        return [request for group in self.requests for request in group]

    def by_key(self) -> Iterator[tuple[str, Request]]:
        """Store keys and requests, once the keys are made."""
        return zip(self.keys, self.flat, strict=True)

    def data_hash(self) -> str:
        """SHA-256 over ids, rows and image bytes of the samples; an image's path is the machine's and left out."""
        rows = ((s.id, dict(s.data), [digest(i) for i in s.images]) for s in self.samples)
        return digest_json_list(rows, default=lambda value: "image" if isinstance(value, ImageRef) else str(value))


def rows_hash(samples: Iterable[Sample]) -> str:
    """SHA-256 over ids and rows alone: what a run and answers made elsewhere on the same data have in common."""
    return digest_json_list(
        ((s.id, dict(s.data)) for s in samples),
        default=lambda value: "image" if isinstance(value, ImageRef) else str(value),
    )


@dataclass(frozen=True)
class PlanSize:
    """What a plan amounts to.

    Attributes:
        requests: Requests of all tasks.
        images: Different images.
        stored: Requests that were answered before.
        prompt_tokens: Tokens in all sequences (one an option), images expanded; None if the model does not tell.
        tree_tokens: Different tokens, when every shared prefix is computed once.
        judge_calls: Calls to judges.
    """

    requests: int
    images: int
    stored: int
    prompt_tokens: int | None
    tree_tokens: int | None
    judge_calls: int = 0


def open_task(name: str, protocol: str = "", few_shot: int | None = None) -> Task:
    """A task by name, `lm_eval:NAME`, or a task made of another: `blank(NAME)`.

    Raises:
        BadInput: Unknown task or protocol, shots for a task without.
    """
    if name.startswith("lm_eval:"):
        from .lmeval import open_lm_eval

        return open_lm_eval(name.partition(":")[2], few_shot)
    if name.endswith(")"):
        from .derive import derived

        return derived(name)(protocol, few_shot)
    return TASKS.get(name)(protocol, few_shot)


def base_name(name: str) -> str:
    """The task that a task is made of (`blank(shuffle(NAME))`: `NAME`), or itself; data belong to it."""
    inner = re.search(r"\(([^(),]+)[,)]", name)
    return inner[1].strip() if inner and name.endswith(")") else name


def choose_protocols(values: Iterable[str], tasks: Sequence[str]) -> dict[str, str]:
    """`--protocol NAME` for all tasks and `TASK=NAME` for one."""
    chosen: dict[str, str] = {}
    for value in values:
        task, equals, protocol = value.partition("=")
        if equals and task not in tasks:
            raise BadInput(f"--protocol {value}: task {task!r} is not selected{did_you_mean(task, tasks)}")
        chosen.update({task: protocol} if equals else {name: value for name in tasks if name not in chosen})
    return chosen


def plan_task(task: Task, data: DataChoice, limit: int | None, seed: int) -> TaskPlan:
    """Reads samples and makes requests.

    Raises:
        BadInput: Data missing or in another layout.
        PluginError: The task's own code fails.
    """
    source = data.source(base_name(task.name))
    if isinstance(task, LmEvalTask):
        from .lmeval import bind

        bind(task, source)
    with cycles_left():
        try:
            samples = limited(task.samples(source), limit)
        except MmevalError:
            raise
        except Exception as error:
            cause = located(error, source_file(type(task)))
            raise PluginError(f"task {task.name} cannot read its data: {cause}") from error
        requests = [asked(task, sample, seed) for sample in samples]
    return TaskPlan(task, source, samples, requests)


def asked(task: Task, sample: Sample, seed: int) -> tuple[Request, ...]:
    """The requests of one sample, each sampled one with its own seed.

    Raises:
        PluginError: The task's code fails (with its cause and line), or asks nothing.
    """
    try:
        requests = tuple(task.requests(sample))
    except MmevalError:
        raise
    except Exception as error:
        cause = located(error, source_file(type(task)))
        raise PluginError(f"task {task.name} cannot make requests for sample {sample.id}: {cause}") from error
    if not requests:
        raise PluginError(f"task {task.name} asks nothing for sample {sample.id}: requests() must give at least one")
    for request in requests:
        if not isinstance(request, Generate | Choose):
            kind = type(request).__name__
            raise PluginError(f"task {task.name}, sample {sample.id}: requests() gave a {kind}, not Generate or Choose")
    return tuple(with_seed(request, seed, sample.id) for request in requests)


def limited(samples: Iterable[Sample], limit: int | None) -> list[Sample]:
    """The first `limit` samples of each part.

    Raises:
        BadInput: A limit that leaves nothing.
    """
    if limit is None:
        return list(samples)
    if limit < 1:
        raise BadInput(f"--limit {limit}: expected 1 or more")
    kept, counts = [], dict[str, int]()
    for sample in samples:
        counts[sample.part] = counts.get(sample.part, 0) + 1
        if counts[sample.part] <= limit:
            kept.append(sample)
    return kept


def plan_size(plans: Sequence[TaskPlan], adapter: ModelAdapter, stored: int) -> PlanSize:
    """Counts what the plans ask of one adapter; tokens are counted over different requests."""
    requests = [request for plan in plans for request in plan.flat]
    images: set[ImageRef] = {image for request in requests for image in request.prompt.images}
    with cycles_left():
        tokens = token_sizes(adapter, dict.fromkeys(requests))
    return PlanSize(len(requests), len(images), stored, *(tokens or (None, None)))


def token_sizes(adapter: ModelAdapter, requests: Iterable[Request]) -> tuple[int, int] | None:
    """Tokens in all sequences of requests, and in their prefix tree; None if the adapter does not tell."""
    unknown = False

    def parts() -> Iterator[Scored]:
        nonlocal unknown
        for request in requests:
            found = adapter.laid_out(request)
            if found is None:
                unknown = True
                return
            yield from found

    found = sizes(parts())
    return None if unknown else found
