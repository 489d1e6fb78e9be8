"""PEFT adapters: they apply completely, or are refused with the cause."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, LlamaConfig, LlamaForCausalLM

from mmalign_eval.errors import BadInput
from mmalign_eval.models.hf import open_model
from mmalign_eval.requests import Choose, Prompt

from .hf_case import ask, copy_of, load, nano, near, opened, pictures, scratch

IDS = torch.randint(5, 500, (2, 9), generator=torch.Generator().manual_seed(0))
LANGUAGE = r".*language_model.*\.(q_proj|v_proj|up_proj)"
WEIGHTS = "adapter_model.safetensors"


def base(arch: str) -> Any:
    auto = AutoModelForImageTextToText if arch == "llava" else AutoModelForCausalLM
    return auto.from_pretrained(nano(arch))


def saved(model: Any, name: str, config: Any) -> Path:
    torch.manual_seed(1)
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for parameter_name, parameter in adapted.named_parameters():
            if "lora" in parameter_name or "modules_to_save" in parameter_name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    folder = scratch(f"adapter-{name}")
    adapted.save_pretrained(folder)
    return folder


def logits(model: Any, **inputs: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS, **inputs).logits


def by_peft(arch: str, path: Path) -> torch.Tensor:
    return logits(PeftModel.from_pretrained(base(arch), path).eval())


CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {}),
    "ranks": ("llama", {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {r"layers\.1\.self_attn\.q_proj": 32}}),
    "one_layer": ("llama", {"layers_to_transform": [1], "layers_pattern": "layers"}),
    "rslora": ("llama", {"use_rslora": True}),
    "dora": ("llama", {"use_dora": True}),
    "head": ("llama", {"modules_to_save": ["lm_head"]}),
    "conv1d": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "whole": ("llava", {"target_modules": LANGUAGE}),
    "everywhere": ("llava", {"target_modules": ["q_proj", "linear_1"]}),
}


def named(name: str) -> Path:
    arch, config = CONFIGS[name]
    return _named(name, arch, json.dumps(config))


@cache
def _named(name: str, arch: str, config: str) -> Path:
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **json.loads(config)}
    return saved(base(arch), name, LoraConfig(**settings))


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_pefts_own(name: str) -> None:
    arch, folder = CONFIGS[name][0], str(named(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # peft's own affairs are not for who scores an adapter
        model = load(nano(arch), adapter=folder)
    found = logits(model._model)
    assert torch.allclose(found, by_peft(arch, named(name)), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, logits(opened(arch)._model), atol=1e-2)


@pytest.mark.parametrize("name", ["whole", "everywhere", "plain"])
def test_adapters_of_the_whole_and_of_the_language_model_apply_to_the_backbone(name: str) -> None:
    backbone = load(nano("llava"), backbone="true", adapter=str(named(name)))
    found = logits(backbone._model)
    if name == "plain":  # trained on a causal LM of the same shape
        alone = LlamaForCausalLM(backbone.config).eval()
        alone.load_state_dict(opened("llava", backbone="true")._model.state_dict())
        expected = logits(PeftModel.from_pretrained(alone, named(name)).eval())
    else:
        expected = logits(load(nano("llava"), adapter=str(named(name)))._model)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, logits(opened("llava", backbone="true")._model), atol=1e-2)


@pytest.mark.parametrize("former", [False, True])
def test_an_adapter_of_the_whole_applies_to_a_language_model_alone(tmp_path: Path, former: bool) -> None:
    path = copy_of(named("whole"), tmp_path / "adapter")
    tensors = load_file(path / WEIGHTS)
    if former:
        old = {k.replace("model.model.language_model.", "model.language_model.model."): t for k, t in tensors.items()}
        save_file(old, path / WEIGHTS, {"format": "pt"})
    alone = {key.replace("model.model.language_model.", "model.model."): tensor for key, tensor in tensors.items()}
    twin = copy_of(named("whole"), tmp_path / "twin")
    config = json.loads((twin / "adapter_config.json").read_text())
    (twin / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj", "v_proj", "up_proj"]}))
    save_file(alone, twin / WEIGHTS, {"format": "pt"})
    found = logits(load(nano("llama"), adapter=str(path))._model)
    assert torch.allclose(found, by_peft("llama", twin), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, logits(opened("llama")._model), atol=1e-2)


def test_an_adapter_of_the_language_model_applies_to_the_whole() -> None:
    found = logits(load(nano("llava"), adapter=str(named("plain")))._model)
    expected = logits(load(nano("llava"), backbone="true", adapter=str(named("plain")))._model)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, logits(opened("llava")._model), atol=1e-2)


def test_former_module_names_are_understood(tmp_path: Path) -> None:
    path = copy_of(named("whole"), tmp_path / "old")
    tensors = load_file(path / WEIGHTS)
    old = {k.replace("model.model.language_model.", "model.language_model.model."): t for k, t in tensors.items()}
    assert not set(old) & set(tensors)
    save_file(old, path / WEIGHTS, {"format": "pt"})
    expected = logits(load(nano("llava"), adapter=str(named("whole")))._model)
    for options in ({}, {"backbone": "true"}):
        assert torch.allclose(logits(load(nano("llava"), adapter=str(path), **options)._model), expected, atol=1e-5)


def test_an_adapter_changes_answers_and_identity_and_is_described() -> None:
    request = Choose(Prompt("Is there a dog?", pictures()[:1]), (" Yes", " No"))
    plain, tuned = opened("llava"), load(nano("llava"), adapter=str(named("whole")))
    assert not near(ask(plain, [request])[0].logprobs[0], ask(tuned, [request])[0].logprobs[0])
    assert plain.fingerprint() != tuned.fingerprint()
    assert tuned.fingerprint() != open_model(str(nano("llava")), {"adapter": str(named("everywhere"))}).fingerprint()
    assert tuned.describe()["adapter"] == "LORA r=4 alpha=8"
    assert tuned.name == "llava-0+adapter-whole"
    text = tuned.for_text()
    text.load()
    assert torch.allclose(logits(text._model), logits(tuned._model), atol=1e-5)


def test_identity_follows_the_adapters_content_not_its_place(tmp_path: Path) -> None:
    path = copy_of(named("plain"), tmp_path / "elsewhere")
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/another/place"}))

    def fingerprint(folder: Path) -> str:
        return open_model(str(nano("llama")), {"adapter": str(folder)}).fingerprint()

    assert fingerprint(path) == fingerprint(named("plain"))
    (path / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 9}))
    assert fingerprint(path) != fingerprint(named("plain"))


def wide() -> Path:
    return saved(LlamaForCausalLM(LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )), "wide", LoraConfig(target_modules=["q_proj"]))  # fmt: skip


def deep() -> Path:
    return saved(LlamaForCausalLM(LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4
    )), "deep", LoraConfig(target_modules=["q_proj"]))  # fmt: skip


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[], Path]:
    def make() -> Path:
        path = copy_of(named("plain"), scratch(f"changed-{len(list(scratch('').glob('changed-*')))}"))
        tensors = load_file(path / WEIGHTS)
        change(tensors)
        save_file(tensors, path / WEIGHTS, {"format": "pt"})
        return path

    return make


def ia3() -> Path:
    config = IA3Config(target_modules=["q_proj"], feedforward_modules=[], task_type="CAUSAL_LM")
    return saved(base("llama"), "ia3", config)


def cut_short() -> Path:
    path = copy_of(named("plain"), scratch("cut-short"))
    (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:200])
    return path


PLACE = "base_model.model.model.layers.0.self_attn"


def added(name: str, *shape: int) -> Callable[[], Path]:
    return changed(lambda tensors: tensors.update({name: torch.ones(*shape)}))


REFUSED: list[tuple[Callable[[], Path], str]] = [
    (wide, r"made for a model of another shape: .*q_proj\.lora_A\.weight \(64, this model has 32\)"),
    (deep, r"made for another model; 2 of its 4 modules are not in this model: model\.layers\.2\.self_attn\.q_proj"),
    (lambda: named("conv1d"), r"made for another model; .* transformer\.h\.0\.attn\.c_attn"),
    (added("base_model.model.ghost.lora_A.weight", 4, 32), r"another model; .*ghost"),
    (added(f"{PLACE}.o_proj.lora_A.weight", 4, 32), r"not in its file: .*o_proj\.lora_B"),
    (added(f"{PLACE}.q_proj.lora_C.weight", 4), r"another model; .*q_proj\.lora_C"),
    (added(f"{PLACE}.q_proj.lora_B.weight", 32, 3), "does not apply: "),
    (changed(lambda t: t.pop(f"{PLACE}.q_proj.lora_B.weight")), r"1 .* not in its file: .*q_proj\.lora_B"),
    (changed(dict.clear), "it is empty"),
    (ia3, "only LoRA"),
    (cut_short, "cannot be read"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_adapters_that_do_not_apply_are_refused(make: Callable[[], Path], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        load(nano("llama"), adapter=str(make()))
    assert "\n" not in str(caught.value)


def test_missing_adapters_are_refused_at_opening(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no PEFT adapter there \(no adapter_config.json\)"):
        open_model(str(nano("llama")), {"adapter": str(tmp_path / "none")})
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match="no adapter weights there"):
        open_model(str(nano("llama")), {"adapter": str(tmp_path)}).identity()


def test_an_adapter_given_as_a_model_says_what_to_do() -> None:
    with pytest.raises(BadInput, match="it is a PEFT adapter: give its base model, and -M adapter="):
        open_model(str(named("plain")), {})
