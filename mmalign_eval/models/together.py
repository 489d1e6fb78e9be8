"""Generating for prompts that begin alike: what they share goes through the model once, and one row decodes them all.

The shared path is in a cache; the prompts' own ends, and then each new token of each, follow in one row in which a
token sees the path and its own text only. Texts that grow long go on in rows of their own. The slow twin is
`generation.generate`, which has rows of their own from the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..phases import DECODE, PREFILL
from ..requests import GenParams
from .checkpoint import Ends
from .decoding import Rows, Texts
from .encoding import Ids
from .generation import Generated
from .kv import Path, Pictures
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


@dataclass(frozen=True)
class Decoding:
    """What writing texts costs beside their prompts.

    Attributes:
        steps: New tokens that texts are expected to have.
        rows: Texts in a batch where each has a row of its own.
        balance: Tokens whose arithmetic takes as long as reading the weights once: what a step takes at least.
    """

    steps: float
    rows: int
    balance: int

    def tokens(self, texts: int, at_once: int) -> float:
        """Tokens whose arithmetic takes as long as writing so many texts, of which some are in a step."""
        return self.steps * texts * max(at_once, self.balance) / at_once


def pays(lengths: Sequence[int], shared: int, held: int, width: int, decoding: Decoding) -> bool:
    """Whether going through what prompts share once is cheaper than a row for each.

    A layer of width h does 24 h^2 operations a token in its matrices, and 4 h for each token that one looks at, masked
    or not. In one row each prompt's own tokens look at the shared ones and at all others' own ones. Texts that are
    written a few at a time leave the processor waiting for the weights.

    Args:
        lengths: Tokens of each prompt.
        shared: First tokens that they share.
        held: Of these, in the cache already.
        width: Of the language model.
        decoding: Of the texts.
    """
    count = len(lengths)
    own = sum(lengths) - count * shared
    apart = sum(length * (24 * width + 2 * length) for length in lengths)
    together = (shared - held) * (24 * width + 2 * shared) + own * (24 * width + 4 * (shared + own))
    apart += int(24 * width * decoding.tokens(count, max(count, decoding.rows)))
    together += int(24 * width * decoding.tokens(count, count))
    spared = (count - 1) * shared + held
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
            texts = Texts(len(prompts), params, seeds, tokenizer, ends)
            first = _OneRow(path, prompts, shared, texts)
            logits = first.begin()
        with path.work.phase(DECODE):
            texts.take(logits)
            under_way: _OneRow | Rows = first
            while texts.active:
                if isinstance(under_way, _OneRow) and under_way.too_wide():
                    under_way = under_way.apart()
                texts.take(under_way.step())
            return texts.outcomes()
    except BaseException:  # what is in the cache is not known then
        path.forget()
        raise
    finally:
        path.back_to(shared)


class _OneRow:
    """Texts under way in one row, below a shared path."""

    def __init__(self, path: Path, prompts: Sequence[Ids], shared: int, texts: Texts) -> None:
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

    def apart(self) -> Rows:
        """The texts still under way, in rows of their own."""
        kept = list(self.texts.active)
        more = self.texts.params.max_new_tokens - self.texts.step
        cache, mask = self.path.rows([np.flatnonzero(self.sees[row].numpy()) for row in kept], more)
        return Rows(self.path.model, self.texts, self.lengths, kept, cache, mask)
