"""Sampling whose draws depend on the request's seed and the step only, never on its neighbours in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from transformers import LogitsProcessor

from ..requests import GenParams


def gumbel(seed: int, step: int, count: int) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise for one step of one request.

    argmax(logits + noise) is a draw from softmax(logits) (the Gumbel-max trick: Gumbel, Statistical Theory of Extreme
    Values, 1954). The uniform numbers come from Philox4x64-10, a counter-based generator (Salmon et al., SC 2011)
    keyed by the seed, with the step in its counter: no state is carried from step to step.

    Args:
        seed: 0 <= seed < 2**64.
        step: Tokens generated before.
        count: Vocabulary size.
    """
    bits = np.random.Philox(key=seed, counter=[0, step, 0, 0])  # word 0 counts inside the step
    uniform = np.random.Generator(bits).random(count)  # in [0, 1), multiples of 2**-53
    exponential = -np.log1p(-np.maximum(uniform, 2.0**-54))  # finite and above 0
    return np.asarray(-np.log(exponential))


def filtered(logits: torch.Tensor, params: GenParams) -> torch.Tensor:
    """Logits `[rows, vocabulary]` after temperature, top-k and top-p, in this order; excluded tokens get -inf.

    Top-p keeps the smallest set of likeliest tokens whose probability reaches p (Holtzman et al., 2020), at least one.
    """
    logits = logits.float() / params.temperature
    if 0 < params.top_k < logits.shape[-1]:
        least = torch.topk(logits, params.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if params.top_p < 1.0:
        ordered, index = torch.sort(logits, dim=-1, descending=True, stable=True)
        mass = torch.softmax(ordered, dim=-1)
        excluded = mass.cumsum(dim=-1) - mass >= params.top_p  # the mass before a token already reaches p
        excluded[:, 0] = False
        logits = logits.masked_fill(torch.zeros_like(excluded).scatter(1, index, excluded), -torch.inf)
    return logits


def drawn(scores: torch.Tensor, params: GenParams, seeds: Sequence[int], step: int) -> torch.Tensor:
    """Scores `[rows, vocabulary]` whose argmax is a draw of each row's own, from its seed and the step alone."""
    noise = np.stack([gumbel(seed, step, scores.shape[-1]) for seed in seeds])
    return filtered(scores, params) + torch.from_numpy(noise).to(scores.device, torch.float32)


class SeededSampling(LogitsProcessor):
    """Turns greedy decoding into sampling: adds each row's own noise to its filtered logits, so that argmax draws."""

    def __init__(self, params: GenParams, seeds: Sequence[int], prompt_length: int) -> None:
        self.params, self.seeds, self.prompt_length = params, list(seeds), prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores `[rows, vocabulary]` whose argmax is the drawn token of each row."""
        step = input_ids.shape[1] - self.prompt_length
        return drawn(scores, self.params, self.seeds, step)  # type: ignore[return-value]
