"""Nano checkpoints, images and comparisons shared by the tests of the Hugging Face adapter."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmalign_eval.images import ImagePool
from mmalign_eval.miniature.nano import make_causal_lm, make_llava
from mmalign_eval.models.base import ModelAdapter
from mmalign_eval.models.hf import open_model
from mmalign_eval.requests import ImageRef, Request, Response

torch.set_num_threads(1)
_ROOT = tempfile.TemporaryDirectory(prefix="mmeval-nano-")
ARCHS = ("llama", "gpt2", "gpt_neox", "qwen2")


@cache
def nano(arch: str = "llama", seed: int = 0) -> Path:
    """A random checkpoint; made once."""
    folder = Path(_ROOT.name) / f"{arch}-{seed}"
    if arch == "llava":
        return make_llava(folder, seed=seed)
    return make_causal_lm(folder, arch, seed)  # type: ignore[arg-type]


def scratch(name: str) -> Path:
    """A folder of that name that lives as long as the tests."""
    return Path(_ROOT.name) / "built" / name


def copy_of(source: Path, target: Path) -> Path:
    """A copy to tamper with."""
    shutil.copytree(source, target)
    return target


@cache
def opened(arch: str = "llama", **options: str) -> Any:
    """A loaded model; loaded once."""
    return load(nano(arch), **options)


def load(path: Path, **options: str) -> Any:
    """A loaded model of one's own."""
    model = open_model(str(path), options)
    model.load()
    return model


def ask(model: ModelAdapter, requests: Sequence[Request], batch: int = 0) -> list[Response]:
    """Answers in the order of the requests, asked in batches of some size (0: one batch)."""
    pool, found = ImagePool(), {}
    size = batch or len(requests)
    for start in range(0, len(requests), size):
        for index, response in model.answer(requests[start : start + size], pool):
            assert start + index not in found, "answered twice"
            found[start + index] = response
    pool.close()
    return [found[i] for i in range(len(requests))]


def near(a: float, b: float) -> bool:
    """The house's rule of equality for float32 log-likelihoods."""
    return abs(a - b) <= 1e-5 * max(1.0, abs(b))


def same(a: Response, b: Response) -> None:
    """Asserts that two responses are equal by that rule, and in everything else exactly."""
    assert (a.status, a.text, a.greedy, a.finish, a.new_tokens) == (b.status, b.text, b.greedy, b.finish, b.new_tokens)
    assert len(a.logprobs) == len(b.logprobs)
    assert all(near(x, y) for x, y in zip(a.logprobs, b.logprobs, strict=True)), (a.logprobs, b.logprobs)


@cache
def pictures(count: int = 3) -> tuple[ImageRef, ...]:
    """Random images."""
    numbers = np.random.default_rng(0)
    refs = []
    for i in range(count):
        file = Path(_ROOT.name) / f"{i}.png"
        Image.fromarray(numbers.integers(0, 255, (30 + i, 40, 3)).astype("uint8")).save(file)
        refs.append(ImageRef(str(file)))
    return tuple(refs)
