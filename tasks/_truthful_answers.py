"""Answers to TruthfulQA that were made elsewhere: a table with a column of them, JSON, choices, log-likelihoods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign_eval.tasks._truthful_files import CSV_COLUMNS, REFRESH_COLUMN

from mmalign_eval.data.answers import (
    CHOICE_FIELDS,
    ID_FIELDS,
    LIST_FIELDS,
    TEXT_FIELDS,
    choosing,
    chosen,
    loglikelihoods,
    part_paths,
    read_rows,
    said,
    text_of,
    unique_object,
)  # fmt: skip
from mmalign_eval.data.files import read_csv
from mmalign_eval.data.rows import whole_object
from mmalign_eval.errors import BadInput, did_you_mean
from mmalign_eval.requests import Response
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import Sample

NAMES = ("gen", "mc", "mc1", "mc2")  # what files may be named after; mc is mc1, mc2 or both
OWN_COLUMNS = {*CSV_COLUMNS, REFRESH_COLUMN, "Examples: True", "Examples: False", "Unnamed: 0", "", "id", "index"}
# what the authors' script adds to a model's column of answers, each after the model's name and a blank
METRICS = ("bleu", "rouge1", "rouge2", "rougeL", "BLEURT", "GPT-", "lprob", "MC1", "MC2", "MC3")
LOGPROBS = {"mc1": "mc1_logprobs", "mc2": "mc2_logprobs"}
FORMAT = (
    "gen: csv with a column of answers, or json {question or row: answer}, or a list in order; mc: json {row: choice}, "
    "or jsonl in mc_task.json's order: {mc1_logprobs, mc2_logprobs} or one list of log-likelihoods a line (or one "
    "object with all lists under each name); NAME=PATH for both (gen, mc)"
)
Entry = tuple[str, Any, str]  # id or question (empty: by order), what is said, where


def read_submission(files: AnswerFiles, samples: Sequence[Sample]) -> Submission:
    """Everything that the files answer; parts that they do not mention are not asked for.

    Raises:
        BadInput: Not in the format; names file and line.
    """
    reader = _Reader(samples)
    for name, path in part_paths(files, NAMES).items():
        if path.suffix == ".csv":
            reader.generations(_column(path, files.options.get("column", "")))
            continue
        entries = list(_entries(path))
        if name == "gen" or (not name and not (entries and all(map(_is_choice, entries)))):
            reader.generations((key, _text(value, where), where) for key, value, where in entries)
        else:
            reader.choices([(key, _value(value, where), where) for key, value, where in entries], name or _hint(path))
    kept = [sample for sample in samples if sample.part in reader.parts]
    return Submission(kept, reader.responses, unknown=reader.unknown, notes=reader.notes)


class _Reader:
    """Puts entries to samples."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self.responses: dict[str, Sequence[Response]] = {}
        self.unknown: list[str] = []
        self.notes: list[str] = []
        self.parts: set[str] = set()

    def generations(self, entries: Any) -> None:
        """Answer texts."""
        empty = 0
        for sample, text, _ in self._placed("gen", entries):
            self.responses[sample.id] = (said(text),)
            empty += not text
        if empty:
            self.notes.append(f"{empty} answers are empty: they score 0 (the official protocol leaves them out)")

    def choices(self, entries: Sequence[Entry], name: str) -> None:
        """Choices and log-likelihoods, for the parts that they can be for."""
        for part in _parts_of(entries, name, self._fits):
            stated = [(k, v[LOGPROBS[part]] if _named_lists(v) else v, w) for k, v, w in entries
                      if not _named_lists(v) or LOGPROBS[part] in v]  # fmt: skip
            if self._follows_table(part, stated):
                stated = [(sample.id, v, w) for sample, (_, v, w) in zip(self._own(part), stated, strict=True)]
                self.notes.append(f"{part}: the lists are in the order of TruthfulQA.csv, by their sizes")
            for sample, value, where in self._placed(part, stated):
                self.responses[sample.id] = (_choice(value, sample, where),)

    def _follows_table(self, part: str, entries: Sequence[Entry]) -> bool:
        """Whether lists without ids have as many entries as options in the table's order, and not in the choices'."""
        sizes = [len(value) if isinstance(value, list) and not key else 0 for key, value, _ in entries]
        return sizes != self._options(part) and sizes == [len(_options(sample)) for sample in self._own(part)]

    def _options(self, part: str) -> list[int]:
        """How many options each question has, in the order of the file of choices."""
        return [len(_options(sample)) for sample in self._in_order(part)]

    def _fits(self, part: str, entries: Sequence[Entry]) -> bool:
        """Whether lists are as long as the part has options, in order or by id."""
        order, named = self._in_order(part), self._named(part)
        owners = [named.get(key.strip()) if key else order[row] if row < len(order) else None
                  for row, (key, _, _) in enumerate(entries)]  # fmt: skip
        sizes = [(s, len(value)) for s, (_, value, _) in zip(owners, entries, strict=True)]
        return all(s is None or len(_options(s)) == size for s, size in sizes) or self._follows_table(part, entries)

    def _own(self, part: str) -> list[Sample]:
        return [sample for sample in self._samples if sample.part == part]

    def _in_order(self, part: str) -> list[Sample]:
        own = self._own(part)
        return own if part == "gen" else sorted(own, key=lambda sample: int(sample.data["doc"]["number"]))

    def _named(self, part: str) -> dict[str, Sample]:
        """Samples by row, by question and by id."""
        order = self._in_order(part)
        named = {str(row): sample for row, sample in enumerate(order)}
        named |= {sample.data["doc"]["question"].strip(): sample for sample in order}
        return named | {sample.id: sample for sample in order}

    def _placed(self, part: str, entries: Any) -> Iterator[tuple[Sample, Any, str]]:
        """Entries with their samples: by question, by sample id, by row, else by order."""
        order = self._in_order(part)
        if not order:
            needed = "TruthfulQA.csv" if part == "gen" else "mc_task.json"
            raise BadInput(f"--answers: answers for {part}, but --data holds no {needed}")
        self.parts.add(part)
        named = self._named(part)
        for row, (key, value, where) in enumerate(entries):
            if not key and row >= len(order):
                raise BadInput(f"{where}: more answers than the data have questions ({len(order)})")
            sample = named.get(key.strip()) if key else order[row]
            if sample is None:
                self.unknown.append(key)
            elif sample.id in self.responses:
                raise BadInput(f"{where}: {key or row!r} is answered twice")
            else:
                yield sample, value, where


