"""`mini`: the embedded checkpoints through the ordinary adapter; nothing else about them is special."""

from __future__ import annotations

from typing import Literal

from ..errors import BadInput, did_you_mean
from ..models.base import ModelAdapter, Options
from . import checkpoint

NAMES: dict[str, Literal["llava", "lm"]] = {"": "llava", "llava": "llava", "lm": "lm"}


def open_model(target: str, options: Options) -> ModelAdapter:
    """Opens `mini` (the small LLaVA) or `mini:lm` (its language model before any visual tuning).

    Raises:
        BadInput: Another name.
    """
    from ..models.hf import open_model as open_hf

    if target not in NAMES:
        raise BadInput(f"unknown miniature {target!r}{did_you_mean(target, NAMES)}; there are mini and mini:lm")
    folder = checkpoint(NAMES[target])
    model = open_hf(str(folder), options)
    # its language model answers the text tasks: one name, or its results would stand under another model's
    for one in {model, model.for_text()}:  # what follows the folder's name (a PEFT adapter, weakened images) stays
        one.name = ("mini" if NAMES[target] == "llava" else "mini-lm") + one.name.removeprefix(folder.name)
    return model
