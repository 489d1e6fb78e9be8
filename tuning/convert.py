"""An original LLaVA (or Sight Beyond Text) checkpoint in transformers' form, once and for all."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors import SafetensorError

from ..errors import BadInput
from ..models.checkpoint import one_line
from ..models.llava_layout import Parts, convert
from .export import finish


def convert_checkpoint(source: str, out: Path, base: str = "", vision_tower: str = "", revision: str = "") -> None:
    """Writes the Hugging Face form of a checkpoint in LLaVA's own layout; it appears whole.

    Args:
        source: Folder or hub id.
        out: Where to; nothing may be there.
        base: Language model of a LoRA form, in place of the one that its adapter_config.json names.
        vision_tower: In place of the one that its config.json names.
        revision: Branch, tag or commit of a hub id.

    Raises:
        BadInput: Not such a checkpoint, parts missing or not fitting, or `out` cannot be written.
    """
    if out.exists():
        raise BadInput(f"{out}: there is already something there; give another place or move it away")
    aside = out.with_name(f".{out.name}.converting")  # one left by a killed conversion is no use
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        convert(source, aside, Parts(vision_tower, base), revision)
        finish(aside, out)
    except (OSError, SafetensorError) as error:
        cause = getattr(error, "strerror", None) or one_line(error)
        raise BadInput(f"{out}: cannot be written: {cause}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
