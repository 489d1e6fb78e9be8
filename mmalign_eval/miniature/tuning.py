"""Stage 1 (projector on short captions) and stage 2 (projector and language model on dialogues), as LLaVA is made.

The vision tower is frozen, so its features are computed once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import (
    CLIPVisionModel,
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
from mmalign_eval.miniature.vision import FEATURE_LAYER, PATCHES
from mmalign_eval.miniature.world import make_scene

TEXT_SHARE = 0.3  # weight of the text-only loss in stage 2: slows forgetting, does not prevent it


def assemble(tower: CLIPVisionModel, language: LlamaForCausalLM) -> LlavaForConditionalGeneration:
    """A LLaVA from its parts, with a fresh projector."""
    torch.manual_seed(2)
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=language.config,
        image_token_index=IMAGE_ID,
        vision_feature_layer=FEATURE_LAYER,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        image_seq_length=PATCHES,
        tie_word_embeddings=False,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    model.model.vision_tower.requires_grad_(False)
    return model


def backbone(model: LlavaForConditionalGeneration) -> LlamaForCausalLM:
    """The language model inside, as a model of its own."""
    language = LlamaForCausalLM(model.config.text_config)
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
    embeds = model.get_input_embeddings()(ids)
    embeds = embeds.masked_scatter((ids == IMAGE_ID).unsqueeze(-1), seen)
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    return weighted_loss(model.lm_head(hidden), ids, weights)


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
    text_loss: Callable[[int], torch.Tensor], habits: Habits, plan: Plan, folder: Path, batch: int = 24,
) -> None:  # fmt: skip
    """Teach projector and language model to talk about images, with a little text mixed in."""

    def loss_of(step: int) -> torch.Tensor:
        rng = random.Random(f"stage2 {step}")
        seeds = sorted(rng.sample(range(len(features)), batch))
        rows = []
        for seed in seeds:
            system = V1_SYSTEM if pick(rng, habits.p_system) else ""
            rows.append(encode_dialogue(tokenizer, dialogue(rng, make_scene(seed), habits), system))
        return visual_loss(model, *_batch(rows), features[seeds]) + TEXT_SHARE * text_loss(step)

    train(plan, model, loss_of, folder)
