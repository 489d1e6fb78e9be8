"""From a model spec on the command line to an adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import BadInput
from ..registry import MODELS, load_model_entry_points
from .base import ModelAdapter

INLINE_OPTION = re.compile(r",(?=[a-z_]+=)")


def open_model(spec: str, options: Mapping[str, str]) -> ModelAdapter:
    """Opens an adapter from `KIND:TARGET[,key=value...]`; options in the spec win over `options`.

    Raises:
        BadInput: Unknown kind or option, or a target that is not there.
    """
    load_model_entry_points()
    head, *inline = INLINE_OPTION.split(spec)
    kind, colon, target = head.partition(":")
    if head and kind not in MODELS.names() and Path(head).exists():
        raise BadInput(f"unknown model kind in {spec!r} - did you mean hf:{head}?")
    factory = MODELS.get(kind)
    own = dict(item.split("=", 1) for item in inline)
    adapter: ModelAdapter = factory(target if colon else "", {**options, **own})
    return adapter
