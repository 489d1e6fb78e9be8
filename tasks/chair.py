"""CHAIR: which objects does a description name that the image does not have? (Rohrbach et al., 2018).

Scorer: LisaAnne/Hallucination utils/chair.py, with the recall of Maxlinn/CHAIR-metric-standalone.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmalign_eval.tasks._coco_objects import (
    GET,
    LAYOUT,
    every_object,
    image_number,
    object_images,
    objects_of,
    open_table,
    prepared_file,
)
from mmalign_eval.tasks._object_answers import read_captions, submission_of

from mmalign_eval.data.answers import said
from mmalign_eval.data.files import Folder
from mmalign_eval.data.source import HubRows, Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric, Record
from mmalign_eval.metrics.chair.objects import ObjectTable
from mmalign_eval.metrics.chair.score import chair_metrics, chair_record, length_matched
from mmalign_eval.requests import Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import ImageTask, Protocol, Sample, task

ASK = "Please describe this image in detail."
IMAGES, SEED = 500, 42
PROTOCOLS = {
    "official": Protocol(
        ask=ASK,
        params=greedy(512),
        source="scorer: LisaAnne/Hallucination 6e4d33c; prompt and 500 images of val2014: OPERA (Huang et al., 2023)",
        note="the metric has no prompt of its own; the 500 images are drawn with our seed, OPERA's depended on a disk",
    ),
    "lmms": Protocol(
        ask=ASK,
        params=greedy(2048),
        source="lmms-eval, tasks/coco_cap_chair",
        note="official singulariser; lmms-eval's own tags parts of speech, which moves CHAIRs by up to 6 points",
    ),
}


class ChairFiles(TaskData):
    """COCO's annotation files and images, prepared objects, or the rows of lmms-eval's set."""

    folder = "coco"
    layout = f"{LAYOUT}; synonyms.txt is used if it is there"
    get = f"{GET}; github.com/LisaAnne/Hallucination (data/synonyms.txt)"
    hub = HubRows(ids=("tsunghanwu/mscoco_chair",), split="test", columns=("question_id", "gt_object"), image="image")

    def synonyms(self, source: Source) -> Path | None:
        """The table beside the data, if there is one."""
        return None if source.kind == "hub" else self.open(source).maybe("synonyms.txt")

    def native(self, folder: Folder) -> Iterator[Sample]:
        """500 images of the first annotation file (or all prepared ones), drawn with a fixed seed."""
        table, _ = open_table("chair", folder.maybe("synonyms.txt"))
        if prepared_file(folder):
            objects = objects_of(folder, table, None)
            images = folder.images(f"COCO_val2014_{int(n):012d}.jpg" if n.isdecimal() else n for n in objects)
            for number, image in zip(objects, images.values(), strict=True):
                yield Sample(number, {"image_id": number, "objects": objects[number]}, (image,))
            return
        names = object_images(folder)
        drawn = random.Random(SEED).sample(sorted(names, key=int), min(IMAGES, len(names)))
        images = folder.images(names[number] for number in drawn)
        objects = objects_of(folder, table, drawn)
        for number in drawn:
            yield Sample(number, {"image_id": number, "objects": objects[number]}, (images[names[number]],))

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """Hub rows, whose objects are given."""
        for index, row in enumerate(rows):
            number = image_number(row["question_id"], f"chair: row {index}")
            yield Sample(number, {"image_id": number, "objects": sorted(set(row["gt_object"]))}, (row["image"],))


@task("chair", version=1, protocols=PROTOCOLS, data=ChairFiles)
class Chair(ImageTask):
    """Descriptions of COCO images: CHAIRs, CHAIRi, recall and length, also cut at equal length and at equal recall."""

    data: ClassVar[ChairFiles]
    headline = ("CHAIRs", "CHAIRi", "recall", "len")
    sources = ("https://arxiv.org/abs/1809.02156", "https://github.com/LisaAnne/Hallucination")
    submission = (
        "jsonl or json of {image_id, caption}, or {imgToEval: ...}; --data: COCO annotation files or a file "
        "{image_id: [objects]}; --synonyms FILE: the official table"
    )
    table: ObjectTable
    table_name = ""

    def samples(self, source: Source) -> Iterator[Sample]:
        """All images; opens the table of synonyms first."""
        self.table, self.table_name = open_table("chair", self.data.synonyms(source))
        yield from super().samples(source)

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """What the description mentions, at every length."""
        words = len(responses[0].text.split())
        return chair_record(responses[0], sample.data["objects"], self.table.mentions, words)

    def score(self, sample: Sample, answer: Any) -> Record:
        """Not used: the record needs the response's tokens."""
        return self.record(sample, (said(answer),))

    def metrics(self) -> Sequence[Metric]:
        """CHAIR of whole descriptions, then length-matched."""
        matched = length_matched("CHAIRs", "CHAIRi", "recall")
        return [*chair_metrics("CHAIRs", "CHAIRi", "recall", "len"), *matched]

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """Every object by its category."""
        return (said(every_object(sample.data["objects"])),)

    def signature_extra(self) -> Mapping[str, Any]:
        """The table of synonyms."""
        return {"synonyms": self.table_name}

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Captions made elsewhere; the images are those answered, or those of a prepared file."""
        if source.kind == "hub":
            raise BadInput("chair: give --data DIR with COCO's annotation files, or a file {image_id: [objects]}")
        named = files.options.get("synonyms")
        path = Path(named) if named else self.data.synonyms(source)
        self.table, self.table_name = open_table("chair", path)
        return submission_of(read_captions(files), self.data.open(source), self.table)
