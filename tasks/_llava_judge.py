"""LLaVA-Bench's judge and its scores (haotian-liu/LLaVA, llava/eval: eval_gpt_review_*.py, table/rule.json)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric, Record, whole
from mmalign_eval.metrics.formula import Formula
from mmalign_eval.metrics.lexical import overlap
from mmalign_eval.requests import Generate, GenParams, Prompt
from mmalign_eval.roles import JudgeRole

CATEGORIES = ("conv", "detail", "complex")
SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."
ASKED = (
    "We would like to request your feedback on the performance of two AI assistants in response to the user question "
    "displayed above. The user asks the question on observing an image. For your reference, the visual content in the "
    "image is represented with "
)
SHOWN = {
    "wild": "a few sentences describing the image. \n",
    "coco": (
        "five descriptive sentences describing the same image and the bounding box coordinates of each object in the "
        "scene. These coordinates are in the form of bounding boxes, represented as (x1, y1, x2, y2) with floating "
        "numbers ranging from 0 to 1. These values correspond to the top left x, top left y, bottom right x, and "
        "bottom right y. \n"
    ),
}
RATE = (
    "Please rate the helpfulness, relevance, accuracy, level of details of their responses. Each assistant receives an "
    "overall score on a scale of 1 to 10, where a higher score indicates better overall performance.\n"
    "Please first output a single line containing only two values indicating the scores for Assistant 1 and 2, "
    "respectively. The two scores are separated by a space.\n"
    "In the subsequent line, please provide a comprehensive explanation of your evaluation, avoiding any potential "
    "bias and ensuring that the order in which the responses were presented does not affect your judgment."
)
PARAMS = GenParams(temperature=0.2, max_new_tokens=1024)
MODEL_METRICS = ("std", "n_failed")  # beside the relative scores in the table when a model judged
FULL = 10.0  # the best score
Keep = Callable[[Record], bool]


def rule(split: str) -> str:
    """What the judge is asked for; rule.json has it once a category, the same for all three."""
    return ASKED + SHOWN[split] + RATE


def ask(record: Record) -> Generate:
    """Context, question, GPT-4's answer, the model's answer, and the rule.

    Raises:
        BadInput: The record was made of data without contexts.
    """
    if not record["context"]:
        raise BadInput(
            f"llava_bench: {record['id']} has no context to judge by: the data need context.jsonl (in the wild) or "
            f"caps_boxes_coco2014_val_80.jsonl (COCO)"
        )
    text = (
        f"[Context]\n{record['context']}\n\n"
        f"[Question]\n{record['question']}\n\n"
        f"[Assistant 1]\n{record['reference']}\n\n[End of Assistant 1]\n\n"
        f"[Assistant 2]\n{record['prediction']}\n\n[End of Assistant 2]\n\n"
        f"[System]\n{rule(record['split'])}\n\n"
    )
    return Generate(Prompt(text, system=SYSTEM), PARAMS)


def parse(reply: str) -> list[float] | None:
    """The two scores of the first line, or None unless it splits into exactly two numbers at single blanks."""
    parts = reply.split("\n")[0].replace(",", " ").split(" ")
    try:
        scores = [float(part) for part in parts]
    except ValueError:
        return None
    return scores if len(scores) == 2 and all(map(math.isfinite, scores)) else None


def compare(record: Record) -> list[float]:
    """The stand-in's scores: 10 for the reference, and as much for the model's answer as it shares of its words."""
    return [FULL, FULL * overlap(record["reference"], record["prediction"])]


RELATIVE = Formula("100 * s[1] / s[0]")  # the model's scores as a share of the reference's
REVIEWER = JudgeRole(
    name="reviewer",
    official="gpt-4-0314",
    ask=ask,
    parse=parse,
    offline=compare,
    stand_in="lexical",
    attempts=3,  # the official tool asks once and keeps the failure
    failed=[-1.0, -1.0],
    number=lambda verdict: float(verdict[1]) if isinstance(verdict, list) and len(verdict) == 2 else None,
)


def relative_metrics(split: str, prefix: str, judged_by: str) -> list[Metric]:
    """Metrics of one split's reviews, under names that say so where the stand-in compared."""
    groups: dict[str, Keep] = {"all": _in(split), **{name: _in(split, name) for name in CATEGORIES}}
    if judged_by == REVIEWER.stand_in:
        note = "words shared with GPT-4's answer (ROUGE-L F1), no judge"
        return [
            Metric(f"{judged_by}/{prefix}{name}/relative", _scores, RELATIVE, unit="percent", best=100.0, keep=keep,
                   help=note)
            for name, keep in groups.items()
        ]  # fmt: skip
    found = [replace(m, name=f"{name}/{m.name}", keep=keep) for name, keep in groups.items() for m in SCORES]
    every = groups["all"]
    found += [
        whole("std", _spread, unit="percent", better="neither", best=None, keep=every,
              help="of all/relative over the judge's runs (ddof 0)"),
        Metric("n_failed", _failed, Formula("s[0]"), unit="reviews", better="lower", best=0.0, keep=every,
               help="reviews that could not be had after every attempt; they count -1 each in the means"),
        Metric("all/relative_answered", _answered, RELATIVE, unit="percent", best=None, keep=every,
               help="all/relative without failed reviews"),
    ]  # fmt: skip
    return [replace(m, name=prefix + m.name) for m in found]


def _in(split: str, category: str = "") -> Keep:
    return lambda record: record["split"] == split and category in ("", record["category"])


def _reviews(record: Record) -> list[Sequence[float]]:
    """(reference, model) a run; failed ones as the official tool has them."""
    return [REVIEWER.failed if verdict is None else verdict for verdict in record["verdicts"]]


def _scores(records: Sequence[Record]) -> Sequence[float]:
    """Sums of the reference's and the model's scores, each record's the mean of its runs, and their number."""
    sums = [[sum(review[i] for review in _reviews(r)) / len(r["verdicts"]) for r in records] for i in (0, 1)]
    return (sum(sums[0]), sum(sums[1]), float(len(records)))


def _answered(records: Sequence[Record]) -> Sequence[float]:
    given = [verdict for record in records for verdict in record["verdicts"] if verdict is not None]
    return (sum(v[0] for v in given), sum(v[1] for v in given), float(len(given)))


def _failed(records: Sequence[Record]) -> Sequence[float]:
    return (float(sum(verdict is None for record in records for verdict in record["verdicts"])),)


def _spread(records: Sequence[Record]) -> float:
    runs = min((len(record["verdicts"]) for record in records), default=0)
    sums = [[sum(_reviews(r)[run][i] for r in records) for i in (0, 1)] for run in range(runs)]
    return float(np.std([100.0 * model / reference if reference else math.nan for reference, model in sums]))


# of the sums of scores: the reference's, the model's, and their number
SCORES = (
    Metric("relative", _scores, RELATIVE, unit="percent", best=None,
           help="mean score as a share of that of GPT-4's answers (the official tool rounds both to 3 decimals first)"),
    Metric("reference", _scores, Formula("10 * s[0] / s[2]"), unit="percent", better="neither",
           best=None, help="mean score of GPT-4's answers, times 10"),
    Metric("model", _scores, Formula("10 * s[1] / s[2]"), unit="percent", best=100.0,
           help="mean score of the model's answers, times 10"),
)  # fmt: skip
