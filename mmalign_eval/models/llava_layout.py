"""Checkpoints as LLaVA's own code writes them (Sight Beyond Text's and BPO's too), opened through a converted copy.

Two forms, both told by their `config.json`, which is a LLaMA's with `mm_*` keys (transformers would take its
`model_type` "llava" for its own class):

* whole: `LlavaLlamaForCausalLM`, LLaMA's names, `model.mm_projector.weight` (one layer) or `model.mm_projector.0/2.*`
  (two), perhaps `model.vision_tower.*`; the tower is otherwise the one that `mm_vision_tower` names;
* LoRA: a PEFT adapter of the language model, `non_lora_trainables.bin` (projector, perhaps embeddings and head).

The copy has transformers' form and lies in the user's cache, by the content of everything it is made of.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from ..errors import BadInput
from . import checkpoint as checkpoints
from .checkpoint import Checkpoint, one_line
from .llava_original import EXTRAS, Original, Parts, is_original, write

log = logging.getLogger(__name__)


def open_checkpoint(target: str, revision: str = "", parts: Parts | None = None) -> Checkpoint:
    """`checkpoint.open_checkpoint` for all layouts: an original one is converted first, once.

    Args:
        target: Folder or hub id.
        revision: Of a hub id.
        parts: For original layouts; refused for others.

    Raises:
        BadInput: As `checkpoint.open_checkpoint`; parts that are not there or do not fit.
    """
    parts = parts or Parts()
    folder, plain = _find(target, revision)
    if folder is not None:
        return _opened(target, folder, parts)
    assert plain is not None
    for option, value in (("vision_tower", parts.vision_tower), ("base", parts.base)):
        if value:
            raise BadInput(f"-M {option}={value}: hf:{target} is no checkpoint of LLaVA's own layout; leave it out")
    return plain


def convert(source: str, folder: Path, parts: Parts | None = None, revision: str = "") -> None:
    """Writes transformers' form of an original checkpoint.

    Args:
        source: Folder or hub id.
        folder: Where to; made.
        parts: Where what it needs is.
        revision: Of a hub id.

    Raises:
        BadInput: Not such a checkpoint, or something of it is missing or does not fit.
        OSError: It cannot be written; SafetensorError: the same.
    """
    found, _ = _find(source, revision)
    if found is None:
        raise BadInput(f"{source}: no checkpoint of LLaVA's own layout (its config.json has no mm_vision_tower)")
    write(Original(source, found, parts or Parts()), folder)


def refuse_half_an_adapter(path: str) -> None:
    """Refuses an original LoRA form as `-M adapter=` of a model that sees: its projector would be left behind.

    Raises:
        BadInput: There is a trained projector beside the adapter.
    """
    if (Path(path) / EXTRAS).is_file():
        raise BadInput(
            f"-M adapter={path}: {EXTRAS} beside it holds the projector that was trained with it: "
            f"give hf:{path} as the model, with -M base= its language model"
        )


def _find(target: str, revision: str) -> tuple[Path | None, Checkpoint | None]:
    """The files of a target in LLaVA's own layout, or else the checkpoint in the usual one."""
    folder = Path(target)
    if folder.is_dir() and is_original(folder):
        return folder, None
    try:
        plain = checkpoints.open_checkpoint(target, revision)
    except BadInput:  # transformers knows no `llava_llama`, and reads a "llava" of LLaVA's own in its own way
        found = None if folder.exists() else _on_hub(target, revision)
        if found is None:
            raise
        return found, None
    return (_on_hub(target, revision) if plain.commit else None), plain


def _on_hub(target: str, revision: str) -> Path | None:
    """A hub repository in LLaVA's own layout; its config.json has just been fetched, if there is one."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(target, "config.json", revision=revision or "main")
    except HFValidationError:
        return None
    if not isinstance(file, str) or not is_original(Path(file).parent):
        return None
    patterns = ["*.json", "*.bin", "*.safetensors", "*.model", "*.txt"]
    try:
        return Path(snapshot_download(target, revision=Path(file).parent.name, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise BadInput(f"hf:{target}: its files cannot be fetched: {one_line(error)}") from error


def _opened(target: str, folder: Path, parts: Parts) -> Checkpoint:
    from safetensors import SafetensorError

    original = Original(target, folder, parts)
    place = _cache() / original.key()
    if not (place / "config.json").is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        log.warning("hf:%s is in LLaVA's own layout: it is converted once, into %s", target, place)
        aside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        try:
            write(original, aside)
            if not place.exists():  # another process may have been quicker
                aside.rename(place)
        except (OSError, SafetensorError) as error:
            cause = getattr(error, "strerror", None) or one_line(error)
            raise BadInput(
                f"hf:{target}: its converted copy cannot be written to {place.parent} ({cause}): "
                "set XDG_CACHE_HOME to a place with room"
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    copied = checkpoints.open_checkpoint(str(place))
    return replace(copied, target=target, extracted=parts.language_only)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "mmeval" / "llava"
