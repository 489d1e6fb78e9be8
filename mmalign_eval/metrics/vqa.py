"""VQA accuracy: how many of ten people gave the same answer, after the official normalisation and with its quirks.

Source of every rule here: GT-Vision-Lab/VQA, `vqaEval.py` (Antol et al., 2015, arXiv:1505.00468; Goyal et al., 2017,
arXiv:1612.00837). The second scorer is lmms-eval's (0.7.3, tasks/vqav2/utils.py): EvalAI's answer processor, applied
to every answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .base import Metric, Record, mean_of, ratio

MARKS = ';/[]"{}()=+\\_-><@`,?!'  # not the apostrophe, the colon, the full stop, $ or %
NUMBERS = {"none": "0", "zero": "0"} | {
    word: str(number)
    for number, word in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"), 1)
}
ARTICLES = frozenset(("a", "an", "the"))
MOST_FULL_STOPS = 32  # the script passes re.UNICODE (32) where re.sub takes the count
_FULL_STOP = re.compile(r"\.(?!\d)", re.ASCII)  # its look-behind is mistyped and never excludes anything
_DIGIT_COMMA = re.compile(r"\d,\d", re.ASCII)
_EVALAI_FULL_STOP, _EVALAI_COMMAS = re.compile(r"\.(?!\d)"), re.compile(r"\d,+\d")  # Python 3: digits of any script

_SINGLE = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's I'm
    I've isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've
    shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're
    there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd
    where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're
    you've
"""
_SEVERAL = """
    couldn't've hadn't've he'd've I'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've
    something'd've there'd've they'd've we'd've who'd've wouldn't've you'd've y'all'd've y'all'll 'ow's'at
"""


def _contractions() -> dict[str, str]:
    """The official table, 120 entries: what is written without (some) apostrophes to the contraction."""
    table = {word.replace("'", ""): word for word in _SINGLE.split()}
    for word in _SEVERAL.split():  # each form that lacks exactly one apostrophe
        table |= {word[:at] + word[at + 1 :]: word for at, letter in enumerate(word) if letter == "'"}
    return table | {"let's": "let's", "she's": "she's", "somebody'd": "somebodyd"}


CONTRACTIONS = _contractions()  # keys with a capital I never match: words are lower case by then


def without_marks(text: str, comma: re.Pattern[str] = _DIGIT_COMMA, full_stop: re.Pattern[str] = _FULL_STOP) -> str:
    """Deletes or blanks each mark, then deletes full stops that no digit follows (the first 32 of them).

    A mark is deleted if it stands next to a blank anywhere in the text, or if the text has a digit, a comma and a
    digit anywhere; otherwise it becomes a blank.
    """
    out = text
    digits = comma.search(text) is not None
    for mark in MARKS:
        if mark in out:
            out = out.replace(mark, "" if digits or f"{mark} " in text or f" {mark}" in text else " ")
    return full_stop.sub("", out, count=MOST_FULL_STOPS)


def plain_words(text: str) -> str:
    """Lower case; number words up to ten as digits, articles dropped, apostrophes of contractions put back."""
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


@lru_cache(maxsize=1 << 16)
def normalised(text: str) -> str:
    """The official normal form of an answer."""
    return plain_words(without_marks(text))


def stripped(text: str) -> str:
    """Line feeds and tabs as blanks, none at the ends: all that is done where the humans agree."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=1 << 16)
def evalai(text: str) -> str:
    """The normal form of EvalAI's processor as lmms-eval applies it: the same steps, other patterns of digits."""
    return plain_words(without_marks(stripped(text), _EVALAI_COMMAS, _EVALAI_FULL_STOP))


@dataclass(frozen=True)
class Humans:
    """The human answers to a question, ready to compare with.

    Attributes:
        answers: Answer, as it is compared, to how many gave it.
        read: What is done to an answer before it is compared with them.
        total: How many there are (ten).
    """

    answers: Counter[str]
    read: Callable[[str], str]
    total: int

    def accuracy(self, answer: str) -> float:
        """Mean over the leave-one-out subsets of min(1, matches / 3), in 0-1.

        With m of ten people matching: 0, 0.3, 0.6, 0.9, and 1 from m = 4.
        """
        same = self.answers[self.read(answer)]
        inside, outside = min(1.0, (same - 1) / 3), min(1.0, same / 3)  # left out: one who matches, one who does not
        return (same * inside + (self.total - same) * outside) / self.total


def official_humans(answers: Sequence[str]) -> Humans:
    """As the official script has them: answers are normalised only where people differ, so "Yes" is not "yes"."""
    texts = [stripped(text) for text in answers]
    read = stripped if len(set(texts)) == 1 else _official
    return Humans(Counter(map(read, texts)), read, len(texts))


def evalai_humans(answers: Sequence[str]) -> Humans:
    """As lmms-eval has them: all answers are normalised, always."""
    return Humans(Counter(map(evalai, answers)), evalai, len(answers))


def _official(text: str) -> str:
    return normalised(stripped(text))


SCORERS: dict[str, Callable[[Sequence[str]], Humans]] = {"official": official_humans, "evalai": evalai_humans}
ANSWER_TYPES = ("yes/no", "number", "other")


def vqa_metrics(question_types: Sequence[str], ceilings: Sequence[Record] = ()) -> list[Metric]:
    """`overall`, `answer_type/...` and `question_type/...`, 0-100.

    Args:
        question_types: Those of the data.
        ceilings: Records from which the best possible values follow: people disagree, so few questions allow 100.
    """
    accuracy = mean_of("accuracy")
    keeps: list[tuple[str, Callable[[Record], bool] | None]] = [("overall", None)]
    keeps += [(f"answer_type/{name}", _is("answer_type", name)) for name in ANSWER_TYPES]
    keeps += [(f"question_type/{name}", _is("question_type", name)) for name in question_types]
    return [
        Metric(
            name, accuracy, ratio, unit="percent", best=_best(ceilings, keep), keep=keep,
            help="VQA accuracy: min(1, matches among nine people / 3), mean over the ten nines, in percent",
        )
        for name, keep in keeps
    ]  # fmt: skip


def _is(field: str, value: str) -> Callable[[Record], bool]:
    return lambda record: record[field] == value


def _best(records: Sequence[Record], keep: Callable[[Record], bool] | None) -> float | None:
    kept = [r["ceiling"] for r in records if keep is None or keep(r)]
    return sum(kept) / len(kept) if kept else None
