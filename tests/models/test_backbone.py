"""The language model inside a LLaVA: same logits, no vision weight in memory, whatever the names on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

from mmalign_eval.errors import BadInput
from mmalign_eval.models import backbone as backbone_module
from mmalign_eval.models.backbone import key_rules, stored_keys
from mmalign_eval.models.checkpoint import open_checkpoint
from mmalign_eval.models.hf import open_model
from mmalign_eval.requests import Choose, Generate, Prompt, greedy

from .hf_case import ask, copy_of, load, nano, opened, same

IDS = torch.randint(5, 500, (3, 11), generator=torch.Generator().manual_seed(0))
NEW_NAMES = [  # as transformers names them in memory, and as some checkpoints are stored
    (r"^language_model\.model\.", "model.language_model."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^(vision_tower|multi_modal_projector)\.", r"model.\1."),
]
HUB_NAMES = [(r"^vision_tower\.", "vision_tower.vision_model.")]  # llava-hf's


def renamed(path: Path, rules: list[tuple[str, str]]) -> None:
    tensors = load_file(path / "model.safetensors")
    for old, new in rules:
        tensors = {re.sub(old, new, key): tensor for key, tensor in tensors.items()}
    save_file(tensors, path / "model.safetensors", {"format": "pt"})


def variant(kind: str, tmp_path: Path) -> Path:
    path = tmp_path / kind
    if kind == "tied":
        config: Any = LlavaConfig.from_pretrained(nano("llava"))
        config.tie_word_embeddings = config.text_config.tie_word_embeddings = True
        torch.manual_seed(0)
        copy_of(nano("llava"), path)
        LlavaForConditionalGeneration(config).save_pretrained(path)
        assert not [key for key in load_file(path / "model.safetensors") if "lm_head" in key]
        return path
    copy_of(nano("llava"), path)
    if kind == "model.language_model":
        renamed(path, NEW_NAMES)
    elif kind == "hub":
        renamed(path, HUB_NAMES)
    elif kind == "sharded":
        (path / "model.safetensors").unlink()
        AutoModelForImageTextToText.from_pretrained(nano("llava")).save_pretrained(path, max_shard_size="100KB")
        assert (path / "model.safetensors.index.json").is_file()
    elif kind == "bin":
        torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
        (path / "model.safetensors").unlink()
    return path


@pytest.mark.parametrize("kind", ["language_model.model", "model.language_model", "hub", "sharded", "tied", "bin"])
def test_logits_equal_the_whole_models(kind: str, tmp_path: Path) -> None:
    path = variant(kind, tmp_path)
    whole, backbone = load(path), load(path, backbone="true")
    assert type(backbone._model).__name__ == "LlamaForCausalLM"
    with torch.inference_mode():
        assert torch.equal(backbone._model(IDS).logits, whole._model(IDS).logits)
    expected = sum(p.numel() for n, p in whole._model.named_parameters() if "language_model" in n or "lm_head" in n)
    assert backbone.describe()["parameters"] == expected
    assert open_model(str(path), {"backbone": "true"}).describe()["parameters"] == expected  # known before loading


def test_keys_outside_are_exactly_the_vision_side() -> None:
    checkpoint = open_checkpoint(str(nano("llava")))
    keys = stored_keys(checkpoint.weight_files())
    rules, outside = key_rules(checkpoint, keys)
    assert rules == {r"^language_model\.": ""}
    assert outside == {key for key in keys if not key.startswith("language_model.")}
    assert any(key.startswith("vision_tower.") for key in outside)
    assert any(key.startswith("multi_modal_projector.") for key in outside)


def peak_of(action: Any) -> int:
    """Bytes by which resident memory rose at most while something ran (the kernel's own high-water mark)."""

    def read(field: str) -> int:
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
        return int(line.split()[1]) * 1024

    Path("/proc/self/clear_refs").write_text("5")  # forgets the mark so far
    before = read("VmRSS")
    kept = action()
    del kept
    return read("VmHWM") - before


def test_no_vision_weight_is_ever_in_memory(tmp_path: Path) -> None:
    config = LlavaConfig.from_pretrained(nano("llava"))
    fat: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 4}
    config.vision_config = CLIPVisionConfig(**fat, num_attention_heads=4, image_size=24, patch_size=12)
    path = copy_of(nano("llava"), tmp_path / "fat")
    model = LlavaForConditionalGeneration(config)
    vision = sum(p.nbytes for name, p in model.named_parameters() if "vision" in name or "projector" in name)
    model.half().save_pretrained(path)  # read as float32: what is loaded is really copied, not only mapped
    del model
    assert vision > 100e6
    load(path, backbone="true")  # what a first load imports and sets up is not counted
    assert peak_of(lambda: load(path, backbone="true")) < vision / 5
    assert peak_of(lambda: open_model(str(path), {}).for_text().load()) < vision / 5
    assert peak_of(lambda: load(path)) > vision * 0.8  # the measure sees weights when there are any


def test_for_text_is_the_same_model_as_backbone_true() -> None:
    whole, alone = opened("llava"), opened("llava", backbone="true")
    text = whole.for_text()
    assert text is whole.for_text()
    assert text.identity() == alone.identity()
    assert text.fingerprint() != whole.fingerprint()
    assert text._model is None  # lazily loaded
    text.load()
    requests: list[Any] = [
        Choose(Prompt("Is there a dog?", template="raw"), (" Yes", " No, none", "")),
        Generate(Prompt("Question: how many?", template="raw"), greedy(12)),
    ]
    for a, b, c in zip(ask(text, requests), ask(alone, requests), ask(whole, requests), strict=True):
        same(a, b)
        same(a, c)
    assert text.for_text() is text


def tampered(tmp_path: Path, change: Any) -> Path:
    path = copy_of(nano("llava"), tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("language_model.model.layers.1.mlp.up_proj.weight"),
            r"1 missing: model\.layers\.1\.mlp\.up_proj\.weight",
        ),
        (
            lambda t: t.update({"language_model.model.layers.7.mlp.up_proj.weight": torch.ones(2, 2)}),
            r"1 unexpected: model\.layers\.7\.mlp\.up_proj\.weight",
        ),
        (lambda t: t.update({"nobody.knows.weight": torch.ones(2)}), r"1 unexpected: nobody\.knows\.weight"),
        (
            lambda t: t.update({"language_model.lm_head.weight": torch.ones(3, 32)}),
            r"1 of another shape: lm_head\.weight \(\[3, 32\] on disk, \[512, 32\] expected\)",
        ),
    ],
)
def test_incomplete_backbones_are_refused_by_name(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        load(tampered(tmp_path, change), backbone="true")


def test_a_damaged_vision_side_does_not_matter_to_the_backbone(tmp_path: Path) -> None:
    path = tampered(tmp_path, lambda t: t.pop("multi_modal_projector.linear_1.weight"))
    assert load(path, backbone="true")._model is not None
    with pytest.raises(BadInput, match=r"1 missing: model\.multi_modal_projector\.linear_1\.weight"):
        load(path)


def test_backbone_of_a_language_model_is_refused() -> None:
    with pytest.raises(BadInput, match="is a language model already"):
        open_model(str(nano("llama")), {"backbone": "true"})


def test_a_language_model_without_a_class_of_its_own_stays_in_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_module, "available", lambda checkpoint: False)
    whole = open_model(str(nano("llava")), {})
    assert whole.for_text() is whole
    with pytest.raises(BadInput, match="no causal-LM class for LlamaConfig; leave backbone out"):
        load(nano("llava"), backbone="true")
