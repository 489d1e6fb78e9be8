"""CIDEr-D (Vedantam et al. 2015) as pycocoevalcap's `cider_scorer.py` computes it, its references prepared once.

An image's score is the mean over n = 1..4 and over its references of the clipped cosine of tf-idf vectors of n-grams,
damped by the difference in length, times 10. Document frequencies count the images whose references hold an n-gram.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

ORDER = 4  # longest n-gram
SIGMA = 6.0  # of the Gaussian over the difference in length, in bigrams: the scorer counts those, not words
SCALE = 10.0

Counts = list[dict[int, int]]  # for each n: number of an n-gram to how often it occurs


class Cider:
    """The references of a set of images, ready to score any number of captions of each.

    The value depends on the set: document frequencies and their number of documents are those of these images. It does
    not depend on the order of images. With one image every weight is 0, and so is the score.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        """Counts the n-grams of tokenised references: one list of texts an image."""
        self._numbers: list[dict[tuple[str, ...], int]] = [{} for _ in range(ORDER)]
        self._references = [[self._counted(text) for text in refs] for refs in references]
        frequencies = [Counter[int]() for _ in range(ORDER)]
        for refs in self._references:
            for n in range(ORDER):
                frequencies[n].update({number for counts in refs for number in counts[n]})
        total = math.log(max(1, len(references)))
        self._unseen = total  # weight of an n-gram that no reference holds
        # weights by n and number
        self._weights = [
            [total - math.log(frequencies[n][i]) for i in range(len(self._numbers[n]))] for n in range(ORDER)
        ]
        self._norms = [[self._norm(counts) for counts in refs] for refs in self._references]

    def score(self, image: int, hypothesis: str) -> float:
        """CIDEr-D of a tokenised caption of image number `image`, 0 to 10."""
        counts, unseen = self._known(hypothesis)
        norms = [math.sqrt(a * a + b * self._unseen**2) for a, b in zip(self._norm(counts), unseen, strict=True)]
        length = max(0, len(hypothesis.split()) - 1)
        references = self._references[image]
        total = 0.0
        for reference, ref_norms in zip(references, self._norms[image], strict=True):
            similar = sum(
                self._clipped(n, counts[n], reference[n]) / (norms[n] * ref_norms[n])
                for n in range(ORDER)
                if norms[n] and ref_norms[n]
            )
            difference = length - sum(reference[1].values())
            total += similar * math.exp(-(difference**2) / (2 * SIGMA**2))
        return SCALE * total / ORDER / len(references) if references else 0.0

    def _clipped(self, n: int, counts: dict[int, int], reference: dict[int, int]) -> float:
        weights = self._weights[n]
        shared = ((number, count, reference[number]) for number, count in counts.items() if number in reference)
        return sum(min(count, other) * other * weights[number] ** 2 for number, count, other in shared)

    def _norm(self, counts: Counts) -> list[float]:
        return [
            math.sqrt(sum((count * self._weights[n][number]) ** 2 for number, count in counts[n].items()))
            for n in range(ORDER)
        ]

    def _counted(self, text: str) -> Counts:
        """N-grams of a reference by number; new ones get the next number."""
        out: Counts = []
        for n, grams in enumerate(_ngrams(text)):
            numbers = self._numbers[n]
            out.append({numbers.setdefault(gram, len(numbers)): count for gram, count in grams.items()})
        return out

    def _known(self, text: str) -> tuple[Counts, list[int]]:
        """N-grams of a caption that references hold, by number, and the summed squared counts of the others."""
        known: Counts = []
        unseen = []
        for n, grams in enumerate(_ngrams(text)):
            numbers = self._numbers[n]
            known.append({numbers[gram]: count for gram, count in grams.items() if gram in numbers})
            unseen.append(sum(count**2 for gram, count in grams.items() if gram not in numbers))
        return known, unseen


def cider(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each image of a set: one tokenised caption and a list of tokenised references each."""
    scorer = Cider(references)
    return [scorer.score(i, hypothesis) for i, hypothesis in enumerate(hypotheses)]


def _ngrams(text: str) -> list[Counter[tuple[str, ...]]]:
    words = text.split()
    return [Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for n in range(1, ORDER + 1)]
