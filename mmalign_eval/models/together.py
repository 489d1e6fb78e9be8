"""Generating for prompts that begin alike: what they share goes through the model once, and one row decodes them all.

The shared path is in a cache; the prompts' own ends, and then each new token of each, follow in one row in which a
token sees the path and its own text only. Texts that grow long go on in rows of their own. The slow twin is
`generation.generate`, which has rows of their own from the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..phases import DECODE, PREFILL
from ..requests import GenParams
from .checkpoint import Ends
from .encoding import Ids
from .generation import Generated, StopStrings, outcome
from .kv import Path, Pictures
from .sampling import drawn
from .tree import Tree, build, common

_WORTH_SHARING = 64  # tokens that need not go through the model again
_OTHERS = 512  # other texts' tokens that a token may have to look past at any rate


def shared_path(prompts: Sequence[Ids]) -> int:
    """Tokens that all prompts begin with; each keeps at least one of its own."""
    first, last = min(prompts, key=bytes_of), max(prompts, key=bytes_of)
    return min(common(first, last), min(map(len, prompts)) - 1)


def bytes_of(ids: Ids) -> bytes:
    """Bytes in whose order sequences with a common beginning are neighbours."""
    return ids.astype(">u4").tobytes()


def pays(lengths: Sequence[int], shared: int, held: int, width: int) -> bool:
    """Whether going through what prompts share once is cheaper than a row for each.

    A layer of width h does 24 h^2 operations a token in its matrices, and 4 h for each token that one looks at, masked
    or not. In one row each prompt's own tokens look at the shared ones and at all others' own ones.

    Args:
        lengths: Tokens of each prompt.
        shared: First tokens that they share.
        held: Of these, in the cache already.
        width: Of the language model.
    """
    own = sum(lengths) - len(lengths) * shared
    apart = sum(length * (24 * width + 2 * length) for length in lengths)
    together = (shared - held) * (24 * width + 2 * shared) + own * (24 * width + 4 * (shared + own))
    spared = (len(lengths) - 1) * shared + held
    return spared >= _WORTH_SHARING and together < apart


def generate_together(
    path: Path, prompts: Sequence[Ids], params: GenParams, seeds: Sequence[int], tokenizer: Any, ends: Ends,
    pictures: Pictures | None = None,
) -> list[Generated]:  # fmt: skip
    """Generates one text a prompt, greedily or sampled.

    Args:
        path: Of the model; it holds the shared tokens afterwards.
        prompts: Token ids, at least one each; images as stand-ins, in what all share.
        params: For all, their seeds aside; one beam.
        seeds: One a prompt; used for sampling only.
        tokenizer: To decode with.
        ends: End tokens.
        pictures: Of the stand-ins.
    """
    shared = shared_path(prompts)
    try:
        with path.work.phase(PREFILL):
            for _ in path.hold(prompts[0][:shared], pictures=pictures):
                pass
            texts = _Texts(len(prompts), params, seeds, tokenizer, ends)
            first = _OneRow(path, prompts, shared, texts)
            logits = first.begin()
        with path.work.phase(DECODE):
            texts.take(logits)
            under_way: _OneRow | _Rows = first
            while texts.active:
                if isinstance(under_way, _OneRow) and under_way.too_wide():
                    under_way = _Rows(under_way)
                texts.take(under_way.step())
            return texts.outcomes()
    except BaseException:  # what is in the cache is not known then
        path.forget()
        raise
    finally:
        path.back_to(shared)


class _Texts:
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
            scores[:, list(self.ends.eos)] = -torch.inf
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


class _OneRow:
    """Texts under way in one row, below a shared path."""

    def __init__(self, path: Path, prompts: Sequence[Ids], shared: int, texts: _Texts) -> None:
        self.path, self.shared, self.texts = path, shared, texts
        self.lengths = [len(prompt) for prompt in prompts]
        self.tree: Tree = build([prompt[shared:] for prompt in prompts])
        sees = torch.zeros(len(prompts), shared + len(self.tree), dtype=torch.bool)
        sees[:, :shared] = True
        for row, own in enumerate(self.tree.paths):
            sees[row, torch.from_numpy(own) + shared] = True
        self.sees = sees

    def begin(self) -> torch.Tensor:
        """Scores `[prompts, vocabulary]` of the first new tokens."""
        tree, held = self.tree, self.shared
        slots, end = torch.arange(len(tree)), torch.from_numpy(tree.end)
        sees = (slots[None, :] <= slots[:, None]) & (end[None, :] > slots[:, None])
        mask = torch.cat([torch.ones(len(tree), held, dtype=torch.bool), sees], dim=1)
        kept, back = np.unique([own[-1] for own in tree.paths], return_inverse=True)
        self.path.work.hit(held)
        logits = self.path.forward(tree.ids, tree.position + held, torch.from_numpy(kept), mask)
        return logits[torch.from_numpy(back).to(logits.device)]

    def step(self) -> torch.Tensor:
        """Scores `[active, vocabulary]` of the next tokens."""
        active, count = torch.tensor(self.texts.active), len(self.texts.active)
        more = torch.zeros(len(self.lengths), count, dtype=torch.bool)
        more[active, torch.arange(count)] = True
        self.sees = torch.cat([self.sees, more], dim=1)
        ids = np.array([self.texts.new[row][-1] for row in self.texts.active], np.int32)
        positions = [self.lengths[row] + self.texts.step - 1 for row in self.texts.active]
        return self.path.forward(ids, positions, torch.arange(count), self.sees[active])

    def too_wide(self) -> bool:
        """Whether most of what a token has to look past is other texts' own: rows of their own are cheaper then."""
        return self.sees.shape[1] - self.shared > max(self.shared, _OTHERS)


class _Rows:
    """The same texts, going on in rows of their own."""

    def __init__(self, one: _OneRow) -> None:
        self.model, self.texts, self.lengths = one.path.model, one.texts, one.lengths
        self.kept = list(one.texts.active)
        self.cache, self.mask = one.path.rows([np.flatnonzero(one.sees[row].numpy()) for row in self.kept])

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
