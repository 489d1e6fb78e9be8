"""Object HalBench's second extractor: a language model lists the objects of a description, and what is made of that.

RLHF-V eval/eval_gpt_obj_halbench.py with `--use_gpt`. What differs here: the tool lemmatises and tags each name with
spaCy's en_core_web_trf, which this package does not carry (`ObjectTable.phrases` says what stands in for it); it asks
up to 100 times for a reply that it can read and stops with an error where none can be, we ask 10 times, count the
failure, and leave the number under its official name undefined.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mmalign_eval.metrics.base import Metric, Record, whole
from mmalign_eval.metrics.chair.objects import ObjectTable
from mmalign_eval.metrics.chair.score import COUNTS, counts, metric_of, value_of
from mmalign_eval.metrics.formula import Formula
from mmalign_eval.requests import Generate, GenParams, Prompt
from mmalign_eval.roles import JudgeRole

PROMPT = """You are an expert in image objects extraction according to a question answer pair. We asked an examiner to answer a question about a picture.

[Start of Question]

<image> {question}

[End of Question]

[Start of Examiner's Answer]

{answer}

[End of Examiner's Answer]


Assume that the answer is correct, please identify all visible objects that are directly shown in the image. Please following the instructions in below:

1. You should only mention objects that are explicitly mentioned in the examiner's answer.
2. You should only extract the object names without the attributes of the objects.
3. You should not include the properties of the object, like the color, material, etc. as part of the object name in your result.
4. Make your answer precise. Present the results in a JSON list format: ["object_1", ..., "object_n"].
5. You should return an empty JSON list () if no visible objects can be found.
"""  # noqa: E501
SHORT = 3  # answers of so few words name nothing and are not asked about
ATTEMPTS = 10
NAMES = ("CHAIRs_refine", "CHAIRi", "recall", "CHAIRs")


def ask(record: Record) -> Generate | None:
    """The extraction request: the whole prompt as system message, temperature 0.2, 512 tokens."""
    if len(record["text"].split()) <= SHORT:
        return None
    text = PROMPT.replace("{question}", record["question"]).replace("{answer}", record["text"])
    return Generate(Prompt("", system=text), GenParams(max_new_tokens=512, temperature=0.2))


def parse(reply: str) -> list[str] | None:
    """The names in a reply: its JSON, else that of its last line where it has a list of strings; `()` is empty.

    JSON may stand in a fenced block, which newer models write and RLAIF-V's edition of the tool reads. None where
    nothing can be read.
    """
    text = reply.strip()
    if text == "()":
        return []
    fenced = re.search(r"```json\n(.*?)\n```", text, re.DOTALL)
    for part in (fenced[1] if fenced else "", text, text.split("\n")[-1] if '["' in text else ""):
        try:
            found = json.loads(part)
        except (ValueError, RecursionError):
            continue
        return [str(name) for name in found] if isinstance(found, list | dict) else None
    return None


EXTRACTOR = JudgeRole(
    name="extractor",
    official="gpt-3.5-turbo-0613",
    ask=ask,
    parse=parse,
    offline=lambda record: [word for word, _ in record["mentions"]],
    stand_in="rule",
    attempts=ATTEMPTS,
    again=lambda request, attempt: replace(request, params=replace(request.params, seed=attempt)),
    failed=None,
    unasked=[],
)


def count_extracted(record: Record, table: ObjectTable) -> None:
    """Adds `llm`: for each verdict the counts of its objects, each name once, or None where the extractor failed."""
    words = len(record["text"].split())
    record["llm"] = [
        None if names is None else counts(table.phrases(names), record["objects"], words)
        for names in record.get("verdicts", ())
    ]


def extracted_metrics() -> list[Metric]:
    """The extractor's numbers, pooled over its runs: the tool's, those without failures, the failures, the spread."""
    return [
        *(metric_of(name, _sums, _complete(value_of(name)), f"llm/{name}", _FROM) for name in NAMES),
        *(metric_of(name, _sums, value_of(name), f"llm/{name}_answered", _WITHOUT) for name in NAMES),
        Metric(
            "llm/n_failed", _sums, Formula(_FAILURES), unit="verdicts", better="neither", best=None,
            help=f"extractions that could not be read in {ATTEMPTS} attempts",
        ),
        whole(
            "llm/CHAIRs_refine_std", _spread, unit="percent", better="neither", best=None,
            help="standard deviation of llm/CHAIRs_refine_answered over the extractor's runs",
        ),
    ]  # fmt: skip


_FAILURES = f"s[{len(COUNTS)}]"  # they come after the counts
_FROM = "; objects as a model extracted them, undefined if an extraction failed"
_WITHOUT = "; objects as a model extracted them, failed extractions left out"


def _sums(records: Sequence[Record]) -> Sequence[float]:
    verdicts = [one for record in records for one in record["llm"]]
    good = np.sum([one for one in verdicts if one is not None] or [[0] * len(COUNTS)], axis=0)
    return [*map(float, good), float(sum(one is None for one in verdicts))]


def _complete(value: Formula) -> Formula:
    return Formula(f"where({_FAILURES} > 0, nan, {value})")


def _spread(records: Sequence[Record]) -> float:
    runs: list[Any] = [
        [one for one in run if one is not None] for run in zip(*(r["llm"] for r in records), strict=True)
    ]
    values = [float(value_of("CHAIRs_refine")(np.sum(run, axis=0))) for run in runs if run]
    return float(np.std(values)) if values else float("nan")
