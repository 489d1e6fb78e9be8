"""Yes/no questions the way POPE scores them: its parser, its confusion counts and the metrics made of them.

Source of parser and formulas: RUCAIBox/POPE, `evaluate.py` (Li et al., 2023, arXiv:2305.10355, section 5.1). The
positive class is "yes". Where the official script would divide by zero the metric is undefined (nan) here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .base import Metric, Record, Stat, Value, ratio

OUTCOMES = ("TP", "FP", "TN", "FN")
_OUTCOME_HELP = {"TP": "yes, rightly", "FP": "yes, wrongly", "TN": "no, rightly", "FN": "no, wrongly"}
_NEGATIVE_WORDS = frozenset({"No", "not", "no"})


def official_yes_no(text: str) -> str:
    """Reads "no" if a word of the first sentence is `No`, `not` or `no`, and "yes" from everything else.

    The first sentence ends at the first full stop; commas are deleted; words are split at single blanks. So `NO`,
    `No!`, `isn't`, a "no" followed by a newline and an empty answer all count as yes, as in the official script.
    """
    sentence = text.split(".", 1)[0].replace(",", "")
    return "no" if _NEGATIVE_WORDS.intersection(sentence.split(" ")) else "yes"


def yes_no(truth: str, said: str) -> Record:
    """The record of one answer: label, parsed answer and its cell (`TP`, `FP`, `TN`, `FN`) of the confusion table."""
    outcome = ("T" if truth == said else "F") + ("P" if said == "yes" else "N")
    return {"label": truth, "answer": said, "outcome": outcome}


def confusion(records: Sequence[Record]) -> Sequence[float]:
    """Counts of TP, FP, TN, FN: `[4]`."""
    outcomes = [r["outcome"] for r in records]
    return [float(outcomes.count(name)) for name in OUTCOMES]


def accuracy(sums: np.ndarray) -> np.ndarray:
    """(TP + TN) / all, of confusion counts `[..., 4]`."""
    return _divide(sums[..., 0] + sums[..., 2], sums.sum(axis=-1))


def f1(sums: np.ndarray) -> np.ndarray:
    """2PR / (P + R), of confusion counts `[..., 4]`; undefined where precision or recall is, or both are 0."""
    tp, fp, fn = sums[..., 0], sums[..., 1], sums[..., 3]
    return np.where(tp > 0, _divide(2 * tp, 2 * tp + fp + fn), np.nan)


def _right(records: Sequence[Record]) -> Sequence[float]:
    return (float(sum(r["outcome"][0] == "T" for r in records)), float(len(records)))


def _precision(records: Sequence[Record]) -> Sequence[float]:
    tp, fp, _, _ = confusion(records)
    return (tp, tp + fp)


def _recall(records: Sequence[Record]) -> Sequence[float]:
    tp, _, _, fn = confusion(records)
    return (tp, tp + fn)


def _said_yes(records: Sequence[Record]) -> Sequence[float]:
    return (float(sum(r["answer"] == "yes" for r in records)), float(len(records)))


BINARY_METRICS = (
    Metric("accuracy", _right, ratio, proportion=True, help="(TP + TN) / all"),
    Metric("precision", _precision, ratio, proportion=True, help="TP / (TP + FP); undefined if yes is never said"),
    Metric("recall", _recall, ratio, proportion=True, help="TP / (TP + FN)"),
    Metric("f1", confusion, f1, help="2PR / (P + R); undefined if there is no true positive"),
    Metric(
        "yes_ratio", _said_yes, ratio, better="neither", proportion=True, best=None,
        help="answers parsed as yes / all (half of POPE's labels are yes)",
    ),
)  # fmt: skip


def _cell(place: int) -> Value:
    return lambda sums: sums[..., place]


COUNTS = tuple(
    Metric(
        name,
        confusion,
        _cell(place),
        unit="answers",
        better="neither",
        best=None,
        help=f"answers {_OUTCOME_HELP[name]}",
    )
    for place, name in enumerate(OUTCOMES)
)


def mean_over(field: str, parts: Sequence[str]) -> list[Metric]:
    """`mean/accuracy` and `mean/f1`: the unweighted mean of each part's value; undefined if a part is missing.

    Records share a cluster over the parts (POPE asks about the same images in all its files), so the sums of all parts
    are kept side by side and resampled together.
    """
    stat = _side_by_side(field, tuple(parts))
    return [
        Metric(f"mean/{name}", stat, _mean_of(value, len(parts)), help=f"mean {name} of {', '.join(parts)}")
        for name, value in (("accuracy", accuracy), ("f1", f1))
    ]


def _side_by_side(field: str, parts: tuple[str, ...]) -> Stat:
    def stat(records: Sequence[Record]) -> Sequence[float]:
        return [n for part in parts for n in confusion([r for r in records if r[field] == part])]

    return stat


def _mean_of(value: Callable[[np.ndarray], np.ndarray], parts: int) -> Value:
    def mean(sums: np.ndarray) -> np.ndarray:
        return value(sums.reshape(*sums.shape[:-1], parts, len(OUTCOMES))).mean(axis=-1)

    return mean


def _divide(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottom != 0, top / np.where(bottom == 0, 1, bottom), np.nan)
