"""Descriptions as the tools around CHAIR and Object HalBench write them, and the submission that they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mmalign_eval.tasks._coco_objects import image_number, objects_of, prepared_file

from mmalign_eval.data.answers import one_path, said
from mmalign_eval.data.descriptions import Description, read_descriptions
from mmalign_eval.data.files import Folder
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.chair.objects import ObjectTable
from mmalign_eval.requests import Response
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import Sample


def read_captions(files: AnswerFiles) -> list[Description]:
    """The answers of a submission, in its order, their images as COCO ids.

    Raises:
        BadInput: Another format than `read_descriptions` knows, or nothing in it; names file and line.
    """
    path = one_path(files)
    captions = [_official(one) for one in read_descriptions(path)]
    if not captions:
        raise BadInput(f"{path}: no answers in it")
    return captions


def sample_ids(prompts: Iterable[Description]) -> list[str]:
    """An id for each: its image; where that was described before, also how many times by now (`42`, `42/2`)."""
    seen: dict[str, int] = {}
    ids = []
    for one in prompts:
        seen[one.image] = count = seen.get(one.image, 0) + 1
        ids.append(one.image if count == 1 else f"{one.image}/{count}")
    return ids


def submission_of(
    captions: Sequence[Description], folder: Folder, table: ObjectTable, asked: Sequence[Description] = ()
) -> Submission:
    """A submission: which images were to be described, what they hold, and what was said of them.

    The images are those asked about (`asked`: prompts of the benchmark, their text empty), else those of a prepared
    file, else those answered: COCO's annotation files hold far more than anybody describes. An image may be asked
    about several times, by different questions: each answer counts, as officially.

    Raises:
        BadInput: An answer without image, two of one image and question, objects that cannot be read.
    """
    if asked and len(captions) == len(asked) and not any(caption.image for caption in captions):
        captions = [replace(c, image=a.image, question=a.question) for c, a in zip(captions, asked, strict=True)]
    for caption in captions:
        if not caption.image:
            raise BadInput(f"{caption.where}: field 'image_id' is missing")
    prompts = list(asked) or list(captions)
    objects = objects_of(folder, table, {one.image for one in prompts})
    for one in asked:
        if one.image not in objects:
            raise BadInput(f"{one.where}: image {one.image} has no objects in the data: is an annotation file missing?")
    if not asked and prepared_file(folder):
        described = {one.image for one in prompts}
        prompts += [Description("", number) for number in objects if number not in described]
    named = {i: one for i, one in zip(sample_ids(prompts), prompts, strict=True) if one.image in objects}
    samples = [
        Sample(
            i,
            {"image_id": one.image, "question": one.question, "objects": objects[one.image]},
            cluster="" if i == one.image else one.image,
        )
        for i, one in named.items()
    ]
    responses, unknown = _answers(captions, named)
    return Submission(samples, responses, unknown=unknown)


def _answers(
    captions: Sequence[Description], prompts: dict[str, Description]
) -> tuple[dict[str, Sequence[Response]], list[str]]:
    """Sample id to response, and the images that are no prompt's."""
    of_image: dict[str, list[str]] = {}
    for i, prompt in prompts.items():
        of_image.setdefault(prompt.image, []).append(i)
    responses: dict[str, Sequence[Response]] = {}
    unknown = []
    keys = set()
    for caption in captions:
        if caption.image not in of_image:
            unknown.append(caption.image)
            continue
        key = (caption.image, caption.question, caption.number)
        if key in keys:
            raise BadInput(f"{caption.where}: id {caption.image!r} occurs twice in the answers")
        keys.add(key)
        free = [i for i in of_image[caption.image] if i not in responses]
        if not free:
            raise BadInput(f"{caption.where}: id {caption.image!r} occurs twice in the answers")
        same = [i for i in free if _same(prompts[i], caption)]
        responses[(same or free)[0]] = (said(caption.text),)
    return responses, list(dict.fromkeys(unknown))


def _official(one: Description) -> Description:
    text = (
        one.text.replace("Assistant:", "").strip() if one.field in ("text", "answer") else one.text
    )  # RLHF-V's reader
    return replace(one, text=text, image=image_number(one.image, one.where) if one.image else "")


def _same(prompt: Description, caption: Description) -> bool:
    asked = caption.question.replace("<image>./</image>", "").replace("<image>", "").strip()
    return prompt is caption or prompt.question.strip() in (caption.question, asked)
