"""Reading submissions: which file belongs to which part, ids that match the benchmark's, choices in the forms around.

Each task says what its own submission format is; what several of them need stands here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput, did_you_mean
from ..requests import Response
from ..roles import AnswerFiles
from .rows import by_id as by_id
from .rows import read_rows as read_rows
from .rows import unique_object as unique_object
from .rows import whole_object

if TYPE_CHECKING:
    from ..task import Sample

SUFFIXES = (".jsonl", ".json", ".txt", ".csv")
ID_FIELDS = ("id", "question_id", "doc_id", "idx")
# in this order: a row that repeats the data's own fields has the right answer under `answer` or `label`
TEXT_FIELDS = (
    "response", "prediction", "completion", "text", "output", "generation", "generated_text", "answer", "solution"
)  # fmt: skip
QUESTION_FIELDS = ("question", "Problem")
LIST_FIELDS = ("loglikelihoods", "logprobs")
CHOICE_FIELDS = ("choice", "prediction", "pred", *LIST_FIELDS, "answer", "label")
TRUTH = {"true": "yes", "false": "no", "yes": "true", "no": "false"}  # what options of two may be called instead


def one_path(files: AnswerFiles) -> Path:
    """The single file or folder of a submission that has one part.

    Raises:
        BadInput: Several were given, or it does not exist.
    """
    if len(files.paths) != 1:
        raise BadInput(f"--answers: expected one file or folder, found {len(files.paths)}")
    return _there(next(iter(files.paths.values())))


def part_paths(files: AnswerFiles, parts: Sequence[str]) -> dict[str, Path]:
    """Part to file, for a task of several parts: `name=path` pairs, or a folder whose file names hold the part names.

    A part that has no file is left out; a single file for a task of several parts is under the empty name.

    Raises:
        BadInput: A name that is no part, a missing file, a folder in which no file name is that of a part.
    """
    if set(files.paths) != {""}:
        for name in files.paths:
            if name not in parts:
                raise BadInput(f"--answers {name}=: no part {name!r}{did_you_mean(name, parts)}; parts: {_some(parts)}")
        return {name: _there(path) for name, path in files.paths.items()}
    path = one_path(files)
    if path.is_file():
        return {"": path}
    candidates = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))
    found = {part: file for part in parts if (file := _named(part, candidates, parts))}
    if not found:
        raise BadInput(f"--answers {path}: no file there is named after a part; parts: {_some(parts)}")
    return found


def text_of(value: Any, where: str) -> str:
    """An answer text.

    Raises:
        BadInput: Something else than text.
    """
    if not isinstance(value, str):
        raise BadInput(f"{where}: expected the answer as text, found {type(value).__name__}")
    return value


def said(text: str) -> Response:
    """An answer text as a response."""
    return Response("ok", text=text, finish="stop")


def chosen(choice: Any, options: Sequence[str], where: str, letters: str = "ABCDEFGHIJ") -> int:
    """The number of the chosen option: given as its number, its letter or its text, whatever their case.

    True and false are the same as yes and no, whichever of the two the options are.

    Raises:
        BadInput: None of these.
    """
    if isinstance(choice, bool):
        choice = int(choice)
    if isinstance(choice, float) and choice.is_integer():  # as tables with gaps make of whole numbers
        choice = int(choice)
    if isinstance(choice, int) and 0 <= choice < len(options):
        return choice
    if isinstance(choice, str):
        text = choice.strip()
        plain = [option.strip() for option in options]
        if text in plain:
            return plain.index(text)
        folded = [option.casefold() for option in plain]
        word = text.casefold() if len(text) > 1 else ""  # a letter alone is a letter, not an option's text
        meant = [name for name in (word, TRUTH.get(word, "")) if name and folded.count(name) == 1]
        if meant:
            return folded.index(meant[0])
        if len(text) == 1 and text.upper() in letters[: len(options)]:
            return letters.index(text.upper())
        if text.isdecimal() and int(text) < len(options):
            return int(text)
    raise BadInput(f"{where}: {choice!r} is none of the {len(options)} options ({_some(options)}), by number or letter")


def choosing(number: int, options: int) -> Response:
    """The response of a model that finds option `number` likeliest and every other impossible."""
    return Response("ok", logprobs=tuple(0.0 if i == number else -math.inf for i in range(options)))


def loglikelihoods(values: Any, options: int, where: str) -> Response:
    """Log-likelihoods of all options as a response.

    Raises:
        BadInput: Not a list of as many numbers.
    """
    if not isinstance(values, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise BadInput(f"{where}: expected a list of log-likelihoods, one an option")
    if len(values) != options:
        raise BadInput(f"{where}: {len(values)} log-likelihoods for {options} options")
    if any(math.isnan(v) for v in values):
        raise BadInput(f"{where}: a log-likelihood is not a number")
    return Response("ok", logprobs=tuple(map(float, values)))


def choices(
    path: Path,
    samples: Sequence[Sample],
    options: Callable[[Sample], Sequence[str]],
    scored: Callable[[Sample], int] | None = None,
    part_of: Callable[[str], str] = str,
    ordered: bool = True,
    question: Callable[[Sample], str] | None = None,
) -> tuple[dict[str, Response], list[str]]:
    """A file of choices: an object of id to choice, or an entry a sample in the data's order.

    An object may also hold a part's name to its choices, as a list in order or by row number.

    An entry is a choice (`chosen`), a list of all options' log-likelihoods, or an object that holds one of them
    under `choice`, `answer`, `prediction` or `logprobs` (with an `id`, it need not be in order), or a line of lm-eval's
    own samples file. An id is the sample's, or what stands behind its last `/` where one sample
    alone has that.

    Args:
        path: The file.
        samples: All samples, in the data's order.
        options: A sample's options.
        scored: How many of them have log-likelihoods, where a damaged row has others than a choice can name.
        part_of: The part that a name in the file means.
        ordered: Whether entries without ids may follow the data's order; not where these are of several files.
        question: A sample's question, by which entries that repeat it without an id are placed.

    Returns:
        Sample id to response, and the ids that are no sample's.

    Raises:
        BadInput: None of these forms, an id given twice, more entries than samples; names file and line.
    """
    named = _by_name(samples)
    found: dict[str, Response] = {}
    unknown: list[str] = []
    asked = [question(sample).strip() for sample in samples] if question else []
    entries = _keyed(path, [sample.id for sample in samples], asked, ordered=ordered, ids_first=True)
    for key, value, where in _of_parts(entries, samples, named, part_of):
        if key not in named:
            unknown.append(key)
        elif named[key].id in found:
            raise BadInput(f"{where}: id {key!r} occurs twice in the answers")
        else:
            sample = named[key]
            given = _said_in(value, where)
            if isinstance(given, list):
                found[sample.id] = loglikelihoods(given, (scored or (lambda s: len(options(s))))(sample), where)
            else:
                among = options(sample)
                found[sample.id] = choosing(chosen(given, among, where), len(among))
    return found, unknown


def keyed_texts(
    path: Path, samples: Sequence[Sample], questions: Sequence[str], column: str = ""
) -> tuple[dict[str, str], list[str]]:
    """A file of answer texts: an object of id to text, or an entry a sample with its question, its id or in order.

    An entry is a text, an object that holds one under `column` (or one of `TEXT_FIELDS`, the first there is; an object
    there holds it under `solution`), or a line of lm-eval's own samples file.

    Args:
        path: The file.
        samples: All samples, in the data's order.
        questions: Their questions, for entries with a `question`.
        column: Field that holds the text; empty: the first of `TEXT_FIELDS`.

    Returns:
        Sample id to text, and the ids or questions that are no sample's.

    Raises:
        BadInput: None of these forms, an answer given twice, more entries than samples; names file and line.
    """
    ids = [sample.id for sample in samples]
    known, found, unknown = _by_name(samples), dict[str, str](), list[str]()
    for key, value, where in _keyed(path, ids, [question.strip() for question in questions]):
        text = _text_in(value, column, where)
        if key not in known:
            unknown.append(key)
        elif (name := known[key].id) not in found:
            found[name] = text
        elif not (isinstance(value, dict) and "resps" in value and found[name] == text):  # lm-eval: a line a filter
            raise BadInput(f"{where}: {key!r} is answered twice")
    return found, unknown


def _text_in(value: Any, column: str, where: str) -> str:
    """The answer text that an entry holds."""
    if not isinstance(value, dict):
        return text_of(value, where)
    if "resps" in value and not column:
        while isinstance(value := value.get("resps", value) if isinstance(value, dict) else value, list) and value:
            value = value[0]
        return text_of(value, where)
    name = column or next((name for name in TEXT_FIELDS if name in value), "")
    if name not in value:
        wanted = f"no field {column!r}" if column else f"none of {', '.join(TEXT_FIELDS)}"
        raise BadInput(f"{where}: {wanted} among {', '.join(map(str, value))}; --column names the one with the answer")
    inner = value[name]
    return text_of(inner.get("solution") if isinstance(inner, dict) else inner, f"{where}: {name}")


def _by_name(samples: Sequence[Sample]) -> dict[str, Sample]:
    """Samples by id, and by what stands behind its last `/` where one alone has that."""
    tails = Counter(sample.id.rpartition("/")[2] for sample in samples)
    short = {tail: sample for sample in samples if tails[tail := sample.id.rpartition("/")[2]] == 1}
    return short | {sample.id: sample for sample in samples}


def _of_parts(
    entries: Iterable[tuple[str, Any, str]],
    samples: Sequence[Sample],
    ids: Collection[str],
    part_of: Callable[[str], str],
) -> Iterator[tuple[str, Any, str]]:
    """Entries, those that hold a part's choices taken apart."""
    parts: dict[str, list[str]] = {}
    for sample in samples:
        parts.setdefault(sample.part, []).append(sample.id)
    for key, value, where in entries:
        own = parts.get(part_of(key)) if key not in ids else None
        if own and isinstance(value, dict):
            inside = {name.rpartition("/")[2]: name for name in own}
            yield from ((inside.get(str(n), str(n)), choice, f"{where}: {n!r}") for n, choice in value.items())
        elif own and isinstance(value, list):
            if len(value) > len(own):
                raise BadInput(f"{where}: {len(value)} answers, but the data have {len(own)} samples")
            yield from ((name, choice, f"{where}: {name!r}") for name, choice in zip(own, value, strict=False))
        else:
            yield key, value, where


