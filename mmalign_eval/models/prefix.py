"""Options scored one by one, as lm-eval does it: the slow twin of `shared.TreeScorer`.

It is used where a model's attention allows no prefix tree (`sharing.why_not_shared`), and wherever a request does not
fit the model's length.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .encoding import Ids
from .likelihood import Likelihood

Tensors = Mapping[str, torch.Tensor]


def _read_option(logits: torch.Tensor, option: Ids) -> Likelihood:
    """Result of an option from the logits `[option tokens, vocabulary]` that foretell its tokens."""
    logits = logits.float()
    tokens = torch.from_numpy(option.astype(np.int64)).to(logits.device)
    at = torch.arange(len(option), device=logits.device)
    logprobs = torch.log_softmax(logits, dim=-1)[at, tokens].tolist()
    return Likelihood(math.fsum(logprobs), bool((logits.argmax(dim=-1) == tokens).all()))


def score_separately(
    model: Any, rows: Sequence[tuple[Ids, Ids]], max_length: int, extra: Tensors | None = None
) -> list[Likelihood]:
    """The slow twin: each (context, option) in a row of its own, nothing shared.

    Rows are padded on the right, so that neither positions nor a mask are needed for a causal model, whatever its
    position encoding; too long ones lose tokens on the left.

    Args:
        model: A transformers causal LM (or image-text model), in evaluation mode.
        rows: Contexts and non-empty options of at most `max_length` tokens.
        max_length: Most tokens the model takes.
        extra: Further model inputs for the whole batch.
    """
    inputs = [np.concatenate(row)[-(max_length + 1) :][:-1] for row in rows]
    width = max(map(len, inputs))
    ids, mask = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
    for row, tokens in enumerate(inputs):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    starts = [len(tokens) - len(option) for tokens, (_, option) in zip(inputs, rows, strict=True)]
    tail = width - min(starts)
    device = model.get_input_embeddings().weight.device
    batch = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
    logits = _tail_logits(model, tail, {**batch, **(extra or {})})
    results = []
    for row, (_, option) in enumerate(rows):
        start = starts[row] - (width - tail)
        results.append(_read_option(logits[row, start : start + len(option)], option))
    return results


def _tail_logits(model: Any, tail: int, inputs: Tensors) -> torch.Tensor:
    """Logits `[rows, tail, vocabulary]` of the last positions; no others are computed where the model allows it."""
    more = {"logits_to_keep": tail} if "logits_to_keep" in parameters(model) else {}
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs, use_cache=False, **more).logits
    return logits[:, -tail:]


def parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    """What a model's forward pass takes."""
    return inspect.signature(model.forward).parameters
