"""POPE: does the model see objects that are not there? (Li et al., 2023; scorer: RUCAIBox/POPE evaluate.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmalign_eval.tasks._pope_files import SPLITS, PopeFiles, by_split, matched, read_answers, split_in
from mmalign_eval.tasks._profiles import sight_beyond_text

from mmalign_eval.data.answers import part_paths, said
from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric, Record, by
from mmalign_eval.metrics.yes_no import BINARY_METRICS, COUNTS, mean_over, official_yes_no, yes_no
from mmalign_eval.requests import Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import ImageTask, Protocol, Sample, task

SHORT = "{question}\nAnswer the question using a single word or phrase."
PROTOCOLS = {
    "official": Protocol(
        ask="{question}",
        params=greedy(128),
        parse=official_yes_no,
        source="RUCAIBox/POPE: questions as released, evaluate.py",
    ),
    "paper": sight_beyond_text(
        "{question}",
        official_yes_no,
        note="sampled, at most 10 tokens; the paper's POPE columns are the accuracies",
    ),
    "lmms": Protocol(
        ask=SHORT,
        params=greedy(128),
        parse=official_yes_no,
        source="lmms-eval, tasks/pope; the prompt of LLaVA-1.5",
        note="official scorer; lmms-eval's own takes only an exact yes or no, and its yes_ratio from the labels",
    ),
}


@task("pope", version=1, protocols=PROTOCOLS, data=PopeFiles)
class Pope(ImageTask):
    """9,000 yes/no questions on 500 COCO images; accuracy, precision, recall, F1 and yes-ratio of each split."""

    data: ClassVar[PopeFiles]
    headline = (*(f"{split}/accuracy" for split in SPLITS), "mean/f1", "adversarial/yes_ratio")
    sources = ("https://arxiv.org/abs/2305.10355", "https://github.com/RUCAIBox/POPE")
    submission = (
        "jsonl in the questions' order: {question, answer}, or LLaVA's {question_id, prompt, text}; random=FILE, "
        "popular=FILE, adversarial=FILE, a folder of files named so, LLaVA's single file, or lmms-eval's logged samples"
    )
    edition = ""

    def samples(self, source: Source) -> Iterator[Sample]:
        """All questions; notes the edition of the files."""
        return self._noted(super().samples(source))

    def score(self, sample: Sample, answer: str) -> Record:
        """Split, label, parsed answer and cell of the confusion table."""
        return {"split": sample.data["split"], **yes_no(sample.data["label"], answer)}

    def metrics(self) -> Sequence[Metric]:
        """Metrics and confusion counts of each split, then the means of the three (LLaVA reports the mean F1)."""
        return [*by("split", SPLITS, (*BINARY_METRICS, *COUNTS)), *mean_over("split", SPLITS)]

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The label."""
        return (Response("ok", text=sample.data["label"].capitalize()),)

    def signature_extra(self) -> Mapping[str, Any]:
        """The edition of the question files, where it is not the current one."""
        return {"edition": self.edition} if self.edition else {}

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Reads answer files; splits that no file answers are left out.

        Raises:
            BadInput: Another format, an answer to another question, a split without questions.
        """
        paths = part_paths(files, SPLITS)
        samples = self._by_split(source, paths)
        given = {split: read_answers(path) for split, path in paths.items()}
        if "" in given:
            given = by_split(paths[""], given[""], samples)
        found = Submission([s for split in samples if split in given for s in samples[split]], {})
        for split, answers in given.items():
            if split not in samples:
                raise BadInput(f"--answers: no {split} questions in the data, only {', '.join(samples)}")
            texts, unknown = matched(split, answers, samples[split])
            found.responses |= {number: (said(text),) for number, text in texts.items()}
            found.unknown += unknown
        left = [split for split in samples if split not in given]
        found.notes += [f"no answers to {', '.join(left)}: left out"] * bool(left)
        return found

    def _by_split(self, source: Source, paths: Mapping[str, Path]) -> dict[str, list[Sample]]:
        """The questions by split; a single question file that says none has the split of the only answer file."""
        part, path = next(iter(paths.items()))
        data = self.data
        if source.file:
            samples = list(self._noted(data.questions(data.open(source), part or split_in(path))))
        else:
            samples = list(self.samples(source))
        return {split: own for split in SPLITS if (own := [s for s in samples if s.part == split])}

    def _noted(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        for sample in samples:
            self.edition = sample.data.get("edition", self.edition)
            yield sample
