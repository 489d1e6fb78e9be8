"""VQAv2: open questions about photographs, ten human answers each (Goyal et al., 2017; scorer: GT-Vision-Lab/VQA)."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from mmalign_eval.tasks._profiles import sight_beyond_text
from mmalign_eval.tasks._vqav2_files import VqaFiles, read_answers

from mmalign_eval.data.answers import one_path, said
from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric, Record
from mmalign_eval.metrics.vqa import SCORERS, Humans, vqa_metrics
from mmalign_eval.requests import Response, greedy
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
        note="answers of model and people are always normalised (EvalAI's processor), also where all people agree",
        options={"scorer": "evalai"},
    ),
}


@task("vqav2", version=1, protocols=PROTOCOLS, data=VqaFiles)
class Vqav2(ImageTask):
    """214,354 questions on COCO val2014: VQA accuracy overall, by answer type and by question type."""

    headline = ("overall", "answer_type/yes/no", "answer_type/number", "answer_type/other")
    sources = ("https://arxiv.org/abs/1612.00837", "https://visualqa.org", "https://github.com/GT-Vision-Lab/VQA")
    submission = (
        "json list of {question_id, answer} (or {question_id: answer}), LLaVA's jsonl (question_id, text), or "
        "lmms-eval's logged samples"
    )
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
        given = self._humans(sample)
        ceiling = max(given.accuracy(self.protocol.parse(human)) for human in set(sample.data["answers"]))
        return {
            "answer": answer,
            "answer_type": sample.data["answer_type"],
            "question_type": sample.data["question_type"],
            "accuracy": 100 * given.accuracy(answer),
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
        given = self._humans(sample)
        best = max(sorted(set(sample.data["answers"])), key=lambda text: given.accuracy(self.protocol.parse(text)))
        return (Response("ok", text=best),)

    def _humans(self, sample: Sample) -> Humans:
        return SCORERS[self.protocol.options["scorer"]](sample.data["answers"])

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Reads a results file; of a folder with several splits the one that its question ids belong to is scored.

        Raises:
            BadInput: Another format, or a question answered twice.
        """
        answers = read_answers(one_path(files))
        data: VqaFiles = self.data  # type: ignore[assignment]
        from_folder = source.kind != "hub" and (bool(source.file) or not data.open(source).parquet())
        samples = data.holding(data.open(source), set(answers)) if from_folder else list(data.samples(source))
        everything = {sample.id for sample in samples}
        if self.protocol.options.get("subset") and len(samples) >= POOL + EVALUATED:
            samples = [samples[i] for i in paper_subset(len(samples))[1]]
        found = Submission(samples, {}, unknown=[number for number in answers if number not in everything])
        found.responses |= {sample.id: (said(answers[sample.id]),) for sample in samples if sample.id in answers}
        return found


def paper_subset(questions: int) -> tuple[list[int], list[int]]:
    """Places of the demonstrations' pool and of the evaluated questions, as Sight Beyond Text draws them.

    7,048 places without replacement from numpy's seed 42; the first 2,048 are the pool. Fewer questions (the
    miniature) are all drawn and split in the same proportion.
    """
    size = min(questions, POOL + EVALUATED)
    drawn = np.random.RandomState(SEED).choice(questions, size, replace=False).tolist()
    pool = size * POOL // (POOL + EVALUATED)
    return drawn[:pool], drawn[pool:]


def _types(rows: Iterable[Any]) -> list[str]:
    return sorted({row["question_type"] for row in rows} - {""})
