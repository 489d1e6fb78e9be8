"""Log-likelihoods of several options after one context: the context computed once, and its slow twin.

The fast way packs a request into one row, `[context][option 1][option 2]...`: a block mask lets each option see the
context and itself, and its position ids go on from the context's end. The slow twin gives each option a row of its own,
as lm-eval does. Both return the same numbers (|a-b| <= 1e-5 max(1, |b|) in float32); where a model's attention does not
allow packing, `why_not_packed` says so and the twin is used.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .encoding import Ids, Scored

_PROBE_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}  # absolute, per option; half types: 0.1
_PACKED_ATTENTION = ("sdpa", "eager")  # implementations that take a 4-D mask as it is


@dataclass(frozen=True)
class Likelihood:
    """One option's result.

    Attributes:
        logprob: Natural-log likelihood, summed over its tokens; NaN if the model gave NaN.
        greedy: Whether each of its tokens is the likeliest one.
    """

    logprob: float
    greedy: bool


EMPTY = Likelihood(0.0, True)
Tensors = Mapping[str, torch.Tensor]


def score_packed(model: Any, batch: Sequence[Scored], extra: Tensors | None = None) -> list[list[Likelihood]]:
    """All options of each request in one row of one forward pass.

    Args:
        model: A transformers causal LM (or image-text model), in evaluation mode.
        batch: Requests that fit the model's length as they are.
        extra: Further model inputs for the whole batch (pixel values, in the order of the rows).

    Returns:
        For each request, its options' results in order.
    """
    tails = [[option for option in request.options if len(option)] for request in batch]
    fed = [[option[:-1] for option in tail] for tail in tails]
    widths = [len(r.context) + sum(map(len, f)) for r, f in zip(batch, fed, strict=True)]
    width, rows = max(widths), len(batch)
    ids, positions = np.zeros((rows, width), np.int64), np.zeros((rows, width), np.int64)
    segments = np.full((rows, width), -1, np.int64)  # -1: padding; 0: context; k: option k
    for row, (request, options) in enumerate(zip(batch, fed, strict=True)):
        start, n = width - widths[row], len(request.context)
        ids[row, start:] = np.concatenate([request.context, *options])
        positions[row, start:] = np.concatenate([np.arange(n), *(np.arange(n, n + len(o)) for o in options)])
        segments[row, start:] = np.repeat(np.arange(len(options) + 1), [n, *map(len, options)])
    device = model.get_input_embeddings().weight.device
    several = any(sum(len(option) > 0 for option in options) > 1 for options in fed)
    segment = torch.from_numpy(segments).to(device)
    mask = block_mask(segment, model) if several else (segment >= 0).long()
    tail = 1 + max(sum(map(len, options)) for options in fed)
    inputs = {
        "input_ids": torch.from_numpy(ids).to(device),
        "attention_mask": mask,
        "position_ids": torch.from_numpy(positions).to(device),
        **(extra or {}),
    }
    logits = _tail_logits(model, tail, inputs)
    results = []
    for row, request in enumerate(batch):
        own = logits[row, -(1 + sum(map(len, fed[row]))) :]
        found = iter(_read_options(own, tails[row]))
        results.append([next(found) if len(option) else EMPTY for option in request.options])
    return results


def block_mask(segment: torch.Tensor, model: Any) -> torch.Tensor:
    """Mask `[rows, 1, width, width]`: whom each token (third axis) may look at (fourth)."""
    width = segment.shape[1]
    looked_at, looking = segment[:, None, :], segment[:, :, None]
    # Padding looks at padding only: its rows must not be empty, or softmax gives NaN.
    allowed = (looked_at == looking) | ((looked_at == 0) & (looking > 0))
    allowed &= torch.ones(width, width, dtype=torch.bool, device=segment.device).tril()
    if model.config._attn_implementation == "sdpa":
        return allowed[:, None]
    lowest = torch.finfo(model.dtype).min
    return torch.zeros(allowed.shape, dtype=model.dtype, device=segment.device).masked_fill(~allowed, lowest)[:, None]


def _read_options(logits: torch.Tensor, options: Sequence[Ids]) -> list[Likelihood]:
    """Results of one row's options from its last logits `[1 + fed option tokens, vocabulary]`."""
    if not options:
        return []
    logits = logits.float()
    index, start = [], 1
    for option in options:  # the first token is predicted at the context's end, the others inside the option
        index += [0, *range(start, start + len(option) - 1)]
        start += len(option) - 1
    at = torch.tensor(index, device=logits.device)
    tokens = torch.from_numpy(np.concatenate(options).astype(np.int64)).to(logits.device)
    logprobs = torch.log_softmax(logits, dim=-1)[at, tokens].tolist()
    hits = (logits.argmax(dim=-1)[at] == tokens).tolist()
    results, start = [], 0
    for option in options:
        end = start + len(option)
        results.append(Likelihood(math.fsum(logprobs[start:end]), all(hits[start:end])))
        start = end
    return results


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
        results += _read_options(logits[row, start : start + len(option)], [option])
    return results


def _tail_logits(model: Any, tail: int, inputs: Tensors) -> torch.Tensor:
    """Logits `[rows, tail, vocabulary]` of the last positions; no others are computed where the model allows it."""
    more = {"logits_to_keep": tail} if "logits_to_keep" in _parameters(model) else {}
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs, use_cache=False, **more).logits
    return logits[:, -tail:]


def _parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model.forward).parameters


def packed_size(request: Scored) -> int:
    """Tokens of a request's packed row."""
    return len(request.context) + sum(max(0, len(option) - 1) for option in request.options)


def why_not_packed(model: Any) -> str:
    """Why this model's options cannot share a row; empty if they can.

    What its configuration does not tell is tried out: a random request is scored in both ways. Positions that do not
    follow the position ids (ALiBi, recurrent models) or a mask that is not used as given show there.
    """
    reason = _configured_reason(model)
    if reason:
        return reason
    numbers = np.random.default_rng(0)
    few = min(512, model.get_input_embeddings().weight.shape[0])

    def some(count: int) -> Ids:
        return numbers.integers(5 if few > 10 else 0, few, count).astype(np.int32)

    batch = [Scored(some(9), (some(3), some(1), some(4))), Scored(some(4), (some(2), some(5)))]
    try:
        packed = score_packed(model, batch)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        return f"it does not take a packed row ({str(error).strip().splitlines()[0][:120]})"
    tolerance = _PROBE_TOLERANCE.get(model.dtype, 0.1)
    for request, found in zip(batch, packed, strict=True):
        alone = score_separately(model, [(request.context, option) for option in request.options], 512)
        for a, b in zip(found, alone, strict=True):
            if not abs(a.logprob - b.logprob) <= tolerance * max(1.0, abs(b.logprob)):
                return "its positions or its mask do not follow what it is given"
    return ""


def _configured_reason(model: Any) -> str:
    config = model.config.get_text_config(decoder=True)
    if model.config._attn_implementation not in _PACKED_ATTENTION:
        return f"attention {model.config._attn_implementation} takes no block mask"
    if "position_ids" not in _parameters(model):
        return "it takes no position ids"
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention"} or (not kinds and getattr(config, "sliding_window", None)):
        return "not all of its layers have full attention"
    rope = str(getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or "")
    for unsafe in ("mrope", "dynamic", "longrope"):
        if unsafe in rope:
            return f"its rotary positions are of the {unsafe} kind"
    return ""
