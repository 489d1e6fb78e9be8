"""How the two papers ran their image benchmarks: what several tasks' `paper` protocols share.

Sight Beyond Text (Tu et al., 2023): section 3.3 and its llava/eval/mmoverall scripts. BPO (Pi et al., 2024): section 5
and LLaVA's own evaluation scripts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mmalign_eval.requests import GenParams, greedy
from mmalign_eval.task import Protocol

SBT_SOURCE = "Sight Beyond Text (Tu et al., 2023), section 3.3 and its llava/eval/mmoverall"
SBT_PARAMS = GenParams(temperature=0.2, top_k=50, max_new_tokens=10, min_new_tokens=1, stop=("###",))
BPO_SOURCE = "BPO (Pi et al., 2024), section 5; LLaVA's model_vqa.py with conversation llava_v1"


def sight_beyond_text(
    ask: str, parse: Callable[[str], Any] = str.strip, *, shots: int = 0, note: str = "", **options: Any
) -> Protocol:
    """The image protocol of Sight Beyond Text: Vicuna-v0 template, sampled, at most 10 tokens, central square."""
    return Protocol(
        ask=ask, params=SBT_PARAMS, parse=parse, template="vicuna_v0", shots=shots, image=("center_crop",),
        source=SBT_SOURCE, note=note, options=options,
    )  # fmt: skip


def bpo(ask: str = "{question}", parse: Callable[[str], Any] = str.strip, *, note: str = "") -> Protocol:
    """The image protocol of BPO: LLaVA's llava_v1 template, greedy, at most 1024 tokens, resized and centre-cropped."""
    return Protocol(
        ask=ask, params=greedy(1024), parse=parse, template="llava_v1", image=("center_crop",),
        source=BPO_SOURCE, note=note,
    )  # fmt: skip


def demo_pool(training: Sequence[tuple[str, ...]], size: int = 5000, seed: int = 42) -> list[tuple[str, ...]]:
    """The training images that caption demonstrations come from: 5,000, drawn with numpy's seed 42."""
    chosen = np.random.RandomState(seed).choice(len(training), min(size, len(training)), replace=False)
    return [training[i] for i in chosen]


def caption_demos(pool: Sequence[tuple[str, ...]], shots: int, key: str, ask: str) -> tuple[tuple[str, str], ...]:
    """Captions of random training images as earlier answers, without their images; drawn anew for each `key`."""
    rng = random.Random(key)
    drawn = rng.sample(pool, shots) if shots else []
    return tuple((ask, without_quotes(rng.choice(captions))) for captions in drawn)


def without_quotes(text: str) -> str:
    """The paper's post-processing of captions: double quotes are deleted."""
    return text.replace('"', "").strip()
