"""Which models' requests may share a prefix tree (`shared.TreeScorer`), and why others' may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .encoding import Ids, Scored
from .kv import Path
from .prefix import parameters, score_separately
from .shared import TreeScorer

_PROBE_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}  # absolute, per option; half types: 0.1
_PACKED_ATTENTION = ("sdpa", "eager")  # implementations that take a 4-D mask as it is


def why_not_shared(model: Any) -> str:
    """Why this model's requests cannot share a prefix tree; empty if they can.

    What its configuration does not tell is tried out: random requests are scored in both ways. Positions that do not
    follow the position ids (ALiBi, recurrent models) or a mask that is not used as given show there.
    """
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
    except (ValueError, TypeError, RuntimeError, LookupError, AttributeError, AssertionError) as error:
        said = str(error).strip() or type(error).__name__
        return f"it does not take a packed row ({said.splitlines()[0][:120]})"
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
    if "position_ids" not in parameters(model):
        return "it takes no position ids"
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention"} or (not kinds and getattr(config, "sliding_window", None)):
        return "not all of its layers have full attention"
    window = _window(config)
    if window:
        return f"its attention has a window ({window})"
    rope = str(getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or "")
    for unsafe in ("mrope", "dynamic", "longrope"):
        if unsafe in rope:
            return f"its rotary positions are of the {unsafe} kind"
    return ""


def _window(config: Any) -> str:
    """A window of a configuration that its layers' types do not tell of, and that the model's length goes beyond.

    Such windows count places in the row (GPT-Neo), or keep the best of all that is in it (Doge): neighbours count, too.
    """
    known = ("sliding_window", "max_window_layers")
    longest = getattr(config, "max_position_embeddings", None) or 2**62
    for name, value in config.to_dict().items():
        if "window" in name and name not in known and type(value) is int and 0 < value < longest:
            return f"{name} {value}"
    return ""
