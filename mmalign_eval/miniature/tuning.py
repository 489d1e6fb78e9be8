"""Stage 1 (projector on short captions) and stage 2 (projector and language model on dialogues), as LLaVA is made.

The vision tower is frozen, so its features are computed once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from mmalign_eval.miniature.captions import SHORT_PROMPTS, short_caption
from mmalign_eval.miniature.docs import pick
from mmalign_eval.miniature.instruct import V1_SYSTEM, Habits, dialogue, encode_dialogue
from mmalign_eval.miniature.language import weighted_loss
from mmalign_eval.miniature.tokenizer import BOS_ID, EOS_ID, IMAGE_ID, PAD_ID
from mmalign_eval.miniature.training import Plan, train
from mmalign_eval.miniature.vision import FEATURE_LAYER, GRID, PATCHES
from mmalign_eval.miniature.world import COLORS, NAMES, PLACES, make_scene


@dataclass(frozen=True)
class Stage:
    """A part of stage 2: for how long, on what dialogues, and with how much text-only loss beside.

    Text slows forgetting a little. Early on it only adds noise: objects are then not found in the image at all.
    """

    plan: Plan
    habits: Habits
    text_share: float = 0.0


def assemble(tower: CLIPVisionModel, language: LlamaForCausalLM) -> LlavaForConditionalGeneration:
    """A LLaVA from its parts, with a fresh projector."""
    torch.manual_seed(2)
    ids: dict[str, Any] = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": PAD_ID}
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=language.config,
        image_token_index=IMAGE_ID,
        vision_feature_layer=FEATURE_LAYER,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        image_seq_length=PATCHES,
        tie_word_embeddings=False,
        **ids,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    model.model.vision_tower.requires_grad_(False)
    return model


def backbone(model: LlavaForConditionalGeneration) -> LlamaForCausalLM:
    """The language model inside, as a model of its own."""
    config = model.config.text_config
    assert isinstance(config, LlamaConfig)
    language = LlamaForCausalLM(config)
    language.model.load_state_dict(model.model.language_model.state_dict())
    language.lm_head.load_state_dict(model.lm_head.state_dict())
    return language.eval()


def _batch(rows: list[tuple[list[int], list[float]]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), PAD_ID)
    weights = torch.zeros(len(rows), width)
    for row, (tokens, worth) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, : len(worth)] = torch.tensor(worth)
    return ids, weights


def visual_loss(
    model: LlavaForConditionalGeneration, ids: torch.Tensor, weights: torch.Tensor, features: np.ndarray
) -> torch.Tensor:
    """Loss on answers, from cached tower features. Padding is on the right, where causal attention never looks."""
    seen = model.model.multi_modal_projector(torch.from_numpy(features.astype(np.float32)))
    embeds = model.model.language_model.embed_tokens(ids)
    embeds = embeds.masked_scatter((ids == IMAGE_ID).unsqueeze(-1), seen)
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    return weighted_loss(model.lm_head(hidden), ids, weights)


def _word_vectors(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, words: Sequence[str]
) -> torch.Tensor:
    """Input embeddings of some words (the mean over a word's tokens)."""
    table = model.model.language_model.get_input_embeddings().weight.detach()
    return torch.stack([table[tokenizer(word, add_special_tokens=False)["input_ids"]].mean(0) for word in words])


def train_words(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, features: np.ndarray, work: Path,
    plan: Plan, batch: int = 64,
) -> None:  # fmt: skip
    """Start the projector near the words: a patch becomes the embeddings of its object's name, colour and place.

    Not part of LLaVA's recipe. It takes seconds, and spares stage 2 the discovery of what patches mean.
    """
    names = _word_vectors(model, tokenizer, [".", *(f" {name}" for name in NAMES)])
    hues = _word_vectors(model, tokenizer, [f" {color}" for color in COLORS])
    hues = torch.cat([torch.zeros_like(hues[:1]), hues])
    spots = _word_vectors(model, tokenizer, [place.split("the", 1)[1] for place in PLACES])
    rows, columns = np.divmod(np.arange(PATCHES), GRID)
    places = spots[torch.from_numpy(rows * 3 // GRID * 3 + columns * 3 // GRID)]
    classes, colors = (np.load(work / f"train_{part}.npy", mmap_mode="r") for part in ("classes", "colors"))

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng([17, step])
        some = np.sort(rng.choice(len(features), min(batch, len(features)), replace=False))
        target = names[torch.from_numpy(classes[some])] + hues[torch.from_numpy(colors[some])] + places
        seen = model.model.multi_modal_projector(torch.from_numpy(features[some].astype(np.float32)))
        return torch.nn.functional.mse_loss(seen, target) / names.var()

    train(plan, model.model.multi_modal_projector, loss_of, work)


def train_stage1(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, features: np.ndarray, plan: Plan,
    folder: Path, batch: int = 32,
) -> None:  # fmt: skip
    """Teach the projector alone to make the frozen language model caption."""
    model.model.language_model.requires_grad_(False)
    model.lm_head.requires_grad_(False)

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(f"stage1 {step}")
        seeds = sorted(rng.sample(range(len(features)), batch))
        turns = [[(rng.choice(SHORT_PROMPTS), short_caption(rng, make_scene(seed)), 1.0)] for seed in seeds]
        ids, weights = _batch([encode_dialogue(tokenizer, turn) for turn in turns])
        return visual_loss(model, ids, weights, features[seeds])

    train(plan, model, loss_of, folder)
    model.model.language_model.requires_grad_(True)
    model.lm_head.requires_grad_(True)


def train_stage2(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, features: np.ndarray,
    text_loss: Callable[[int], torch.Tensor], stage: Stage, folder: Path, batch: int = 24,
) -> None:  # fmt: skip
    """Teach projector and language model to talk about images, with a little text mixed in."""

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(f"{stage.plan.name} {step}")
        seeds = sorted(rng.sample(range(len(features)), batch))
        rows = []
        for seed in seeds:
            system = V1_SYSTEM if pick(rng, stage.habits.p_system) else ""
            rows.append(encode_dialogue(tokenizer, dialogue(rng, make_scene(seed), stage.habits), system))
        loss = visual_loss(model, *_batch(rows), features[seeds])
        return loss + stage.text_share * text_loss(step) if stage.text_share else loss

    train(stage.plan, model, loss_of, folder)
