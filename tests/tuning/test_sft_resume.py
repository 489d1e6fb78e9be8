"""Killed at any moment, the same training goes on to the same weights, bit by bit (on a CPU)."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmalign_eval.tuning import trainer as trainer_module
from mmalign_eval.tuning.sft import SftTrainer
from mmalign_eval.tuning.trainer import last_checkpoint

from tests.tuning.conftest import LlavaData
from tests.tuning.train_support import in_child, recipe, train, weights

STEPS = 9  # of four rows: over two epochs of sixteen, across the border between them
LORA = {"r": 4, "alpha": 8.0, "dropout": 0.3}  # dropout: the generators' state matters


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def chosen() -> Any:
    return recipe("mm-lora", lora=LORA, max_steps=STEPS, save_every=2, log_every=3)


@pytest.fixture(scope="module")
def unbroken(nano_llava: Path, llava_data: LlavaData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return weights(train(nano_llava, llava_data, tmp_path_factory.mktemp("unbroken"), chosen())[0])


def on_call(owner: Any, name: str, number: int, before: bool = True) -> Callable[[], None]:
    """Dies at the `number`-th call of a function, before or after what it does."""

    def arm() -> None:
        inner, count = getattr(owner, name), 0

        def counted(*given: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if before and count == number:
                dies()
            result = inner(*given, **named)
            if count == number:
                dies()
            return result

        setattr(owner, name, counted)

    return arm


RNG = random.Random(20)
MOMENTS = {
    "forward pass of the first step": on_call(SftTrainer, "compute_loss", 1),
    "before the second epoch": on_call(SftTrainer, "compute_loss", 8, before=False),
    **{f"forward pass {n}": on_call(SftTrainer, "compute_loss", n) for n in sorted(RNG.sample(range(6, 18), 3))},
    "weights half written": on_call(trainer_module, "save_file", 2),
    "optimizer half written": on_call(torch, "save", 4),  # of the second checkpoint
    "generators written": on_call(torch, "save", 6, before=False),
    "before the rename": on_call(Path, "rename", 2),
    "after the rename": on_call(Path, "rename", 3, before=False),
    "an old one forgotten": on_call(SftTrainer, "_forget_old", 3),
    "after the last checkpoint": on_call(SftTrainer, "_forget_old", 5, before=False),
}


OFTEN = ("optimizer half written", "after the last checkpoint")


@pytest.mark.parametrize(
    "moment",
    [pytest.param(m, id=m.replace(" ", "-"), marks=() if m in OFTEN else pytest.mark.slow) for m in MOMENTS],
)
def test_killed_and_resumed(
    nano_llava: Path, llava_data: LlavaData, tmp_path: Path, unbroken: dict[str, Any], moment: str
) -> None:
    def until_killed() -> None:
        MOMENTS[moment]()
        train(nano_llava, llava_data, tmp_path, chosen())

    assert in_child(until_killed) == -signal.SIGKILL
    found = last_checkpoint(tmp_path)
    assert (found is None) == (moment in ("forward pass of the first step",))
    torch.manual_seed(999)  # whatever the new process begins with
    after, done = train(nano_llava, llava_data, tmp_path, chosen())
    assert done.steps == STEPS
    after_weights = weights(after)
    assert after_weights.keys() == unbroken.keys()
    different = [name for name, value in unbroken.items() if not torch.equal(after_weights[name], value)]
    assert not different


def test_dropout_is_at_work_here(
    nano_llava: Path, llava_data: LlavaData, tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    """Else the generators' states would not be tested: another seed of dropout alone gives other weights."""
    quiet = recipe("mm-lora", lora={**LORA, "dropout": 0.0}, max_steps=STEPS, save_every=2, log_every=3)
    other = weights(train(nano_llava, llava_data, tmp_path, quiet)[0])
    assert any(not torch.equal(other[name], value) for name, value in unbroken.items())
