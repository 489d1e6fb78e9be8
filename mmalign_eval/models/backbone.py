"""The language model inside a multimodal checkpoint, loaded without the rest of it.

transformers' own renaming rules say which stored weight is which parameter of the whole model; from them come the rules
that bring the language model's weights straight into the causal-LM class. Nothing of the vision side is ever allocated:
the whole model only exists on the meta device, to ask for names.
"""

from __future__ import annotations

import copy
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .checkpoint import Checkpoint
from .hf_loading import UNSAFE_PICKLE, load, quiet_transformers, safetensors_header
from .hf_options import HfOptions


def text_config(checkpoint: Checkpoint) -> Any:
    """Configuration of the language model alone."""
    config = copy.deepcopy(checkpoint.config.get_text_config(decoder=True))
    # The whole model's flag decides whether head and embeddings are one (PreTrainedModel.tie_weights).
    config.tie_word_embeddings = getattr(checkpoint.config, "tie_word_embeddings", config.tie_word_embeddings)
    return config


def available(checkpoint: Checkpoint) -> bool:
    """Whether transformers has a causal-LM class for the language model inside."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    return type(checkpoint.config.get_text_config(decoder=True)) in MODEL_FOR_CAUSAL_LM_MAPPING


@dataclass(frozen=True)
class Names:
    """How the whole model's names become those of the causal language model.

    Attributes:
        whole: Every module name of the whole model.
        parameters: Every parameter and buffer name of the whole model.
        decoder: Module name of the language model in the whole, and in the causal LM.
        head: The same for the output embeddings.
        rename: A stored or former name to today's in the whole model, by transformers' own rules.
    """

    whole: frozenset[str]
    parameters: frozenset[str]
    decoder: tuple[str, str]
    head: tuple[str, str]
    rename: Callable[[str], str]

    def in_backbone(self, name: str) -> str | None:
        """A whole-model name (module or parameter) in the causal LM; None outside the language model."""
        for inside, alone in (self.decoder, self.head):
            if name == inside or name.startswith(f"{inside}."):
                return alone + name[len(inside) :]
        return None

    def elsewhere(self, key: str) -> bool:
        """Whether a stored weight belongs to a part of the whole model that is not its language model."""
        name = self.rename(key)
        if self.in_backbone(name) is not None:
            return False
        if name in self.parameters:
            return True
        parts = name.split(".")
        above = {".".join(parts[:end]) for end in range(1, len(parts))} & self.whole
        return any(not f"{self.decoder[0]}.".startswith(f"{module}.") for module in above)

    def in_whole(self, name: str) -> str | None:
        """A module name in a PEFT adapter, which may be a former one, in the whole model; None if there is none."""
        for candidate in (name, self.rename(name), self._around(name)):
            if candidate in self.whole:
                return candidate
        return None

    def _around(self, name: str) -> str:
        """A name in the causal LM in the whole model."""
        for inside, alone in (self.decoder, self.head):
            if name == alone or name.startswith(f"{alone}."):
                return inside + name[len(alone) :]
        return name

    def of_adapter(self, name: str) -> str | None:
        """A module name in a PEFT adapter in the causal LM; adapters of the causal LM keep their names."""
        whole = self.in_whole(name)
        return name if whole is None else self.in_backbone(whole)

    def outside(self, name: str) -> bool:
        """Whether a module of the whole model is no part of its language model."""
        whole = self.in_whole(name)
        return whole is not None and self.in_backbone(whole) is None


_IN_MULTIMODAL = re.compile(r"^(model\.)?language_model\.(model\.|(?=lm_head$))?")
_NOT_LANGUAGE = re.compile(r"(^|\.)(multi_modal_projector|mm_projector|vision_tower)(\.|$)")


def adapter_on_language_model(model: Any) -> tuple[Callable[[str], str | None], Callable[[str], bool]]:
    """How an adapter that was trained on a LLaVA applies to the language model that the LLaVA was made from.

    Args:
        model: A causal LM.

    Returns:
        `resolve` and `outside` for `peft_adapter.apply`: the adapter's projector has no place here and is left out.
    """
    modules = {name for name, _ in model.named_modules()}

    def resolve(name: str) -> str | None:
        prefix = f"{model.base_model_prefix}."
        candidates = (name, _IN_MULTIMODAL.sub("", name), _IN_MULTIMODAL.sub(prefix, name))
        return next((candidate for candidate in candidates if candidate in modules), None)

    return resolve, lambda name: name not in modules and _NOT_LANGUAGE.search(name) is not None


def on_meta(auto_class: Any, config: Any) -> Any:
    """A model without memory for weights, for its names and sizes."""
    import torch

    with torch.device("meta"), quiet_transformers():
        return auto_class.from_config(copy.deepcopy(config))


def _module_name(model: Any, wanted: Any) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)


def names(checkpoint: Checkpoint) -> Names:
    """The names of a multimodal checkpoint's language model; costs no memory for weights."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    whole = on_meta(AutoModelForImageTextToText, checkpoint.config)
    causal = on_meta(AutoModelForCausalLM, text_config(checkpoint))
    renamings = [rule for rule in get_model_conversion_mapping(whole) if isinstance(rule, WeightRenaming)]
    state = whole.state_dict()

    def rename(name: str) -> str:
        return str(rename_source_key(name, renamings, [], whole.base_model_prefix, state)[0])

    decoder = (_module_name(whole, whole.get_decoder()), _module_name(causal, causal.get_decoder()))
    heads = (whole.get_output_embeddings(), causal.get_output_embeddings())
    head = (_module_name(whole, heads[0]), _module_name(causal, heads[1]))
    modules = frozenset(name for name, _ in whole.named_modules())
    return Names(modules, frozenset(state), decoder, head, rename)


