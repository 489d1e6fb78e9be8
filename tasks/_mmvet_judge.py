"""MM-Vet's grader and what is made of its grades (yuweihao/MM-Vet, mm-vet_evaluator.ipynb)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mmalign_eval.metrics.base import Metric, Record, percent, whole
from mmalign_eval.metrics.formula import Formula
from mmalign_eval.metrics.lexical import AND, OR, elements_held
from mmalign_eval.requests import Generate, Prompt, greedy
from mmalign_eval.roles import JudgeRole

MEME = (
    "Can you explain this meme? | This meme is poking fun at the fact that the names of the countries Iceland and "
    "Greenland are misleading. Despite its name, Iceland is known for its beautiful green landscapes, while Greenland "
    "is mostly covered in ice and snow. The meme is saying that the person has trust issues because the names of these "
    "countries do not accurately represent their landscapes. | "
)
EXAMPLES = (
    "What is x in the equation? | -1 <AND> -5 | x = 3 | 0.0",
    "What is x in the equation? | -1 <AND> -5 | x = -1 | 0.5",
    "What is x in the equation? | -1 <AND> -5 | x = -5 | 0.5",
    "What is x in the equation? | -1 <AND> -5 | x = -5 or 5 | 0.5",
    "What is x in the equation? | -1 <AND> -5 | x = -1 or x = -5 | 1.0",
    MEME + "The meme talks about Iceland and Greenland. It's pointing out that despite their names, Iceland is not "
    "very icy and Greenland isn't very green. | 0.4",
    MEME + "The meme is using humor to point out the misleading nature of Iceland's and Greenland's names. Iceland, "
    "despite its name, has lush green landscapes while Greenland is mostly covered in ice and snow. The text 'This is "
    "why I have trust issues' is a playful way to suggest that these contradictions can lead to distrust or confusion. "
    "The humor in this meme is derived from the unexpected contrast between the names of the countries and their "
    "actual physical characteristics. | 1.0",
)
RULE = (
    "Compare the ground truth and prediction from AI models, to give a correctness score for the prediction. <AND> in "
    "the ground truth means it is totally right only when all elements in the ground truth are present in the "
    "prediction, and <OR> means it is totally right when any one element in the ground truth is present in the "
    "prediction. The correctness score is 0.0 (totally wrong), 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, or 1.0 "
    "(totally right). Just complete the last space of the correctness score.\n\n"
    "Question | Ground truth | Prediction | Correctness\n--- | --- | --- | ---\n"
)
PROMPT = RULE + "\n".join(EXAMPLES)
AGAIN = "\nPredict the correctness of the answer (digit): "
STEP = 0.5  # added to the temperature with each further try; the first one is as cold as the original question

# How often each set of capabilities occurs among the 218 questions decides their order: 62, 37, 26, 14, 12, 12 ...
OFFICIAL_SETS = (
    "rec_know_gen", "rec", "ocr_spat", "ocr_spat_math", "ocr", "rec_spat", "ocr_math", "rec_know", "rec_ocr_gen_spat",
    "rec_ocr_know_gen", "rec_ocr_spat", "rec_ocr", "ocr_know_spat", "ocr_gen_spat", "rec_know_spat",
    "rec_ocr_spat_math",
)  # fmt: skip
MODEL_METRICS = ("std", "n_failed")  # beside the capabilities in the table when a model judged
Scores = Callable[[Record], Sequence[float]]


def ask(record: Record) -> Generate:
    """The official prompt with the sample as its last line, left open."""
    truth = record["answer"].replace(AND, f" {AND} ").replace(OR, f" {OR} ")
    line = " | ".join([record["question"], truth, record["prediction"], ""])
    return Generate(Prompt(f"{PROMPT}\n{line}"), greedy(3))


def again(request: Generate, attempt: int) -> Generate:
    """Asks for a digit, warmer each time; the official tool scores 0 after five more replies."""
    params = replace(request.params, temperature=STEP * (attempt - 1))
    return Generate(replace(request.prompt, text=request.prompt.text + AGAIN), params)


def parse(reply: str) -> float | None:
    """The first word as a number of 0-1, or None."""
    try:
        grade = float(reply.split(" ")[0].strip())
    except ValueError:
        return None
    return grade if 0.0 <= grade <= 1.0 else None


GRADER = JudgeRole(
    name="grader",
    official="gpt-4-0613",
    ask=ask,
    parse=parse,
    offline=lambda record: elements_held(record["answer"], record["prediction"]),
    stand_in="lexical",
    attempts=6,
    again=again,
    failed=0.0,
)


def set_name(capabilities: Sequence[str]) -> str:
    """`rec_know_gen`: the official tool joins them in no fixed order; here in that of its table."""
    return "_".join(capabilities)


def grade_metrics(capabilities: Sequence[str], sets: Sequence[str], judged_by: str, *, subset: bool) -> list[Metric]:
    """Metrics of graded records, under names that say so where the stand-in graded."""
    each = [_total(name, _lists(name), f"questions that list {name}") for name in capabilities]
    groups = [_total(f"set/{name}", _is_set(name), f"questions that list {name}, no more") for name in sets]
    groups += [_total("bard_set/total", lambda r: bool(r.get("bard_set")), "the subset bard_set.json")] * subset
    if judged_by == GRADER.stand_in:
        found = [*each, _total("total", None, "mean over all questions"), *groups]
        return [replace(m, name=f"{judged_by}/{m.name}", help=f"{m.help}; by words held, no judge") for m in found]
    return [
        *each,
        _total("total", None, "mean over all questions; a failed grade is 0"),
        whole("std", _std, unit="percent", better="neither", best=None, help="of the total over grading runs (ddof 0)"),
        Metric("n_failed", _failed, Formula("s[0]"), unit="grades", better="lower", best=0.0,
               help="grades that could not be had after every attempt"),
        Metric("total_answered", _answered, percent, unit="percent", best=100.0, help="mean without failed grades"),
        *groups,
    ]  # fmt: skip


def run_totals(records: Sequence[Record]) -> list[float]:
    """The total of each grading run, 0-100."""
    runs = min((len(record["verdicts"]) for record in records), default=0)
    return [100 * sum(_scores(record)[run] for record in records) / len(records) for run in range(runs)]


def _total(name: str, keep: Callable[[Record], bool] | None, help: str) -> Metric:
    return Metric(name, _mean, percent, unit="percent", best=100.0, keep=keep, help=help)


def _lists(name: str) -> Callable[[Record], bool]:
    return lambda record: name in record["capability"]


def _is_set(name: str) -> Callable[[Record], bool]:
    return lambda record: set_name(record["capability"]) == name


def _scores(record: Record) -> list[float]:
    """A grade a run; failed ones as the official tool has them."""
    return [GRADER.failed if verdict is None else float(verdict) for verdict in record["verdicts"]]


def _mean(records: Sequence[Record]) -> Sequence[float]:
    return (sum(sum(_scores(r)) / len(r["verdicts"]) for r in records), float(len(records)))


def _answered(records: Sequence[Record]) -> Sequence[float]:
    given = [float(verdict) for record in records for verdict in record["verdicts"] if verdict is not None]
    return (sum(given), float(len(given)))


def _failed(records: Sequence[Record]) -> Sequence[float]:
    return (float(sum(verdict is None for record in records for verdict in record["verdicts"])),)


def _std(records: Sequence[Record]) -> float:
    return float(np.std(run_totals(records)))
