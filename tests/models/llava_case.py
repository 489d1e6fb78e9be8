"""Checkpoints written key by key as LLaVA's own code writes them, and its forward pass written out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
)

from .hf_case import copy_of, nano

SIZE, PATCH = 24, 12
EXTRAS = "non_lora_trainables.bin"


def no_image_token(path: Path, pad: bool = True) -> Path:
    """A copy of the nano language model whose tokenizer knows no `<image>`, as LLaMA's; its vocabulary is full."""
    copy_of(nano("llama"), path)
    content = json.loads((path / "tokenizer.json").read_text())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "<image>"]
    vocabulary = content["model"]["vocab"]
    vocabulary["<fifth>"] = vocabulary.pop("<image>")
    (path / "tokenizer.json").write_text(json.dumps(content))
    config = json.loads((path / "tokenizer_config.json").read_text())
    config.pop("image_token", None)
    config["extra_special_tokens"] = []
    if not pad:
        config.pop("pad_token")
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


def write_tower(path: Path, seed: int = 0) -> Path:
    """A vision tower as CLIP's repository on the hub has it: `vision_model.*` names, a preprocessor_config.json."""
    source = LlavaForConditionalGeneration.from_pretrained(nano("llava", seed))
    tower = CLIPVisionModel(source.config.vision_config)
    tower.load_state_dict(source.model.vision_tower.state_dict())
    tower.save_pretrained(path)
    tensors = load_file(path / "model.safetensors")
    save_file({f"vision_model.{k}": t for k, t in tensors.items()}, path / "model.safetensors", {"format": "pt"})
    side = {"height": SIZE, "width": SIZE}
    CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=side).save_pretrained(path)
    assert (path / "preprocessor_config.json").is_file()
    return path


@dataclass
class Original:
    """An original checkpoint and what it says.

    Attributes:
        path: Its folder.
        language: The language model, LoRA merged.
        tower: The vision tower.
        projector: Its layers' weights and biases.
        layer: Which of the tower's hidden states is read.
        wrapped: Images stand between start and end tokens.
    """

    path: Path
    language: LlamaForCausalLM
    tower: CLIPVisionModel
    projector: list[tuple[torch.Tensor, torch.Tensor]]
    layer: int = -2
    wrapped: bool = False
    config: dict[str, Any] = field(default_factory=dict)

    def logits(self, ids: list[int], pixels: torch.Tensor) -> torch.Tensor:
        """LLaVA's forward pass: features of the patches through the projector in the place of -200, then LLaMA."""
        with torch.inference_mode():
            seen = self.tower(pixels, output_hidden_states=True).hidden_states[self.layer][:, 1:]
            (weight, bias), *rest = self.projector
            seen = functional.linear(seen, weight, bias)
            for weight, bias in rest:
                seen = functional.linear(functional.gelu(seen), weight, bias)
            at = ids.index(-200)
            embed = self.language.get_input_embeddings()
            before, after = (embed(torch.tensor([part])) for part in (ids[:at], ids[at + 1 :]))
            joined = torch.cat([before, seen, after], dim=1)
            return self.language(inputs_embeds=joined).logits[0]  # type: ignore[no-any-return]

    def tokens(self) -> list[str]:
        """What it adds to LLaMA's tokens."""
        return ["<im_patch>", "<im_start>", "<im_end>"] if self.wrapped else []


def _random(*shape: int, scale: float = 0.2) -> torch.Tensor:
    return torch.randn(*shape) * scale


def _projector(kind: str) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], dict[str, torch.Tensor]]:
    layers = [(_random(32, 32), _random(32)) for _ in range(1 if kind == "linear" else 2)]
    if kind == "linear":
        return layers, {"model.mm_projector.weight": layers[0][0], "model.mm_projector.bias": layers[0][1]}
    named = {}
    for at, (weight, bias) in zip((0, 2), layers, strict=True):
        named |= {f"model.mm_projector.{at}.weight": weight, f"model.mm_projector.{at}.bias": bias}
    return layers, named


def _language(tokens: int, tied: bool) -> LlamaForCausalLM:
    """The nano LLaMA with rows for more tokens, perhaps with head and embeddings in one."""
    model = LlamaForCausalLM.from_pretrained(nano("llama"))
    if tied:
        model = LlamaForCausalLM(LlamaConfig(**{**model.config.to_dict(), "tie_word_embeddings": True}))
    torch.manual_seed(11)
    model.resize_token_embeddings(512 + tokens, mean_resizing=False)
    return model.eval()


