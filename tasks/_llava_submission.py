"""LLaVA-Bench's submissions: a model's answers, or the judge's reviews of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmalign_eval.tasks._llava_judge import CATEGORIES, REVIEWER, parse

from mmalign_eval.data.answers import by_id, one_path, said, text_of
from mmalign_eval.data.files import need
from mmalign_eval.data.logged import llava_rows
from mmalign_eval.data.run_files import refuse_several_models
from mmalign_eval.errors import BadInput
from mmalign_eval.requests import Response
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import Sample

SPLITS = ("wild", "coco")
WILD = "llava_bench_"  # in front of the category in reviews of the questions in the wild
FORMAT = (
    "answers as jsonl (question_id, text; or lmms-eval's logged samples), or LLaVA's reviews as jsonl (question_id, "
    "category, tuple or content); wild=FILE and coco=FILE where the data hold both splits, "
    "several files of reviews are several runs"
)


@dataclass
class _File:
    """One file as read, by question id.

    Attributes:
        path: Where it is.
        split: As the user or the categories say; empty: neither does.
        reviews: (category, verdict, what the judge said) of each question.
        texts: Answer of each question.
    """

    path: Path
    split: str
    reviews: dict[str, tuple[str, Any, str]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def read_submission(samples: Sequence[Sample], files: AnswerFiles, absent: BadInput | None = None) -> Submission:
    """Answers or reviews by sample; without the questions' files (`absent` says why) reviews stand for themselves.

    Raises:
        BadInput: Neither form, both of them, a split that cannot be told, runs that differ in their questions.
    """
    read = [_read(path, split) for split, path in _paths(files)]
    there = list(dict.fromkeys(str(sample.data["split"]) for sample in samples))
    for one in read:
        if not one.split and len(there) > 1:
            raise BadInput(f"{one.path}: which split? Give --answers wild=FILE or coco=FILE")
        one.split = one.split or (there[0] if there else SPLITS[0])
    reviews = [one for one in read if one.reviews]
    if reviews and len(reviews) < len(read):
        raise BadInput(f"--answers: {reviews[0].path} holds reviews, others answers; give one of the two")
    if not reviews:
        return _answers(samples, read, absent)
    return _reviewed(samples, reviews, there)


def _answers(samples: Sequence[Sample], read: Sequence[_File], absent: BadInput | None) -> Submission:
    if absent is not None:
        raise absent
    texts = by_id((f"{one.split}/{key}", text, str(one.path)) for one in read for key, text in one.texts.items())
    asked = {one.split for one in read}
    kept = [sample for sample in samples if sample.data["split"] in asked]
    bare = [sample for sample in kept if not sample.data["reference"]]
    if bare:
        raise BadInput(
            f"llava_bench: {bare[0].id} has no reference to compare its answer with: the data need "
            f"answers_gpt4.jsonl (in the wild) or qa90_gpt4_answer.jsonl (COCO)"
        )
    known = {sample.id for sample in kept}
    found: dict[str, Sequence[Response]] = {key: (said(text),) for key, text in texts.items() if key in known}
    return Submission(kept, found, unknown=[key for key in texts if key not in known])


def _reviewed(samples: Sequence[Sample], reviews: Sequence[_File], there: Sequence[str]) -> Submission:
    verdicts: dict[str, list[Any]] = {}
    replies: dict[str, Sequence[str]] = {}
    categories: dict[str, str] = {}
    notes = []
    for split in dict.fromkeys(one.split for one in reviews):
        runs = [one for one in reviews if one.split == split]
        for one in runs[1:]:
            if other := sorted(set(one.reviews) ^ set(runs[0].reviews)):
                raise BadInput(f"{one.path}: not the questions of {runs[0].path}: {other[0]} is in one of them only")
        for key, (category, *_) in runs[0].reviews.items():
            categories[f"{split}/{key}"] = category
            verdicts[f"{split}/{key}"] = [one.reviews[key][1] for one in runs]
            words = [one.reviews[key][2] for one in runs]
            replies |= {f"{split}/{key}": words} if any(words) else {}
        if split not in there:
            notes.append(f"the data hold no questions of split {split!r}: taken as the reviews have them")
    asked = {one.split for one in reviews}
    kept = [_with(sample, categories) for sample in samples if sample.data["split"] in asked]
    kept += [_made(key, categories[key]) for key in verdicts if key.split("/")[0] not in there]
    known = {sample.id for sample in kept}
    given: dict[str, Sequence[Any]] = {key: value for key, value in verdicts.items() if key in known}
    unknown = [key for key in verdicts if key not in known]
    return Submission(kept, {key: (said(""),) for key in given}, given, replies, unknown=unknown, notes=notes)


def _with(sample: Sample, categories: Mapping[str, str]) -> Sample:
    """The sample in the category of its review, which is the one that the official tool counts it in."""
    category = categories.get(sample.id) or sample.data["category"]
    return replace(sample, data={**sample.data, "category": category})


def _made(key: str, category: str) -> Sample:
    split = key.split("/")[0]
    data = {"question": "", "context": "", "reference": "", "category": category, "split": split}
    return Sample(key, data, part=split)


def _paths(files: AnswerFiles) -> list[tuple[str, Path]]:
    """(split or empty, file): named ones by their name; of a folder, every jsonl file."""
    if set(files.paths) != {""}:
        return [(name if name in SPLITS else "", path) for name, path in files.paths.items()]
    path = one_path(files)
    if path.is_file():
        return [("", path)]
    found = sorted(p for p in path.iterdir() if p.suffix == ".jsonl" and not p.name.startswith("."))
    if not found:
        raise BadInput(f"--answers {path}: no .jsonl file there; expected {FORMAT}")
    refuse_several_models(found)
    return [("", file) for file in found]


def _read(path: Path, split: str) -> _File:
    rows = llava_rows(path)
    if not rows:
        raise BadInput(f"{path}: no answers in it; expected {FORMAT}")
    found = _File(path, split)
    if any(isinstance(row, dict) and _is_review(row) for _, row in rows):
        found.reviews = by_id(_reviews(rows))
        found.split = split or _split_of(path, [str(row.get("category", "")) for _, row in rows])
    else:
        found.texts = by_id(_texts(rows))
    return found


def _is_review(row: Mapping[str, Any]) -> bool:
    return "tuple" in row or "content" in row or ("score" in row and "text" not in row)


def _split_of(path: Path, categories: Sequence[str]) -> str:
    """The split that the categories belong to; empty without categories."""
    wild = {category.startswith(WILD) for category in categories if category}
    if len(wild) > 1:
        raise BadInput(f"{path}: categories of both splits ({WILD}conv and conv); give the reviews of each by itself")
    return {True: "wild", False: "coco"}[wild.pop()] if wild else ""


def _texts(rows: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for where, row in rows:
        number, text = need(_object(row, where), ("question_id", "text"), where)
        yield str(number), text_of(text, where), where


def _reviews(rows: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, tuple[str, Any, str], str]]:
    for where, row in rows:
        (number,) = need(_object(row, where), ("question_id",), where)
        category = str(row.get("category", "")).removeprefix(WILD)
        if category and category not in CATEGORIES:
            raise BadInput(f"{where}: category {category!r} is none of {', '.join(CATEGORIES)}")
        content = row.get("content")
        yield str(number), (category, _verdict(row, where), content if isinstance(content, str) else ""), where


def _verdict(row: Mapping[str, Any], where: str) -> list[float] | None:
    """The scores that a review holds, or those in its text; None for a failed one."""
    pair = row.get("tuple", row.get("score"))
    if pair is None:
        (content,) = need(dict(row), ("content",), where)
        return parse(text_of(content, where))
    fine = isinstance(pair, list) and len(pair) == 2
    if not fine or not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in pair):
        raise BadInput(f"{where}: expected two scores, found {pair!r}")
    scores = [float(value) for value in pair]
    return None if scores == REVIEWER.failed else scores


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise BadInput(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row
