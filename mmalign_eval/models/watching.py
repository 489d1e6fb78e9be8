"""Counting what goes through a loaded transformers model, whichever way it is called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import LogitsProcessor

from ..phases import DECODE, VISION, Work

_PER_IMAGE = ("image_sizes", "image_grid_thw")  # inputs with a row an image where pixels have one a tile or patch


def watch(model: Any, work: Work) -> None:
    """Counts a model's tokens, and its images and the time that it takes to encode them, from now on.

    Images are encoded in `get_image_features`, as transformers calls it in every model that has one; where there is
    none, their time is part of what goes on around it.
    """

    def count(_: Any, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> None:
        ids = args[0] if args else inputs.get("input_ids")
        if ids is not None:
            work.tokens(ids.numel())

    model.register_forward_pre_hook(count, with_kwargs=True)
    for module in _encoders(model):
        module.get_image_features = _timed(module.get_image_features, work)


def _encoders(model: Any) -> list[Any]:
    """Modules that encode images themselves; those around them pass the call on."""
    able = [module for module in model.modules() if callable(getattr(module, "get_image_features", None))]
    return [module for module in able if not any(other is not module and other in able for other in module.modules())]


def _timed(encode: Callable[..., Any], work: Work) -> Callable[..., Any]:
    @functools.wraps(encode)  # transformers reads its signature
    def timed(*args: Any, **inputs: Any) -> Any:
        work.counts.images += _images(args, inputs)
        with work.phase(VISION):
            return encode(*args, **inputs)

    return timed


def _images(args: tuple[Any, ...], inputs: Mapping[str, Any]) -> int:
    for name in _PER_IMAGE:
        if inputs.get(name) is not None:
            return len(inputs[name])
    return next((len(value) for value in (*args, *inputs.values()) if isinstance(value, torch.Tensor | list)), 0)


class DecodingBegins(LogitsProcessor):
    """Last of the processors: once it has seen the prompts' logits, what follows are generated tokens."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """The scores as they are."""
        self.work.go_on(DECODE)
        return scores
