"""A nano LLaVA, noise for images and made-up pairs: what preference tuning needs to run in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmalign_eval.tuning.config import Recipe, parse_recipe
from PIL import Image

from mmalign_eval.miniature.nano import make_llava

TEXT = "a red cup on the table and a person next to it dog apples image picture Tom has number"
WORDS = TEXT.split()
PROMPTS = ("Please describe the picture.", "Is there a dog in the image?")


def make_world(folder: Path, images: int = 8, pairs: int = 16, seed: int = 0) -> Path:
    """Writes `llava/`, `images/` and `pairs.json` (released form); returns the folder."""
    make_llava(folder / "llava")
    numbers = np.random.default_rng(seed)
    (folder / "images").mkdir()
    for i in range(images):
        pixels = numbers.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
    rows = [_row(i, images, numbers) for i in range(pairs)]
    (folder / "pairs.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def _row(i: int, images: int, numbers: np.random.Generator) -> dict[str, Any]:
    chosen, rejected = (" ".join(numbers.choice(WORDS, int(n))) for n in numbers.integers(3, 12, 2))
    completions = [
        {"score": 1, "response": f"{chosen}.", "type": "gt"},
        {"score": 0, "response": f"{rejected}!", "type": "mllm-hal"},
    ]
    prompt = f"{PROMPTS[i % 2]}\n<image>"
    return {"id": f"{'ab'[i % 2]}-{i}", "prompt": prompt, "image": f"{i % images}.png", "completions": completions}


def recipe(
    lora: bool = True, preference: dict[str, Any] | None = None, data: dict[str, Any] | None = None, **tune: Any
) -> Recipe:
    """A recipe of method bpo for seconds."""
    stage = {
        "lr": 5e-3, "max_steps": 6, "batch": 4, "micro_batch": 2, "warmup": 0.0, "max_length": 512, "precision": "fp32",
        "gradient_checkpointing": False, "log_every": 1, "save_every": 100, **tune,
    }  # fmt: skip
    content: dict[str, Any] = {
        "name": "nano", "about": "for tests", "method": "bpo", "language": "none", "vision": "none",
        "projector": "mlp2x_gelu", "tune": stage, "preference": preference or {}, "data": data or {},
    }  # fmt: skip
    if lora:
        content["lora"] = {"r": 4, "alpha": 8, "dropout": 0.05}
    return parse_recipe(content, "test")
