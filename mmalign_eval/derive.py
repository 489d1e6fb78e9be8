"""A task made of another: the same questions and metrics about other images.

    corrupt(TASK,KIND,SEVERITY)   a corruption of ImageNet-C and COCO-C (`data/corruptions`)
    blank(TASK)                   a grey image of the same size
    shuffle(TASK)                 another sample's image
    noise(TASK,STEP)              step STEP of 1,000 of the diffusion noise of VCD and BPO

What a model still scores on the last three it scores without seeing: the language prior. They nest
(`blank(corrupt(NAME,contrast,3))` is what it says). The task's own code need not know: its samples' images are changed
before a protocol's image transforms see them. Seeds and partners come from the images and ids of the whole task, so
neither `--limit` nor order nor the number of workers changes a picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .data import corruptions, transforms
from .errors import BadInput, did_you_mean
from .images import digest
from .registry import TASKS, about
from .requests import ImageRef
from .task import Sample, Task

if TYPE_CHECKING:
    from .data.source import Source
    from .roles import AnswerFiles, Submission

Change = Callable[[Iterable[Sample]], Iterator[Sample]]
FORMS = {
    "blank": "blank(TASK)",
    "corrupt": "corrupt(TASK,KIND,SEVERITY)",
    "noise": "noise(TASK,STEP)",
    "shuffle": "shuffle(TASK)",
}


def corrupt(task: str | type[Task], kind: str, severity: int) -> type[Task]:
    """The task with every image corrupted; one image has one corruption, however many samples show it.

    Raises:
        BadInput: A text task, an unknown task or kind (with did-you-mean), a severity that is not 1 to 5.
    """
    corruptions.check(kind, severity)

    def one(ref: ImageRef) -> ImageRef:
        drawn = kind not in corruptions.DETERMINISTIC
        return transforms.corrupted(ref, kind, severity, digest(ref) if drawn else "")

    extra = {"imagecorruptions": version("imagecorruptions")}
    return _made(task, "corrupt", (kind, str(severity)), f"with {kind} of severity {severity}", _each(one), extra)


def blank(task: str | type[Task]) -> type[Task]:
    """The task with a grey image of the same size in place of every image.

    Raises:
        BadInput: A text task, or an unknown one.
    """
    return _made(task, "blank", (), "all grey", _each(lambda ref: transforms.transformed(ref, "blank")))


def noise(task: str | type[Task], step: int) -> type[Task]:
    """The task with diffusion noise on every image (`transforms.noise` says in which space).

    Raises:
        BadInput: A text task, an unknown one, or a step that is not 0 to 999.
    """
    transforms.diffusion_scales(step)
    change = _each(lambda ref: transforms.noised(ref, step, digest(ref)))
    return _made(task, "noise", (str(step),), f"with diffusion noise of step {step} of {transforms.STEPS}", change)


def shuffle(task: str | type[Task]) -> type[Task]:
    """The task with another of its images in place of every image: never the image itself, each image used once.

    Raises:
        BadInput: A text task, or an unknown one; when samples are read, a task with a single image.
    """
    return _made(task, "shuffle", (), "of another sample", _swapped)


def derived(name: str) -> type[Task]:
    """The task that a name such as `corrupt(NAME,contrast,3)` or `blank(shuffle(NAME))` stands for.

    Raises:
        BadInput: Unknown form, task or kind (with did-you-mean), wrong arguments, a text task.
    """
    form, base, arguments = _parsed(name)
    task = derived(base) if base.endswith(")") else base
    if form == "blank" and not arguments:
        return blank(task)
    if form == "shuffle" and not arguments:
        return shuffle(task)
    if form == "noise" and len(arguments) == 1:
        return noise(task, _whole(name, "step", arguments[0]))
    if form == "corrupt" and len(arguments) == 2:
        corruptions.check(arguments[0], 1)
        return corrupt(task, arguments[0], _whole(name, "severity", arguments[1]))
    raise BadInput(f"{name}: expected {FORMS[form]}")


def _parsed(name: str) -> tuple[str, str, list[str]]:
    """Form, task and arguments of a name."""
    match = re.fullmatch(r"(\w+)\((.+)\)", name.replace(" ", ""))
    if not match:
        raise BadInput(f"{name}: not a task made of another; expected {' or '.join(FORMS.values())}")
    form, inside = match.groups()
    if form not in FORMS:
        raise BadInput(f"{name}: unknown {form!r}{did_you_mean(form, FORMS)}; known: {', '.join(FORMS.values())}")
    end = inside.rfind(")") + 1
    rest = inside[end:].split(",")
    return form, inside[:end] + rest[0], rest[1:]


def _whole(name: str, what: str, text: str) -> int:
    if not text.isdecimal() or str(int(text)) != text:
        raise BadInput(f"{name}: {what} {text!r}: expected a whole number")
    return int(text)


def _made(
    task: str | type[Task],
    form: str,
    arguments: tuple[str, ...],
    images: str,
    change: Change,
    extra: Mapping[str, Any] | None = None,
) -> type[Task]:
    """A subclass of the task whose samples are changed; all else is the task's own."""
    if isinstance(task, str):
        if task.startswith("lm_eval:"):
            raise BadInput(f"{form}({task}): {task} shows no images; {form} is for image tasks")
        task = derived(task) if task.endswith(")") else TASKS.get(task)
    base: Any = task
    name = f"{form}({','.join([base.name, *arguments])})"
    if base.modality != "image":
        raise BadInput(f"{name}: task {base.name} shows no images; {form} is for image tasks")

    def samples(self: Task, source: Source) -> Iterable[Sample]:
        if not source.images:  # its answers are only scored: nobody looks at an image, and none need be there
            return base.samples(self, source)
        return _named(name, change(base.samples(self, source)))

    def submitted(self: Task, files: AnswerFiles, source: Source) -> Submission:
        raise BadInput(f"task {name} reads no answer files: score answers made elsewhere as the task that they answer")

    def signature_extra(self: Task) -> Mapping[str, Any]:
        return {**base.signature_extra(self), **(extra or {})}

    members = {
        "__doc__": f"{about(base)} Its images are {images}.".replace(". Its", "; its"),
        "__module__": base.__module__,  # errors name the task's own file
        "name": name,
        "groups": (),
        "submission": "",
        "samples": samples,
        "submitted": submitted,
        "signature_extra": signature_extra,
    }
    return type(f"{form.title()}{base.__name__}", (base,), members)


