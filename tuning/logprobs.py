"""Log-probabilities of the two answers of preference pairs, from one look at each image.

The vision tower is frozen: what it makes of an image is computed once and given to everything that needs it - the
chosen answer, the rejected one, and the reference. Logits are computed where answers stand and nowhere else.

Two layouts give the same numbers and gradients (|a-b| <= 1e-5 max(1, |b|) in float32). `packed` puts a pair into one
row, `[prompt with image][chosen][rejected]`, whose block mask lets each answer see the prompt and itself
(`models/masks.py`): the prompt is computed once. `rows` is its slow twin: a row for each answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models.masks import block_mask
from .lora import base_model

Batch = dict[str, torch.Tensor]
CHOSEN, REJECTED = 0, 1


@dataclass(frozen=True, slots=True)
class PairIds:
    """Token ids of a pair.

    Attributes:
        prompt: Up to where the answer starts, the image expanded to its tokens.
        chosen: The preferred answer with its end token.
        rejected: The other answer, likewise.
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens of the packed row."""
        return len(self.prompt) + len(self.chosen) + len(self.rejected) - 2


def lay_out(pairs: Sequence[PairIds], pad: int, packed: bool) -> Batch:
    """Tensors of a batch, padded on the right.

    Args:
        pairs: `B` pairs.
        pad: Id that fills rows up.
        packed: One row for each pair rather than two.

    Returns:
        `input_ids`, `position_ids` and `segments` (-1 padding, 0 prompt, k the k-th answer of the row), each
        `[rows, width]`; `image` `[rows]`, the pair whose image a row shows; and for each of the `N` answer tokens
        `token` (its id), `row` and `column` (where the model predicts it), `answer` (2 x pair + 0 chosen, 1 rejected)
        and `offset` (its place in the answer).
    """
    rows = [row for pair in pairs for row in _rows(pair, packed)]
    width = max(len(row.ids) for row in rows)
    ids, positions = np.full((len(rows), width), pad, np.int64), np.zeros((len(rows), width), np.int64)
    segments = np.full((len(rows), width), -1, np.int64)
    targets = []
    for r, row in enumerate(rows):
        n = len(row.ids)
        ids[r, :n], positions[r, :n], segments[r, :n] = row.ids, row.positions, row.segments
        pair = r if packed else r // 2
        targets += [(token, r, column, 2 * pair + side, offset) for token, column, side, offset in row.targets]
    image = np.arange(len(rows)) // (1 if packed else 2)
    names = ("token", "row", "column", "answer", "offset")
    told = dict(zip(names, np.array(targets, np.int64).T.copy(), strict=True))
    arrays = {"input_ids": ids, "position_ids": positions, "segments": segments, "image": image, **told}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@dataclass(frozen=True, slots=True)
class _Row:
    ids: list[int]
    positions: list[int]
    segments: list[int]
    targets: list[tuple[int, int, int, int]]  # token, column, side, offset


def _rows(pair: PairIds, packed: bool) -> list[_Row]:
    answers = [(CHOSEN, pair.chosen), (REJECTED, pair.rejected)]
    return [_row(pair.prompt, answers)] if packed else [_row(pair.prompt, [answer]) for answer in answers]


def _row(prompt: Sequence[int], answers: Sequence[tuple[int, Sequence[int]]]) -> _Row:
    """A row of a prompt and answers; the last token of an answer is predicted, never fed."""
    n = len(prompt)
    row = _Row(list(prompt), list(range(n)), [0] * n, [])
    for k, (side, answer) in enumerate(answers, 1):
        start = len(row.ids)
        columns = [n - 1, *range(start, start + len(answer) - 1)]  # the first token is predicted at the prompt's end
        row.targets.extend((token, c, side, i) for i, (token, c) in enumerate(zip(answer, columns, strict=True)))
        row.ids.extend(answer[:-1])
        row.positions.extend(range(n, n + len(answer) - 1))
        row.segments.extend([k] * (len(answer) - 1))
    return row


@torch.no_grad()
def tower_features(llava: Any, pixels: torch.Tensor) -> torch.Tensor:
    """What the frozen vision tower makes of images: the projector's input.

    Args:
        llava: The transformers model.
        pixels: `[images, channels, height, width]`.

    Returns:
        `[images, image tokens, tower's width]`.
    """
    projector, seen = llava.model.multi_modal_projector, _Seen()
    llava.model.multi_modal_projector = seen  # it need not run, and cannot where its weights are spread over processes
    try:
        llava.get_image_features(pixels.to(llava.device, llava.model.vision_tower.dtype))
    finally:
        llava.model.multi_modal_projector = projector
    return seen.features.detach()


class _Seen(nn.Module):
    """Stands where the projector does and keeps what it is shown."""

    features: torch.Tensor

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.features = features
        return features


def answer_logits(model: Any, batch: Batch, features: torch.Tensor) -> torch.Tensor:
    """Logits where answer tokens are predicted.

    Everything happens inside one call of the model, as DistributedDataParallel, sharding and autocast want it.

    Args:
        model: The model, in PEFT and DistributedDataParallel or not.
        batch: Of `lay_out`, on the model's device.
        features: Of `tower_features`, one for each pair.

    Returns:
        `[N, vocabulary]` in float32.
    """
    llava = base_model(model)
    segments = batch["segments"]
    packed = bool((segments > 1).any())
    mask = block_mask(segments, llava) if packed else (segments >= 0).long()
    with _shown(llava, batch, features), _answers_only(llava, batch):
        ids, positions = batch["input_ids"], batch["position_ids"]
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    logits: torch.Tensor = out.logits.float()
    return logits


@contextmanager
def _shown(llava: Any, batch: Batch, features: torch.Tensor) -> Iterator[None]:
    """Puts projected features in the places of image tokens, as the model does with those of its own tower."""
    at = (batch["input_ids"] == llava.config.image_token_id).unsqueeze(-1)

    def put(
        module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        embeds = named["inputs_embeds"]
        projected = llava.model.multi_modal_projector(features).to(embeds.dtype)[batch["image"]]
        if int(at.sum()) != projected.shape[0] * projected.shape[1]:
            raise ValueError(f"{int(at.sum())} image tokens for {projected.shape[0]} x {projected.shape[1]} features")
        return inputs, {**named, "inputs_embeds": embeds.masked_scatter(at, projected)}

    hook = llava.model.language_model.register_forward_pre_hook(put, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _answers_only(llava: Any, batch: Batch) -> Iterator[None]:
    """Shows the head only the hidden states that answer tokens are predicted from."""
    row, column = batch["row"], batch["column"]
    head = llava.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda module, inputs: (inputs[0][row, column],))
    try:
        yield
    finally:
        hook.remove()


def token_logprobs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Natural-log probability of each token `[N]` under its logits `[N, vocabulary]`."""
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=1)


def summed(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Sums per-token values `[N]` over each answer.

    Returns:
        `[B, 2]`: chosen, rejected.
    """
    count = 2 * (int(batch["image"][-1]) + 1)
    grid = values.new_zeros(count, int(batch["offset"].max()) + 1)
    grid = grid.index_put((batch["answer"], batch["offset"]), values)  # no two alike: the sum's order is fixed
    return grid.sum(dim=1).view(-1, 2)


def pair_logprobs(model: Any, batch: Batch, features: torch.Tensor) -> torch.Tensor:
    """Summed log-probabilities `[B, 2]` of the chosen and rejected answers, end tokens included."""
    return summed(token_logprobs(answer_logits(model, batch, features), batch["token"]), batch)


def lengths(batch: Batch) -> torch.Tensor:
    """Tokens of each answer, `[B, 2]`."""
    return summed(torch.ones_like(batch["token"], dtype=torch.float32), batch)