def _keyed(
    path: Path, ids: Sequence[str], questions: Sequence[str] = (), *, ordered: bool = True, ids_first: bool = False
) -> Iterator[tuple[str, Any, str]]:
    """(id, entry, where) of every entry of a file; an entry with an unknown question has it for an id."""
    rows = read_rows(path)
    if whole_object(path, rows):
        for key, value in unique_object(path).items():
            yield key, value, f"{path}: {key!r}"
        return
    asked = dict(zip(questions, ids, strict=bool(questions)))
    for number, (where, row) in enumerate(rows):
        key = next((str(row[name]) for name in ID_FIELDS if name in row), "") if isinstance(row, dict) else ""
        stated = next((row[n] for n in QUESTION_FIELDS if n in row), None) if isinstance(row, dict) else None
        if questions and isinstance(stated, str) and not (ids_first and key):
            question = stated.strip()
            in_order = number < len(ids) and questions[number] == question  # a question may stand there twice
            key = ids[number] if in_order else asked.get(question, "" if ids_first else question)
        if not key and not ordered:
            raise BadInput(f"{where}: answers in order, but to which part? Say NAME=PATH, or give ids like {ids[0]!r}")
        if not key and number >= len(ids):
            raise BadInput(f"{where}: more answers than the data have samples ({len(ids)})")
        yield key or ids[number], row, where


