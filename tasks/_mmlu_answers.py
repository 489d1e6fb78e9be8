"""MMLU answers made elsewhere: which subject a file is of, and the tables that the authors' script writes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from mmalign_eval.tasks._mmlu_subjects import SUBJECTS

from mmalign_eval.data.answers import loglikelihoods
from mmalign_eval.data.files import read_csv
from mmalign_eval.errors import BadInput
from mmalign_eval.requests import Response
from mmalign_eval.task import Sample

LETTERS = "ABCD"


def subject_in(stem: str) -> str:
    """The one subject that a file is named after, or empty."""
    found = [s for s in SUBJECTS if re.search(rf"(?<![a-z]){s}(?![a-z])", stem)]
    found = [s for s in found if not any(s in longer and s != longer for longer in found)]
    return found[0] if len(found) == 1 else ""


def authors_table(path: Path, samples: Sequence[Sample]) -> dict[str, Response]:
    """Probabilities of the letters in the tables that hendrycks/test writes (evaluate.py, evaluate_hf.py).

    These are the questions with columns `{model}_choiceA_probs` to `{model}_choiceD_probs`.

    Args:
        path: A table of one subject.
        samples: Its questions, in order.

    Returns:
        Sample id to log-probabilities; nothing if the file has no such columns.

    Raises:
        BadInput: Several models' columns, other rows than the data have, a cell that is no number.
    """
    rows = list(read_csv(path))
    columns = [[c for c in (rows[0][1] if rows else {}) if c.endswith(f"_choice{letter}_probs")] for letter in LETTERS]
    if not all(columns):
        return {}
    if any(len(own) > 1 for own in columns):
        raise BadInput(f"{path}:1: probabilities of several models ({', '.join(columns[0])}); keep one model's")
    if len(rows) != len(samples):
        raise BadInput(f"{path}: {len(rows)} rows, but the data have {len(samples)} questions of this subject")
    found: dict[str, Response] = {}
    for (line, row), sample in zip(rows, samples, strict=True):
        if row.get("5", gold := LETTERS[sample.data["doc"]["answer"]]) != gold:
            raise BadInput(
                f"{path}:{line}: another question than the data's row {sample.id} (its answer is {row['5']})"
            )
        try:
            values = [float(row[column]) for (column,) in columns]
        except ValueError as error:
            raise BadInput(f"{path}:{line}: a probability is no number ({error})") from error
        given = [math.log(value) if value > 0 else -math.inf for value in values]
        found[sample.id] = loglikelihoods(given, len(LETTERS), f"{path}:{line}")
    return found
