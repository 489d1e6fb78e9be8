"""Decoding texts that stand in rows of their own: those that have ended leave the batch.

The slow twin is `generation.generate`, the library's own loop, which keeps them until the last one ends.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

from ..phases import DECODE, PREFILL, Work
from ..requests import GenParams
from .checkpoint import Ends
from .generation import Generated, StopStrings, outcome
from .kv import growing
from .sampling import drawn


def generate_rows(
    model: Any, inputs: Mapping[str, torch.Tensor], params: GenParams, seeds: Sequence[int], tokenizer: Any, ends: Ends,
    work: Work,
) -> list[Generated]:  # fmt: skip
    """Generates one text a row, greedily or sampled, for a model whose positions are those it is given.

    Args:
        model: A transformers causal LM (or image-text model), in evaluation mode.
        inputs: Left-padded `input_ids` and `attention_mask` `[rows, length]`, and what shows the images.
        params: For all rows, their seeds aside; one beam.
        seeds: One a row; used for sampling only.
        tokenizer: To decode with.
        ends: End tokens.
        work: Where it is counted.
    """
    mask = inputs["attention_mask"]
    texts = Texts(len(mask), params, seeds, tokenizer, ends)
    cache = growing(more=params.max_new_tokens - 1)  # the last one is not looked back on
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    last = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    with work.phase(PREFILL), torch.inference_mode():
        logits = model(**inputs, position_ids=positions, past_key_values=cache, use_cache=True, **last).logits[:, -1]
    rows = Rows(model, texts, mask.sum(dim=-1).tolist(), list(range(len(mask))), cache, mask)
    with work.phase(DECODE):
        texts.take(logits)
        while texts.active:
            texts.take(rows.step())
        return texts.outcomes()


class Texts:
    """What several prompts' texts have come to."""

    def __init__(self, count: int, params: GenParams, seeds: Sequence[int], tokenizer: Any, ends: Ends) -> None:
        self.params, self.seeds, self.tokenizer, self.ends = params, list(seeds), tokenizer, ends
        self.new: list[list[int]] = [[] for _ in range(count)]
        self.active = list(range(count))
        self._stops: dict[int, int] = {}
        self._bad: dict[int, int] = {}
        self._stopper = StopStrings(tokenizer, params.stop)

    @property
    def step(self) -> int:
        """New tokens of each active text."""
        return len(self.new[self.active[0]])

    def take(self, logits: torch.Tensor) -> None:
        """Chooses each active text's next token from `[active, vocabulary]`; those that end with it are done."""
        step = self.step
        scores = logits.float().clone()
        if step < self.params.min_new_tokens:
            scores[:, [token for token in self.ends.eos if token < scores.shape[-1]]] = -torch.inf
        scores = self._guarded(scores, step)
        if self.params.sampled:
            scores = drawn(scores, self.params, [self.seeds[row] for row in self.active], step)
        for row, token in zip(self.active, scores.argmax(dim=-1).tolist(), strict=True):
            self.new[row].append(token)
        hits = self._stopper.hits([self.new[row] for row in self.active])
        for row in (row for row, hit in zip(self.active, hits, strict=True) if hit):
            self._stops[row] = step + 1
        full = step + 1 >= self.params.max_new_tokens
        self.active = [
            row for row in self.active if not full and row not in self._stops and self.new[row][-1] not in self.ends.eos
        ]

    def _guarded(self, scores: torch.Tensor, step: int) -> torch.Tensor:
        """Notes texts whose scores become NaN and keeps decoding defined for them."""
        nan = torch.isnan(scores).any(dim=-1)
        for index in nan.nonzero().flatten().tolist():
            self._bad.setdefault(self.active[index], step)
        return torch.nan_to_num(scores, nan=0.0) if nan.any() else scores

    def outcomes(self) -> list[Generated]:
        """All texts, once none is active."""
        return [
            outcome(self.tokenizer, new, self.params, self.ends, self._stops.get(row), self._bad.get(row))
            for row, new in enumerate(self.new)
        ]


class Rows:
    """Texts going on in rows of their own; once half of them have ended, those leave.

    Args:
        model: A transformers model.
        texts: All texts.
        lengths: Tokens of each one's prompt.
        kept: Texts that have a row.
        cache: Keys and values `[rows, ...]` of what went through the model.
        mask: Which of its places are tokens `[rows, places]`.
    """

    def __init__(
        self, model: Any, texts: Texts, lengths: Sequence[int], kept: list[int], cache: Cache, mask: torch.Tensor
    ) -> None:
        self.model, self.texts, self.lengths = model, texts, lengths
        self.kept, self.cache, self.mask = kept, cache, mask

    def step(self) -> torch.Tensor:
        """Scores `[active, vocabulary]` of the next tokens."""
        active = set(self.texts.active)
        if len(active) <= len(self.kept) // 2:
            places = torch.tensor([at for at, row in enumerate(self.kept) if row in active], device=self.mask.device)
            self.cache.batch_select_indices(places)
            self.mask, self.kept = self.mask[places], [row for row in self.kept if row in active]
        last = [[self.texts.new[row][-1]] for row in self.kept]
        positions = [[self.lengths[row] + len(self.texts.new[row]) - 1] for row in self.kept]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.kept), 1)], dim=1)
        with torch.inference_mode():
            logits = self.model(
                input_ids=torch.tensor(last, device=self.mask.device), attention_mask=self.mask,
                position_ids=torch.tensor(positions, device=self.mask.device), past_key_values=self.cache,
                use_cache=True,
            ).logits[:, -1]  # fmt: skip
        return logits[[at for at, row in enumerate(self.kept) if row in active]]
