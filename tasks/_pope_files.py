"""POPE's files: question files of either edition, and answers made elsewhere matched to them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mmalign_eval.tasks import _pope_builder
from mmalign_eval.tasks._pope_builder import SPLITS

from mmalign_eval.data.answers import by_id, text_of
from mmalign_eval.data.files import Folder, need, read_jsonl
from mmalign_eval.data.logged import llava_rows
from mmalign_eval.data.source import HubRows, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.requests import ImageRef
from mmalign_eval.task import Sample

# LLaVA's llava_pope_test.jsonl holds all splits in one file: question_id = offset + number within the split.
# Fields of an answer, first come: a `text` beside another is the question, an `answer` beside a response the label.
ANSWERS = ("response", "prediction", "answer", "text")
LLAVA_OFFSET, LLAVA_ORDER = 10_000_000, ("adversarial", "random", "popular")


class PopeFiles(TaskData):
    """The released question files, files built in their format, or the hub's rows."""

    folder = "pope"
    layout = "coco_pope_{random,popular,adversarial}.json (any of them) and the COCO val2014 images in val2014/"
    get = "github.com/RUCAIBox/POPE (output/coco) and images.cocodataset.org/zips/val2014.zip"
    hub = HubRows(
        ids=("lmms-lab-encoder/POPE", "lmms-lab/POPE"),
        split="test",
        columns=("question_id", "question", "answer", "image_source", "category"),
        image="image",
    )

    def build(self, annotations: Path, out: Path, *, images: int, seed: int) -> list[Path]:
        """The three question files for other images, by the authors' rules."""
        return _pope_builder.build(annotations, out, images=images, seed=seed)

    def native(self, folder: Folder) -> Iterator[Sample]:
        """Questions of the files that are there, in the order random, popular, adversarial."""
        return self.questions(folder)

    def questions(self, folder: Folder, split_of_given: str = "") -> Iterator[Sample]:
        """Like `native`; a single file whose name says no split is taken to be `split_of_given`.

        Raises:
            BadInput: No file, one in another layout, or a single one whose split nothing says.
        """
        if folder.given:
            split = split_in(folder.given) or split_of_given
            if not split:
                raise BadInput(f"{folder.given}: the name does not say which split it is; expected {self.layout}")
            files = {split: folder.given}
        else:
            files = {split: file for split in SPLITS if (file := _file(folder, split))}
        if not files:
            folder.find("coco_pope_random.json")
        rows = [(split, *row) for split, file in files.items() for row in _questions(split, file)]
        images = folder.images([(name, where) for *_, name, where in rows])
        for split, number, question, label, edition, name, where in rows:
            yield _sample(split, number, question, label, name, images[name], edition, where)

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """The hub's rows; its configuration `Full` has the same columns. An image is repeated in each of its rows."""
        images: dict[str, ImageRef] = {}
        for index, row in enumerate(rows):
            if (split := row["category"]) not in SPLITS:
                raise BadInput(f"pope: row {index}: category {split!r} is none of {', '.join(SPLITS)}")
            label = _label(row["answer"], f"pope: row {index}")
            name = row["image_source"]
            image = images.setdefault(name, row["image"])
            yield _sample(split, row["question_id"], row["question"], label, name, image)


def split_in(path: Path) -> str:
    """The one split that a file's name holds, or nothing."""
    held = [split for split in SPLITS if split in path.stem.lower()]
    return held[0] if len(held) == 1 else ""


class Given(NamedTuple):
    """An answer of a submission: its text, and what else its line says (empty where it does not)."""

    where: str
    answer: str
    question: str
    number: str
    category: str


def read_answers(path: Path) -> list[Given]:
    """Answers in POPE's own form (`question`, `answer`), LLaVA's (`question_id`, `prompt`, `text`) or lmms-eval's log.

    Raises:
        BadInput: Neither form; names file and line.
    """
    found = []
    for where, row in llava_rows(path):
        field = next((name for name in ANSWERS if name in row), "") if isinstance(row, dict) else ""
        if not field:
            raise BadInput(f"{where}: expected an object with question and answer, or question_id, prompt and text")
        if field == "text" and "label" in row and "prompt" not in row:
            raise BadInput(f"{where}: a question with its label, but no answer to it; is this the question file?")
        question = row.get("question") or row.get("prompt") or (row.get("text", "") if field != "text" else "")
        answer = text_of(row[field], where)
        number = "" if row.get("question_id") is None else str(row["question_id"])
        found.append(Given(where, answer, str(question), number, str(row.get("category") or "")))
    return found


