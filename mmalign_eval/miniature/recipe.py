"""The two ways to build the miniature: in full (as committed) and as a smoke test of every step."""

from __future__ import annotations

from dataclasses import dataclass

from mmalign_eval.miniature.instruct import Habits
from mmalign_eval.miniature.language import Phase
from mmalign_eval.miniature.training import Plan
from mmalign_eval.miniature.tuning import Stage


@dataclass(frozen=True)
class Recipe:
    """Sizes and plans of all steps."""

    vocab_size: int
    tokenizer_documents: int
    vision_hidden: int
    vision_layers: int
    text_hidden: int
    text_layers: int
    train_images: int
    tower_batch: int
    tower: Plan
    phases: tuple[Phase, ...]
    words: Plan
    stage1: Plan
    stage1_batch: int
    stage2: tuple[Stage, ...]
    stage2_batch: int
    benchmark_images: int


# Phase "lm_short" teaches facts and forms, "lm_copy" to copy from the context (without it, questions on passages and
# worked sums stay at chance), "lm_answers" to "lm_read" put the loss on answers, "lm_end" brings the lengths that
# few-shot prompts have. Stage 2 is stopped early, to leave something to cure: see docs/miniature.md.
FULL = Recipe(
    vocab_size=1792,
    tokenizer_documents=12_000,
    vision_hidden=128,
    vision_layers=4,
    text_hidden=160,
    text_layers=4,
    train_images=20_000,
    tower_batch=64,
    tower=Plan("tower", 1500, 1.5e-3),
    phases=(
        Phase(256, 16, False, Plan("lm_short", 1400, 3e-3, stop=800, floor=0.3)),
        Phase(256, 16, False, Plan("lm_copy", 700, 2.4e-3, stop=450, floor=0.3, warmup=20), copies=0.4),
        Phase(256, 16, False, Plan("lm_answers", 550, 2.2e-3, floor=0.15, warmup=20), copies=0.12, stress=True),
        Phase(256, 16, False, Plan("lm_recall", 480, 2.2e-3, stop=280, floor=0.2, warmup=15), copies=0.3, stress=True),
        Phase(256, 16, False, Plan("lm_cards", 420, 1.8e-3, floor=0.12, warmup=15), copies=0.15, stress=True),
        Phase(
            256, 16, False, Plan("lm_read", 400, 1.5e-3, floor=0.1, warmup=15), copies=0.1, stress=True, mix="reading"
        ),
        Phase(1024, 6, True, Plan("lm_end", 50, 3e-4, floor=0.05, warmup=1), stress=True, mix="reading"),
    ),
    words=Plan("words", 500, 3e-3, warmup=20),
    stage1=Plan("stage1", 40, 1e-3, warmup=5),
    stage1_batch=32,
    stage2=(
        Stage(Plan("dense", 600, 1.5e-3, floor=0.4), Habits(p_plain=0.85, p_first_prompts=0.7)),
        Stage(Plan("stage2", 240, 1e-3, stop=80, floor=0.1, warmup=5), Habits(p_alone=0.6), text_share=0.15),
    ),
    stage2_batch=24,
    benchmark_images=200,
)

SMOKE = Recipe(
    vocab_size=700,
    tokenizer_documents=400,
    vision_hidden=32,
    vision_layers=2,
    text_hidden=32,
    text_layers=2,
    train_images=24,
    tower_batch=8,
    tower=Plan("tower", 3, 1e-3, warmup=1),
    phases=(
        Phase(64, 4, False, Plan("lm_short", 3, 1e-3, warmup=1), copies=0.3),
        Phase(256, 2, True, Plan("lm_long", 2, 1e-3, warmup=1), stress=True),
    ),
    words=Plan("words", 2, 1e-3, warmup=1),
    stage1=Plan("stage1", 2, 1e-3, warmup=1),
    stage1_batch=4,
    stage2=(
        Stage(Plan("dense", 2, 1e-3, warmup=1), Habits()),
        Stage(Plan("stage2", 3, 1e-3, stop=2, warmup=1), Habits(), text_share=0.3),
    ),
    stage2_batch=4,
    benchmark_images=8,
)
