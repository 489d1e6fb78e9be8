"""MME's scores: two questions an image, one answered yes and one answered no, in fourteen subtasks.

Source of parser and formulas: the benchmark's `eval_tool/calculation.py` (BradyFU/Awesome-Multimodal-Large-Language-
Models, branch Evaluation; Fu et al., 2023, arXiv:2306.13394, section 2.2). `acc` counts questions, `acc_plus` images
with both questions right, both in percent; a subtask's score is their sum (0-200), a total the sum of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .base import Metric, Record, Stat, by, percent
from .formula import Formula, at, over

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
SUBTASKS = (*PERCEPTION, *COGNITION)
# Sight Beyond Text (Tu et al., 2023), section 3.3, leaves two perception subtasks out; its cognition total is MME's.
PAPER_PERCEPTION = tuple(name for name in PERCEPTION if name not in ("landmark", "artwork"))


def official_yes_no_other(text: str) -> str:
    """Reads yes or no from the first four characters, yes first, else `other`; case does not count, blanks do.

    It is a search for substrings: "not sure", "none" and "know" begin with a no.
    """
    start = text.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def stripped_yes_no_other(text: str) -> str:
    """The official rule after stripping white space, as Sight Beyond Text reads answers."""
    return official_yes_no_other(text.strip())


def lmms_yes_no_other(text: str) -> str:
    """The official rule after stripping and deleting full stops; a lone y or n counts (lmms-eval, tasks/mme)."""
    plain = text.lower().strip().replace(".", "")
    return {"y": "yes", "n": "no"}.get(plain) or official_yes_no_other(plain)


def yes_no_other(subtask: str, truth: str, said: str) -> Record:
    """The record of one answer; `other` is wrong."""
    return {"subtask": subtask, "label": truth, "answer": said, "correct": float(truth == said)}


def tally(records: Sequence[Record]) -> Sequence[float]:
    """Of one image's records: right answers, questions, both right (0/1), whether both were answered (0/1): `[4]`."""
    right, pair = sum(r["correct"] for r in records), float(len(records) == 2)
    return (right, float(len(records)), float(pair and right == 2), pair)


def _right(records: Sequence[Record]) -> Sequence[float]:
    return tally(records)[:2]


def _both(records: Sequence[Record]) -> Sequence[float]:
    return tally(records)[2:]


def _others(records: Sequence[Record]) -> Sequence[float]:
    return (float(sum(r["answer"] == "other" for r in records)),)


SCORE = Formula("100 * s[0] / s[1] + 100 * s[2] / s[3]")  # acc + acc_plus, of a tally
_ACC_PLUS_HELP = "images with both questions right / images with both answered, in percent"
_COUNTS = (
    Metric("acc", _right, percent, unit="percent", proportion=True, best=100.0, help="questions right, in percent"),
    Metric("acc_plus", _both, percent, unit="percent", proportion=True, best=100.0, help=_ACC_PLUS_HELP),
)
_OTHER = Metric(
    "other", _others, Formula("s[0]"), unit="answers", better="lower", best=0.0,
    help="answers that are neither yes nor no; they count as wrong",
)  # fmt: skip
_SCORE = Metric("score", tally, SCORE, unit="points", best=200.0, help="acc + acc_plus (0-200)")


def mme_metrics() -> list[Metric]:
    """Totals, counts over everything, and `acc`, `acc_plus`, `score` and `other` of each subtask.

    Records of one image share a cluster; a total is undefined if one of its subtasks is missing.
    """
    return [
        total("perception/total", PERCEPTION),
        total("cognition/total", COGNITION),
        total("perception_paper/total", PAPER_PERCEPTION),
        *(replace(metric, name=f"overall/{metric.name}") for metric in (*_COUNTS, _OTHER)),
        *by("subtask", SUBTASKS, (*_COUNTS, _SCORE, _OTHER)),
    ]


def total(name: str, subtasks: Sequence[str]) -> Metric:
    """The sum of the scores of some subtasks, 200 points each."""
    told = f"sum of the scores of {', '.join(subtasks)}"
    value = over("sum", [at(SCORE, 4 * number) for number in range(len(subtasks))])
    return Metric(name, _side_by_side(tuple(subtasks)), value, unit="points", best=200.0 * len(subtasks), help=told)


def _side_by_side(subtasks: tuple[str, ...]) -> Stat:
    def stat(records: Sequence[Record]) -> Sequence[float]:
        return [n for name in subtasks for n in tally([r for r in records if r["subtask"] == name])]

    return stat
