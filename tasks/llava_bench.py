"""LLaVA-Bench: how helpful are answers about an image, beside GPT-4's own? (Liu et al., 2023; haotian-liu/LLaVA).

Scorer: its llava/eval/eval_gpt_review_bench.py, eval_gpt_review_visual.py and summarize_gpt_review.py. A judge gives
GPT-4's reference and the model's answer 1-10 each; `relative` is the ratio of the two means. Two splits: 60 questions
in the wild, and 90 on COCO images, whose judge is shown five captions and boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign_eval.tasks._llava_judge import CATEGORIES, MODEL_METRICS, REVIEWER, relative_metrics
from mmalign_eval.tasks._llava_submission import FORMAT, SPLITS, read_submission
from mmalign_eval.tasks._profiles import bpo

from mmalign_eval.data.answers import by_id
from mmalign_eval.data.files import Folder, NotThere, need, read_jsonl
from mmalign_eval.data.source import HubRows, Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric
from mmalign_eval.requests import ImageRef, Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import ImageTask, Protocol, Record, Sample, task

PROTOCOLS = {
    "official": Protocol(
        ask="{question}",
        params=greedy(1024),
        source="haotian-liu/LLaVA: scripts/v1_5/eval/llavabench.sh, model_vqa.py at temperature 0",
        note="scores of judges of other dates differ by several points; GPT-4's reference always comes first",
    ),
    "paper": bpo(note="the paper says only that GPT-4 judged, not which"),
    "lmms": Protocol(
        ask="{question}",
        params=greedy(1024),
        source="lmms-eval, tasks/llava-in-the-wild",
        note="lmms-eval judges by gpt-4o-2024-11-20 and reads any two numbers of the first line",
    ),
}
# split: (questions, contexts, GPT-4's answers), each under the names that are around
FILES = {
    "wild": ("questions.jsonl", "context.jsonl", "answers_gpt4.jsonl"),
    "coco": ("qa90_questions.jsonl", "caps_boxes_coco2014_val_80.jsonl", "qa90_gpt4_answer.jsonl"),
}


class LlavaBenchFiles(TaskData):
    """The released files of either split (or both), or the hub's rows of the questions in the wild."""

    folder = "llavabench"
    layout = (
        "questions.jsonl, context.jsonl, answers_gpt4.jsonl and images/ (in the wild), or qa90_questions.jsonl, "
        "caps_boxes_coco2014_val_80.jsonl, qa90_gpt4_answer.jsonl and COCO val2014 images (COCO)"
    )
    get = "huggingface.co/datasets/liuhaotian/llava-bench-in-the-wild; haotian-liu/LLaVA playground/data (COCO)"
    hub = HubRows(
        ids=("lmms-lab-encoder/llava-bench-in-the-wild", "lmms-lab/llava-bench-in-the-wild"),
        split="train",
        columns=("question_id", "question", "caption", "gpt_answer", "category", "image_id"),
        image="image",
    )

    def native(self, folder: Folder) -> Iterator[Sample]:
        """Questions of the splits that are there, in the wild first."""
        given = {split: _questions(folder, split) for split in SPLITS}
        if not any(given.values()):
            folder.find(*(FILES[split][0] for split in SPLITS))
        for split, path in given.items():
            if path is not None:
                yield from _native(folder, split, path)

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """The hub's rows."""
        for row in rows:
            data = {"question": row["question"], "context": _lines(row["caption"]), "reference": row["gpt_answer"]}
            where = f"llava_bench: {row['question_id']}"
            yield _sample("wild", row["question_id"], data, row["category"], str(row["image_id"]), row["image"], where)


