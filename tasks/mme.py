"""MME: fourteen kinds of yes/no questions in pairs (Fu et al., 2023; scorer: its eval_tool/calculation.py)."""

from __future__ import annotations

from collections.abc import Sequence

from mmalign_eval.tasks._mme_files import SHORT, MmeFiles, bare, read_answers, samples_of
from mmalign_eval.tasks._profiles import sight_beyond_text

from mmalign_eval.data.answers import said
from mmalign_eval.data.files import NotThere
from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric, Record
from mmalign_eval.metrics.mme import (
    lmms_yes_no_other,
    mme_metrics,
    official_yes_no_other,
    stripped_yes_no_other,
    yes_no_other,
)
from mmalign_eval.requests import Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import ImageTask, Protocol, Sample, task

PROTOCOLS = {
    "official": Protocol(
        ask="{question}",
        params=greedy(16),
        parse=official_yes_no_other,
        source="MME's questions as released and eval_tool/calculation.py",
        note="reads the first four characters of an answer; the benchmark does not fix how to decode",
    ),
    "paper": sight_beyond_text(
        "{question}",
        stripped_yes_no_other,
        note="sampled, at most 10 tokens; the paper's perception score is perception_paper/total (at most 1600)",
    ),
    "lmms": Protocol(
        ask="{bare}" + SHORT,
        params=greedy(16),
        parse=lmms_yes_no_other,
        source="lmms-eval, tasks/mme; the prompt of LLaVA-1.5",
        note="perception over all ten subtasks (at most 2000), unlike the paper's",
    ),
}


@task("mme", version=1, protocols=PROTOCOLS, data=MmeFiles)
class Mme(ImageTask):
    """2,374 yes/no questions in 14 subtasks, two an image: accuracy, accuracy of pairs, and points."""

    headline = ("perception/total", "cognition/total", "perception_paper/total")
    sources = (
        "https://arxiv.org/abs/2306.13394",
        "https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models/tree/Evaluation",
    )
    submission = (
        "a folder of <subtask>.txt (image, question, label, answer; tab-separated), "
        "LLaVA's jsonl (question_id, prompt, text), or lmms-eval's logged samples"
    )

    def score(self, sample: Sample, answer: str) -> Record:
        """Subtask, label, parsed answer and whether it is right."""
        return yes_no_other(sample.data["subtask"], sample.data["label"], answer)

    def metrics(self) -> Sequence[Metric]:
        """Totals, then each subtask's."""
        return mme_metrics()

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The label."""
        return (Response("ok", text=sample.data["label"].capitalize()),)

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Reads a results folder (it holds the labels, so that no data are needed) or LLaVA's answers.

        Raises:
            BadInput: Another format, a label that is not the data's, a question answered twice.
        """
        answers = list(read_answers(files))
        notes: list[str] = []
        try:
            samples = list(self.samples(source))
            alone = not any(path.is_dir() for path in files.paths.values())
            if alone and answers and all(row.label for row, _ in answers):
                samples, notes = _only([row.subtask for row, _ in answers], samples)
        except NotThere:
            if not all(row.label for row, _ in answers):
                raise
            samples = list(samples_of([row for row, _ in answers]))
            notes.append("no MME data: labels are those of the answer files")
        known = {(s.data["subtask"], s.data["image"], bare(s.data["question"])): s for s in samples}
        # some write their own prompt into the column of the question; an image has one yes and one no
        by_label = {(s.data["subtask"], s.data["image"], s.data["label"]): s for s in samples}
        found = Submission(samples, {}, notes=notes)
        for row, answer in answers:
            image = (row.subtask, row.image)
            sample = known.get((*image, bare(row.question))) or by_label.get((*image, row.label))
            if sample is None:
                found.unknown.append(f"{row.subtask}/{row.image}: {row.question}")
            elif sample.id in found.responses:
                raise BadInput(f"{row.where}: the question {row.question!r} is answered twice for {row.image}")
            elif row.label not in ("", sample.data["label"]):
                raise BadInput(f"{row.where}: the label is {row.label}, that of the data {sample.data['label']}")
            else:
                found.responses[sample.id] = (said(answer),)
        return found


def _only(subtasks: Sequence[str], samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """Samples of the subtasks whose files were named one by one, and a note that says so."""
    kept = [sample for sample in samples if sample.data["subtask"] in set(subtasks)]
    named = f"only {', '.join(dict.fromkeys(subtasks))}: the files named"
    return kept, [named] if len(kept) < len(samples) else []
