"""CHAIR's numbers, at full length and length-matched: counts of mentions for each beginning of an answer, and ratios.

Formulas: Rohrbach et al. (2018), section 3.1; recall and CHAIRs_refine of RLHF-V's eval_gpt_obj_halbench.py. A mention
is hallucinated where its category is not among those of the image.

Shorter answers name fewer objects and so hallucinate less, for free. Two cures: the same numbers of every answer cut
after 64, 128 or 512 tokens (`CHAIRi@64`), and at equal recall (`CHAIRi@recall50`): the counts of the beginnings of 0,
16, 32 ... 512 tokens and of the whole, interpolated linearly to the length at which the recall is 50 %; undefined for
a model that never gets there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ...requests import MARKS, Response
from ..base import Metric, Stat
from ..formula import Formula, at, put
from .objects import Mention

Record = dict[str, Any]

# What is counted for an answer, in this order.
COUNTS = ("answers", "hallucinating", "naming", "hallucinated", "mentioned", "found", "objects", "words")
CUTS = (64, 128, 512)  # of MARKS: the lengths that have metrics of their own
RECALLS = (40, 50, 60)  # percent
WORDS_PER_TOKEN = 0.75  # of English in the usual vocabularies; only where a backend does not tell its tokens
_FULL = len(MARKS)  # the whole answer comes after all its beginnings


def counts(mentions: Sequence[Mention], objects: Collection[str], words: int) -> list[int]:
    """`COUNTS` of one answer: what it mentions, against the categories of its image."""
    hallucinated = sum(category not in objects for _, category in mentions)
    found = {category for _, category in mentions if category in objects}
    return [
        1,
        int(hallucinated > 0),
        int(len(mentions) > 0),
        hallucinated,
        len(mentions),
        len(found),
        len(objects),
        words,
    ]


def beginnings(response: Response) -> tuple[list[str], str]:
    """The answer after each of `MARKS` tokens (whole where it is shorter), and whether `tokens` or `words` were cut.

    Where the backend tells no marks, words stand in: as many of the answer's words as its share of the new tokens, or
    `WORDS_PER_TOKEN` each where it does not tell those either (answers made elsewhere).
    """
    text = response.text
    if response.marks or 0 < response.new_tokens <= MARKS[0] + 1:  # the end token counts
        ends = [*response.marks, *[len(text)] * (_FULL - len(response.marks))]
        return [text[:end] for end in ends], "tokens"
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    rate = len(ends) / response.new_tokens if response.new_tokens else WORDS_PER_TOKEN
    kept = [int(tokens * rate) for tokens in MARKS]
    return [text[: ends[n - 1]] if n < len(ends) else text for n in kept], "words"


def chair_record(
    response: Response, objects: Iterable[str], find: Callable[[str], list[Mention]], words: int
) -> Record:
    """The record of one answer.

    Args:
        response: The answer.
        objects: Categories that its image has.
        find: A text to its mentions (`ObjectTable.mentions`).
        words: Its length in words, as the benchmark counts them.

    Returns:
        `mentions` (word, category), `hallucinated` (words), `objects`, `cut_by`, and `counts`: `COUNTS` of the
        beginnings after each of `MARKS` tokens and of the whole.
    """
    truth = sorted(set(objects))
    cuts, cut_by = beginnings(response)
    seen: dict[str, list[Mention]] = {}
    for text in (*cuts, response.text):
        if text not in seen:
            seen[text] = find(text)
    mentions = seen[response.text]
    return {
        "mentions": [list(mention) for mention in mentions],
        "hallucinated": [word for word, category in mentions if category not in truth],
        "objects": truth,
        "cut_by": cut_by,
        "counts": [*(counts(seen[t], truth, len(t.split())) for t in cuts), counts(mentions, truth, words)],
    }


def chair_metrics(*names: str) -> list[Metric]:
    """The metrics named, for whole answers: of `CHAIRs`, `CHAIRi`, `CHAIRs_refine`, `recall`, `len` and the rest."""
    return [metric_of(name, _counted, at(_VALUES[name], _FULL * len(COUNTS))) for name in names]


def length_matched(*names: str) -> list[Metric]:
    """Those metrics for answers cut at each of `CUTS` tokens, then at each of `RECALLS` (without recall itself)."""
    cut = [
        metric_of(
            name,
            _counted,
            at(_VALUES[name], MARKS.index(tokens) * len(COUNTS)),
            f"{name}@{tokens}",
            _CUT.format(tokens),
        )
        for tokens in CUTS
        for name in names
    ]
    level = [
        metric_of(name, _counted, _at_recall(recall, _VALUES[name]), f"{name}@recall{recall}", _LEVEL.format(recall))
        for recall in RECALLS
        for name in names
        if name != "recall"
    ]
    return [*cut, *level]


def metric_of(name: str, stat: Stat, value: Formula, called: str = "", more: str = "") -> Metric:
    """A metric of `COUNTS`, with its unit, direction, best value and explanation."""
    unit, better, best, told = _FACTS[name]
    return Metric(called or name, stat, value, unit=unit, better=better, best=best, help=told + more)


def value_of(name: str) -> Formula:
    """What makes the metric `name` of sums of `COUNTS`."""
    return _VALUES[name]


def _counted(records: Sequence[Record]) -> Sequence[float]:
    total: list[float] = np.sum([record["counts"] for record in records], axis=0, dtype=float).ravel().tolist()
    return total


def _at_recall(percent: int, value: Formula) -> Formula:
    """A formula of `COUNTS` where the recall comes up to a level, as the answers get longer.

    Nothing said comes first: no mention, and the same answers and objects. Between two lengths all counts are linear.
    """

    def count(place: int, length: int) -> str:
        """One of the counts at a length: 0 is nothing said, then come the beginnings and the whole."""
        if length == 0:
            return f"s[{place}]" if COUNTS[place] in ("answers", "objects") else "0"
        return f"s[{(length - 1) * len(COUNTS) + place}]"

    def interpolated(place: int) -> str:
        found, objects = COUNTS.index("found"), COUNTS.index("objects")
        points = (f"{count(found, length)}, {count(place, length)}" for length in range(_FULL + 2))
        return f"reach({percent / 100} * {count(objects, 0)}, {', '.join(points)})"

    return put(value, interpolated)


def _ratio(part: str, whole: str, scale: int = 100) -> Formula:
    return Formula(f"{scale} * (s[{COUNTS.index(part)}] / s[{COUNTS.index(whole)}])")


def _rest(part: str, whole: str) -> Formula:
    return Formula(f"100 * (1 - s[{COUNTS.index(part)}] / s[{COUNTS.index(whole)}])")


def _harmonic(a: Formula, b: Formula) -> Formula:
    return Formula(f"2 * ({a}) * ({b}) / ({a} + {b})")


_RECALL, _NAMING = _ratio("found", "objects"), _ratio("naming", "answers")
_OBJECT_CORRECT, _CORRECT = _rest("hallucinated", "mentioned"), _rest("hallucinating", "naming")
_VALUES: dict[str, Formula] = {
    "CHAIRs": _ratio("hallucinating", "answers"),
    "CHAIRs_refine": _ratio("hallucinating", "naming"),
    "CHAIRi": _ratio("hallucinated", "mentioned"),
    "recall": _RECALL,
    "len": _ratio("words", "answers", scale=1),
    "correct_rate": _CORRECT,
    "object_correct_rate": _OBJECT_CORRECT,
    "object_f1": _harmonic(_RECALL, _OBJECT_CORRECT),
    "response_f1": _harmonic(_NAMING, _CORRECT),
    "naming": _NAMING,
}
_FACTS: dict[str, tuple[str, Any, float | None, str]] = {
    "CHAIRs": ("percent", "lower", 0.0, "answers with a hallucinated object, of all answers"),
    "CHAIRs_refine": ("percent", "lower", 0.0, "Resp: answers with a hallucinated object, of those naming any object"),
    "CHAIRi": ("percent", "lower", 0.0, "Obj: hallucinated mentions of objects, of all mentions"),
    "recall": ("percent", "higher", 100.0, "objects of the images that the answers name"),
    "len": ("words", "neither", None, "mean length of an answer in words"),
    "correct_rate": ("percent", "higher", 100.0, "100 - CHAIRs_refine"),
    "object_correct_rate": ("percent", "higher", 100.0, "100 - CHAIRi"),
    "object_f1": ("percent", "higher", 100.0, "harmonic mean of recall and object_correct_rate"),
    "response_f1": (
        "percent",
        "higher",
        100.0,
        "harmonic mean of naming and correct_rate",
    ),
    "naming": ("percent", "neither", None, "answers that name any object"),
}
_CUT = "; answers cut after {} tokens (words in proportion where the tokens are not known)"
_LEVEL = "; at the length at which recall is {} %, counts interpolated between lengths"
