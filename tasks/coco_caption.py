"""COCO captions: how close is a description to what five people wrote? (Chen et al., 2015; scorer: pycocoevalcap)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from mmalign_eval.tasks._profiles import caption_demos, demo_pool, sight_beyond_text, without_quotes

from mmalign_eval.data.coco import Captioned, coco_id, only, read_annotations, read_flat, read_karpathy
from mmalign_eval.data.files import Folder
from mmalign_eval.data.source import HubRows, Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics import captions
from mmalign_eval.metrics.base import Metric, Record
from mmalign_eval.metrics.java import find_java
from mmalign_eval.requests import ImageRef, Response, greedy
from mmalign_eval.task import ImageTask, Protocol, Sample, task

DESCRIBE = "Please provide a description of the picture."
ONE_SENTENCE = "Provide a one-sentence caption for the provided image."


PROTOCOLS = {
    "official": Protocol(
        ask=ONE_SENTENCE,
        params=greedy(64),
        source="scorer: tylin/coco-caption, as packaged by pycocoevalcap",
        note="the benchmark has no prompt of its own; this is the community's for COCO 2014 and 2017",
    ),
    "paper": sight_beyond_text(
        DESCRIBE,
        without_quotes,
        shots=3,
        note="at most 10 tokens, three demonstrations without their images; the paper prints CIDEr x100",
    ),
    "lmms": Protocol(
        ask=ONE_SENTENCE,
        params=greedy(64),
        source="lmms-eval, tasks/coco_cap and tasks/coco_karpathy",
        note="Karpathy's split is asked 'Describe the image briefly.', as there",
        options={"karpathy": "Describe the image briefly."},
    ),
}


class CocoCaptions(TaskData):
    """Karpathy's test split, COCO's own annotation files, the flat lists of Sight Beyond Text, or hub rows."""

    folder = "coco"
    layout = (
        "dataset_coco.json (Karpathy; its test split) or annotations/captions_val2017.json or captions_val2014.json or "
        "mscoco_test.json, and the images in val2014/ or val2017/"
    )
    get = "cocodataset.org (images, annotations); cs.stanford.edu/people/karpathy/deepimagesent (caption_datasets.zip)"
    hub = HubRows(
        ids=("lmms-lab-encoder/COCO-Caption2017", "lmms-lab/COCO-Caption2017"),
        split="val",
        columns=("question_id", "answer"),
        image="image",
    )

    def __init__(self, missing: Literal["error", "skip"] = "error") -> None:
        """With `skip`, images that are not there are left out: another set, another CIDEr."""
        self.missing = missing

    def native(self, folder: Folder) -> Iterator[Sample]:
        """The evaluation images of the first layout found, in the order of its file."""
        images, origin = self._evaluation(folder)
        found = {image.id: _first(folder, image) for image in images}
        missing = [image.files[0] for image in images if found[image.id] is None]
        if missing and self.missing == "error":
            raise folder.without(missing, len(images))
        for image in images:
            ref = found[image.id]
            if ref is not None:
                yield _sample(image.id, image.captions, ref, origin)

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """Hub rows with pixels: `question_id` is the file name, `answer` the list of captions."""
        for row in rows:
            if row["answer"]:
                yield _sample(coco_id(row["question_id"]), row["answer"], row["image"], "coco")

    def training_captions(self, source: Source) -> list[tuple[str, ...]]:
        """Captions of each training image, for demonstrations.

        Raises:
            BadInput: The source holds none.
        """
        found: Iterable[Captioned] = ()
        if source.kind != "hub":
            folder = self.open(source)
            if path := folder.maybe("dataset_coco.json"):
                found = only(read_karpathy(path), "train", "restval")
            elif path := folder.maybe(*_annotation("train2014"), *_annotation("train2017")):
                found = read_annotations(path)
            elif path := folder.maybe("mscoco_train.json"):
                found = read_flat(path)
        captions = [image.captions for image in found]
        if not captions:
            raise BadInput(
                "coco_caption: demonstrations need training captions: give a folder with dataset_coco.json (all "
                "splits), annotations/captions_train2014.json or mscoco_train.json, or ask without (--few-shot 0)"
            )
        return captions

    def _evaluation(self, folder: Folder) -> tuple[list[Captioned], str]:
        if path := folder.maybe("dataset_coco.json"):
            return list(only(read_karpathy(path), "test")), "karpathy"
        if path := folder.maybe(*_annotation("val2017"), *_annotation("val2014")):
            return list(read_annotations(path)), "coco"
        return list(read_flat(folder.find("mscoco_test.json"))), "karpathy"


@task("coco_caption", version=1, protocols=PROTOCOLS, data=CocoCaptions)
class CocoCaption(ImageTask):
    """Captions of COCO images: CIDEr, BLEU 1-4, METEOR, ROUGE_L against five references each."""

    headline = ("CIDEr", "Bleu_4", "METEOR", "ROUGE_L")
    sources = ("https://arxiv.org/abs/1504.00325", "https://github.com/tylin/coco-caption")
    pool: Sequence[tuple[str, ...]] = ()

    def samples(self, source: Source) -> Iterable[Sample]:
        """All images; reads the demonstrations' captions first if the protocol has shots.

        Raises:
            BadInput: No Java, which the scorer will need; no captions for demonstrations.
        """
        find_java()
        if self.shots:
            self.pool = demo_pool(self.data.training_captions(source))  # type: ignore[attr-defined]
            if self.shots > len(self.pool):
                raise BadInput(f"--few-shot {self.shots}: only {len(self.pool)} training images have captions")
        return super().samples(source)

    def ask(self, sample: Sample) -> str:
        """The protocol's prompt; some ask Karpathy's split differently."""
        return str(self.protocol.options.get(sample.data["origin"], self.protocol.ask))

    def demos(self, sample: Sample) -> tuple[tuple[str, str], ...]:
        """Captions of random training images as earlier answers, drawn anew for each image from its id."""
        return caption_demos(self.pool, self.shots, f"coco_caption|{sample.id}", self.protocol.ask)

    def score(self, sample: Sample, answer: str) -> Record:
        """Caption and references; `finish` adds the statistics."""
        return {"caption": answer, "references": list(sample.data["references"])}

    def finish(self, records: Sequence[Record]) -> None:
        """Tokenises everything once and scores each image against the set."""
        captions.score_captions(records)

    def metrics(self) -> Sequence[Metric]:
        """The metrics of the COCO tools (SPICE aside: it downloads its parser)."""
        return captions.CAPTION_METRICS

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The first reference."""
        return (Response("ok", text=sample.data["references"][0]),)

    def signature_extra(self) -> Mapping[str, Any]:
        """Tokeniser and scorers."""
        return captions.SIGNATURE


def _annotation(name: str) -> tuple[str, str]:
    return f"annotations/captions_{name}.json", f"captions_{name}.json"


def _first(folder: Folder, image: Captioned) -> ImageRef | None:
    return next((ref for name in image.files if (ref := folder.maybe_image(name))), None)


def _sample(number: str, references: Sequence[str], image: ImageRef, origin: str) -> Sample:
    return Sample(number, {"references": list(references), "origin": origin}, (image,))
