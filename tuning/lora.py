"""Which parameters train: the projector alone, language model and projector, or LoRA (with or without the projector).

The vision tower never trains (LLaVA, section 4.2; Sight Beyond Text, section 3). Types: what trains is kept in float32
and runs under autocast where bfloat16 is asked for, so that small updates are not rounded away - DeepSpeed's bfloat16
mode, which the released scripts use, keeps float32 master weights likewise; what is frozen may lie in bfloat16.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from ..errors import BadInput
from .config import Lora, Recipe

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import LlavaForConditionalGeneration

StageName = Literal["pretrain", "tune"]

_LANGUAGE = re.compile(r"(^|\.)(language_model|lm_head)\.")
_TOWER = re.compile(r"(^|\.)vision_tower\.")
_PROJECTOR = re.compile(r"(^|\.)multi_modal_projector\.")
_LORA = re.compile(r"\.lora_[AB]\.")
_COPY = ".modules_to_save."  # PEFT trains a copy of a whole module; the original stays for `disable_adapter`


def base_model(model: Any) -> LlavaForConditionalGeneration:
    """The LLaVA itself, inside DistributedDataParallel and PEFT."""
    model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def linear_names(model: nn.Module) -> list[str]:
    """Names of the language model's linear layers, `lm_head` not among them.

    They are what LLaVA's `find_all_linear_names` leaves: q, k, v, o, gate, up and down projections in a LLaMA.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and ".language_model." in f".{name}.":
            found.append(name)
    return found


def lora_targets(model: nn.Module) -> str:
    """A pattern over module names for PEFT: the language model's linear layers, whatever the vision tower's are called.

    Raises:
        BadInput: The model has no `language_model` with linear layers.
    """
    leaves = sorted({name.rpartition(".")[2] for name in linear_names(model)})
    if not leaves:
        raise BadInput(f"LoRA: {type(model).__name__} has no language_model with linear layers")
    return rf"(?:.*\.)?language_model\.(?:.*\.)?(?:{'|'.join(leaves)})"


def add_lora(model: nn.Module, lora: Lora, train_projector: bool, seed: int = 0) -> PeftModel:
    """Puts LoRA on every linear layer of the language model but its head.

    Args:
        model: A LLaVA; changed in place.
        lora: Rank, alpha, dropout; the update is alpha / r times B A (Hu et al., 2021, section 4.1), B starts at zero.
        train_projector: Trains a copy of the projector too, which is stored with the adapter. `disable_adapter` gives
            the model as it was, original projector included.
        seed: Of A's values; torch's own generator is left as it was.

    Returns:
        The wrapped model, with nothing but LoRA and, if asked for, the projector's copy trainable.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        bias="none",
        target_modules=lora_targets(model),
        modules_to_save=["multi_modal_projector"] if train_projector else None,
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers under a name of yesterday
        torch.manual_seed(seed)
        wrapped: PeftModel = get_peft_model(model, config)
    if train_projector:
        _hold_identity(wrapped)
    _as_float32(wrapped)
    return wrapped


def prepare(model: nn.Module, recipe: Recipe, stage: StageName, seed: int = 0) -> nn.Module:
    """Sets which parameters of a LLaVA train in a stage, and checks it by their names.

    Args:
        model: Changed in place.
        recipe: Its method, `lora` and `preference.train_projector` decide.
        stage: `pretrain`: the projector alone; `tune`: what the method trains.
        seed: Of LoRA's values.

    Returns:
        The model, wrapped by PEFT where LoRA trains.
    """
    if stage == "tune" and recipe.lora is not None:
        model = add_lora(model, recipe.lora, recipe.trains_projector, seed)
    else:
        wanted = trainable_names(model, recipe, stage)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in wanted)
        _as_float32(model)
    found = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    wanted = trainable_names(model, recipe, stage)
    if found != wanted:
        raise AssertionError(f"trainable by mistake, or not: {sorted(found ^ wanted)[:4]}")
    return model


def trainable_names(model: nn.Module, recipe: Recipe, stage: StageName = "tune") -> set[str]:
    """Names of the parameters that train in a stage, told by the names alone.

    Args:
        model: A LLaVA, or one wrapped by PEFT.
        recipe: As in `prepare`.
        stage: As in `prepare`.
    """
    lora = stage == "tune" and recipe.lora is not None
    projector = stage == "pretrain" or recipe.trains_projector
    frozen_layer = ".linear_2." if _is_linear(model) else None

    def trains(name: str) -> bool:
        if _TOWER.search(name):
            return False
        if _PROJECTOR.search(name):
            return projector and (not lora or _COPY in name) and not (frozen_layer and frozen_layer in name)
        if stage == "pretrain":
            return False
        return bool(_LORA.search(name)) if lora else bool(_LANGUAGE.search(name))

    return {name for name, _ in model.named_parameters() if trains(name)}


def _is_linear(model: nn.Module) -> bool:
    """A linear projector: transformers has two layers always, here with no activation and the second an identity."""
    return bool(base_model(model).config.projector_hidden_act == "linear")


def _hold_identity(model: nn.Module) -> None:
    if _is_linear(model):
        for name, parameter in model.named_parameters():
            if _PROJECTOR.search(name) and ".linear_2." in name:
                parameter.requires_grad_(False)


def _as_float32(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()