def _column(path: Path, named: str) -> Iterator[Entry]:
    """A column of answers with the questions beside it, or in the order of the table."""
    rows = list(read_csv(path))
    columns = list(rows[0][1]) if rows else []
    others = [column for column in columns if column not in OWN_COLUMNS]
    others = [c for c in others if not any(c.startswith(f"{o} {m}") for o in others for m in METRICS)]
    if named and named not in columns:
        raise BadInput(f"{path}:1: no column {named!r}{did_you_mean(named, columns)}; found {', '.join(columns)}")
    if not named and len(others) != 1:
        found = f"may be any of {', '.join(others)}" if others else f"is none of {', '.join(columns)}"
        raise BadInput(f"{path}:1: the column of answers {found}: say --column NAME")
    for line, row in rows:
        yield row.get("Question", ""), row[named or others[0]], f"{path}:{line}"


def _entries(path: Path) -> Iterator[Entry]:
    rows = read_rows(path)
    if len(rows) == 1 and _named_lists(rows[0][1]) and (lists := _columns(rows[0][1])):
        for number in range(max(map(len, lists.values()))):
            taken = {name: values[number] for name, values in lists.items() if number < len(values)}
            yield "", taken, f"{path}: [{number}]"
        return
    if whole_object(path, rows):
        yield from ((key, value, f"{path}: {key!r}") for key, value in unique_object(path).items())
        return
    for where, row in rows:
        yield _key(row) if isinstance(row, dict) else "", row, where


def _key(row: Mapping[str, Any]) -> str:
    """The question of lm-eval's own samples file, or an id, or a question."""
    doc = row.get("doc")
    if isinstance(doc, dict) and isinstance(doc.get("question"), str):
        return str(doc["question"])
    return next((str(row[name]) for name in (*ID_FIELDS, "question", "Question") if name in row), "")


