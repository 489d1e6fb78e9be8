"""`mmeval tasks show`: everything about one task, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from ..data.source import DataChoice
from ..errors import MmevalError, PluginError, located
from ..models.scripted import ScriptedModel
from ..plan import TaskPlan, open_task, plan_task
from ..registry import about, source_file
from ..requests import MODEL_TEMPLATE, Choose, GenParams, Request, Response, failure
from ..task import LmEvalTask, Protocol, Sample, Task
from ..templates import render

INDENT = "          "
MOST_PARTS = 5  # of a task that are shown with their prompt


def lines(name: str, protocol: str, data: DataChoice) -> Iterator[str]:
    """What `mmeval tasks show` prints.

    Raises:
        BadInput: Unknown task or protocol.
        PluginError: The task's own code fails.
    """
    task = open_task(name, protocol)
    yield from _head(task)
    yield from _protocols(task)
    yield from _data(task)
    if task.submission:
        yield f"answers   mmeval score {task.name} --answers: {task.submission}"
    if task.judge:
        yield f"judge     {task.judge.name}: officially {task.judge.official}; offline stand-in {task.judge.stand_in}"
    try:
        yield from _metrics(task, data)
    except MmevalError:
        raise
    except Exception as error:
        raise PluginError(f"task {name} cannot be shown: {located(error, source_file(type(task)))}") from error


def _head(task: Task) -> Iterator[str]:
    yield f"task      {task.name} v{task.version}  {task.modality}  {about(type(task))}"
    if task.groups:
        yield f"groups    {', '.join(task.groups)}"
    for number, source in enumerate(task.sources):
        yield f"{'' if number else 'sources':<10}{source}"


def _protocols(task: Task) -> Iterator[str]:
    for number, (name, protocol) in enumerate(task.protocols.items()):
        marks = ["default"] if name == task.default_protocol else []
        marks += ["shown"] if name == task.protocol_name else []
        yield f"{'' if number else 'protocol':<10}{name}" + (f" ({', '.join(marks)})" if marks else "")
        for line in _protocol(protocol):
            yield f"{INDENT}  {line}"


def _protocol(protocol: Protocol) -> Iterator[str]:
    if protocol.source:
        yield f"source    {protocol.source}"
    shots = f", {protocol.shots} shots" if protocol.shots else ""
    image = f", image {' '.join(protocol.image)}" if protocol.image else ""
    yield f"decoding  {decoding(protocol.params)}; template {protocol.template}{shots}{image}"
    if protocol.note:
        yield f"note      {protocol.note}"


def decoding(params: GenParams) -> str:
    """How to decode, in words: the fields that differ from plain greedy decoding."""
    plain = GenParams()
    said = [f"{f}={getattr(params, f)!r}" for f in GenParams.__dataclass_fields__ if f not in ("max_new_tokens", "seed")
            and getattr(params, f) != getattr(plain, f)]  # fmt: skip
    head = "sampled" if params.sampled else "greedy"
    return ", ".join([f"{head}, at most {params.max_new_tokens} tokens", *said])


def _data(task: Task) -> Iterator[str]:
    data = task.data
    yield f"data      {data.layout}"
    yield f"{INDENT}get it: {data.get}"
    if data.hub:
        config = "" if data.hub.config == ("default",) else f", configuration {' '.join(data.hub.config)}"
        yield f"{INDENT}hub: {' or '.join(data.hub.ids)} (split {data.hub.split}{config})"
        columns = [c for name in data.hub.config for c in data.hub.needs(name)]
        yield f"{INDENT}columns: {', '.join(dict.fromkeys([*columns, *([data.hub.image] if data.hub.image else [])]))}"


def _metrics(task: Task, data: DataChoice) -> Iterator[str]:
    """The prompt on the first sample, then the metrics (an lm-eval task may know all of them only with its data)."""
    try:
        plan = plan_task(task, data, limit=1, seed=0)
    except MmevalError as error:
        rendered = [f"prompt    not shown: {error}"]
        if isinstance(task, LmEvalTask):
            from ..lmeval import bind

            bind(task)
    else:
        rendered = list(_samples(task, plan))
    rows = [(" ", "metric", "unit", "better", "")]
    rows += _rows(task)
    if task.judge is not None:
        task.judged_by = task.judge.official  # what a model's verdicts make has names of its own
        rows += [row for row in _rows(task) if row not in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        yield "  ".join(["metrics " if row is rows[0] else " " * 8, *map(str.ljust, row[:4], widths), row[4]]).rstrip()
    if task.headline:
        yield f"{INDENT}* in the table at the end of a run"
    yield from rendered


def _rows(task: Task) -> list[tuple[str, str, str, str, str]]:
    """Each metric, marked if it is in the headline; by whom it is judged decides the names."""
    return [("*" if m.name in task.headline else "", m.name, m.unit, m.better, m.help) for m in task.metrics()]


def _samples(task: Task, plan: TaskPlan) -> Iterator[str]:
    """The first sample of each part: parts may ask differently."""
    pairs = list(zip(plan.samples, plan.requests, strict=True))
    for sample, requests in pairs[:MOST_PARTS]:
        yield from _sample(task, sample, requests, str(plan.source))
    if len(pairs) > MOST_PARTS:
        yield f"{INDENT}and {len(pairs) - MOST_PARTS} more parts"


def _sample(task: Task, sample: Sample, requests: tuple[Request, ...], source: str) -> Iterator[str]:
    yield f"sample    {sample.id}" + (f" of {sample.part}" if sample.part else "") + f", from {source}"
    for image in requests[0].prompt.images:
        row, changed = f" row {image.row}" if image.row >= 0 else "", " ".join(image.transforms)
        yield f"image     {image.path}{row}" + (f", then {changed}" if changed else "")
    for number, request in enumerate(requests[:3]):
        yield from _request(request, number, len(requests))
    if len(requests) > 3:
        yield f"{INDENT}and {len(requests) - 3} more requests"
    for request, right in zip(requests[:3], task.right_answer(sample), strict=False):
        yield f"right     {_answer(request, right)}"


def _request(request: Request, number: int, count: int) -> Iterator[str]:
    prompt = request.prompt
    which = f" {number + 1} of {count}" if count > 1 else ""
    if prompt.template == MODEL_TEMPLATE:
        text = ScriptedModel(lambda asked: failure("never asked"), name="show").render(request)
        how = "each model puts it into its own chat template"
    else:
        text, how = render(prompt.template, prompt), f"template {prompt.template}"
    yield f"prompt{which}    {how}, {len(prompt.images)} images, {len(prompt.demos)} demonstrations"
    for line in text.split("\n"):
        yield f"{INDENT}| {line}"
    if isinstance(request, Choose):
        for option in request.options:
            yield f"option    {option!r}"
    else:
        yield f"decoding  {decoding(request.params)}"


def _answer(request: Request, right: Response) -> str:
    if isinstance(request, Choose):
        best = max(right.logprobs)
        return " or ".join(repr(o) for o, value in zip(request.options, right.logprobs, strict=True) if value == best)
    return repr(right.text)