@task("llava_bench", version=1, protocols=PROTOCOLS, data=LlavaBenchFiles)
class LlavaBench(ImageTask):
    """Open questions in the wild and on COCO images; scores relative to GPT-4's answers, by category."""

    sources = ("https://arxiv.org/abs/2304.08485", "https://github.com/haotian-liu/LLaVA/tree/main/llava/eval")
    submission = FORMAT
    judge = REVIEWER
    splits: tuple[str, ...] = ("wild",)

    @property
    def headline(self) -> tuple[str, ...]:  # type: ignore[override]
        """The relative score of all questions and of each category; under a judge also spread and failures."""
        names = [f"{group}/relative" for group in ("all", *CATEGORIES)]
        if self.judged_by == REVIEWER.stand_in:
            return tuple(f"{REVIEWER.stand_in}/{name}" for name in names)
        return (*names, *MODEL_METRICS)

    def score(self, sample: Sample, answer: str) -> Record:
        """What the judge is shown, and where its scores count."""
        return {**sample.data, "prediction": answer}

    def finish(self, records: Sequence[Record]) -> None:
        """Notes which splits were answered."""
        self.splits = tuple(split for split in SPLITS if any(record["split"] == split for record in records))

    def metrics(self) -> Sequence[Metric]:
        """Of each split; those of COCO are prefixed where both are there."""
        first, *more = self.splits
        found = relative_metrics(first, "", self.judged_by)
        return [*found, *(m for split in more for m in relative_metrics(split, f"{split}/", self.judged_by))]

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """GPT-4's own answer."""
        return (Response("ok", text=sample.data["reference"]),)

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Answers that a judge will review, or reviews; these need no question files to be scored."""
        try:
            samples = list(self.samples(source))
        except NotThere as error:
            return read_submission([], files, absent=error)
        return read_submission(samples, files)

    def signature_extra(self) -> Mapping[str, Any]:
        """Which split, where it is not the one in the wild: its metrics have the same names."""
        return {} if self.splits == ("wild",) else {"split": "+".join(self.splits)}


def _questions(folder: Folder, split: str) -> Path | None:
    if folder.given:
        return folder.given if folder.given.name.startswith("qa90") == (split == "coco") else None
    return folder.maybe(FILES[split][0], f"llava-bench-in-the-wild/{FILES[split][0]}")


def _native(folder: Folder, split: str, path: Path) -> Iterator[Sample]:
    _, contexts, answers = (str(path.parent / name) for name in FILES[split])
    context = dict(_contexts(Path(contexts), folder))
    answered = _rows(Path(answers), folder, ("question_id", "text"))
    reference = by_id((_key(row, where), row, where) for where, row in answered)
    rows = list(_rows(path, folder, ("question_id", "image", "text", "category")))
    images = {row["image"]: _image(folder, row["image"], where) for where, row in rows}
    if missing := [name for name, image in images.items() if image is None]:
        raise folder.without(missing, len(images))
    for where, row in rows:
        number, name, image = row["question_id"], row["image"], images[row["image"]]
        assert image is not None
        if folder.need_images and (name not in context or str(number) not in reference):
            lacking = contexts if name not in context else answers
            raise BadInput(f"{where}: {lacking} has nothing for question {number} (image {name})")
        answer = reference.get(str(number), {}).get("text", "")
        data = {"question": row["text"], "context": context.get(name, ""), "reference": answer}
        yield _sample(split, number, data, row["category"], name, image, where)


def _contexts(path: Path, folder: Folder) -> Iterator[tuple[str, str]]:
    """(image, what the judge is told of it): a caption, or captions and boxes."""
    for where, row in _rows(path, folder, ("image",)):
        if "instances" in row:
            captions, instances = need(row, ("captions", "instances"), where)
            boxes = "\n".join(f"{instance['category']}: {instance['bbox']}" for instance in instances)
            yield row["image"], f"{_lines(captions)}\n\n{boxes}"
        else:
            yield row["image"], _lines(*need(row, ("caption",), where))


def _rows(path: Path, folder: Folder, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a file; without it there are none if answers are only scored, which need not be judged."""
    if not path.is_file():
        if folder.need_images:
            raise NotThere(f"{folder.task}: {path} not found; expected {folder.layout}. Get it: {folder.get}")
        return
    for line, row in read_jsonl(path):
        need(row, fields, f"{path}:{line}")
        yield f"{path}:{line}", row


def _image(folder: Folder, name: str, where: str) -> ImageRef | None:
    nested = (f"llava-bench-in-the-wild/images/{name}", f"COCO_val2014_{name}")
    return folder.maybe_image(name, where) or next((i for n in nested if (i := folder.maybe_image(n))), None)


def _lines(caption: Any) -> str:
    return caption if isinstance(caption, str) else "\n".join(map(str, caption))


def _key(row: dict[str, Any], where: str) -> str:
    if not isinstance(row["text"], str):
        raise BadInput(f"{where}: text must be text")
    return str(row["question_id"])


def _sample(
    split: str, number: Any, data: dict[str, Any], category: str, name: str, image: ImageRef, where: str
) -> Sample:
    if category not in CATEGORIES:
        raise BadInput(f"{where}: category {category!r} is none of {', '.join(CATEGORIES)}")
    fields = {**data, "category": category, "split": split}
    return Sample(f"{split}/{number}", fields, (image,), cluster=f"{split}/{Path(name).stem}", part=split, where=where)