def by_split(path: Path, given: Sequence[Given], samples: Mapping[str, Sequence[Sample]]) -> dict[str, list[Given]]:
    """The answers of a single file by split: as their category, LLaVA's numbering, texts or the file's name say.

    Raises:
        BadInput: Nothing tells.
    """
    offsets = [int(g.number) // LLAVA_OFFSET if g.number.isdecimal() else -1 for g in given]
    as_llava = bool(offsets) and max(offsets) > 0 and all(0 <= offset < len(LLAVA_ORDER) for offset in offsets)
    plain = [g._replace(number=str(int(g.number) % LLAVA_OFFSET)) for g in given] if as_llava else given
    if given and all(g.category in SPLITS for g in given):
        return _grouped(plain, [g.category for g in given])
    if as_llava:
        return _grouped(plain, [LLAVA_ORDER[offset] for offset in offsets])
    if all(g.question for g in given):
        for order in _orders(list(samples)):
            expected = [s for split in order for s in samples[split]]
            if len(expected) == len(given) and all(map(_fits, given, expected)):
                return _grouped(given, [s.part for s in expected])
    if split := split_in(path):
        return {split: list(given)}
    if len(samples) == 1:
        return {next(iter(samples)): list(given)}
    told = ", ".join(f"{len(own)} {split}" for split, own in samples.items())
    raise BadInput(
        f"--answers {path}: cannot tell which split its {len(given)} answers belong to (the questions: {told}); "
        f"give random=FILE, popular=FILE or adversarial=FILE"
    )


def matched(split: str, given: Sequence[Given], samples: Sequence[Sample]) -> tuple[dict[str, str], list[str]]:
    """Answers by sample id, matched by order as the official script does.

    Where that does not fit the questions' texts or their number, by `question_id`; a file without them that ends early
    leaves the last questions out.

    Returns:
        Sample id to answer text, and the ids that are no question's.

    Raises:
        BadInput: A line is about another question, an id occurs twice, or there are more answers than questions.
    """
    in_order = len(given) <= len(samples) and all(map(_fits, given, samples))
    numbered = all(g.number for g in given)
    by_place = {s.id: g.answer for g, s in zip(given, samples, strict=False)}
    if in_order and len(given) == len(samples):
        return by_place, []
    known = {s.id.rpartition("/")[2]: s for s in samples}
    if numbered and all(_fits(g, known[g.number]) for g in given if g.number in known):
        answers = by_id((g.number, g.answer, g.where) for g in given)
        found = {known[number].id: text for number, text in answers.items() if number in known}
        return found, [f"{split}/{number}" for number in answers if number not in known]
    if in_order:
        return by_place, []
    for place, (g, s) in enumerate(zip(given, samples, strict=False), start=1):
        if not _fits(g, s):
            asked = " ".join(g.question.split())
            raise BadInput(
                f"{g.where}: answers {asked!r}, but question {place} of {split} is {s.data['question']!r}; "
                f"another edition of the question files, or another order?"
            )
    raise BadInput(
        f"{given[len(samples)].where}: {len(given)} answers, but {split} has {len(samples)} questions; "
        f"another edition of the question files?"
    )


def _grouped(given: Sequence[Given], splits: Sequence[str]) -> dict[str, list[Given]]:
    return {s: [g for g, own in zip(given, splits, strict=True) if own == s] for s in SPLITS if s in splits}


def _orders(splits: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for count in range(1, len(splits) + 1):
        yield from itertools.permutations(splits, count)


def _fits(given: Given, sample: Sample) -> bool:
    """Whether a line may be about a question: its text, if any, asks for the same object (prompts surround it)."""
    asked = _words(sample.data["question"]).removesuffix("in the image ")
    return not given.question or asked in _words(given.question)


@lru_cache(maxsize=1 << 14)
def _words(question: str) -> str:
    """What both editions agree on: the old one has `imange`, builders differ in the article."""
    words = re.findall(r"[a-z0-9]+", question.lower())
    return f" {' '.join({'imange': 'image', 'an': 'a'}.get(word, word) for word in words)} "


def _file(folder: Folder, split: str) -> Path | None:
    """The question file of a split: the released name, or the one `*_pope_<split>.json` that is there."""
    name = f"coco_pope_{split}.json"
    if file := folder.maybe(name, f"output/coco/{name}", f"coco/{name}"):
        return file
    others = [path for place in folder.places for path in sorted(place.glob(f"*_pope_{split}.json"))]
    if len(others) > 1:
        raise BadInput(f"pope: {others[0]} and {others[1]}: which one is meant? keep one, or name it {name}")
    return others[0] if others else None


def _questions(split: str, path: Path) -> list[tuple[Any, str, str, str, str, str]]:
    """(number, question, label, edition, image, where) of a file. The old edition's text is asked as it is."""
    rows = []
    for line, row in read_jsonl(path):
        where = f"{path}:{line}"
        number, image, text, label = need(row, ("question_id", "image", "text", "label"), where)
        rows.append((number, text_of(text, where), _label(label, where), text_of(image, where), where))
    old = (split == "random" and len(rows) == 2910) or any("imange" in text for _, text, *_ in rows)
    edition = "old (2910 random questions)" if old else ""
    return [(number, text, label, edition, image, where) for number, text, label, image, where in rows]


def _label(label: Any, where: str) -> str:
    if label not in ("yes", "no"):
        raise BadInput(f"{where}: the label must be yes or no, found {label!r}")
    return str(label)


def _sample(
    split: str, number: Any, question: str, label: str, name: str, image: ImageRef, edition: str = "", where: str = ""
) -> Sample:
    data = {"question": question, "label": label, "split": split, **({"edition": edition} if edition else {})}
    return Sample(f"{split}/{number}", data, (image,), cluster=Path(name).stem, part=split, where=where)
