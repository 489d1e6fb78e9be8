"""`mmeval tune convert`: checkpoints in LLaVA's own layout as Hugging Face's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Folder or hub id, as LLaVA's own code wrote it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder.")],
    base: Annotated[
        str, typer.Option(metavar="MODEL", help="Language model that a LoRA was trained on; else the one it names.")
    ] = "",
    vision_tower: Annotated[
        str, typer.Option(metavar="MODEL", help="CLIP vision tower; else the one that its config.json names.")
    ] = "",
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of a hub id.")] = "",
) -> None:
    """Write the Hugging Face form of an original LLaVA or Sight Beyond Text checkpoint (a LoRA is merged)."""
    from ..tuning.convert import convert_checkpoint

    convert_checkpoint(source, out, base, vision_tower, revision)
    print(out)
