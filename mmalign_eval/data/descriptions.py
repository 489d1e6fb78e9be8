"""Descriptions of images made elsewhere, in the forms that captioning tools and answering scripts write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .answers import read_rows, text_of, unique_object

_TEXTS = ("caption", "text", "answer", "response", "prediction")  # what the tools around call a description
_QUESTIONS = ("question", "prompt", "raw_question")
_NUMBERS = ("idx", "index")  # of a prompt, in RLHF-V's files
_LISTS = ("imgToEval", "sentences", "annotations")  # where whole files of tools hold their rows
_FILE = re.compile(r"(?:.*[/_])?\d+\.(?:jpe?g|png)|(?:.*_)?\d{12}")
_SHOWN = 8  # fields named in a message


@dataclass(frozen=True)
class Description:
    """What was said of an image, or a prompt of a benchmark (without text).

    Attributes:
        where: File and line.
        image: Its id or file name as given, empty where the file does not say.
        question: What was asked, empty where the file does not say.
        text: The description.
        number: Of the prompt, empty where the file does not say.
        field: Where the text stood.
    """

    where: str
    image: str
    question: str = ""
    text: str = ""
    number: str = ""
    field: str = ""


def read_descriptions(path: Path) -> list[Description]:
    """All descriptions of a file, in its order.

    `{"image_id", "caption"}` as JSON lines, list or `{image_id: caption}` (COCO's results); the results of LisaAnne's
    tool (`imgToEval`) and of CHAIR scorers (`sentences`); RLHF-V's answer files (`question`/`prompt`, `answer`/`text`,
    the image also in `metainfos`); LLaVA's (`question_id` or `image` naming the file); lm-eval's samples files.

    Raises:
        BadInput: Another format; names file and line.
    """
    if path.is_dir():
        raise BadInput(f"--answers {path}: expected a file, found a folder")
    return [_description(where, row) for where, row in _rows(path)]


def _rows(path: Path) -> Iterable[tuple[str, Any]]:
    rows = read_rows(path)
    if len(rows) != 1 or not isinstance(rows[0][1], dict):
        return rows
    where, whole = rows[0]
    for key in _LISTS:
        if isinstance(whole.get(key), list | dict):
            listed = whole[key].values() if isinstance(whole[key], dict) else whole[key]
            return [(f"{where}: {key}[{i}]", row) for i, row in enumerate(listed)]
    if not {"image_id", "filtered_resps", *_TEXTS} & set(whole):
        return list(_mapped(where, unique_object(path)))
    return rows


def _mapped(where: str, whole: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The rows of `{image_id: caption}`, where a caption may be a list of one or an object that holds it."""
    for key, value in whole.items():
        here = f"{where}: {key!r}"
        inner = value[0] if isinstance(value, list) and len(value) == 1 else value
        yield here, {"image_id": key, **inner} if isinstance(inner, dict) else {"image_id": key, "caption": inner}


def _description(where: str, row: Any) -> Description:
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
    question = next((row[name] for name in _QUESTIONS if isinstance(row.get(name), str)), "")
    number = next((str(row[name]) for name in _NUMBERS if name in row), "")
    return Description(where, _image(row, where), question, text_of(row[key], where), number, key)


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
        return next((name for name in names if isinstance(name, str) and _FILE.fullmatch(name)), "")
    if isinstance(value, float) and value.is_integer():  # as pandas writes a column with a gap
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadInput(f"{where}: image_id must be a number or text, found {type(value).__name__}")
    return str(value)
