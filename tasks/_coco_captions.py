"""COCO's captions as data and as lmms-eval asks for them: what the tasks on these images share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mmalign_eval.tasks._captioning import BRIEFLY, ONE_SENTENCE, CaptionFiles, captioned

from mmalign_eval.data.coco import coco_id
from mmalign_eval.data.source import HubRows
from mmalign_eval.requests import greedy
from mmalign_eval.task import Protocol, Sample

LMMS = Protocol(
    ask=ONE_SENTENCE,
    params=greedy(64),
    source="lmms-eval, tasks/coco_cap and tasks/coco_karpathy",
    note=f"Karpathy's split is asked {BRIEFLY!r}, as there",
    options={"karpathy": BRIEFLY},
)


class CocoCaptions(CaptionFiles):
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
    karpathy, flat = "dataset_coco.json", "mscoco_test.json"
    evaluated = tuple(f"{at}captions_{split}.json" for split in ("val2017", "val2014") for at in ("annotations/", ""))
    training = (
        *(f"{at}captions_{split}.json" for split in ("train2014", "train2017") for at in ("annotations/", "")),
        "mscoco_train.json",
    )

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """Hub rows with pixels: `question_id` is the file name, `answer` the list of captions."""
        for row in rows:
            if row["answer"]:
                yield captioned(coco_id(row["question_id"]), row["answer"], row["image"], "own")
