"""Peak bytes that a training step allocates on CPU, by the profiler's allocation events."""

from __future__ import annotations

from typing import Any

import torch
from mmalign_eval.tuning.bpo_trainer import preference_loss
from mmalign_eval.tuning.config import Recipe, load_recipe
from mmalign_eval.tuning.learnt import learnt_logps
from mmalign_eval.tuning.logprobs import PairIds, lay_out, pair_logprobs
from mmalign_eval.tuning.lora import StageName, base_model, prepare
from mmalign_eval.tuning.memory import Run, Shape
from torch.profiler import ProfilerActivity, profile
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

SIZES = {
    "small": Shape(160, 4, 5, 5, 32, 432, 1792, 128, 4, 512, 72, 12, True),
    "middle": Shape(384, 8, 6, 6, 64, 1024, 4000, 192, 6, 768, 84, 14, True),
}
ROWS, LENGTH, LEARNT = 6, 160, 60


def llava(shape: Shape) -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_hidden, intermediate_size=shape.vision_intermediate, image_size=shape.image_size,
        num_hidden_layers=shape.vision_layers, num_attention_heads=4, patch_size=shape.patch_size,
    )  # fmt: skip
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision, text_config=text, image_token_index=4, vision_feature_layer=-2,
            vision_feature_select_strategy="default", projector_hidden_act="gelu" if shape.two_layers else "linear",
            image_seq_length=shape.image_tokens, tie_word_embeddings=False,
        )
    )  # fmt: skip


def run_of(recipe: Recipe, checkpointing: bool, learnt: int = LEARNT, **more: Any) -> Run:
    lora = recipe.lora
    return Run(
        rows=ROWS, length=LENGTH, learnt=learnt, lora=lora.r if lora else 0, dropout=lora.dropout if lora else 0.0,
        projector=recipe.method != "bpo", pairs=recipe.method == "bpo", checkpointing=checkpointing, **more,
    )  # fmt: skip


def batch_of(shape: Shape, pairs: bool, learnt: int) -> dict[str, Any]:
    torch.manual_seed(1)
    ids = torch.randint(10, shape.vocabulary, (ROWS, LENGTH))
    ids[:, 1 : 1 + shape.image_tokens] = 4
    if pairs:  # `learnt` answer tokens, LENGTH tokens in the packed row
        half, prompt = learnt // 2, LENGTH - learnt + 2
        rows = [tuple(row.tolist()) for row in ids]
        return lay_out([PairIds(row[:prompt], row[-half:], row[-half:]) for row in rows], 0, packed=True)
    labels = torch.full_like(ids, -100)
    labels[:, -learnt:] = ids[:, -learnt:]
    pixels = torch.randn(ROWS, 3, shape.image_size, shape.image_size)
    return {"input_ids": ids, "labels": labels, "pixel_values": pixels}


def measured(
    shape: Shape, recipe: Recipe, checkpointing: bool, passes: int = 1, learnt: int = LEARNT, stage: StageName = "tune"
) -> float:
    """Peak bytes of the second optimizer step: what lives before it, and what it allocates."""
    model = prepare(llava(shape), recipe, stage)
    model.train()
    base: Any = base_model(model)
    if checkpointing:
        base.model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
    pairs = recipe.method == "bpo"
    batch = batch_of(shape, pairs, learnt)
    features = torch.randn(ROWS, shape.image_tokens, shape.vision_hidden)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def step() -> None:
        for _ in range(passes):
            if pairs:
                policy = pair_logprobs(model, batch, features)
                preference_loss(policy, policy.detach(), 0.1).mean().backward()
            else:
                logps, _ = learnt_logps(model, base, batch)
                (-logps.mean()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    living = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in [*model.parameters(), *states]}
    return sum(living.values()) + rise(profiler)


def rise(profiler: Any) -> int:
    """Most bytes allocated at once since the profiler started."""
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    most = now = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def recipe_of(mode: str, dropout: float = 0.0) -> Recipe:
    """The miniature's, with a LoRA that suits the sizes here."""
    changes = {"lora.r": "16", "lora.dropout": str(dropout)}
    return load_recipe(mode, {} if mode == "mini-mm-ft" else changes)
