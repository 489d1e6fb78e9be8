"""Options scored one by one, as lm-eval does it: the slow twin of `shared.TreeScorer`, and who may not use that.

`why_not_shared` says why a model's attention does not allow a prefix tree; the twin is used then, and wherever a
request does not fit the model's length.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .encoding import Ids, Scored
from .likelihood import Likelihood

_PROBE_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}  # absolute, per option; half types: 0.1
_PACKED_ATTENTION = ("sdpa", "eager")  # implementations that take a 4-D mask as it is
Tensors = Mapping[str, torch.Tensor]


def block_mask(segment: torch.Tensor, model: Any) -> torch.Tensor:
    """Mask `[rows, 1, width, width]`: whom each token (third axis) may look at (fourth).

    Args:
        segment: `[rows, width]`: -1 padding, 0 what all see, k a part that sees itself and that.
        model: Whose attention takes the mask.
    """
    width = segment.shape[1]
    looked_at, looking = segment[:, None, :], segment[:, :, None]
    # Padding looks at padding only: its rows must not be empty, or softmax gives NaN.
    allowed = (looked_at == looking) | ((looked_at == 0) & (looking > 0))
    allowed &= torch.ones(width, width, dtype=torch.bool, device=segment.device).tril()
    return as_given(allowed[:, None], model)


def as_given(allowed: torch.Tensor, model: Any) -> torch.Tensor:
    """A mask of bools in the form that the model's attention takes: as it is, or numbers to add to its scores."""
    if model.config._attn_implementation == "sdpa":
        return allowed
    lowest = torch.finfo(model.dtype).min
    return torch.zeros(allowed.shape, dtype=model.dtype, device=allowed.device).masked_fill(~allowed, lowest)


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
    more = {"logits_to_keep": tail} if "logits_to_keep" in _parameters(model) else {}
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs, use_cache=False, **more).logits
    return logits[:, -tail:]


def _parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model.forward).parameters


def why_not_shared(model: Any) -> str:
    """Why this model's requests cannot share a prefix tree; empty if they can.

    What its configuration does not tell is tried out: random requests are scored in both ways. Positions that do not
    follow the position ids (ALiBi, recurrent models) or a mask that is not used as given show there.
    """
    from .kv import Path
    from .shared import TreeScorer

    reason = _configured_reason(model)
    if reason:
        return reason
    numbers = np.random.default_rng(0)
    few = min(512, model.get_input_embeddings().weight.shape[0])

    def some(count: int) -> Ids:
        return numbers.integers(5 if few > 10 else 0, few, count).astype(np.int32)

    head = some(9)
    batch = [Scored(head, (some(3), some(1), some(4))), Scored(np.concatenate([head, some(4)]), (some(2), some(5)))]
    try:  # once in one row, once after a path that is held
        found = [dict(TreeScorer(Path(model), pack).score(batch)) for pack in (64, 12)]
    except (ValueError, TypeError, RuntimeError, IndexError, AttributeError) as error:
        return f"it does not take a packed row ({str(error).strip().splitlines()[0][:120]})"
    tolerance = _PROBE_TOLERANCE.get(model.dtype, 0.1)
    for number, request in enumerate(batch):
        alone = score_separately(model, [(request.context, option) for option in request.options], 512)
        for tree in found:
            for a, b in zip(tree[number], alone, strict=True):
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
