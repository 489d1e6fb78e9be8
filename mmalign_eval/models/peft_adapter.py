"""Putting a PEFT adapter (LoRA) on a model, and making sure that every tensor of its file landed.

PEFT itself only warns about tensors it has no place for. Here each one is traced: its module must exist, its shape must
fit, and after loading the model must hold exactly what the file holds.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .checkpoint import file_hash, one_line, small_hash

_ROOT = "base_model.model."
_LORA_PART = re.compile(r"\.(lora_(?:A|B|embedding_A|embedding_B|magnitude_vector))(\.\w+)?$")
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_SHOWN = 4

Resolve = Callable[[str], str | None]


@dataclass(frozen=True)
class Place:
    """Where one tensor of an adapter belongs.

    Attributes:
        module: Module name in the adapter's file.
        rest: What follows it in the tensor's name.
        lora: A LoRA matrix, rather than a whole weight saved with the adapter.
    """

    module: str
    rest: str
    lora: bool


def fingerprint(path: str) -> str:
    """Hash of an adapter's weights and configuration; not of where it or its base model is.

    Raises:
        BadInput: No weights there.
    """
    return f"{file_hash(_weights(path))}:{small_hash(Path(path) / 'adapter_config.json')}"


def _weights(path: str) -> Path:
    for name in _WEIGHTS:
        if (Path(path) / name).is_file():
            return Path(path) / name
    raise BadInput(f"-M adapter={path}: no adapter weights there (expected {_WEIGHTS[0]})")


def _place(key: str) -> Place:
    name = key.removeprefix(_ROOT)
    found = _LORA_PART.search(name)
    if found:
        return Place(name[: found.start()], name[found.start() :], lora=True)
    module, _, parameter = name.rpartition(".")
    return Place(module, f".{parameter}", lora=False)


def apply(model: Any, path: str, resolve: Resolve, outside: Callable[[str], bool] = lambda name: False) -> Any:
    """Puts an adapter on a model, in place.

    Args:
        model: A transformers model with its weights.
        path: Folder of the adapter.
        resolve: Module name in the adapter's file to the name in `model`; None where there is none.
        outside: Whether a module name belongs to a part of the checkpoint that is not loaded (a vision tower): such
            tensors cannot matter and are left out.

    Returns:
        The same transformers model, its layers now adapted.

    Raises:
        BadInput: Not a LoRA adapter, one for another model, or one that did not load completely.
    """
    return _adapted(f"-M adapter={path}", model, path, resolve, outside).get_base_model().eval()


def merge(model: Any, path: str, resolve: Resolve) -> Any:
    """Adds an adapter's updates to the weights themselves and puts in the modules that it holds whole.

    Args:
        model: A transformers model with its weights, changed in place; float32, or the updates are rounded.
        path: Folder of the adapter.
        resolve: As in `apply`.

    Returns:
        The transformers model, a plain one.

    Raises:
        BadInput: As `apply`.
    """
    return _adapted(f"--adapter {path}", model, path, resolve, lambda name: False).merge_and_unload()


def _adapted(prefix: str, model: Any, path: str, resolve: Resolve, outside: Callable[[str], bool]) -> Any:
    """The model in PEFT, checked; `prefix` begins messages."""
    from peft import LoraConfig, PeftConfig, get_peft_model
    from peft.utils import load_peft_weights

    _weights(path)
    try:
        config = PeftConfig.from_pretrained(path)
        stored = load_peft_weights(path, device="cpu")
    except Exception as error:  # peft raises whatever json, torch or safetensors raised
        raise BadInput(f"{prefix}: cannot be read: {one_line(error)}") from error
    if not isinstance(config, LoraConfig) or getattr(config, "target_parameters", None):
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise BadInput(f"{prefix}: only LoRA on modules is supported, not {kind} on parameters or other kinds")
    places = {key: _place(key) for key in stored if not outside(_place(key).module)}
    targets = _resolve_all(prefix, model, places, resolve)
    tensors = {f"{_ROOT}{targets[p.module]}{p.rest}": stored[key] for key, p in places.items()}
    _check_shapes(prefix, model, tensors)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers under a name of yesterday
            adapted = get_peft_model(model, _named_explicitly(config, places, targets))
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise BadInput(f"{prefix}: does not apply: {one_line(error)}") from error
    _fill(prefix, adapted, tensors)
    return adapted


def _resolve_all(prefix: str, model: Any, places: dict[str, Place], resolve: Resolve) -> dict[str, str]:
    modules = {name for name, _ in model.named_modules()}
    found = {place.module: resolve(place.module) for place in places.values()}
    unknown = sorted(name for name, target in found.items() if target is None or target not in modules)
    if unknown or not found:
        names = ", ".join(unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
        cause = f"{len(unknown)} of its {len(found)} modules are not in this model: {names}" if found else "it is empty"
        raise BadInput(f"{prefix}: made for another model; {cause}")
    return {name: target for name, target in found.items() if target is not None}


def _check_shapes(prefix: str, model: Any, tensors: dict[str, Any]) -> None:
    """Compares the sides of each LoRA pair with the weight they adapt."""
    wrong = []
    for key, tensor in tensors.items():
        place = _place(key)
        module = model.get_submodule(place.module)
        wanted: Any
        got: Any
        if place.rest == ".lora_A.weight":
            wanted, got = _sides(module)[0], tensor.shape[1]
        elif place.rest == ".lora_B.weight":
            wanted, got = _sides(module)[1], tensor.shape[0]
        elif not place.lora and hasattr(module, place.rest.removeprefix(".")):
            wanted, got = list(getattr(module, place.rest.removeprefix(".")).shape), list(tensor.shape)
        else:  # other parts of a LoRA (embeddings, DoRA magnitudes): loading compares them
            continue
        if wanted != got:
            wrong.append(f"{place.module}{place.rest} ({got}, this model has {wanted})")
    if wrong:
        more = ", ..." if len(wrong) > _SHOWN else ""
        raise BadInput(f"{prefix}: made for a model of another shape: {', '.join(wrong[:_SHOWN])}{more}")


def _sides(module: Any) -> tuple[int, int]:
    """Inputs and outputs of a linear layer (GPT-2's Conv1D stores them the other way round)."""
    if hasattr(module, "in_features"):
        return int(module.in_features), int(module.out_features)
    first, second = module.weight.shape[:2]
    return (int(first), int(second)) if type(module).__name__ == "Conv1D" else (int(second), int(first))


def _named_explicitly(config: Any, places: dict[str, Place], targets: dict[str, str]) -> Any:
    """The adapter's configuration with each adapted module by its full name here.

    Patterns over the names it was trained with (`.*language_model.*`) would not match after renaming, and what is in
    the file is what was adapted.
    """
    from dataclasses import replace

    from peft.utils.other import get_pattern_key

    adapted = sorted({p.module for p in places.values() if p.lora})
    whole = sorted({p.module for p in places.values() if not p.lora})

    def value(patterns: dict[str, int], module: str, default: int) -> int:
        return patterns.get(get_pattern_key(list(patterns), module), default) if patterns else default

    return replace(
        config,
        target_modules=[targets[name] for name in adapted],
        rank_pattern={targets[n]: value(config.rank_pattern, n, config.r) for n in adapted},
        alpha_pattern={targets[n]: value(config.alpha_pattern, n, config.lora_alpha) for n in adapted},
        modules_to_save=[targets[name] for name in whole] or None,
        exclude_modules=None,
        layers_to_transform=None,
        layers_pattern=None,
        inference_mode=True,
        base_model_name_or_path=None,
    )


def _fill(prefix: str, adapted: Any, tensors: dict[str, Any]) -> None:
    """Loads the tensors and checks that the model now holds all of them, and no adapter weight that was not loaded."""
    import torch
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    try:
        result: Any = set_peft_model_state_dict(adapted, tensors)
    except (RuntimeError, KeyError, ValueError) as error:
        raise BadInput(f"{prefix}: does not apply: {one_line(error)}") from error
    held = get_peft_model_state_dict(adapted, save_embedding_layers=False)

    def landed(key: str) -> bool:
        return key in held and torch.equal(held[key].cpu(), tensors[key].to(held[key].dtype))

    lost = [key for key in tensors if not landed(key)] + list(result.unexpected_keys)
    random = [key for key in held if key not in tensors]
    if lost or random:
        kind = "tensors of its file found no place" if lost else "adapter weights are not in its file"
        names = ", ".join(key.removeprefix(_ROOT) for key in (lost or random)[:_SHOWN])
        raise BadInput(f"{prefix}: incomplete; {len(lost or random)} {kind}: {names}")


def summary(path: str) -> str:
    """What kind of adapter it is, for people."""
    config = json.loads((Path(path) / "adapter_config.json").read_text(encoding="utf-8"))
    return f"{config.get('peft_type', '?')} r={config.get('r', '?')} alpha={config.get('lora_alpha', '?')}"
