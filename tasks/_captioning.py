"""What the captioning tasks share: references in the layouts they come in, demonstrations, scores, submissions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from mmalign_eval.tasks._profiles import caption_demos, demo_pool, sight_beyond_text, without_quotes

from mmalign_eval.data.answers import by_id, one_path, said
from mmalign_eval.data.coco import Captioned, coco_id, holds_captions, only, read_any, read_karpathy
from mmalign_eval.data.descriptions import read_descriptions
from mmalign_eval.data.files import Folder
from mmalign_eval.data.hub import hub_rows, parquet_rows
from mmalign_eval.data.source import Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics import captions
from mmalign_eval.metrics.base import Metric, Record
from mmalign_eval.metrics.java import find_java
from mmalign_eval.requests import ImageRef, Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import ImageTask, Protocol, Sample

DESCRIBE = "Please provide a description of the picture."
ONE_SENTENCE = "Provide a one-sentence caption for the provided image."
BRIEFLY = "Describe the image briefly."

_OFFICIAL = Protocol(
    ask=ONE_SENTENCE,
    params=greedy(64),
    source="scorer: tylin/coco-caption, as packaged by pycocoevalcap",
    note="the benchmark has no prompt of its own; this is the community's for COCO 2014 and 2017",
)
_PAPER = sight_beyond_text(
    DESCRIBE,
    without_quotes,
    shots=3,
    note="at most 10 tokens, three demonstrations without their images; the paper prints CIDEr x100",
)


def protocols(lmms: Protocol, *, note: str = "") -> dict[str, Protocol]:
    """`official`, `paper` and a task's own `lmms`; a note is added to the first two."""
    noted = [replace(p, note=f"{p.note}; {note}" if note else p.note) for p in (_OFFICIAL, _PAPER)]
    return {"official": noted[0], "paper": noted[1], "lmms": lmms}


class CaptionFiles(TaskData):
    """Images with reference captions, and captions of training images for demonstrations.

    Attributes:
        karpathy: Karpathy's file.
        flat: Evaluated images as Sight Beyond Text lists them.
        evaluated: COCO-layout files of the evaluated images.
        training: Files that hold captions of training images: COCO-layout or flat lists.
        image_folders: Folders that may hold the images, below the data folder.
    """

    karpathy: ClassVar[str]
    flat: ClassVar[str]
    training: ClassVar[tuple[str, ...]]
    evaluated: ClassVar[tuple[str, ...]] = ()
    image_folders: ClassVar[tuple[str, ...]] = ()

    def __init__(self, missing: Literal["error", "skip"] = "error") -> None:
        """With `skip`, images that are not there are left out: another set, another CIDEr."""
        self.missing = missing

    def native(self, folder: Folder) -> Iterator[Sample]:
        """The evaluation images of the first layout found, in the order of its file."""
        images, origin, path = self._evaluation(folder)
        found = {image.id: self._image(folder, image, f"{path}: image {image.id}") for image in images}
        missing = [image.files[0] for image in images if found[image.id] is None]
        if missing and self.missing == "error":
            raise folder.without(missing, len(images))
        for image in images:
            ref = found[image.id]
            if ref is not None:
                yield captioned(image.id, image.captions, ref, origin)

    def training_captions(self, source: Source) -> list[tuple[str, ...]]:
        """Captions of each training image, for demonstrations.

        Raises:
            BadInput: The source holds none.
        """
        found: Iterable[Captioned] = ()
        if source.kind != "hub":
            folder = self.open(source)
            if path := folder.maybe(self.karpathy):
                found = only(read_karpathy(path), "train", "restval")
            elif path := folder.maybe(*self.training):
                found, _ = read_any(path)
        texts = [image.captions for image in found] or self.training_rows(source)
        if not texts:
            raise BadInput(
                f"{self.task}: demonstrations need training captions: give a folder with {self.karpathy} (all splits) "
                f"or {' or '.join(self.training)}, or ask without (--few-shot 0)"
            )
        return texts

    def training_rows(self, source: Source) -> list[tuple[str, ...]]:
        """The same of hub rows, where they hold training images."""
        return []

    def hub_rows(self, source: Source) -> Iterator[dict[str, Any]]:
        """Rows of a hub source or of a downloaded hub data set; none of native files."""
        if source.kind == "hub":
            yield from hub_rows(self.task, self.hub, self.get)
        elif self.hub and (files := self.open(source).parquet()):
            yield from parquet_rows(self.task, self.hub, files)

    def _evaluation(self, folder: Folder) -> tuple[list[Captioned], str, Path]:
        """The evaluated images, whose files those are (`karpathy`'s test split or the benchmark's `own`), and which."""
        path = folder.given or folder.maybe(self.karpathy, *self.evaluated, self.flat)
        if path is None and not folder.need_images:
            path = _only_captions(folder)
        path = path or folder.find(self.karpathy, *self.evaluated, self.flat)
        images, karpathy = read_any(path)
        return images, "karpathy" if karpathy else "own", path

    def _image(self, folder: Folder, image: Captioned, where: str) -> ImageRef | None:
        names = [f"{below}{name}" for name in image.files for below in ("", *(f"{f}/" for f in self.image_folders))]
        return next((ref for name in names if (ref := folder.maybe_image(name, where))), None)


