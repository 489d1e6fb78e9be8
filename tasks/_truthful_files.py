"""TruthfulQA's files: the table of questions and answers, the file of choices, or the hub's two configurations."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmalign_eval.data.files import Folder, read_csv, read_json
from mmalign_eval.data.source import HubRows, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.task import Sample

log = logging.getLogger(__name__)
SPLIT = "validation"
CSV_COLUMNS = ("Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source")
REFRESH_ROWS, REFRESH_COLUMN = 790, "Best Incorrect Answer"  # the January 2025 edition; the paper's has 817 rows
QUESTIONS = ("question", "best_answer", "correct_answers", "incorrect_answers")
CHOICES = ("question", "mc1_targets", "mc2_targets")
TABLE = "TruthfulQA.csv"
CHOICE_FILES = ("mc_task.json", "data/mc_task.json")


class TruthfulFiles(TaskData):
    """`TruthfulQA.csv` with `mc_task.json`, or the hub's configurations `generation` and `multiple_choice`."""

    folder = "truthfulqa"
    layout = "TruthfulQA.csv and mc_task.json, or the hub's parquet folders generation/ and multiple_choice/"
    get = "https://github.com/sylinrl/TruthfulQA (TruthfulQA.csv, data/mc_task.json)"
    hub = HubRows(
        ids=("truthfulqa/truthful_qa", "truthful_qa"),
        split=SPLIT,
        config=("generation", "multiple_choice"),
        columns={"generation": (*QUESTIONS, "type", "category"), "multiple_choice": CHOICES},
    )

    def native(self, folder: Folder) -> Iterable[Sample]:
        """The authors' two files; one of them will do where answers are only scored."""
        table, choices = _given(folder) if folder.given else (folder.maybe(TABLE), folder.maybe(*CHOICE_FILES))
        if folder.need_images or not (table or choices):
            table, choices = folder.find(TABLE), folder.find(*CHOICE_FILES)
        if table is None or choices is None:
            return _one_sided(table, choices)
        return _samples(list(_read_table(table)), list(_read_choices(choices)), str(table))

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterable[Sample]:
        """The hub's two configurations."""
        questions: list[dict[str, Any]] = []
        choices: list[dict[str, Any]] = []
        for row in rows:
            if row["_config"] == "generation":
                questions.append({name: row[name] for name in (*QUESTIONS, "type", "category")})
            else:
                numbered = len(choices)
                targets = {n: dict(zip(row[n]["choices"], row[n]["labels"], strict=True)) for n in CHOICES[1:]}
                choices.append(_choice(row["question"], targets, numbered, f"multiple_choice row {numbered + 1}"))
        return _samples(questions, choices, "generation")


def _given(folder: Folder) -> tuple[Path | None, Path | None]:
    """The single file that was named, as the table or as the choices."""
    return (folder.given, None) if folder.given and folder.given.suffix == ".csv" else (None, folder.given)


def _read_table(path: Path) -> Iterator[dict[str, Any]]:
    for line, row in read_csv(path, CSV_COLUMNS):
        doc = {
            "type": row["Type"],
            "category": row["Category"],
            "question": row["Question"],
            "best_answer": row["Best Answer"],
            "correct_answers": _split(row["Correct Answers"]),
            "incorrect_answers": _split(row["Incorrect Answers"]),
        }
        if REFRESH_COLUMN in row:
            doc["best_incorrect_answer"] = row[REFRESH_COLUMN]
        if not doc["incorrect_answers"]:
            raise BadInput(f"{path}:{line}: no incorrect answers; each answer list is separated by ';'")
        yield doc


def _split(cell: str) -> list[str]:
    return [answer.strip() for answer in cell.split(";") if answer.strip()]


def _read_choices(path: Path) -> Iterator[dict[str, Any]]:
    items = read_json(path)
    if not isinstance(items, list):
        raise BadInput(f"{path}: expected a list of questions, found {type(items).__name__}")
    for number, item in enumerate(items, start=1):
        where = f"{path}: item {number}"
        missing = [name for name in CHOICES if not isinstance(item, dict) or name not in item]
        if missing:
            raise BadInput(f"{where}: field {missing[0]!r} is missing; each item has {', '.join(CHOICES)}")
        yield _choice(item["question"], {name: item[name] for name in CHOICES[1:]}, number - 1, where)


def _choice(question: str, targets: Mapping[str, Mapping[str, int]], number: int, where: str) -> dict[str, Any]:
    """A multiple-choice document as the hub has it, the right answer of mc1 first: lm-eval takes the first as right.

    Answers made elsewhere follow the file: `number` is the question's row in it, `mc1_order` the place there of each
    mc1 option.
    """
    doc: dict[str, Any] = {"question": question, "number": number}
    for name, answers in targets.items():
        labels = list(answers.values()) if isinstance(answers, dict) else []
        if not labels or set(labels) - {0, 1} or 1 not in labels:
            raise BadInput(f"{where}: {name} must map answers to 0 or 1, at least one of them 1")
        if name == "mc1_targets" and sum(labels) != 1:
            raise BadInput(f"{where}: mc1_targets has {sum(labels)} right answers, expected one")
        ordered = sorted(answers.items(), key=lambda item: -item[1]) if name == "mc1_targets" else answers.items()
        if name == "mc1_targets":
            doc["mc1_order"] = [list(answers).index(answer) for answer, _ in ordered]
        doc[name] = {"choices": [a for a, _ in ordered], "labels": [label for _, label in ordered]}
    return doc


def _samples(questions: list[dict[str, Any]], choices: list[dict[str, Any]], where: str) -> Iterator[Sample]:
    """Three samples a question; `gen/12`, `mc1/12` and `mc2/12` are row 12 of the question table.

    The choice file has another order than the table; a choice question that is not in the table counts on after it.
    """
    if not questions or not choices:
        return
    if len(questions) == REFRESH_ROWS or "best_incorrect_answer" in questions[0]:
        log.warning("%s is the 2025 edition of TruthfulQA: its scores do not compare with those on the original 817 "
                    "questions", Path(where).name)  # fmt: skip
    rows = {q["question"].strip(): number for number, q in reversed(list(enumerate(questions)))}
    numbers: list[int] = []
    for item in choices:
        numbers.append(rows.pop(item["question"].strip(), len(questions) + len(numbers)))
    strangers = sum(number >= len(questions) for number in numbers)
    if strangers or rows:
        log.warning("%s: %d of its questions have no choices, %d choice questions are not in it; are the two files of "
                    "one edition?", Path(where).name, len(rows), strangers)  # fmt: skip
    for number, doc in enumerate(questions):
        yield _sample("gen", number, doc)
    for part in ("mc1", "mc2"):
        for number, doc in sorted(zip(numbers, choices, strict=True), key=lambda pair: pair[0]):
            yield _sample(part, number, doc)


def _one_sided(table: Path | None, choices: Path | None) -> Iterator[Sample]:
    """Samples of one of the two files, numbered by its rows."""
    for number, doc in enumerate(_read_table(table) if table else ()):
        yield _sample("gen", number, doc)
    for part in ("mc1", "mc2"):
        for number, doc in enumerate(_read_choices(choices) if choices else ()):
            yield _sample(part, number, doc)


def _sample(part: str, number: int, doc: dict[str, Any]) -> Sample:
    question = hashlib.sha256(doc["question"].strip().encode()).hexdigest()[:16]
    return Sample(f"{part}/{number}", {"split": SPLIT, "doc": doc}, cluster=question, part=part)
