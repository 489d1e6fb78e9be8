"""Flickr30k captions: people and what they do, five captions an image (Young et al., 2014; scorer: pycocoevalcap)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmalign_eval.tasks._captioning import ONE_SENTENCE, CaptionFiles, CocoScored, captioned, protocols

from mmalign_eval.data.source import HubRows, Source
from mmalign_eval.requests import greedy
from mmalign_eval.task import Protocol, Sample, task

ALL = "all"  # origin of samples whose rows name no split
LMMS = Protocol(
    ask=ONE_SENTENCE,
    params=greedy(64),
    source="lmms-eval, tasks/flickr30k",
    note="lmms-eval takes all 31,783 images (hub rows without a split); Karpathy's 1,000 give another number",
)


class Flickr30kFiles(CaptionFiles):
    """Karpathy's test split of 1,000 images, the lists of Sight Beyond Text, or hub rows."""

    folder = "flickr30k"
    layout = "dataset_flickr30k.json (Karpathy; its test split) or flickr30k_test.json, and flickr30k-images/"
    get = (
        "shannon.cs.illinois.edu/DenotationGraph (images, on request); cs.stanford.edu/people/karpathy/deepimagesent "
        "(caption_datasets.zip)"
    )
    hub = HubRows(
        ids=("nlphuji/flickr30k", "lmms-lab-encoder/flickr30k", "lmms-lab/flickr30k"),
        split="test",
        columns=("filename", "caption"),
        image="image",
    )
    karpathy, flat = "dataset_flickr30k.json", "flickr30k_test.json"
    training = ("flickr30k_train.json",)
    image_folders = ("flickr30k-images", "flickr30k_images", "flickr30k-images/flickr30k-images")

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """Rows of the test split where they name splits (nlphuji), else all of them (lmms-lab)."""
        for row in rows:
            if (split := row.get("split")) in (None, "test") and row["caption"]:
                origin = ALL if split is None else "karpathy"
                yield captioned(Path(row["filename"]).stem, row["caption"], row["image"], origin)

    def training_rows(self, source: Source) -> list[tuple[str, ...]]:
        """Rows of the train split, where rows name splits."""
        return [tuple(row["caption"]) for row in self.hub_rows(source) if row.get("split") == "train"]


@task("flickr30k", version=1, protocols=protocols(LMMS), data=Flickr30kFiles)
class Flickr30k(CocoScored):
    """Captions of Karpathy's 1,000 test images of Flickr30k: CIDEr, BLEU 1-4, METEOR, ROUGE_L."""

    sources = (
        "https://doi.org/10.1162/tacl_a_00166",
        "https://arxiv.org/abs/1412.2306",
        "https://github.com/tylin/coco-caption",
    )
    demo_key = "flickr30k"
    every_image = False

    def samples(self, source: Source) -> Iterator[Sample]:
        """All samples; notes whether they are Karpathy's test split."""
        for sample in super().samples(source):
            self.every_image = sample.data["origin"] == ALL
            yield sample

    def signature_extra(self) -> Mapping[str, Any]:
        """Tokeniser and scorers, and that the images are not Karpathy's."""
        extra = {"images": "all, no split"} if self.every_image else {}
        return {**super().signature_extra(), **extra}
