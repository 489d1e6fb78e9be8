"""Writing a LLaVA as the llava-hf checkpoints on the hub are written, whatever transformers calls its weights today.

Servers (vLLM) and older tools look for those names; transformers 5 itself writes others for the vision tower.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_HUB_NAMES = (  # in memory -> on the hub; the first that fits
    ("model.vision_tower.vision_model.", "vision_tower.vision_model."),
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
)
SHARD = "5GB"


def hub_name(name: str) -> str:
    """A parameter of `LlavaForConditionalGeneration` as llava-hf's files call it."""
    for ours, theirs in _HUB_NAMES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def save_llava(model: Any, processor: Any, folder: Path, shard: str = SHARD) -> None:
    """Writes weights (safetensors, in shards if large), configurations, tokenizer and processor.

    Args:
        model: LlavaForConditionalGeneration.
        processor: Its processor.
        folder: Where to; made if need be.
        shard: Size from which weights go into several files.

    Raises:
        OSError: It cannot be written.
        SafetensorError: The same, while weights are written.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {hub_name(name): tensor for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("language_model.lm_head.weight", None)
    plan = split_torch_state_dict_into_shards(tensors, max_shard_size=shard)
    for file, names in plan.filename_to_tensors.items():
        save_file({name: tensors[name].contiguous() for name in names}, folder / file, {"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        _write_json(folder / "model.safetensors.index.json", index)
    model.config.architectures = [type(model).__name__.removeprefix("FSDP")]
    dtype = tensors["multi_modal_projector.linear_1.weight"].dtype
    for config in (model.config, model.config.text_config, model.config.vision_config):
        config.dtype = str(dtype).removeprefix("torch.")
        config._name_or_path = ""  # a place on this machine; the files say what the model is
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    processor.save_pretrained(folder)


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