def _named(name: str, samples: Iterator[Sample]) -> Iterator[Sample]:
    """The samples; errors of the change say which task it was."""
    try:
        yield from samples
    except _NotPossible as error:
        raise BadInput(f"{name}: {error}") from error


class _NotPossible(Exception):
    """A change that the images at hand do not allow."""


def _each(one: Callable[[ImageRef], ImageRef]) -> Change:
    """Each image by itself."""

    def change(samples: Iterable[Sample]) -> Iterator[Sample]:
        for sample in samples:
            yield replace(sample, images=tuple(map(one, sample.images)))

    return change


def _swapped(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Each image replaced by its partner; what was done to the image (a corruption) is done to the partner."""
    found = list(samples)
    first: dict[str, tuple[str, ImageRef]] = {}  # image bytes to the least id of the samples that show it
    for sample in found:
        for image in sample.images:
            key = digest(image)
            first[key] = min(first.get(key, (sample.id, image)), (sample.id, image), key=lambda entry: entry[0])
    if len(first) < 2:
        raise _NotPossible("there is no other image to show: it needs at least two different ones")
    # In the order of a hash each takes the next one's: no image keeps its own.
    order = sorted(first, key=lambda key: sha256(f"shuffle|{first[key][0]}|{key}".encode()).digest())
    partner = {key: first[order[(place + 1) % len(order)]][1] for place, key in enumerate(order)}
    for sample in found:
        images = (replace(partner[digest(image)], transforms=image.transforms) for image in sample.images)
        yield replace(sample, images=tuple(images))
