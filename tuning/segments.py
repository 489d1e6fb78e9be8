"""Training text of a conversation in pieces that are learnt or not: masks are right, for nothing is counted.

System prompts and question formats are those of `templates.py`, which evaluation renders with. Only `v0` differs: its
training text has line breaks where its inference text has none. Masks are those of LLaVA's `train.py` (preprocess_v1,
_llama_2, _plain and _mask_targets; haotian-liu/LLaVA at the time of LLaVA 1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import BadInput
from ..templates import TEMPLATES

Name = Literal["v0", "v1", "llava_llama_2", "plain"]

_V0_HEAD = 2  # `_mask_targets` masks a human turn from its third token on, so that "###" is learnt


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of training text.

    Attributes:
        text: The text.
        learnt: Whether its tokens are targets.
        head: First tokens of a piece that is not learnt that are targets all the same (v0).
    """

    text: str
    learnt: bool
    head: int = 0


@dataclass(frozen=True, slots=True)
class Marks:
    """How a tokenizer writes what is no text.

    Attributes:
        image: Where the image stands; with whatever wraps it (`<im_start><image><im_end>`).
        begin: Beginning of sequence; empty for tokenizers without.
        end: End of sequence.
        bare: The image alone: template plain never wraps it.
    """

    image: str = "<image>"
    begin: str = "<s>"
    end: str = "</s>"
    bare: str = "<image>"


def opening(question: str, template: Name, image: bool, first: bool = True, marks: Marks = Marks()) -> list[Segment]:
    """What stands before an answer: the system prompt (of the first turn), the image, the question, the role.

    Args:
        question: The user's text, without any `<image>`.
        template: Name of the training template.
        image: Whether the turn has the image.
        first: Whether it is the conversation's first turn.
        marks: The tokenizer's special tokens.
    """
    if template == "plain":
        return [Segment(marks.bare if image else "", False)]
    asked = f"{marks.image}\n{question}" if image else question
    if template == "v0":
        header = [Segment(f"{TEMPLATES['vicuna_v0'].system}\n\n", False)] if first else []
        return [*header, Segment(f"### Human: {asked}\n", False, _V0_HEAD), Segment("### Assistant:", True)]
    form = TEMPLATES["vicuna_v1" if template == "v1" else "llava_llama_2"]
    again = marks.begin if template == "llava_llama_2" and not first else ""
    return [Segment(again + form.join(form.system if first else "", (), asked), False)]


def closing(answer: str, template: Name, last: bool = True, marks: Marks = Marks()) -> list[Segment]:
    """The answer with the blank before it and whatever ends it; all of it is learnt.

    Args:
        answer: The assistant's text.
        template: Name of the training template.
        last: Whether the conversation ends with it.
        marks: The tokenizer's special tokens.
    """
    if template == "plain":
        return [Segment(f"{answer}\n", True)]
    if template == "v0":
        return [Segment(f" {answer}\n{'### ' if last else ''}", True)]
    blank = " " if template == "llava_llama_2" else ""
    return [Segment(f" {answer}{blank}{marks.end}", True)]


def segments(turns: Sequence[tuple[str, str]], template: Name, image: bool, marks: Marks = Marks()) -> list[Segment]:
    """The whole training text of a conversation.

    Args:
        turns: (question, answer) pairs without any `<image>`.
        template: Name of the training template.
        image: Whether an image stands before the first question.
        marks: The tokenizer's special tokens.

    Raises:
        BadInput: Template plain, which is an image with its caption, and another number of turns.
    """
    if template == "plain" and len(turns) != 1:
        raise BadInput(f"template plain is an image and its caption: one turn, not {len(turns)}")
    parts: list[Segment] = []
    for number, (question, answer) in enumerate(turns):
        parts += opening(question, template, image and number == 0, number == 0, marks)
        parts += closing(answer, template, number == len(turns) - 1, marks)
    return parts
