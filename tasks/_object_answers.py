"""Descriptions as the tools around CHAIR and Object HalBench write them, and the submission that they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmalign_eval.tasks._coco_objects import image_number, objects_of, prepared_file

from mmalign_eval.data.answers import one_path, read_rows, said, text_of, unique_object
from mmalign_eval.data.files import Folder
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.chair.objects import ObjectTable
from mmalign_eval.requests import Response
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import Sample

_TEXTS = ("caption", "text", "answer", "response", "prediction")  # what the tools around call an answer
_QUESTIONS = ("question", "prompt", "raw_question")
_NUMBERS = ("idx", "index")  # of a prompt, in RLHF-V's files
_FILE = re.compile(r"(?:.*[/_])?\d+\.(?:jpe?g|png)|(?:.*_)?\d{12}")
_SHOWN = 8  # fields named in a message


@dataclass(frozen=True)
class Caption:
    """One answer of a submission, or one prompt of the benchmark (without text).

    Attributes:
        where: File and line.
        image: COCO id, empty where the file does not say.
        question: What was asked, empty where the file does not say.
        text: The answer.
        number: Of the prompt, empty where the file does not say.
    """

    where: str
    image: str
    question: str
    text: str
    number: str = ""


def read_captions(files: AnswerFiles) -> list[Caption]:
    """The answers of a submission, in its order.

    `{"image_id", "caption"}` as JSON lines, list or `{image_id: caption}`; the results of LisaAnne's tool (`imgToEval`)
    and of CHAIR scorers (`sentences`); RLHF-V's answer files (`question`/`prompt`, `answer`/`text`); LLaVA's
    (`question_id` or `image` naming the file); lm-eval's samples files. The image may stand in `metainfos`.

    Raises:
        BadInput: Another format; names file and line.
    """
    path = one_path(files)
    if path.is_dir():
        raise BadInput(f"--answers {path}: expected a file, found a folder")
    captions = [_caption(where, row) for where, row in _rows(path)]
    if not captions:
        raise BadInput(f"{path}: no answers in it")
    return captions


def sample_ids(prompts: Iterable[Caption]) -> list[str]:
    """An id for each: its image; where that was described before, also how many times by now (`42`, `42/2`)."""
    seen: dict[str, int] = {}
    ids = []
    for one in prompts:
        seen[one.image] = count = seen.get(one.image, 0) + 1
        ids.append(one.image if count == 1 else f"{one.image}/{count}")
    return ids


def submission_of(
    captions: Sequence[Caption], folder: Folder, table: ObjectTable, asked: Sequence[Caption] = ()
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
        prompts += [Caption("", number, "", "") for number in objects if number not in described]
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
    captions: Sequence[Caption], prompts: dict[str, Caption]
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


def _same(prompt: Caption, caption: Caption) -> bool:
    asked = caption.question.replace("<image>./</image>", "").replace("<image>", "").strip()
    return prompt is caption or prompt.question.strip() in (caption.question, asked)


def _rows(path: Path) -> Iterable[tuple[str, Any]]:
    rows = read_rows(path)
    if len(rows) != 1 or not isinstance(rows[0][1], dict):
        return rows
    where, whole = rows[0]
    for key in ("imgToEval", "sentences"):
        if key in whole:
            listed = whole[key].values() if isinstance(whole[key], dict) else whole[key]
            return [(f"{where}: {key}[{i}]", row) for i, row in enumerate(listed)]
    if whole and not {"image_id", "filtered_resps", *_TEXTS} & set(whole):
        return list(_mapped(where, unique_object(path)))
    return rows


def _mapped(where: str, whole: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The rows of `{image_id: caption}`, where a caption may be a list of one or an object that holds it."""
    for key, value in whole.items():
        here = f"{where}: {key!r}"
        inner = value[0] if isinstance(value, list) and len(value) == 1 else value
        yield here, {"image_id": key, **inner} if isinstance(inner, dict) else {"image_id": key, "caption": inner}


def _caption(where: str, row: Any) -> Caption:
    if not isinstance(row, dict):
        raise BadInput(f"{where}: expected an object with image_id and caption, found {type(row).__name__}")
    if "filtered_resps" in row:  # a line of lm-eval's or lmms-eval's samples file
        replies, doc = row["filtered_resps"], row.get("doc")
        text = replies[0] if isinstance(replies, list) and replies else replies
        doc = doc if isinstance(doc, dict) else {}
        row = {"image_id": doc.get("image_id", doc.get("question_id")), "caption": text}
    key = next((name for name in _TEXTS if name in row), None)
    if key is None:
        fields = list(map(str, row))
        found = ", ".join(fields[:_SHOWN]) + (" ..." if len(fields) > _SHOWN else "")
        raise BadInput(f"{where}: field 'caption' is missing (or text, answer); found {found}")
    text = text_of(row[key], where)
    if key in ("text", "answer"):
        text = text.replace("Assistant:", "").strip()  # as RLHF-V's reader
    question = next((row[name] for name in _QUESTIONS if isinstance(row.get(name), str)), "")
    number = next((str(row[name]) for name in _NUMBERS if name in row), "")
    return Caption(where, _image(row, where), question, text, number)


def _image(row: dict[str, Any], where: str) -> str:
    """The image that a row is about, empty if it does not say."""
    more = row.get("metainfos")
    if isinstance(more, str) and more.startswith("{"):
        try:
            more = json.loads(more)
        except json.JSONDecodeError as error:
            raise BadInput(f"{where}: field 'metainfos' is not valid JSON ({error.msg})") from error
    value = row.get("image_id", more.get("image_id") if isinstance(more, dict) else None)
    if value is None:  # a file name; a number would be that of a question
        names = (row.get(name) for name in ("image", "image_file", "question_id"))
        value = next((name for name in names if isinstance(name, str) and _FILE.fullmatch(name)), None)
    return "" if value is None else image_number(value, where)
