"""Other families than LLaVA go through the same code: more tokens for larger images, token types, sliding windows."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from mmalign_eval.images import ImagePool
from mmalign_eval.miniature.nano import nano_tokenizer
from mmalign_eval.miniature.tokenizer import CHAT_TEMPLATE
from mmalign_eval.requests import Choose, Generate, ImageRef, Prompt, Request, greedy

from .hf_case import ask, load, near, pictures, same, scratch

IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
TEXT: dict[str, Any] = {**SMALL, **IDS, "vocab_size": 512, "max_position_embeddings": 1024}
GRID = [[24, 48], [48, 24], [48, 48]]


def llava_next() -> tuple[Any, Any]:
    vision = transformers.CLIPVisionConfig(**SMALL, image_size=24, patch_size=12)
    config = transformers.LlavaNextConfig(
        vision_config=vision, text_config=transformers.LlamaConfig(**TEXT), image_token_index=4,
        image_grid_pinpoints=GRID,
    )  # fmt: skip
    side = {"height": 24, "width": 24}
    images = LlavaNextImageProcessorPil(size={"shortest_edge": 24}, crop_size=side, image_grid_pinpoints=GRID)
    processor = transformers.LlavaNextProcessor(
        images, nano_tokenizer(), patch_size=12, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, image_token="<image>", chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    return transformers.LlavaNextForConditionalGeneration(config), processor


def gemma3() -> tuple[Any, Any]:
    vision = transformers.SiglipVisionConfig(**SMALL, image_size=28, patch_size=7)
    config = transformers.Gemma3Config(
        vision_config=vision.to_dict(),
        text_config={**TEXT, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 64},
        mm_tokens_per_image=4, image_token_index=4,
    )  # fmt: skip
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=nano_tokenizer()._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>", "boi_token": "<extra_1>", "eoi_token": "<extra_2>"},
    )  # fmt: skip
    images = Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    template = CHAT_TEMPLATE.replace("<image>", "<extra_1>")
    processor = transformers.Gemma3Processor(images, tokenizer, chat_template=template, image_seq_length=4)
    return transformers.Gemma3ForConditionalGeneration(config), processor


FAMILIES = {"llava_next": (llava_next, False), "gemma3": (gemma3, True)}


@cache
def built(family: str) -> Path:
    torch.manual_seed(0)
    model, processor = FAMILIES[family][0]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5.0).add_(torch.randn_like(parameter) * 0.02)  # Gemma 3's projector starts at zero
    model.save_pretrained(scratch(family))
    processor.save_pretrained(scratch(family))
    return scratch(family)


def large() -> ImageRef:
    """An image that LLaVA-NeXT cuts into more tiles than the others."""
    from PIL import Image

    file = scratch("large.png")
    file.parent.mkdir(exist_ok=True)
    Image.open(pictures()[0].path).resize((48, 48)).save(file)
    return ImageRef(str(file))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family(family: str) -> None:
    model = load(built(family))
    apart = FAMILIES[family][1]
    assert bool(model._alone) is apart
    a, b = pictures()[0], large()
    requests: list[Request] = [
        Generate(Prompt("Is there a dog?", (a,)), greedy(8)),
        Generate(Prompt("Is there a red cup here?", (b,)), greedy(8)),
        Generate(Prompt("Is there?"), greedy(8)),
        Choose(Prompt("Is there a dog?", (a,)), (" Yes", " No", "", " red cup")),
        Choose(Prompt("Is there a cup on it?", (b,)), (" Yes", " No")),
        Choose(Prompt("Is there?", template="raw"), (" Yes", " No way")),
    ]
    together, alone = ask(model, requests), ask(model, requests, batch=1)
    for x, y in zip(together, alone, strict=True):
        assert x.status == "ok", x.error
        same(x, y)
    if not apart:
        assert together[0].prompt_tokens == len(model.sequences(requests[0])[0])
        assert together[1].prompt_tokens == len(model.sequences(requests[1])[0])
        model._alone = "the slow twin"
        for x, y in zip(ask(model, requests[3:]), together[3:], strict=True):
            same(x, y)
    other = Choose(Prompt("Is there a dog?", (b,)), (" Yes", " No"))
    assert not near(ask(model, [other])[0].logprobs[0], together[3].logprobs[0])
    text = model.for_text()
    text.load()
    assert text is not model
    for (_, x), y in zip(text.answer([requests[5]], ImagePool()), together[5:], strict=True):
        same(x, y)
