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
from ..base import Metric, Stat, Value
from .objects import Mention

Record = dict[str, Any]

# What is counted for an answer, in this order.
COUNTS = ("answers", "hallucinating", "naming", "hallucinated", "mentioned", "found", "objects", "words")
CUTS = (64, 128, 512)  # of MARKS: the lengths that have metrics of their own
RECALLS = (40, 50, 60)  # percent
WORDS_PER_TOKEN = 0.75  # of English in the usual vocabularies; only where a backend does not tell its tokens
_FULL = len(MARKS)  # the whole answer comes after all its beginnings
_SHAPE = (_FULL + 1, len(COUNTS))


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
    return [metric_of(name, _counted, _at(_FULL, _VALUES[name])) for name in names]


def length_matched(*names: str) -> list[Metric]:
    """Those metrics for answers cut at each of `CUTS` tokens, then at each of `RECALLS` (without recall itself)."""
    cut = [
        metric_of(name, _counted, _at(MARKS.index(tokens), _VALUES[name]), f"{name}@{tokens}", _CUT.format(tokens))
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


def metric_of(name: str, stat: Stat, value: Value, called: str = "", more: str = "") -> Metric:
    """A metric of `COUNTS`, with its unit, direction, best value and explanation."""
    unit, better, best, told = _FACTS[name]
    return Metric(called or name, stat, value, unit=unit, better=better, best=best, help=told + more)


def value_of(name: str) -> Value:
    """What makes the metric `name` of sums `[..., 8]` of `COUNTS`."""
    return _VALUES[name]


def _counted(records: Sequence[Record]) -> Sequence[float]:
    total: list[float] = np.sum([record["counts"] for record in records], axis=0, dtype=float).ravel().tolist()
    return total


def _at(cut: int, value: Value) -> Value:
    return lambda sums: value(sums.reshape(*sums.shape[:-1], *_SHAPE)[..., cut, :])


def _at_recall(percent: float, value: Value) -> Value:
    def at(sums: np.ndarray) -> np.ndarray:
        curve = sums.reshape(*sums.shape[:-1], *_SHAPE)
        return value(_interpolated(curve, percent / 100))

    return at


def _interpolated(curve: np.ndarray, recall: float) -> np.ndarray:
    """Counts `[..., 8]` at a recall, of those `[..., cuts, 8]` of longer and longer beginnings; nan beyond them.

    Nothing said comes first: no mention, and the same answers and objects. Between two lengths all counts are linear.
    """
    nothing = np.where(np.isin(COUNTS, ("answers", "objects")), curve[..., :1, :], 0.0)
    curve = np.concatenate([nothing, curve], axis=-2)
    found, wanted = curve[..., COUNTS.index("found")], recall * curve[..., 0, COUNTS.index("objects")]
    reached: np.ndarray = np.maximum.accumulate(found, axis=-1) >= np.expand_dims(wanted, -1)
    after = np.argmax(reached, axis=-1)
    before = np.maximum(after - 1, 0)
    high, low = (np.take_along_axis(curve, i[..., None, None], axis=-2)[..., 0, :] for i in (after, before))
    step = (high - low)[..., COUNTS.index("found")]
    share = np.where(step > 0, (wanted - low[..., COUNTS.index("found")]) / np.where(step > 0, step, 1), 1.0)
    return np.where(reached.any(axis=-1, keepdims=True), low + share[..., None] * (high - low), np.nan)


def _ratio(part: str, whole: str, scale: float = 100.0, complement: bool = False) -> Value:
    def value(sums: np.ndarray) -> np.ndarray:
        top, bottom = sums[..., COUNTS.index(part)], sums[..., COUNTS.index(whole)]
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan)
        return scale * (1 - ratio if complement else ratio)

    return value


def _harmonic(first: Value, second: Value) -> Value:
    def value(sums: np.ndarray) -> np.ndarray:
        a, b = first(sums), second(sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(a + b > 0, 2 * a * b / np.where(a + b > 0, a + b, 1), np.nan)

    return value


_RECALL, _NAMING = _ratio("found", "objects"), _ratio("naming", "answers")
_OBJECT_CORRECT = _ratio("hallucinated", "mentioned", complement=True)
_CORRECT = _ratio("hallucinating", "naming", complement=True)
_VALUES: dict[str, Value] = {
    "CHAIRs": _ratio("hallucinating", "answers"),
    "CHAIRs_refine": _ratio("hallucinating", "naming"),
    "CHAIRi": _ratio("hallucinated", "mentioned"),
    "recall": _RECALL,
    "len": _ratio("words", "answers", scale=1.0),
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
