"""The one training loop of the build: AdamW, warm-up and cosine, clipped gradients, saved and resumed by step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    `stop` ends the run before the cosine has come down; `floor` is the share of the rate it comes down to.
    """

    name: str
    steps: int
    rate: float
    stop: int | None = None
    warmup: int = 40
    floor: float = 0.02
    weight_decay: float = 0.05
    save_every: int = 100

    def rate_at(self, step: int) -> float:
        """Learning rate of this step."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def train(plan: Plan, model: nn.Module, loss_of: Callable[[int], torch.Tensor], folder: Path) -> nn.Module:
    """Train `model` on `loss_of(step)`; resumes from `folder/<name>.pt`, to which it saves.

    `loss_of` must depend on the step number alone, so that a resumed run sees what an unbroken one would have seen.
    """
    path = folder / f"{plan.name}.pt"
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98))
    start, spent = 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start, spent = state["step"], state["seconds"]
    last = plan.steps if plan.stop is None else plan.stop
    model.train()
    began, mean = time.time(), 0.0
    for step in range(start, last):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate_at(step)
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        mean = loss.item() if step == start else 0.95 * mean + 0.05 * loss.item()
        done = step + 1
        if done % 50 == 0 or done == last:
            rate = (done - start) / (time.time() - began)
            print(
                f"{plan.name} {done}/{last} loss {mean:.4f} {rate:.2f} step/s eta {(last - done) / rate / 60:.1f} min",
                flush=True,
            )
        if done % plan.save_every == 0 or done == last:
            seconds = spent + time.time() - began
            state = {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done, "seconds": seconds,
            }  # fmt: skip
            torch.save(state, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
    model.eval()
    return model
