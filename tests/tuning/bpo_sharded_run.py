"""What test_bpo_sharded.py starts under torchrun: trainings that are sharded, one of them interrupted and resumed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmalign_eval.tuning.bpo import BpoJob, run
from mmalign_eval.tuning.trainer import PlainLog
from transformers import TrainerState, TrainingArguments

from .bpo_support import recipe

STAGE = {"max_steps": 4, "micro_batch": 1, "lr": 1e-2, "eval_every": 2, "save_every": 2}


def job(world: Path, out: Path, merge: bool = False, fsdp: bool = False, lora: bool = True, **stage: Any) -> BpoJob:
    """Of a world of 15 pairs: processes have shares of unlike size, of the reference and of held-out pairs."""
    made = recipe(lora, {"train_projector": lora}, data={"held_out": 0.3}, **{**STAGE, **stage})
    return BpoJob(str(world / "llava"), world / "pairs.json", world / "images", out, made, merge=merge, fsdp=fsdp)


class Cut(Exception):
    """Ends a training in both processes at the same step."""


def interrupted(given: BpoJob) -> None:
    """Trains up to step 3, whose checkpoint is that of step 2."""
    whole = PlainLog.on_step_end

    def cut(self: PlainLog, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> Any:
        if state.global_step == 3:
            raise Cut
        return whole(self, args, state, control, **kwargs)

    PlainLog.on_step_end = cut  # type: ignore[method-assign,assignment]
    try:
        run(given, lambda line: None)
    except Cut:
        return
    finally:
        PlainLog.on_step_end = whole  # type: ignore[method-assign]
    raise AssertionError("it was not interrupted")


def main() -> None:
    world, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    run(job(world, out / "lora", fsdp=True), lambda line: None)
    run(job(world, out / "full", fsdp=True, lora=False), lambda line: None)
    run(job(world, out / "half", fsdp=True, merge=True, precision="bf16"), lambda line: None)
    again = job(world, out / "again", fsdp=True)
    interrupted(again)
    run(again, lambda line: None)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
