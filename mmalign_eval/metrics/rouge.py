"""ROUGE and BLEU of one answer against one reference, in percent, as the t5 evaluation code sets them.

Settings: google-research/text-to-text-transfer-transformer, t5/evaluation/metrics.py, which TruthfulQA's own code and
lm-eval use as well.
"""

from __future__ import annotations

from functools import cache
from typing import Any

ROUGE = ("rouge1", "rouge2", "rougeL")


def rouge(reference: str, answer: str) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L F-measures without stemming, 0-100.

    ROUGE-L is `rougeLsum`: a sentence a line, broken only at " . ", so that texts of one line get plain ROUGE-L.
    """
    scores = _scorer().score(reference.replace(" . ", ".\n"), answer.replace(" . ", ".\n"))
    return {name: scores["rougeLsum" if name == "rougeL" else name].fmeasure * 100 for name in ROUGE}


def bleu(reference: str, answer: str) -> float:
    """BLEU-4 of one pair, 0-100: exponential smoothing, `intl` tokenisation, no effective order."""
    import sacrebleu

    return float(
        sacrebleu.corpus_bleu(
            [answer], [[reference]], smooth_method="exp", tokenize="intl", use_effective_order=False
        ).score
    )


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeLsum"])
