"""SQuAD's scores: exact match and token F1, answerable and unanswerable questions apart, best no-answer thresholds.

Source of every rule: the official `evaluate-v2.0.py` of SQuAD 2.0 (Rajpurkar, Jia and Liang, 2018), on which Hugging
Face's `squad_v2` metric rests; values are 0-100 as it prints them.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .base import Metric, Record, Stat, percent, whole
from .formula import Formula

NA_THRESHOLD = 1.0  # its --na-prob-thresh: an answer counts as withheld where the no-answer probability is above
_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, no English articles, single blanks (its `normalize_answer`)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def references(answers: Iterable[str]) -> list[str]:
    """The answers that something is left of after normalisation; the empty answer where there are none."""
    return [answer for answer in answers if normalise(answer)] or [""]


def exact(gold: str, said: str) -> int:
    """1 if both are the same after normalisation."""
    return int(normalise(gold) == normalise(said))


def f1(gold: str, said: str) -> float:
    """Harmonic mean of precision and recall over tokens as multisets; where either side is empty, 1 if both are."""
    expected, given = normalise(gold).split(), normalise(said).split()
    if not expected or not given:
        return float(expected == given)
    shared = sum((Counter(expected) & Counter(given)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(given), shared / len(expected)
    return 2 * precision * recall / (precision + recall)


def scores(answers: Sequence[str], said: str, na_prob: float | None = None) -> Record:
    """One question's record.

    Args:
        answers: Reference answers; none for an unanswerable question.
        said: The answer; the empty text withholds one.
        na_prob: Probability (any score will do) that there is no answer; None: not given.

    Returns:
        `has_answer`, `exact` and `f1` (0-1, the no-answer threshold applied), and what the best thresholds need where
        a probability was given: `na_prob`, `raw_exact`, `raw_f1`, and `said`, whether there is an answer at all.
    """
    golds = references(answers)
    raw = {"exact": max(exact(g, said) for g in golds), "f1": max(f1(g, said) for g in golds)}
    record: Record = {"has_answer": bool(answers), **raw}
    if na_prob is None:
        return record
    if na_prob > NA_THRESHOLD:
        record |= dict.fromkeys(raw, float(not answers))
    return {**record, "na_prob": na_prob, "raw_exact": raw["exact"], "raw_f1": raw["f1"], "said": bool(said)}


def best_threshold(records: Sequence[Record], field: str) -> tuple[float, float]:
    """The best score (0-100) that withholding answers above some no-answer probability gives, and that threshold.

    Answers are let through one by one as their probability rises (its `find_best_thresh`); those of equal probability
    in the order of `order`, since the official tool keeps the order of the file there.

    Args:
        records: Records with `na_prob`, `said` and `order`.
        field: `raw_exact` or `raw_f1`.
    """
    if not records:
        return float("nan"), float("nan")
    rows = [(r["na_prob"], r["order"], r[field] if r["has_answer"] else -float(r["said"]), r["has_answer"])
            for r in records]  # fmt: skip
    table = np.array(rows, dtype=np.float64)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    withheld = float((1 - table[:, 3]).sum())  # right where every answer is withheld
    reached = withheld + np.cumsum(table[:, 2])
    at = int(np.argmax(reached))
    if reached[at] <= withheld:
        return 100.0 * withheld / len(records), 0.0
    return 100.0 * float(reached[at]) / len(records), float(table[at, 0])


def _sums(field: str) -> Stat:
    def stat(records: Sequence[Record]) -> Sequence[float]:
        return (float(sum(r[field] for r in records)), float(len(records)))

    return stat


def _best(field: str, number: int) -> Callable[[Sequence[Record]], float]:
    return lambda records: best_threshold(records, field)[number]


def _has_answer(record: Record) -> bool:
    return bool(record["has_answer"])


def _no_answer(record: Record) -> bool:
    return not record["has_answer"]


def _rated(record: Record) -> bool:
    return "na_prob" in record


_EXACT, _F1 = _sums("exact"), _sums("f1")


def squad_metrics() -> list[Metric]:
    """All numbers of the official tool under its names: `exact`, `f1`, `HasAns_*`, `NoAns_*`, `best_*`, totals."""
    found: list[Metric] = []
    for prefix, keep, about in (
        ("", None, "all questions"),
        ("HasAns_", _has_answer, "answerable questions"),
        ("NoAns_", _no_answer, "unanswerable questions, right where no answer is given"),
    ):
        of = f"over {about} (evaluate-v2.0.py)"
        found += [
            Metric(f"{prefix}exact", _EXACT, percent, unit="percent", proportion=True, best=100.0, keep=keep,
                   help=f"answers equal to a reference after normalisation, {of}"),
            Metric(f"{prefix}f1", _F1, percent, unit="percent", best=100.0, keep=keep, help=f"token F1, {of}"),
            Metric(f"{prefix}total", _EXACT, Formula("s[1]"), unit="questions", better="neither", best=None, keep=keep,
                   interval=False, help=f"how many were scored, {about}"),
        ]  # fmt: skip
    for name in ("exact", "f1"):
        field = f"raw_{name}"
        found += [
            whole(f"best_{name}", _best(field, 0), unit="percent", best=100.0, keep=_rated,
                  help=f"{name} at the no-answer threshold that is best on these very answers"),
            whole(f"best_{name}_thresh", _best(field, 1), unit="probability", better="neither", best=None, keep=_rated,
                  help="that threshold; 0 withholds every answer"),
        ]  # fmt: skip
    return found