def _said_in(row: Any, where: str) -> Any:
    """The choice or the log-likelihoods that an entry holds."""
    if not isinstance(row, dict):
        return row
    if "filtered_resps" in row:  # lm-eval: a (log-likelihood, is greedy) pair an option, numbers as text
        try:
            return [float(pair[0]) for pair in row["filtered_resps"]]
        except (TypeError, ValueError, IndexError) as error:
            raise BadInput(f"{where}: filtered_resps holds no log-likelihoods") from error
    listed = (name for name in LIST_FIELDS if isinstance(row.get(name), list))  # say more than a choice
    name = next(listed, None) or next((name for name in CHOICE_FIELDS if name in row), None)
    if name is None:
        raise BadInput(f"{where}: none of {', '.join(CHOICE_FIELDS)} among the fields {', '.join(map(str, row))}")
    return row[name]


def _named(part: str, candidates: Sequence[Path], parts: Sequence[str]) -> Path | None:
    """The file of a part: named exactly so, or the one whose name holds it and no longer part's name."""
    exact = [p for p in candidates if p.stem == part]
    longer = [other for other in parts if part in other and other != part]
    holding = [p for p in candidates if part in p.stem and not any(other in p.stem for other in longer)]
    if not exact and len(holding) > 1:
        raise BadInput(f"--answers: {holding[0].name} and {holding[1].name} are both named after {part}")
    return next(iter(exact or holding), None)


def _there(path: Path) -> Path:
    if not path.exists():
        raise BadInput(f"--answers {path}: no such file or folder")
    return path


def _some(names: Sequence[str] | Mapping[str, Any], most: int = 12) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
