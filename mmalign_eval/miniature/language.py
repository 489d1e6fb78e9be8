"""The base language model: a small LLaMA trained on the text worlds, short windows first, then long ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mmalign_eval.miniature.corpus import Mix, documents, pack
from mmalign_eval.miniature.tokenizer import BOS_ID, EOS_ID, PAD_ID
from mmalign_eval.miniature.training import Plan, train


@dataclass(frozen=True)
class Phase:
    """Windows of one length: how long, how many a step, what they hold, and the plan."""

    length: int
    batch: int
    full: bool
    plan: Plan
    copies: float = 0.0
    stress: bool = False
    mix: Mix = "broad"


def text_config(vocab_size: int, hidden: int = 160, layers: int = 4) -> LlamaConfig:
    """The language model's shape; untied, as a LLaVA around it must be."""
    return LlamaConfig(
        vocab_size=vocab_size, hidden_size=hidden, intermediate_size=hidden * 27 // 10, num_hidden_layers=layers,
        num_attention_heads=hidden // 32, max_position_embeddings=2048, tie_word_embeddings=False,
        bos_token_id=BOS_ID, eos_token_id=EOS_ID, pad_token_id=PAD_ID,
    )  # fmt: skip


def weighted_loss(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Next-token cross-entropy, averaged by weight."""
    losses = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weights = weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def window_loss(
    model: LlamaForCausalLM, ids: np.ndarray, weights: np.ndarray, batch: int
) -> Callable[[int], torch.Tensor]:
    """Loss of one batch of packed windows, taken in order."""

    def loss_of(step: int) -> torch.Tensor:
        rows = np.arange(step * batch, (step + 1) * batch) % len(ids)
        tokens = torch.from_numpy(ids[rows].astype(np.int64))
        return weighted_loss(model(tokens, use_cache=False).logits, tokens, torch.from_numpy(weights[rows]).float())

    return loss_of


def window_arrays(
    tokenizer: PreTrainedTokenizerFast, phases: Sequence[Phase], number: int, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """The packed windows of one phase, made or read back."""
    phase = phases[number]
    windows = (phase.plan.stop or phase.plan.steps) * phase.batch
    stream = documents(1000 + number, phase.full, phase.copies, phase.mix)
    return pack(tokenizer, windows, phase.length, stream, folder / f"{phase.plan.name}.npz", phase.stress)


def train_language(
    tokenizer: PreTrainedTokenizerFast, config: LlamaConfig, phases: Sequence[Phase], folder: Path
) -> LlamaForCausalLM:
    """Train through the phases in turn."""
    torch.manual_seed(1)
    model = LlamaForCausalLM(config)
    for number, phase in enumerate(phases):
        ids, weights = window_arrays(tokenizer, phases, number, folder)
        train(phase.plan, model, window_loss(model, ids, weights, phase.batch), folder)
    return model
