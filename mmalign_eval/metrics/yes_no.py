"""Yes/no questions the way POPE scores them: its parser, its confusion counts and the metrics made of them.

Source of parser and formulas: RUCAIBox/POPE, `evaluate.py` (Li et al., 2023, arXiv:2305.10355, section 5.1). The
positive class is "yes". Where the official script would divide by zero the metric is undefined (nan) here.
"""

from __future__ import annotations

from collections.abc import Sequence

from .base import Metric, Record, Stat, ratio
from .formula import Formula, at, over

OUTCOMES = ("TP", "FP", "TN", "FN")
_OUTCOME_HELP = {"TP": "yes, rightly", "FP": "yes, wrongly", "TN": "no, rightly", "FN": "no, wrongly"}
_NEGATIVE_WORDS = frozenset({"No", "not", "no"})

# of confusion counts; F1 is 2PR / (P + R), undefined where precision or recall is, or both are 0
ACCURACY = Formula("(s[0] + s[2]) / (s[0] + s[1] + s[2] + s[3])")
F1 = Formula("where(s[0] > 0, 2 * s[0] / (2 * s[0] + s[1] + s[3]), nan)")


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
    Metric("f1", confusion, F1, help="2PR / (P + R); undefined if there is no true positive"),
    Metric(
        "yes_ratio", _said_yes, ratio, better="neither", proportion=True, best=None,
        help="answers parsed as yes / all (half of POPE's labels are yes)",
    ),
)  # fmt: skip


COUNTS = tuple(
    Metric(
        name,
        confusion,
        Formula(f"s[{place}]"),
        unit="answers",
        better="neither",
        best=None,
        interval=False,
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
    places = [len(OUTCOMES) * number for number in range(len(parts))]
    return [
        Metric(
            f"mean/{name}", stat, over("mean", [at(of, p) for p in places]), help=f"mean {name} of {', '.join(parts)}"
        )
        for name, of in (("accuracy", ACCURACY), ("f1", F1))
    ]


def _side_by_side(field: str, parts: tuple[str, ...]) -> Stat:
    def stat(records: Sequence[Record]) -> Sequence[float]:
        return [n for part in parts for n in confusion([r for r in records if r[field] == part])]

    return stat
