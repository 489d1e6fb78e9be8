"""A LLaVA from its parts: the language model's logits stay, the tower is the one given, the projector is fresh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmalign_eval.tuning.assemble import assemble
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPVisionModel,
    LlavaForConditionalGeneration,
)

from mmalign_eval import templates
from mmalign_eval.data.transforms import CLIP_MEAN
from mmalign_eval.errors import BadInput
from mmalign_eval.models.llava_parts import chat_template, grow_vocabulary
from mmalign_eval.requests import Prompt

from ..models.hf_case import copy_of, nano
from ..models.llava_case import no_image_token

IDS = torch.randint(5, 440, (2, 11), generator=torch.Generator().manual_seed(0))


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=ids).logits  # type: ignore[no-any-return]


def tower_of(folder: Path) -> dict[str, torch.Tensor]:
    return LlavaForConditionalGeneration.from_pretrained(folder).model.vision_tower.state_dict()


def test_parts_are_those_given() -> None:
    model, processor = assemble(str(nano("llama")), str(nano("llava")), "mlp2x_gelu", seed=0)
    assert isinstance(model, LlavaForConditionalGeneration)
    assert torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(nano("llama"))))
    wanted = tower_of(nano("llava"))
    assert wanted
    assert all(torch.equal(model.model.vision_tower.state_dict()[name], t) for name, t in wanted.items())
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in model.model.vision_tower.parameters())
    config = model.config
    assert (config.vision_feature_layer, config.vision_feature_select_strategy) == (-2, "default")
    assert config.image_token_index == processor.image_token_id == 4
    assert (processor.patch_size, processor.num_additional_image_tokens) == (12, 1)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
    assert model.generation_config.eos_token_id == 2


def test_the_projector_is_drawn_as_torch_draws_linear_layers() -> None:
    model, _ = assemble(str(nano("llama")), str(nano("llava")), "mlp2x_gelu", seed=3)
    torch.manual_seed(3)
    first, second = torch.nn.Linear(32, 32), torch.nn.Linear(32, 32)
    made = model.model.multi_modal_projector
    for layer, wanted in ((made.linear_1, first), (made.linear_2, second)):
        assert torch.equal(layer.weight, wanted.weight)
        assert torch.equal(layer.bias, wanted.bias)
    other, _ = assemble(str(nano("llama")), str(nano("llava")), "mlp2x_gelu", seed=4)
    assert not torch.equal(other.model.multi_modal_projector.linear_1.weight, made.linear_1.weight)


def test_assembling_leaves_the_callers_random_state() -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    assemble(str(nano("llama")), str(nano("llava")), "linear", seed=0)
    assert torch.equal(torch.rand(3), wanted)


def test_a_linear_projector_is_one_layer() -> None:
    model, _ = assemble(str(nano("llama")), str(nano("llava")), "linear", seed=0)
    projector = model.model.multi_modal_projector
    features = torch.randn(2, 4, 32)
    assert torch.equal(projector(features), projector.linear_1(features))
    learnt = [name for name, p in model.named_parameters() if p.requires_grad and "projector" in name]
    assert learnt == [f"model.multi_modal_projector.linear_1.{name}" for name in ("weight", "bias")]


@pytest.mark.parametrize("pad", [True, False])
def test_a_new_image_token_leaves_the_other_tokens_logits(tmp_path: Path, pad: bool) -> None:
    path = no_image_token(tmp_path / "lm", pad)
    model, processor = assemble(str(path), str(nano("llava")), "linear", seed=0)
    assert model.config.image_token_index == 512 == processor.tokenizer.convert_tokens_to_ids("<image>")
    assert processor.tokenizer("<image>", add_special_tokens=False)["input_ids"] == [512]
    assert model.config.text_config.vocab_size == 513
    assert model.lm_head.weight.shape[0] == 513
    wanted = logits(AutoModelForCausalLM.from_pretrained(path))
    found = logits(model)
    assert torch.allclose(found[..., :512], wanted, rtol=1e-6, atol=1e-6)
    assert torch.allclose(found[..., 512], wanted.mean(-1), rtol=1e-4, atol=1e-5)
    # so the old tokens' probabilities hardly move: less than one part in the number of tokens
    moved = wanted.logsumexp(-1) - found.logsumexp(-1)
    assert (moved > -1 / 512).all()
    assert (moved <= 1e-6).all()
    assert processor.tokenizer.pad_token == ("<pad>" if pad else "<unk>")
    assert model.config.pad_token_id == model.config.text_config.pad_token_id == (0 if pad else 3)


def test_rows_are_added_once() -> None:
    model = AutoModelForCausalLM.from_pretrained(nano("llama"))
    grow_vocabulary(model, 512)
    assert model.config.vocab_size == 512
    grow_vocabulary(model, 515)
    assert model.get_input_embeddings().weight.shape[0] == model.get_output_embeddings().weight.shape[0] == 515
    assert torch.equal(model.get_input_embeddings().weight[512], model.get_input_embeddings().weight[514])


def test_a_model_of_llamas_build_fits(tmp_path: Path) -> None:
    model, _ = assemble(str(nano("qwen2")), str(nano("llava")), "linear", seed=0)
    assert torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(nano("qwen2"))))


def test_the_tower_of_a_clip_and_of_its_vision_half(tmp_path: Path) -> None:
    config = CLIPConfig.from_pretrained(nano("llava"))  # sizes below; only the kind is taken
    vision = LlavaForConditionalGeneration.from_pretrained(nano("llava")).config.vision_config
    config = CLIPConfig(vision_config=vision.to_dict(), text_config={"hidden_size": 32, "num_hidden_layers": 1,
                        "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 600})  # fmt: skip
    torch.manual_seed(0)
    clip = CLIPModel(config)
    clip.save_pretrained(tmp_path / "clip")
    CLIPVisionModel.from_pretrained(tmp_path / "clip").save_pretrained(tmp_path / "vision")
    old = {  # as the files on the hub have it
        (f"vision_model.{k}" if not k.startswith("vision_model.") else k): t
        for k, t in load_file(tmp_path / "vision/model.safetensors").items()
    }
    old["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    copy_of(tmp_path / "vision", tmp_path / "hub")
    save_file(old, tmp_path / "hub/model.safetensors", {"format": "pt"})
    wanted = clip.vision_model.state_dict()
    for name in ("clip", "vision", "hub"):
        model, processor = assemble(str(nano("llama")), str(tmp_path / name), "linear", seed=0)
        found = model.model.vision_tower.state_dict()
        assert set(found) == set(wanted)
        assert all(torch.equal(found[key], t) for key, t in wanted.items())
        assert processor.image_processor.crop_size["height"] == 24  # without a file that says so


def test_pad_is_written_into_the_processor() -> None:
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 40, 3)).astype("uint8"))
    square = Image.new("RGB", (40, 40), tuple(int(mean * 255) for mean in CLIP_MEAN))
    square.paste(picture, (0, 8))
    _, cropping = assemble(str(nano("llama")), str(nano("llava")), "linear", seed=0)
    _, padding = assemble(str(nano("llama")), str(nano("llava")), "linear", seed=0, image_aspect="pad")
    padded = padding.image_processor(picture, return_tensors="pt")["pixel_values"]
    assert torch.allclose(padded, cropping.image_processor(square, return_tensors="pt")["pixel_values"], atol=1e-6)
    assert not torch.allclose(padded, cropping.image_processor(picture, return_tensors="pt")["pixel_values"], atol=0.1)


CASES = [
    Prompt("What?"),
    Prompt("What?", demos=(("One?", "Two."), ("Three?", "Four."))),
    Prompt("What?", system="Be it's \"brief\"."),
    Prompt("What?", system="", demos=(("One?", "Two."),)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "known"), [("v1", "vicuna_v1"), ("llava_llama_2", "llava_llama_2")])
@pytest.mark.parametrize("prompt", CASES)
@pytest.mark.parametrize("parts", [True, False])
def test_chat_templates_are_the_named_ones(name: str, known: str, prompt: Prompt, parts: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(nano("llama"))
    said = tokenizer.apply_chat_template(
        templates.messages(prompt, parts), chat_template=chat_template(name), tokenize=False, add_generation_prompt=True
    )
    assert said == templates.render(known, prompt)


@pytest.mark.parametrize(("template", "shown"), [("v0", "v0"), ("plain", "v1")])
def test_the_processor_carries_the_trainings_chat_template(template: Any, shown: str) -> None:
    _, processor = assemble(str(nano("llama")), str(nano("llava")), "linear", 0, template=template)
    assert processor.chat_template == chat_template(shown)


def test_the_chat_template_puts_the_image_in_front_of_the_question() -> None:
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    tokenizer = AutoTokenizer.from_pretrained(nano("llama"))
    said = {
        name: tokenizer.apply_chat_template(
            turns, chat_template=chat_template(name), tokenize=False, add_generation_prompt=True
        )
        for name in ("v0", "v1", "llava_llama_2")
    }
    system = templates.TEMPLATES["llava_v1"].system
    assert said["v0"] == f"{system}\n\n### Human: <image>\nWhat?\n### Assistant:"
    assert said["v1"].endswith(" USER: <image>\nWhat? ASSISTANT:")
    assert said["llava_llama_2"].endswith("<</SYS>>\n\n<image>\nWhat? [/INST]")


def broken(path: Path, drop: str) -> Path:
    copy_of(nano("llava"), path)
    tensors = load_file(path / "model.safetensors")
    save_file({k: t for k, t in tensors.items() if drop not in k}, path / "model.safetensors", {"format": "pt"})
    return path


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    language, tower = str(nano("llama")), str(nano("llava"))
    for words, eyes, message in (
        (str(nano("gpt2")), tower, "GPT2LMHeadModel does not fit"),
        (str(nano("gpt_neox")), tower, "does not fit"),
        (tower, tower, "has images already"),
        (language, language, "llama is no CLIP vision tower"),
        (str(tmp_path / "nothing"), tower, "no such folder"),
        (
            language,
            str(broken(tmp_path / "half", "layers.1.mlp.fc1")),
            r"describes: .*layers.1.mlp.fc1",
        ),
    ):
        with pytest.raises(BadInput, match=message):
            assemble(words, eyes, "linear", seed=0)


def test_the_miniatures_parts_go_by_name() -> None:
    model, processor = assemble("mini:lm", "mini", "mlp2x_gelu", seed=0)
    assert model.config.vision_config.image_size == 72 == processor.image_processor.crop_size["height"]
