"""MM-Vet's submissions: a model's answers, or what the official evaluator wrote about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmalign_eval.tasks._mmvet_judge import parse

from mmalign_eval.data.answers import by_id, one_path, said, text_of, unique_object
from mmalign_eval.data.files import need
from mmalign_eval.data.logged import llava_rows
from mmalign_eval.data.run_files import refuse_several_models
from mmalign_eval.errors import BadInput
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import Sample

FORMAT = (
    '{"v1_0": "answer", ...} (json), LLaVA\'s jsonl (question_id, text), lmms-eval\'s logged samples, or '
    "the official evaluator's *-grade-*.json {id: {model, content, score}} with one or several "
    "runs (several files: several runs)"
)
OFFICIAL_NAME = re.compile(r"-grade-\d+runs?$")  # how the names of its files end, each an evaluation of its own
JUDGE_IN_NAME = re.compile(r"_([^_]+)-grade-")  # <model>_<judge>-grade-<n>runs.json


def read_submission(samples: Sequence[Sample], files: AnswerFiles) -> Submission:
    """Answers and grades by sample; where there are grades, no answer text is needed.

    Raises:
        BadInput: Neither form, more than one model's answers, runs of different numbers, a grade outside 0-1.
    """
    read = [(path, _content(path)) for path in _files(files)]
    answers = [(path, found) for path, found in read if not _graded(found)]
    grades = [(path, found) for path, found in read if _graded(found)]
    if len(answers) > 1:
        raise BadInput(f"--answers: {answers[0][0]} and {answers[1][0]} both hold answers; give one model's")
    texts = {key: text_of(value, f"{path}: {key}") for path, found in answers for key, value in found.items()}
    verdicts: dict[str, list[Any]] = {}
    replies: dict[str, list[str]] = {}
    judges: dict[str, None] = {}
    for path, found in grades:
        runs = {key: _runs(value, f"{path}: {key}", judges) for key, value in found.items()}
        lengths = {key: len(given) for key, given in runs.items()}
        odd = [key for key in lengths if lengths[key] != next(iter(lengths.values()))]
        if odd:
            raise BadInput(f"{path}: {odd[0]} has {lengths[odd[0]]} grades, others {next(iter(lengths.values()))}")
        if verdicts and set(verdicts) != set(runs):
            other = sorted(set(verdicts) ^ set(runs))
            raise BadInput(f"{path}: not the ids of {grades[0][0]}: {other[0]} is in one of them only")
        for key, given in runs.items():
            verdicts.setdefault(key, []).extend(given)
            replies.setdefault(key, []).extend(_replies(found[key], len(given)))
        if not judges and (named := JUDGE_IN_NAME.search(path.name)):
            judges[named[1]] = None
    known = {sample.id for sample in samples}
    ids = dict.fromkeys([*verdicts, *texts])
    return Submission(
        samples=samples,
        responses={key: (said(texts.get(key, "")),) for key in ids if key in known and (not grades or key in verdicts)},
        verdicts={key: given for key, given in verdicts.items() if key in known},
        replies={key: said for key, said in replies.items() if any(said)},
        judge="+".join(judges),
        unknown=[key for key in ids if key not in known],
    )


def _files(files: AnswerFiles) -> list[Path]:
    """The files of the submission: `name=path` pairs are runs; of a folder, all that can be one."""
    if set(files.paths) != {""}:
        return [path for path in files.paths.values() if path.is_file()]
    path = one_path(files)
    if path.is_file():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix in (".json", ".jsonl") and not p.name.startswith("."))
    grades = [p for p in found if "-grade-" in p.name]
    if not found:
        raise BadInput(f"--answers {path}: no .json or .jsonl file there; expected {FORMAT}")
    if len(grades) > 1:
        _refuse_several(grades)
    return grades or found


def _refuse_several(grades: Sequence[Path]) -> None:
    whole = [path for path in grades if OFFICIAL_NAME.search(path.stem)]
    refuse_several_models(whole, lambda path: OFFICIAL_NAME.sub("", path.stem))
    if len(whole) > 1:
        raise BadInput(
            f"--answers {whole[0].parent}: {whole[0].name} and {whole[1].name} are two evaluations; name one"
        )
    refuse_several_models(grades)


def _content(path: Path) -> dict[str, Any]:
    """Id to answer or grade."""
    rows = llava_rows(path)
    if path.suffix == ".jsonl" or len(rows) != 1 or _numbered(rows[0][1]):
        return by_id(_lines(rows))
    found = unique_object(path)
    if not found:
        raise BadInput(f"{path}: no answers in it; expected {FORMAT}")
    return found


def _numbered(row: Any) -> bool:
    return isinstance(row, dict) and "question_id" in row


def _lines(rows: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any, str]]:
    for where, row in rows:
        if not isinstance(row, dict):
            raise BadInput(f"{where}: expected an object with question_id and text")
        number, text = need(row, ("question_id", "text"), where)
        # LLaVA's question file numbers what the benchmark calls v1_<number>
        yield (str(number) if str(number).startswith("v1_") else f"v1_{number}"), text, where


def _graded(found: dict[str, Any]) -> bool:
    return any(isinstance(value, dict) for value in found.values())


def _runs(value: Any, where: str, judges: dict[str, None]) -> list[float | None]:
    """The grades of one answer; the evaluator writes a failed one as 0 beside the reply that it could not read."""
    if not isinstance(value, dict) or "score" not in value:
        raise BadInput(f"{where}: expected an object with score (and model, content)")
    scores, replies, models = (_list(value.get(name)) for name in ("score", "content", "model"))
    judges.update(dict.fromkeys(str(name) for name in models))
    if not scores:
        raise BadInput(f"{where}: no grade in score")
    return [
        _grade(score, replies[i] if i < len(replies) else None, where) for i, score in enumerate(scores)
    ]  # fmt: skip


def _replies(value: Any, runs: int) -> list[str]:
    """What the grader said in each run; empty where the file does not tell."""
    told = [reply if isinstance(reply, str) else "" for reply in _list(value.get("content"))]
    return [*told, *[""] * runs][:runs]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _grade(score: Any, reply: Any, where: str) -> float | None:
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise BadInput(f"{where}: a grade must be a number from 0 to 1, found {score!r}")
    return None if score == 0 and isinstance(reply, str) and parse(reply) is None else float(score)
