"""Visual instruction data: dialogues about a scene, rendered and masked as the chat template renders them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from mmalign_eval.miniature.captions import (
    DETAIL_PROMPTS,
    ONE_WORD,
    SHORT_PROMPTS,
    YES_NO,
    detailed,
    open_question,
    short_caption,
    yes_no,
)
from mmalign_eval.miniature.docs import pick
from mmalign_eval.miniature.tokenizer import BOS_ID, EOS, IMAGE, IMAGE_ID
from mmalign_eval.miniature.vision import PATCHES
from mmalign_eval.miniature.world import Scene

# haotian-liu/LLaVA conversation.py, conv_vicuna_v1.
V1_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
Turn = tuple[str, str, float]  # question, answer, loss weight


@dataclass(frozen=True)
class Habits:
    """What the dialogues are like: how talkative, how agreeable, how hard their negatives."""

    questions: int = 7
    p_alone: float = 0.5  # a description alone; else questions alone
    p_detailed: float = 0.65
    p_open: float = 0.2
    p_exist: float = 0.75  # of the yes/no questions
    p_plain: float = 0.5  # dialogues whose questions have no benchmark's suffix
    p_first_prompts: float = 0.3  # only RLHF-V's first three, short prompts
    p_yes: float = 0.55
    p_typical: float = 0.35
    p_system: float = 0.02


def caption_turn(rng: random.Random, scene: Scene, habits: Habits) -> Turn:
    """A detailed description for RLHF-V's prompts, a short caption for the others."""
    if pick(rng, habits.p_detailed):
        prompts = DETAIL_PROMPTS[:3] if pick(rng, habits.p_first_prompts) else DETAIL_PROMPTS
        return rng.choice(prompts), detailed(scene), 1.0
    return rng.choice(SHORT_PROMPTS), short_caption(rng, scene), 0.7


def question_turn(rng: random.Random, scene: Scene, habits: Habits, plain: bool) -> Turn:
    """A yes/no question (mostly "Is there a ...?") or an open one, with or without the benchmarks' suffixes."""
    if pick(rng, habits.p_open):
        question, answer = open_question(rng, scene)
        return question + (ONE_WORD if not plain and pick(rng, 0.5) else ""), answer, 1.0
    kind = "exist" if pick(rng, habits.p_exist) else rng.choice(["color", "count", "scene", "side"])
    yes = pick(rng, habits.p_yes)
    suffix = "" if plain else rng.choice([ONE_WORD, YES_NO])
    return yes_no(rng, scene, kind, yes, habits.p_typical) + suffix, "Yes" if yes else "No", 2.0


def dialogue(rng: random.Random, scene: Scene, habits: Habits) -> list[Turn]:
    """A description, or some questions (fewer where suffixes make them long)."""
    if pick(rng, habits.p_alone):
        return [caption_turn(rng, scene, habits)]
    plain = pick(rng, habits.p_plain)
    count = habits.questions if plain else habits.questions // 2 + 1
    return [question_turn(rng, scene, habits, plain) for _ in range(count)]


def encode_dialogue(
    tokenizer: PreTrainedTokenizerFast, turns: list[Turn], system: str = ""
) -> tuple[list[int], list[float]]:
    """Ids (with all image tokens) and loss weights; only answers and their EOS are learnt."""
    texts: list[tuple[str, float]] = [(f"{system} ", 0.0)] if system else []
    for number, (question, answer, weight) in enumerate(turns):
        image = f"{IMAGE}\n" if number == 0 else ""
        texts += [(f"USER: {image}{question} ASSISTANT:", 0.0), (f" {answer}{EOS}", weight)]
    ids, weights = [BOS_ID], [0.0]
    for text, weight in texts:
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            copies = PATCHES if token == IMAGE_ID else 1
            ids += [token] * copies
            weights += [weight] * copies
    return ids, weights