class CaptionTask(ImageTask):
    """A description of each image, scored against its references by the COCO caption tools."""

    submission = 'COCO results: [{"image_id": 391895, "caption": "..."}], each image once'
    data: ClassVar[CaptionFiles]
    demo_key: ClassVar[str]  # seeds the drawing of demonstrations, beside the image: tasks on the same images share it
    pool: Sequence[tuple[str, ...]] = ()

    def samples(self, source: Source) -> Iterable[Sample]:
        """All samples; reads the demonstrations' captions first if the protocol has shots and images are asked about.

        Raises:
            BadInput: No Java, which the scorer will need; no captions for demonstrations.
        """
        find_java()
        if self.shots and source.images:
            self.pool = demo_pool(self.data.training_captions(source))
            if self.shots > len(self.pool):
                raise BadInput(f"--few-shot {self.shots}: only {len(self.pool)} training images have captions")
        return self.data.samples(source)

    def ask(self, sample: Sample) -> str:
        """The protocol's prompt; some ask Karpathy's split differently."""
        return str(self.protocol.options.get(sample.data["origin"], self.protocol.ask))

    def demos(self, sample: Sample) -> tuple[tuple[str, str], ...]:
        """Captions of random training images as earlier answers, drawn anew for each image from its id."""
        return caption_demos(self.pool, self.shots, f"{self.demo_key}|{image_id(sample)}", self.protocol.ask)

    def score(self, sample: Sample, answer: str) -> Record:
        """Caption and references; `finish` adds the statistics."""
        return {"caption": answer, "references": list(sample.data["references"])}

    @abstractmethod
    def metrics(self) -> Sequence[Metric]:
        """The metrics."""

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """COCO's results format; only the images in it are evaluated, as officially, and the others are missing.

        Raises:
            BadInput: Not that format, or an image twice.
        """
        samples = list(self.samples(source))
        found, unknown = read_results(one_path(files), {image_id(s) for s in samples})
        answers: dict[str, Sequence[Response]] = {s.id: [said(found[s.id])] for s in samples if s.id in found}
        return Submission(samples, answers, unknown=unknown)

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The first reference."""
        return (Response("ok", text=sample.data["references"][0]),)

    def signature_extra(self) -> Mapping[str, Any]:
        """Tokeniser and scorers."""
        return captions.SIGNATURE


class CocoScored(CaptionTask):
    """One caption an image, all metrics of the COCO tools (SPICE aside: it downloads its parser)."""

    headline = ("CIDEr", "Bleu_4", "METEOR", "ROUGE_L")

    def finish(self, records: Sequence[Record]) -> None:
        """Tokenises everything once and scores each image against the set."""
        captions.score_captions(records)

    def metrics(self) -> Sequence[Metric]:
        """CIDEr, BLEU 1-4, METEOR, ROUGE_L."""
        return captions.CAPTION_METRICS


def captioned(number: str, references: Sequence[str], image: ImageRef, origin: str) -> Sample:
    """The sample of one image."""
    return Sample(number, {"references": list(references), "origin": origin}, (image,))


def image_id(sample: Sample) -> str:
    """The image of a sample: several samples of a task may show one."""
    return sample.cluster or sample.id


def read_results(path: Path, known: set[str]) -> tuple[dict[str, str], list[str]]:
    """Image id to caption of a COCO results file (or as `read_descriptions` says), and the ids that are not `known`.

    An id may be a number or text, a COCO number with its leading zeros or the name of the image's file.

    Raises:
        BadInput: Not that format, or an image twice.
    """
    triples = []
    for one in read_descriptions(path):
        if not one.image:
            raise BadInput(f"{one.where}: field 'image_id' is missing")
        key = one.image if one.image in known else coco_id(one.image)
        triples.append((key, one.text, one.where))
    found = by_id(triples)
    return found, [key for key in found if key not in known]


def _only_captions(folder: Folder) -> Path | None:
    """The only captions file of a folder whose files are called otherwise.

    Raises:
        BadInput: There are several.
    """
    places = [place / below for place in folder.places for below in ("", "annotations")]
    files = [path for place in places for path in sorted(place.glob("*.json")) if holds_captions(path)]
    if len(files) > 1:
        raise BadInput(f"{folder.task}: {files[0]} and {files[1].name} both hold captions: name one (--data FILE)")
    return files[0] if files else None
