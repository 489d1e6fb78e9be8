"""Caption metrics of the COCO tools (pycocoevalcap): CIDEr, BLEU 1-4, METEOR, ROUGE_L, on PTB tokens.

`score_captions` leaves per-image statistics in the records; sums over images reproduce pycocoevalcap's corpus values
and can be resampled. CIDEr is CIDEr-D with document frequencies of the references of the images scored: it depends
on which images these are, and is 0 for a single one. Resampling keeps those frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import meteor, ptb
from .base import Metric, Record, mean
from .cider import ORDER, Cider, cider
from .formula import Formula

SIGNATURE = {"tokenizer": ptb.SIGNATURE, "meteor": meteor.SIGNATURE, "scorer": "pycocoevalcap"}
SMALL, TINY = 1e-9, 1e-15  # against division by zero, as in pycocoevalcap's bleu_scorer.py


def score_captions(records: Sequence[Record]) -> None:
    """Adds `CIDEr`, `ROUGE_L`, `bleu` and `meteor` to records that hold a `caption` and its `references`.

    All captions are tokenised at once and METEOR's alignments run in Java while the rest is computed.

    Raises:
        BadInput: No Java or no pycocoevalcap.
        MmevalError: A Java program failed.
    """
    if not records:
        return
    hypotheses, references = _tokenized(records)
    alignments = meteor.start(hypotheses, references)
    ciders = cider(hypotheses, references)
    for record, hypothesis, refs, value in zip(records, hypotheses, references, ciders, strict=True):
        record["CIDEr"] = value
        record["ROUGE_L"] = rouge_l(hypothesis, refs)
        record["bleu"] = bleu_counts(hypothesis, refs)
    for record, line in zip(records, alignments(), strict=True):
        record["meteor"] = meteor.sums(line)


def score_passes(records: Sequence[Record], field: str) -> None:
    """Adds `CIDEr` to records of several passes over one set of images (`image` says which), told apart by a field.

    Each pass is a set of its own, with the document frequencies of the images that were scored in it. The references
    of an image are tokenised once for all passes, and counted once for all passes over the same images.

    Raises:
        BadInput: No Java or no pycocoevalcap.
        MmevalError: The tokeniser failed.
    """
    texts = {r["image"]: r["references"] for r in records}
    tokens = iter(ptb.tokenize([t for refs in texts.values() for t in refs] + [r["caption"] for r in records]))
    references = {image: [next(tokens) for _ in refs] for image, refs in texts.items()}
    passes: dict[str, list[tuple[Record, str]]] = {}
    for record, caption in zip(records, tokens, strict=True):
        passes.setdefault(record[field], []).append((record, caption))
    scorers: dict[frozenset[str], tuple[dict[str, int], Cider]] = {}
    for rows in passes.values():
        images = frozenset(record["image"] for record, _ in rows)
        if images not in scorers:
            order = sorted(images)
            scorers[images] = {name: i for i, name in enumerate(order)}, Cider([references[name] for name in order])
        numbers, scorer = scorers[images]
        for record, caption in rows:
            record["CIDEr"] = scorer.score(numbers[record["image"]], caption)


def rouge_l(hypothesis: str, references: Sequence[str]) -> float:
    """ROUGE-L with beta 1.2, best precision and best recall over the references (pycocoevalcap's `rouge.py`)."""
    from pycocoevalcap.rouge.rouge import Rouge

    return float(Rouge().calc_score([hypothesis], list(references)))


def bleu_counts(hypothesis: str, references: Sequence[str]) -> list[int]:
    """Length, closest reference length (ties: the shorter), n-grams guessed (4), n-grams correct (4): `[10]`."""
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    counts: dict[str, Any] = cook_test(hypothesis, cook_refs(references, n=ORDER), n=ORDER)
    length = counts["testlen"]
    closest = min((abs(ref - length), ref) for ref in counts["reflen"])[1]
    return [length, closest, *counts["guess"], *counts["correct"]]


def bleu(order: int) -> Formula:
    """Corpus BLEU up to n-grams of `order`, of summed `bleu_counts` (Papineni et al. 2002).

    Clipped precisions without smoothing but for pycocoevalcap's constants, and its brevity penalty.
    """
    precisions = [f"(s[{2 + ORDER + n}] + {TINY}) / (s[{2 + n}] + {SMALL})" for n in range(order)]
    geometric = f"({' * '.join(f'({p})' for p in precisions)}) ** (1 / {order})"
    return Formula(f"{geometric} * exp(minimum(0, 1 - (s[1] + {SMALL}) / (s[0] + {TINY})))")


def _tokenized(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    texts = [text for r in records for text in r["references"]] + [r["caption"] for r in records]
    tokens = iter(ptb.tokenize(texts))
    references = [[next(tokens) for _ in r["references"]] for r in records]
    return list(tokens), references


def _bleu_sums(records: Sequence[Record]) -> Sequence[float]:
    return [float(x) for x in np.sum([r["bleu"] for r in records], axis=0)]


def _meteor_sums(records: Sequence[Record]) -> Sequence[float]:
    return [float(x) for x in np.sum([r["meteor"] for r in records], axis=0)]


CAPTION_METRICS = (
    mean("CIDEr", "CIDEr", unit="points", best=None, help="CIDEr-D, 0-10 (papers print it x100); pycocoevalcap"),
    *(
        Metric(f"Bleu_{n}", _bleu_sums, bleu(n), help=f"corpus BLEU, n-grams up to {n}; pycocoevalcap")
        for n in range(1, ORDER + 1)
    ),
    Metric("METEOR", _meteor_sums, meteor.SCORE, help="METEOR 1.5, English, of summed statistics; its jar"),
    mean("ROUGE_L", "ROUGE_L", help="mean ROUGE-L, beta 1.2; pycocoevalcap"),
)
