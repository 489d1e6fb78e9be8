"""What all trainings share: transformers' Trainer with checkpoints that are whole or not there, and plain logs.

A training writes into `<out>.work/` (checkpoints to resume from, the log) and its result into `<out>`, which appears
by one rename when all of it is there.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from ..errors import BadInput
from .config import Stage

LOG_FILE = "log.jsonl"  # one JSON object a line, `step` in each; `mmeval report --training` draws it


def work_folder(out: Path) -> Path:
    """Where an unfinished training lives."""
    return out.with_name(f"{out.name}.work")


def processes() -> int:
    """Processes of this training (torchrun's)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def arguments(stage: Stage, work: Path, seed: int) -> TrainingArguments:
    """Trainer's settings for a stage.

    Raises:
        BadInput: The batch does not divide over the processes, or a precision this device has not.
    """
    accumulation, rest = divmod(stage.batch, stage.micro_batch * processes())
    if rest or not accumulation:
        raise BadInput(
            f"batch {stage.batch} is no multiple of micro_batch {stage.micro_batch} x {processes()} processes: "
            "give --set tune.batch or --set tune.micro_batch"
        )
    cuda = torch.cuda.is_available()
    bf16 = cuda and torch.cuda.is_bf16_supported() if stage.precision == "auto" else stage.precision == "bf16"
    return TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=stage.micro_batch,
        per_device_eval_batch_size=stage.micro_batch,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=stage.epochs,
        max_steps=stage.max_steps or -1,
        learning_rate=stage.lr,
        lr_scheduler_type=stage.schedule,
        warmup_steps=stage.warmup,  # a share, below 1
        weight_decay=stage.weight_decay,
        adam_beta2=stage.beta2,
        max_grad_norm=stage.max_grad_norm,
        gradient_checkpointing=stage.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        bf16=bf16,
        logging_steps=stage.log_every,
        logging_nan_inf_filter=False,
        save_steps=stage.save_every,
        save_total_limit=2,
        eval_strategy="steps" if stage.eval_every else "no",
        eval_steps=stage.eval_every or None,
        seed=seed,
        data_seed=seed,
        use_cpu=not cuda,
        ddp_backend=None if cuda else "gloo",
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        report_to=[],
        dataloader_pin_memory=cuda,
        save_only_model=False,
    )


class WholeCheckpoints(Trainer):
    """Trainer whose checkpoints are written aside and renamed, and which stops at a loss that is not a number."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        target = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        aside = Path(str(self.args.output_dir)) / "aside"
        self._aside = aside
        if self.args.should_save and aside.exists():
            shutil.rmtree(aside)
        try:
            super()._save_checkpoint(model, trial)
        except OSError as error:
            raise BadInput(f"checkpoint {target} cannot be written: {error.strerror or error}") from error
        finally:
            self._aside = None
        if self.args.should_save:
            if target.exists():
                shutil.rmtree(target)
            (aside / target.name).rename(target)
            shutil.rmtree(aside)
            self._forget_old()

    _aside: Path | None = None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside or super()._get_output_dir(trial))

    def _forget_old(self) -> None:
        found = sorted(Path(str(self.args.output_dir)).glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
        for folder in found[: -(self.args.save_total_limit or len(found))]:
            shutil.rmtree(folder)


class PlainLog(TrainerCallback):
    """Writes each log entry as a JSON line, stops at NaN, ends early where the stage says so, and tells how it goes.

    Args:
        file: `LOG_FILE` in the work folder; entries after a resumed step are dropped first.
        stop_after: Steps after which to stop; 0: never.
        tell: Called with (step, steps, entry) at every log entry.
    """

    def __init__(self, file: Path, stop_after: int, tell: Callable[[int, int, dict[str, float]], None]) -> None:
        self.file, self.stop_after, self.tell = file, stop_after, tell

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Cuts the log back to the step that training goes on from."""
        if not state.is_world_process_zero:
            return
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= state.global_step]
        self.file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keeps the entry."""
        entry = {"step": state.global_step, **(logs or {})}
        bad = [key for key, value in entry.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise BadInput(
                f"training stopped at step {state.global_step}: {bad[0]} is {entry[bad[0]]}; "
                "try a lower learning rate, or precision fp32. The last checkpoint is kept"
            )
        if state.is_world_process_zero:
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
            self.tell(state.global_step, state.max_steps, entry)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Stops a schedule early."""
        if self.stop_after and state.global_step >= self.stop_after:
            control.should_training_stop = True
        return control


def last_checkpoint(work: Path) -> str | None:
    """The newest whole checkpoint to resume from."""
    return get_last_checkpoint(str(work)) if work.is_dir() else None