def key_rules(checkpoint: Checkpoint, keys: list[str]) -> tuple[dict[str, str], set[str]]:
    """Renaming rules for `from_pretrained(key_mapping=...)` and the stored keys outside the language model.

    Args:
        checkpoint: A multimodal checkpoint.
        keys: Names of its stored weights.

    Returns:
        Regular expression of a prefix on disk to the prefix in the causal LM; and the keys that are not its own.
    """
    naming = names(checkpoint)
    rules: dict[str, str] = {}
    outside: set[str] = set()
    for key in keys:
        target = naming.in_backbone(naming.rename(key))
        if target is None:
            if naming.elsewhere(key):
                outside.add(key)
            continue  # else it belongs nowhere, and loading refuses it
        stored, wanted = _without_common_end(key, target)
        if rules.setdefault(stored, wanted) != wanted:
            raise BadInput(f"hf:{checkpoint.target}: its language model cannot be told apart by key names ({key})")
    longest_first = sorted(rules.items(), key=lambda rule: -len(rule[0]))
    return {f"^{re.escape(old)}": new for old, new in longest_first if old != new}, outside


def _without_common_end(first: str, second: str) -> tuple[str, str]:
    """What is left of two dotted names without their common last parts, with a trailing dot where anything is left."""
    a, b = first.split("."), second.split(".")
    while a and b and a[-1] == b[-1]:
        a.pop()
        b.pop()
    return "".join(f"{part}." for part in a), "".join(f"{part}." for part in b)


def stored_keys(files: list[Path]) -> list[str]:
    """Names of all weights in a checkpoint's files, without reading the weights."""
    keys: list[str] = []
    for file in files:
        if file.suffix == ".safetensors":
            keys += safetensors_header(file)
        else:
            import torch

            try:
                keys += torch.load(file, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(file))
            except pickle.UnpicklingError as error:
                raise BadInput(f"{file}: {UNSAFE_PICKLE}") from error
    return keys


def load_backbone(checkpoint: Checkpoint, options: HfOptions, dtype: str, device: str) -> Any:
    """Loads the language model of a multimodal checkpoint as a causal LM.

    Raises:
        BadInput: There is no causal-LM class for it, or its weights are not complete.
    """
    from transformers import AutoModelForCausalLM

    if not available(checkpoint):
        kind = type(checkpoint.config.get_text_config(decoder=True)).__name__
        raise BadInput(f"hf:{checkpoint.target}: transformers has no causal-LM class for {kind}; leave backbone out")
    rules, outside = key_rules(checkpoint, stored_keys(checkpoint.fetch_weights()))
    return load(
        AutoModelForCausalLM,
        checkpoint,
        options,
        dtype,
        device,
        outside=outside,
        config=text_config(checkpoint),
        key_mapping=rules,
    )