def write_original(
    path: Path, kind: str = "linear", wrapped: bool = False, inside: bool = False, stored: str = "bin",
    layer: int = -2, model_type: str = "llava", tied: bool = False,
) -> Original:  # fmt: skip
    """A whole checkpoint: LLaMA's keys, the projector's, perhaps the tower's; in one file or in two shards."""
    path.mkdir(parents=True)
    eyes = write_tower(path.with_name(f"{path.name}-tower"))
    found = Original(
        path, _language(3 if wrapped else 0, tied), CLIPVisionModel.from_pretrained(eyes), [], layer, wrapped
    )
    torch.manual_seed(12)
    with torch.no_grad():
        for parameter in found.language.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    found.projector, projector = _projector(kind)
    state = {name: tensor.detach().clone() for name, tensor in found.language.state_dict().items()}
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)  # files of transformers 4.31 have it
    state |= projector
    if tied:
        del state["lm_head.weight"]
    if inside:
        with torch.no_grad():
            for parameter in found.tower.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        own = found.tower.state_dict()
        state |= {f"model.vision_tower.vision_tower.vision_model.{k}": t.clone() for k, t in own.items()}
    config = {
        **_llama(found.language.config), "model_type": model_type, "architectures": ["LlavaLlamaForCausalLM"],
        "mm_vision_tower": str(eyes), "mm_vision_select_layer": layer, "mm_vision_select_feature": "patch",
        "mm_hidden_size": 32, "mm_use_im_start_end": wrapped, "mm_use_im_patch_token": wrapped, "use_mm_proj": True,
        "tune_mm_mlp_adapter": False, "freeze_mm_mlp_adapter": False, "image_aspect_ratio": "square",
        "transformers_version": "4.31.0", "torch_dtype": "float32",
        **({"mm_projector_type": kind} if kind != "linear" else {}),
    }  # fmt: skip
    found.config = config
    (path / "config.json").write_text(json.dumps(config))
    _store(state, path, stored)
    _tokenizer(path, found.tokens())
    return found


def write_lora(path: Path, base: Path, wrapped: bool = False, rows: bool = True, named: str = "") -> Original:
    """The LoRA form: adapter of the language model, projector (and rows) beside it, no weights of LLaMA's own."""
    path.mkdir(parents=True)
    eyes = write_tower(path.with_name(f"{path.name}-tower"))
    language = LlamaForCausalLM.from_pretrained(base).eval()
    torch.manual_seed(13)
    extras: dict[str, torch.Tensor] = {}
    if wrapped:
        language.resize_token_embeddings(515, mean_resizing=False)
        with torch.no_grad():
            language.model.embed_tokens.weight.add_(_random(515, 32, scale=0.1))
            language.lm_head.weight.add_(_random(515, 32, scale=0.1))
        if rows:
            extras["base_model.model.model.embed_tokens.weight"] = language.model.embed_tokens.weight.detach().clone()
            extras["base_model.model.lm_head.weight"] = language.lm_head.weight.detach().clone()
    layers, projector = _projector("linear")
    extras |= {f"base_model.model.{name}": tensor for name, tensor in projector.items()}
    torch.save(extras, path / EXTRAS)
    adapter = {}
    with torch.no_grad():
        for name, module in language.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                a, b = _random(4, module.in_features), _random(module.out_features, 4)
                adapter |= {f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}
                module.weight.add_(16 / 4 * b @ a)
    torch.save(adapter, path / "adapter_model.bin")
    lora = {
        "peft_type": "LORA", "base_model_name_or_path": named, "r": 4, "lora_alpha": 16, "lora_dropout": 0.05,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "bias": "none", "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True,
        "layers_pattern": None, "layers_to_transform": None, "modules_to_save": None, "task_type": "CAUSAL_LM",
    }  # fmt: skip
    (path / "adapter_config.json").write_text(json.dumps(lora))
    config = {
        **_llama(language.config), "model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"],
        "mm_vision_tower": str(eyes), "mm_vision_select_layer": -2, "mm_hidden_size": 32, "use_mm_proj": True,
        "mm_use_im_start_end": wrapped, "mm_use_im_patch_token": wrapped,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config))
    return Original(path, language, CLIPVisionModel.from_pretrained(eyes).eval(), layers, -2, wrapped, config)


def _llama(config: LlamaConfig) -> dict[str, Any]:
    """As transformers 4.31 wrote a LLaMA's."""
    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps", "bos_token_id",
            "eos_token_id", "tie_word_embeddings")  # fmt: skip
    return {**{key: getattr(config, key) for key in keys}, "pad_token_id": 0, "rope_scaling": None, "use_cache": True}


def _store(state: dict[str, torch.Tensor], path: Path, stored: str) -> None:
    names = sorted(state)
    if stored == "safetensors":
        save_file(state, path / "model.safetensors", {"format": "pt"})
        return
    halves = (names[::2], names[1::2]) if stored == "shards" else (names,)
    files = [f"pytorch_model-{i + 1:05d}-of-00002.bin" for i in range(2)] if len(halves) > 1 else ["pytorch_model.bin"]
    for file, some in zip(files, halves, strict=True):
        torch.save({name: state[name] for name in some}, path / file)
    if len(halves) > 1:
        where = {name: file for file, some in zip(files, halves, strict=True) for name in some}
        index = {"metadata": {"total_size": 1}, "weight_map": where}
        (path / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def _tokenizer(path: Path, more: list[str]) -> None:
    bare = no_image_token(path.with_name(f"{path.name}-words"))
    tokenizer = AutoTokenizer.from_pretrained(bare)
    tokenizer.add_tokens(more, special_tokens=True)
    tokenizer.save_pretrained(path)
