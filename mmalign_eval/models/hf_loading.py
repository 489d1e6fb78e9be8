"""Bringing a checkpoint's weights into memory, with nothing missing, left over or mismatched."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput, OutOfMemory
from .checkpoint import Checkpoint, one_line
from .hf_options import HfOptions

_MEMORY_MESSAGES = ("out of memory", "DefaultCPUAllocator: can't allocate memory")
_SHOWN_KEYS = 5
UNSAFE_PICKLE = (
    "refused: a pickle that holds more than tensors could run any code when it is read; get the weights as safetensors"
)


def _about_memory(error: BaseException) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or any(m in str(error) for m in _MEMORY_MESSAGES)


@contextlib.contextmanager
def translate_memory_errors() -> Iterator[None]:
    """Turns the several ways in which torch runs out of memory into `OutOfMemory`."""
    import torch

    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(one_line(error)) from error
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not _about_memory(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemory(one_line(error)) from error


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences transformers' progress bars and reports; what matters in them is raised by us."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def resolve_dtype(checkpoint: Checkpoint, options: HfOptions, device: str) -> str:
    """The weights' type in memory: as asked for; else float32 on CPU, the checkpoint's own elsewhere."""
    if options.dtype not in ("", "auto"):
        return options.dtype
    if not options.dtype and device == "cpu":
        return "float32"
    stored = getattr(checkpoint.config, "dtype", None) or getattr(checkpoint.config.get_text_config(), "dtype", None)
    return str(stored or _first_stored_type(checkpoint)).removeprefix("torch.")


def _first_stored_type(checkpoint: Checkpoint) -> str:
    """Type of the first floating-point tensor on disk; old configurations do not say it."""
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    for file in checkpoint.weight_files():
        if file.suffix == ".safetensors":
            for tensor in safetensors_header(file).values():
                if tensor["dtype"] in names:
                    return names[tensor["dtype"]]
    return "float32"


def safetensors_header(file: Path) -> dict[str, Any]:
    """Name to type, shape and place of each tensor, without reading any.

    Raises:
        BadInput: The file is damaged.
    """
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(min(size, file.stat().st_size)))
        except ValueError as error:
            raise BadInput(f"{file}: damaged (its safetensors header cannot be read); fetch it again") from error
    header.pop("__metadata__", None)
    return dict(header)


def load(
    auto_class: Any,
    checkpoint: Checkpoint,
    options: HfOptions,
    dtype: str,
    device: str,
    outside: Iterable[str] = (),
    **more: Any,
) -> Any:
    """Loads with one of transformers' Auto classes.

    Args:
        auto_class: `AutoModelForCausalLM` or `AutoModelForImageTextToText`.
        checkpoint: What to load.
        options: Attention implementation and device map.
        dtype: Name of the weights' type in memory.
        device: Where to put them, unless a device map says it.
        outside: Keys on disk that are known not to belong to this part of the model; all others must be used.
        more: Further arguments of `from_pretrained`.

    Returns:
        The model in evaluation mode.

    Raises:
        BadInput: Weights missing, unexpected or of another shape (named), or files that cannot be read.
        OutOfMemory: The weights do not fit.
    """
    import torch
    from safetensors import SafetensorError

    kwargs: dict[str, Any] = {**more, **checkpoint.revision, "dtype": getattr(torch, dtype)}
    if options.attn:
        kwargs["attn_implementation"] = options.attn
    if options.device_map:
        kwargs["device_map"] = options.device_map
    name = f"hf:{checkpoint.target}"
    with quiet_transformers(), translate_memory_errors():
        try:
            model, info = auto_class.from_pretrained(
                checkpoint.source, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
        except pickle.UnpicklingError as error:
            raise BadInput(f"{name}: {UNSAFE_PICKLE}") from error
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
            if _about_memory(error):
                raise
            raise BadInput(f"{name}: the weights cannot be loaded: {one_line(error)}") from error
        _refuse_incomplete(name, info, set(outside))
        if not options.device_map:
            model.to(device)
    model.eval()
    return model


def _refuse_incomplete(name: str, info: Mapping[str, Any], outside: set[str]) -> None:
    """Raises if a parameter was left at random or a stored weight was not used.

    transformers has already set aside what is harmless: tied heads, rotary and position buffers.
    """
    missing = sorted(info["missing_keys"])
    unexpected = sorted(set(info["unexpected_keys"]) - outside)
    mismatched = [f"{key} ({list(a)} on disk, {list(b)} expected)" for key, a, b in sorted(info["mismatched_keys"])]
    found = [
        f"{len(keys)} {kind}: {', '.join(keys[:_SHOWN_KEYS])}{', ...' if len(keys) > _SHOWN_KEYS else ''}"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched))
        if keys
    ]
    if info.get("error_msgs"):
        found.append(" ".join(str(info["error_msgs"][0]).split()))
    if found:
        raise BadInput(
            f"{name}: the checkpoint does not fit its model class, weights {'; '.join(found)}"
            " (a damaged or half-saved checkpoint, or one for another transformers version)"
        )
