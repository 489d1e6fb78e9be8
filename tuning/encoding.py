"""Conversations to token ids and labels.

Questions (with all that stands before an answer) and answers are tokenised apart from each other, each right after the
end of what precedes it, so that no piece gains a prefix blank and a prompt's ids never depend on its answer. Which
tokens are learnt is read off their character spans. The ids equal those of the whole text in one piece wherever the
tokenizer cuts before an answer's blank and at special tokens, as LLaMA's and byte-level ones do: what was trained is
what evaluation shows. (LLaVA's own code tokenises the text after an image as a text of its own. That is the same thing
for LLaMA's tokenizer, which puts a blank after each special token; for one that does not, evaluation is followed.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from ..errors import BadInput
from .rows import IGNORED, Conversation, Encoded
from .segments import Marks, Name, Segment, closing, opening

WRAP = ("<im_start>", "<im_end>")  # around an image, where `mm_use_im_start_end` (Sight Beyond Text) is on


class NotLearnable(BadInput):
    """A row that cannot be trained on as it is; its text is the reason, alike for all such rows, so that it counts."""


@dataclass(frozen=True)
class Encoder:
    """Encodes for one tokenizer and template.

    Attributes:
        tokenizer: A fast transformers tokenizer; its end of sequence ends answers, its habit decides about a BOS.
        template: `v0`, `v1`, `llava_llama_2` or `plain`.
        image_id: Id of the image token.
        image_tokens: Features of an image: copies of the image token.
        max_length: Most tokens of a conversation, image tokens included.
        wrap: Image inside `<im_start>` and `<im_end>` (`mm_use_im_start_end`).
    """

    tokenizer: Any
    template: Name
    image_id: int
    image_tokens: int
    max_length: int
    wrap: bool = False

    def __post_init__(self) -> None:
        """Checks what the tokenizer has.

        Raises:
            BadInput: No character spans, no end of sequence, no image token, or no tokens to wrap it in.
        """
        if not getattr(self.tokenizer, "is_fast", False):
            raise BadInput("tuning needs a fast tokenizer (tokenizer.json): this one tells no character spans")
        if self.tokenizer.eos_token is None:
            raise BadInput("the tokenizer has no end-of-sequence token to end answers with")
        for mark in (self.marks.bare, *(WRAP if self.wrap else ())):
            if len(self.tokenizer(mark, add_special_tokens=False)["input_ids"]) != 1:
                raise BadInput(f"the tokenizer has no token {mark}")

    @cached_property
    def marks(self) -> Marks:
        """The tokenizer's special tokens."""
        bare = str(self.tokenizer.convert_ids_to_tokens(self.image_id))
        image = bare.join(WRAP) if self.wrap else bare
        return Marks(image, self.tokenizer.bos_token or "", self.tokenizer.eos_token, bare)

    @cached_property
    def begin(self) -> list[int]:
        """What the tokenizer puts in front of a text: its BOS, or nothing."""
        bos = self.tokenizer.bos_token_id
        habit = self.tokenizer("")["input_ids"]
        return [bos] if bos is not None and list(habit[:1]) == [bos] else []

    def conversation(self, row: Conversation) -> Encoded:
        """Ids and labels of a conversation, cut on the right at `max_length`.

        Raises:
            NotLearnable: Nothing would be learnt, the image does not fit, or the template is not for such a row.
            BadInput: The text itself holds the image token.
        """
        image = row.image is not None
        if self.template == "plain" and not (image and len(row.turns) == 1):
            raise NotLearnable("template plain needs an image and one turn")
        ids, labels = list(self.begin), [IGNORED] * len(self.begin)
        before = ""
        for number, (question, answer) in enumerate(row.turns):
            first, last = number == 0, number == len(row.turns) - 1
            asked = opening(question, self.template, image and first, first, self.marks)
            for part in (asked, closing(answer, self.template, last, self.marks)):
                more, targets = self._block(part, before, image and first and part is asked, row.where)
                ids, labels, before = ids + more, labels + targets, self._tail(part[-1].text)
        return self._cut(ids, labels)

    def prompt(self, question: str, image: bool) -> tuple[int, ...]:
        """Ids up to where the answer starts, image expanded, however long.

        With `response` behind it, it is exactly what `conversation` makes of one turn.

        Raises:
            BadInput: The question itself holds the image token.
        """
        asked = opening(question, self.template, image, True, self.marks)
        return (*self.begin, *self._block(asked, "", image)[0])

    def response(self, text: str) -> tuple[int, ...]:
        """Ids of an answer with what ends it, however long.

        Raises:
            BadInput: The answer itself holds the image token.
        """
        before = self._tail(opening("", self.template, True, True, self.marks)[-1].text)
        return tuple(self._block(closing(text, self.template, True, self.marks), before, False)[0])

    def _tail(self, text: str) -> str:
        """Enough of a text's end to know how the tokenizer goes on: a special token, or the last character."""
        whole = [mark for mark in (self.marks.end, self.marks.bare) if text.endswith(mark)]
        return whole[0] if whole else text[-1:]

    def _block(
        self, parts: Sequence[Segment], before: str, image: bool, where: str = ""
    ) -> tuple[list[int], list[int]]:
        """Ids and labels of pieces that stand next to each other, tokenised in one go behind `before`."""
        text = "".join(part.text for part in parts)
        found = self.tokenizer(before + text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        tokens, spans = found["input_ids"], found["offset_mapping"]
        starts = list(accumulate((len(part.text) for part in parts[:-1]), initial=len(before)))
        ends = [end for _, end in spans]
        cuts = [*(bisect_right(ends, start) for start in starts), len(tokens)]  # a token is where its last character is
        cuts[0] = cuts[0] if before else 0
        if cuts[0] < len(tokens) and spans[cuts[0]][0] < len(before):  # one reaches over the border: cut there then
            return self._block(parts, "", image, where)
        ids: list[int] = []
        labels: list[int] = []
        for part, (start, end) in zip(parts, pairwise(cuts), strict=True):
            for number, token in enumerate(tokens[start:end]):
                copies = self.image_tokens if token == self.image_id else 1
                learnt = (part.learnt or number < part.head) and token != self.image_id
                ids += [token] * copies
                labels += [token if learnt else IGNORED] * copies
        if ids.count(self.image_id) != (self.image_tokens if image else 0):
            raise BadInput(f"{where + ': ' if where else ''}the text itself holds the image token {self.marks.bare}")
        return ids, labels

    def _cut(self, ids: list[int], labels: list[int]) -> Encoded:
        if len(ids) > self.max_length:
            if self.image_id in ids[self.max_length :]:
                raise NotLearnable(f"image does not fit in {self.max_length} tokens")
            ids, labels = ids[: self.max_length], labels[: self.max_length]
        if all(label == IGNORED for label in labels):
            raise NotLearnable("nothing to learn")
        return Encoded(tuple(ids), tuple(labels))
