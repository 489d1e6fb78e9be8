"""Tiny random checkpoints for unit tests: right classes, right files, no knowledge; made in about a second."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import (
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from mmalign_eval.miniature.tokenizer import BOS_ID, EOS_ID, IMAGE_ID, PAD_ID, make_processor, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Arch = Literal["llama", "gpt2", "gpt_neox", "qwen2"]

IMAGE_SIZE, PATCH_SIZE = 24, 12  # 2x2 patches = 4 image tokens
_VOCAB, _HIDDEN, _LAYERS, _HEADS, _MLP, _POSITIONS = 512, 32, 2, 4, 64, 1024
_IDS: dict[str, Any] = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": PAD_ID}
_TEXT = (
    "Is there a dog in the image? Answer the question using a single word or phrase. Yes No yes no",
    "Question: How many apples does Tom have? Answer: Tom has 3 + 4 = 7 apples. #### 7",
    "Please provide a description of the picture. There is a red cup on the table and a person next to it.",
    "The following are multiple choice questions (with answers) about  anatomy. A. B. C. D. Answer: A B C D",
    "USER: ASSISTANT: Describe the image briefly. Please answer yes or no.",
)


def nano_tokenizer() -> PreTrainedTokenizerFast:
    """The miniature's kind of tokenizer on a built-in text: the same 512 entries whatever the repository holds."""
    tokenizer = train_tokenizer(_TEXT, _VOCAB)
    filler = [f"<extra_{i}>" for i in range(_VOCAB - len(tokenizer))]
    tokenizer.add_tokens(filler)  # the text is too short for 512 merges; every id the model can emit must decode
    return tokenizer


def _sharpen(model: PreTrainedModel) -> None:
    """Scale the matrices up so that log-probabilities differ visibly: at the usual 0.02 all logits are nearly equal."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5.0)


def _llama_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=_VOCAB, hidden_size=_HIDDEN, intermediate_size=_MLP, num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS, max_position_embeddings=_POSITIONS, tie_word_embeddings=False, **_IDS,
    )  # fmt: skip


def make_causal_lm(path: str | Path, arch: Arch = "llama", seed: int = 0) -> Path:
    """Save a random two-layer causal language model with its tokenizer; returns the folder."""
    torch.manual_seed(seed)
    model: PreTrainedModel
    if arch == "llama":
        model = LlamaForCausalLM(_llama_config())
    elif arch == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=_VOCAB, n_embd=_HIDDEN, n_layer=_LAYERS, n_head=_HEADS, n_positions=_POSITIONS, **_IDS,
            )
        )  # fmt: skip
    elif arch == "gpt_neox":
        model = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=_VOCAB, hidden_size=_HIDDEN, intermediate_size=_MLP, num_hidden_layers=_LAYERS,
                num_attention_heads=_HEADS, max_position_embeddings=_POSITIONS, **_IDS,
            )
        )  # fmt: skip
    elif arch == "qwen2":
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=_VOCAB, hidden_size=_HIDDEN, intermediate_size=_MLP, num_hidden_layers=_LAYERS,
                num_attention_heads=_HEADS, num_key_value_heads=2, max_position_embeddings=_POSITIONS, **_IDS,
            )
        )  # fmt: skip
    else:
        raise ValueError(f"unknown arch {arch!r}")
    return _save(model, Path(path), nano_tokenizer())


def make_llava(path: str | Path, projector: Literal["mlp", "linear"] = "mlp", seed: int = 0) -> Path:
    """Save a random LLaVA (24 px images, 4 image tokens) with its processor; returns the folder.

    "linear" is the first LLaVA's projector: transformers has no one-layer variant, so the two layers get an identity
    activation between them, which is the same family of functions.
    """
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=_HIDDEN, intermediate_size=_MLP, num_hidden_layers=_LAYERS, num_attention_heads=_HEADS,
        image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, projection_dim=_HIDDEN,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision,
        text_config=_llama_config(),
        image_token_index=IMAGE_ID,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu" if projector == "mlp" else "linear",
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        tie_word_embeddings=False,
        **_IDS,
    )
    model = LlavaForConditionalGeneration(config)
    return _save(model, Path(path), nano_tokenizer(), image=True)


def _save(model: PreTrainedModel, path: Path, tokenizer: PreTrainedTokenizerFast, image: bool = False) -> Path:
    _sharpen(model)
    for key, value in _IDS.items():
        setattr(model.generation_config, key, value)
    model.save_pretrained(path)
    (make_processor(tokenizer, IMAGE_SIZE, PATCH_SIZE) if image else tokenizer).save_pretrained(path)
    return path
