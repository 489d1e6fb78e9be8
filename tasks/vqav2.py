"""VQAv2: open questions about photographs, ten human answers each (Goyal et al., 2017; scorer: GT-Vision-Lab/VQA)."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmalign_eval.tasks._profiles import sight_beyond_text

from mmalign_eval.data.answers import by_id, one_path, read_rows, said, text_of
from mmalign_eval.data.files import Folder, need, read_json
from mmalign_eval.data.source import HubRows, Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric, Record
from mmalign_eval.metrics.vqa import SCORERS, humans, vqa_metrics
from mmalign_eval.requests import ImageRef, Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import ImageTask, Protocol, Sample, task

POOL, EVALUATED, SEED = 2048, 5000, 42  # Sight Beyond Text: questions that demonstrations come from, and those asked


def cut_and_guess(text: str) -> str:
    """Sight Beyond Text's reading of an answer: cut at what begins another turn, then Yes or No if it holds one.

    The search is for substrings, so that "know", "snow" and "nothing" are No.
    """
    answer = re.split("Question|Answer|###|</s>", text, maxsplit=1)[0]
    if "yes" in answer or "Yes" in answer:
        return "Yes"
    return "No" if "no" in answer or "No" in answer else answer


PROTOCOLS = {
    "official": Protocol(
        ask="{question}",
        params=greedy(16),
        source="VQAv2's questions as released; GT-Vision-Lab/VQA, vqaEval.py",
        note="answers must be short; where all ten humans agree they are compared as they are, capitals included",
        options={"scorer": "official"},
    ),
    "paper": sight_beyond_text(
        "{question}",
        cut_and_guess,
        shots=3,
        note=(
            "5,000 questions; Yes and No are capitalised and then compared with lower-case answers, so that the values "
            "(13.8-16.1 in the paper) say little about a model: compare with nothing else"
        ),
        scorer="official",
        subset=True,
    ),
    "lmms": Protocol(
        ask="{question}\nAnswer the question using a single word or phrase.",
        params=greedy(16),
        source="lmms-eval, tasks/vqav2; the prompt of LLaVA-1.5",
        note="answers are always normalised (EvalAI's processor)",
        options={"scorer": "evalai"},
    ),
}


class VqaFiles(TaskData):
    """The released questions and annotations, or hub rows."""

    folder = "vqav2"
    layout = (
        "v2_mscoco_val2014_annotations.json, v2_OpenEnded_mscoco_val2014_questions.json (not needed to score answers) "
        "and the COCO images in val2014/"
    )
    get = "visualqa.org/download.html and images.cocodataset.org/zips/val2014.zip"
    hub = HubRows(
        ids=("lmms-lab-encoder/VQAv2", "lmms-lab/VQAv2"),
        split="validation",
        columns=("question_id", "image_id", "question", "answers", "answer_type", "question_type"),
        image="image",
    )

    def native(self, folder: Folder) -> Iterator[Sample]:
        """The questions of the validation set, in the order of its annotations."""
        return self.annotated(folder, folder.given or folder.find("v2_mscoco_val2014_annotations.json"))

    def annotated(self, folder: Folder, path: Path) -> Iterator[Sample]:
        """The questions of one annotation file.

        Raises:
            BadInput: Not that layout, a question without text where it has to be asked, or an image that is missing.
        """
        data = read_json(path)
        rows = data.get("annotations") if isinstance(data, dict) else None
        if not isinstance(rows, list):
            raise BadInput(f"{path}: expected an object with a list of annotations")
        subset = data.get("data_subtype") or "val2014"
        texts = _questions(folder, path)
        found = []
        for index, row in enumerate(rows):
            where = f"{path}: annotations[{index}]"
            number, _ = need(_object(row, where), ("question_id", "answers"), where)
            image_id, question = texts.get(str(number), (row.get("image_id"), ""))
            if folder.need_images and str(number) not in texts:
                raise BadInput(f"{where}: question {number} has no text among the questions")
            known = isinstance(image_id, int)
            name = f"COCO_{subset}_{image_id:012d}.jpg" if known else f"question {number}"
            found.append((_data(row, question, where), str(number), str(image_id) if known else "", name))
        images = folder.images(name for *_, name in found)
        for fields, number, image, name in found:
            yield Sample(number, fields, (images[name],), cluster=image)

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """Hub rows; an image is repeated in each of its rows."""
        images: dict[str, ImageRef] = {}
        for index, row in enumerate(rows):
            number = str(row["image_id"])
            fields = _data(row, row["question"], f"vqav2: row {index}")
            yield Sample(str(row["question_id"]), fields, (images.setdefault(number, row["image"]),), cluster=number)

    def holding(self, folder: Folder, ids: set[str]) -> list[Sample]:
        """The samples of the annotation file that holds the most of some question ids.

        Raises:
            BadInput: There is no annotation file, or one is in another layout.
        """
        patterns = ("*mscoco_val2014_annotations*.json", "*mscoco_*annotations*.json", "*annotations*.json")
        places = [place / sub for place in folder.places for sub in ("", "annotations")]
        paths = [path for p in patterns for place in places for path in sorted(place.glob(p))]
        best: list[Sample] = []
        most = -1
        for path in [folder.given] if folder.given else dict.fromkeys(paths):
            samples = list(self.annotated(folder, path))
            held = len(ids.intersection(s.id for s in samples))
            if held > most:
                best, most = samples, held
            if held == len(ids):
                break
        if most < 0:
            folder.find("v2_mscoco_val2014_annotations.json")
        return best


@task("vqav2", version=1, protocols=PROTOCOLS, data=VqaFiles)
class Vqav2(ImageTask):
    """214,354 questions on COCO val2014: VQA accuracy overall, by answer type and by question type."""

    headline = ("overall", "answer_type/yes/no", "answer_type/number", "answer_type/other")
    sources = ("https://arxiv.org/abs/1612.00837", "https://visualqa.org", "https://github.com/GT-Vision-Lab/VQA")
    submission = "json list of {question_id, answer}"
    pool: Sequence[Sample] = ()
    question_types: Sequence[str] = ()
    scored: Sequence[Record] = ()

    def samples(self, source: Source) -> Iterable[Sample]:
        """All questions; under the paper's protocol its random 5,000, the demonstrations' pool aside.

        Raises:
            BadInput: More shots than questions to take them from.
        """
        found = list(super().samples(source))
        self.question_types = _types(sample.data for sample in found)
        if not self.protocol.options.get("subset"):
            return found
        pool, chosen = paper_subset(len(found))
        self.pool = [found[i] for i in pool]
        if self.shots > len(self.pool):
            raise BadInput(f"--few-shot {self.shots}: only {len(self.pool)} questions to take demonstrations from")
        return [found[i] for i in chosen]

    def demos(self, sample: Sample) -> tuple[tuple[str, str], ...]:
        """Questions of the pool with the first of their ten answers, without images; drawn anew for each question."""
        drawn = random.Random(f"vqav2|{sample.id}").sample(self.pool, self.shots) if self.shots else []
        return tuple((demo.data["question"], demo.data["answers"][0]) for demo in drawn)

    def score(self, sample: Sample, answer: str) -> Record:
        """Answer, types, its accuracy and the best that any of the human answers would have had, in percent."""
        given = humans(sample.data["answers"])
        accuracy = SCORERS[self.protocol.options["scorer"]]
        ceiling = max(accuracy(self.protocol.parse(human), given) for human in set(sample.data["answers"]))
        return {
            "answer": answer,
            "answer_type": sample.data["answer_type"],
            "question_type": sample.data["question_type"],
            "accuracy": 100 * accuracy(answer, given),
            "ceiling": 100 * ceiling,
        }

    def finish(self, records: Sequence[Record]) -> None:
        """Notes which question types there are, and the best possible values."""
        self.question_types, self.scored = _types(records), records

    def metrics(self) -> Sequence[Metric]:
        """Overall, by answer type, by question type (those of the data)."""
        return vqa_metrics(self.question_types, self.scored)

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The human answer that scores best."""
        given, accuracy = humans(sample.data["answers"]), SCORERS[self.protocol.options["scorer"]]
        best = max(sorted(set(sample.data["answers"])), key=lambda text: accuracy(self.protocol.parse(text), given))
        return (Response("ok", text=best),)

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Reads a results file; of a folder with several splits the one that its question ids belong to is scored.

        Raises:
            BadInput: Another format, or a question answered twice.
        """
        answers = by_id(_answers(one_path(files)))
        data: VqaFiles = self.data  # type: ignore[assignment]
        from_folder = source.kind != "hub" and not data.open(source).parquet()
        samples = data.holding(data.open(source), set(answers)) if from_folder else list(data.samples(source))
        everything = {sample.id for sample in samples}
        if self.protocol.options.get("subset") and len(samples) >= POOL + EVALUATED:
            samples = [samples[i] for i in paper_subset(len(samples))[1]]
        responses = {sample.id: (said(answers[sample.id]),) for sample in samples if sample.id in answers}
        return Submission(samples, responses, unknown=[number for number in answers if number not in everything])


def paper_subset(questions: int) -> tuple[list[int], list[int]]:
    """Places of the demonstrations' pool and of the evaluated questions, as Sight Beyond Text draws them.

    7,048 places without replacement from numpy's seed 42; the first 2,048 are the pool. Fewer questions (the
    miniature) are all drawn and split in the same proportion.
    """
    size = min(questions, POOL + EVALUATED)
    drawn = np.random.RandomState(SEED).choice(questions, size, replace=False).tolist()
    pool = size * POOL // (POOL + EVALUATED)
    return drawn[:pool], drawn[pool:]


def _questions(folder: Folder, annotations: Path) -> dict[str, tuple[Any, str]]:
    """Question id to (image id, text); empty where answers are only scored and the file is not there."""
    name = annotations.name.replace("annotations", "questions")
    names = [name.replace("mscoco", "OpenEnded_mscoco", 1), name]
    path = next((annotations.parent / n for n in names if (annotations.parent / n).is_file()), None)
    if path is None or path == annotations:
        if folder.need_images:
            folder.find(names[0])
        return {}
    data = read_json(path)
    found = {}
    for index, row in enumerate(need(_object(data, str(path)), ("questions",), str(path))[0]):
        where = f"{path}: questions[{index}]"
        number, image, text = need(_object(row, where), ("question_id", "image_id", "question"), where)
        found[str(number)] = image, text
    return found


def _data(row: dict[str, Any], question: str, where: str) -> dict[str, Any]:
    answers = row["answers"]
    if not isinstance(answers, list) or not answers:
        raise BadInput(f"{where}: expected a list of human answers")
    texts = [text_of(need(_object(a, where), ("answer",), where)[0], where) for a in answers]
    types = {name: row.get(name) or "" for name in ("answer_type", "question_type")}
    return {"question": question, "answers": texts, **types}


def _answers(path: Path) -> Iterator[tuple[str, str, str]]:
    if path.is_dir():
        inside = sorted(path.glob("*.json"))
        if len(inside) != 1:
            raise BadInput(f"--answers {path}: expected one results file, found {len(inside)}; name the file")
        path = inside[0]
    for where, row in read_rows(path):
        number, answer = need(_object(row, where), ("question_id", "answer"), where)
        yield str(number), text_of(answer, where), where


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def _types(rows: Iterable[Any]) -> list[str]:
    return sorted({row["question_type"] for row in rows} - {""})