def _columns(row: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The lists of all questions under each name, if that is what one object holds."""
    found = {name: row[name] for name in LOGPROBS.values() if name in row}
    whole = all(isinstance(v, list) and v and all(isinstance(one, list) for one in v) for v in found.values())
    return found if whole else {}


def _hint(path: Path) -> str:
    """The part of multiple choice that a file is named after."""
    found = [part for part in LOGPROBS if part in path.stem]
    return found[0] if len(found) == 1 else ""


def _value(value: Any, where: str) -> Any:
    """The choice or the list that an object holds, named lists as they are."""
    return _said_in(value, where) if isinstance(value, dict) and not _named_lists(value) else value


def _is_choice(entry: Entry) -> bool:
    """Whether an entry says which option, and not an answer in words."""
    value = entry[1]
    if isinstance(value, dict) and isinstance(value.get("filtered_resps"), list):
        return not isinstance(value["filtered_resps"][0], str)
    if isinstance(value, dict):
        stated = [("", value[name], "") for name in CHOICE_FIELDS if name in value]
        return _named_lists(value) or any(map(_is_choice, stated))
    return isinstance(value, int | list) or (isinstance(value, str) and len(value) == 1 and value.isalpha())


def _named_lists(value: Any) -> bool:
    return isinstance(value, Mapping) and any(name in value for name in LOGPROBS.values())


def _parts_of(entries: Sequence[Entry], name: str, fits: Callable[[str, Sequence[Entry]], bool]) -> list[str]:
    """The parts that entries answer: what they are named after, or what they hold."""
    named = [part for part in LOGPROBS if any(_named_lists(v) and LOGPROBS[part] in v for _, v, _ in entries)]
    if named:
        return [part for part in named if name in ("", "mc", part)] or named
    if name in LOGPROBS:
        return [name]
    if not entries or not all(isinstance(value, list) for _, value, _ in entries):
        return ["mc1"]
    fitting = [part for part in LOGPROBS if fits(part, entries)]
    if not fitting and any(key for key, _, _ in entries):
        return ["mc1"]
    if not fitting:
        raise BadInput(f"{entries[0][2]}: the lists have the sizes of neither mc1's nor mc2's options")
    return fitting[:1]


def _options(sample: Sample) -> Sequence[str]:
    return sample.data["doc"][f"{sample.part}_targets"]["choices"]


def _choice(value: Any, sample: Sample, where: str) -> Response:
    """A choice or log-likelihoods in the file's order of options, as a response in the sample's order."""
    options, doc = _options(sample), sample.data["doc"]
    order = list(doc["mc1_order"]) if sample.part == "mc1" else list(range(len(options)))
    if isinstance(value, list):
        given = loglikelihoods(value, len(options), where).logprobs
        if not any(map(math.isfinite, given)) or math.inf in given:
            raise BadInput(f"{where}: no option has a finite log-likelihood")
        return Response("ok", logprobs=tuple(given[place] for place in order))
    if sample.part == "mc2":
        raise BadInput(f"{where}: mc2 needs the log-likelihoods of all options, not a choice")
    native = [options[order.index(place)] for place in range(len(options))]
    return choosing(order.index(chosen(value, native, where)), len(options))


def _said_in(row: Mapping[str, Any], where: str) -> Any:
    if "filtered_resps" in row:  # lm-eval's own samples file: a (log-likelihood, is greedy) pair an option
        try:
            return [float(pair[0]) for pair in row["filtered_resps"]]
        except (TypeError, ValueError, IndexError) as error:
            raise BadInput(f"{where}: filtered_resps holds no log-likelihoods") from error
    listed = (name for name in LIST_FIELDS if isinstance(row.get(name), list))
    name = next(listed, None) or next((name for name in CHOICE_FIELDS if name in row), None)
    if name is None:
        raise BadInput(f"{where}: none of {', '.join((*LOGPROBS.values(), *CHOICE_FIELDS))} in the entry")
    return row[name]


def _text(value: Any, where: str) -> str:
    """An answer in words, or the field of an object that holds it."""
    if isinstance(value, dict):
        if isinstance(value.get("filtered_resps"), list) and value["filtered_resps"]:
            return text_of(value["filtered_resps"][0], where)
        name = next((name for name in TEXT_FIELDS if name in value), None)
        if name is None:
            raise BadInput(f"{where}: none of {', '.join(TEXT_FIELDS)} among the fields {', '.join(map(str, value))}")
        value = value[name]
    return text_of(value, where)
