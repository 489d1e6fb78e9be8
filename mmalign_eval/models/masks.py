"""Attention masks that say whom each token may look at, in the form that a model's attention takes."""

from __future__ import annotations

from typing import Any

import torch


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
