"""COCO captions: how close is a description to what five people wrote? (Chen et al., 2015; scorer: pycocoevalcap)."""

from __future__ import annotations

from mmalign_eval.tasks._captioning import CocoScored, protocols
from mmalign_eval.tasks._coco_captions import LMMS, CocoCaptions

from mmalign_eval.task import task


@task("coco_caption", version=1, protocols=protocols(LMMS), data=CocoCaptions)
class CocoCaption(CocoScored):
    """Captions of COCO images: CIDEr, BLEU 1-4, METEOR, ROUGE_L against five references each."""

    sources = ("https://arxiv.org/abs/1504.00325", "https://github.com/tylin/coco-caption")
    demo_key = "coco_caption"
