"""MM-Vet: open questions that need several abilities at once, graded by GPT-4 (Yu et al., 2024; yuweihao/MM-Vet).

Each grade of 0-1 counts, undivided, for every capability that its question lists; `total` is the mean over all
questions. Grades by another judge, or by the offline stand-in, are other numbers: the latter are named `lexical/...`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmalign_eval.tasks._mmvet_judge import GRADER, MODEL_METRICS, OFFICIAL_SETS, grade_metrics, set_name
from mmalign_eval.tasks._mmvet_submission import FORMAT, read_submission
from mmalign_eval.tasks._profiles import bpo

from mmalign_eval.data.answers import unique_object
from mmalign_eval.data.files import Folder, need, read_json
from mmalign_eval.data.source import HubRows, Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric
from mmalign_eval.metrics.lexical import spoken
from mmalign_eval.requests import ImageRef, Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import ImageTask, Protocol, Record, Sample, task

CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
THINK = "First please perform reasoning, and think step by step to provide best answer to the following question: \n\n"
PROTOCOLS = {
    "official": Protocol(
        ask="{question}",
        params=greedy(512),
        source="yuweihao/MM-Vet: the bare question; grader mm-vet_evaluator",
        note="the benchmark leaves decoding to the model's owner; here greedy, at most 512 tokens",
    ),
    "paper": bpo(note="the paper prints the total of one grading run; judges of other dates differ by points"),
    "lmms": Protocol(
        ask=THINK + "{question}",
        params=greedy(1024),
        source="lmms-eval, tasks/mmvet",
        note="asks for reasoning first, which the benchmark does not; lmms-eval grades by gpt-4o-2024-11-20",
    ),
}


class MmVetFiles(TaskData):
    """The released `mm-vet.json` with `images/` (and `bard_set.json`, a subset), or the hub's rows."""

    folder = "mmvet"
    layout = "mm-vet.json (or mm-vet/mm-vet.json) and images/ beside it"
    get = "github.com/yuweihao/MM-Vet/releases/download/v1/mm-vet.zip"
    hub = HubRows(
        ids=("lmms-lab-encoder/MMVet", "lmms-lab/MMVet", "whyu/mm-vet"),
        split="test",
        columns=("question_id", "question", "answer", "capability"),
        image="image",
    )

    def native(self, folder: Folder) -> Iterator[Sample]:
        """Questions in the file's order."""
        path = folder.given or folder.find("mm-vet.json", "mm-vet/mm-vet.json")
        rows = unique_object(path)
        if not all(isinstance(row, dict) for row in rows.values()):
            raise BadInput(f"{path}: expected an object of question id to question, answer, capability")
        subset = _subset(folder.maybe("bard_set.json", "mm-vet/bard_set.json"))
        fields = ("imagename", "question", "answer", "capability")
        found = {key: need(row, fields, f"{path}: {key}") for key, row in rows.items()}
        images = {name: _image(folder, name, f"{path}: {key}") for key, (name, *_) in found.items()}
        if missing := [name for name, image in images.items() if image is None]:
            raise folder.without(missing, len(images))
        for key, (name, question, answer, listed) in found.items():
            data = _data(question, answer, listed, f"{path}: {key}")
            image = images[name]
            assert image is not None
            yield Sample(key, {**data, "bard_set": True} if key in subset else data, (image,), cluster=Path(name).stem)

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """The hub's rows: capabilities in one string, comma-separated."""
        for row in rows:
            key = str(row["question_id"])
            data = _data(row["question"], row["answer"], row["capability"], f"mmvet: {key}")
            yield Sample(key, data, (row["image"],))


@task("mmvet", version=1, protocols=PROTOCOLS, data=MmVetFiles)
class MmVet(ImageTask):
    """218 open questions on 200 images; six capabilities, their sets and the total, graded by a judge."""

    sources = ("https://arxiv.org/abs/2308.02490", "https://github.com/yuweihao/MM-Vet")
    submission = FORMAT
    judge = GRADER
    sets: tuple[str, ...] = OFFICIAL_SETS
    subset = False

    @property
    def headline(self) -> tuple[str, ...]:  # type: ignore[override]
        """The total and the capabilities; under a judge also its spread and failures."""
        if self.judged_by == GRADER.stand_in:
            return tuple(f"{GRADER.stand_in}/{name}" for name in ("total", *CAPABILITIES))
        return ("total", *CAPABILITIES, *MODEL_METRICS)

    def score(self, sample: Sample, answer: str) -> Record:
        """What the grader is shown, and the capabilities that its grade counts for."""
        shown = {key: sample.data[key] for key in ("question", "answer", "capability")}
        return {**shown, "prediction": answer, **({"bard_set": True} if sample.data.get("bard_set") else {})}

    def finish(self, records: Sequence[Record]) -> None:
        """Notes which sets of capabilities occur, the most frequent first."""
        names = [set_name(record["capability"]) for record in records]
        self.sets = tuple(sorted(set(names), key=lambda name: (-names.count(name), name)))
        self.subset = any(record.get("bard_set") for record in records)

    def metrics(self) -> Sequence[Metric]:
        """Capabilities, total, spread, failures, then each set of capabilities (and Bard's subset)."""
        return grade_metrics(CAPABILITIES, self.sets, self.judged_by, subset=self.subset)

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The ground truth, as a sentence would say it."""
        return (Response("ok", text=spoken(sample.data["answer"])),)

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Answers that a judge will grade, or grades of one or several runs."""
        return read_submission(list(self.samples(source)), files)


def _subset(path: Path | None) -> frozenset[str]:
    return frozenset(map(str, read_json(path))) if path else frozenset()


def _image(folder: Folder, name: str, where: str) -> ImageRef | None:
    return folder.maybe_image(name, where) or folder.maybe_image(f"mm-vet/images/{name}")


def _data(question: Any, answer: Any, listed: Any, where: str) -> dict[str, Any]:
    capability = [c.strip() for c in listed.split(",")] if isinstance(listed, str) else listed
    unknown = [c for c in capability if c not in CAPABILITIES] if isinstance(capability, list) else [listed]
    if unknown or not capability:
        raise BadInput(f"{where}: capability {(unknown or [''])[0]!r} is none of {', '.join(CAPABILITIES)}")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise BadInput(f"{where}: question and answer must be text")
    return {"question": question, "answer": answer, "capability": [c for c in CAPABILITIES if c in capability]}
