"""Answers in the lines of LLaVA's `model_vqa*.py`, or in those that lmms-eval logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .answers import read_rows


def llava_rows(path: Path) -> list[tuple[str, Any]]:
    """(where, entry) of a file of answers; lines of lmms-eval's `--log_samples` are made LLaVA's.

    LLaVA's have `question_id`, `prompt` and `text`, the answer. lmms-eval's (0.7.3, evaluator.py and
    loggers/evaluation_tracker.py) hold the row of the data set (`doc`) and the reply in lists, which its logger takes
    away (`filtered_resps`, else `resps`).

    Raises:
        BadInput: Not JSON; names file and line.
    """
    return [(where, _unlogged(row)) for where, row in read_rows(path)]


def _unlogged(row: Any) -> Any:
    if not isinstance(row, dict) or not isinstance(doc := row.get("doc"), dict) or "question_id" not in doc:
        return row
    reply = row.get("filtered_resps", row.get("resps"))
    while isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]
    found = {"question_id": doc["question_id"], "prompt": doc.get("question", ""), "text": reply}
    return {**found, "category": doc["category"]} if "category" in doc else found
