"""What all trainings share: transformers' Trainer with checkpoints that are whole or not there, and plain logs.

A training writes into `<out>.work/` (checkpoints to resume from, the log) and its result into `<out>`, which appears
by one rename when all of it is there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput, get_last_checkpoint

from ..errors import BadInput
from .config import Stage
from .lora import base_model

LOG_FILE = "log.jsonl"  # one JSON object a line, `step` in each; `mmeval report --training` draws it
WEIGHTS_FILE = "trainable.safetensors"  # of a checkpoint to resume from: the weights that train, by name
_ASIDE = "aside"
_TORCH_WRITES = ("PytorchStreamWriter", "iostream", "inline_container")  # torch.save names no cause


def work_folder(out: Path) -> Path:
    """Where an unfinished training lives."""
    return out.with_name(f"{out.name}.work")


def processes() -> int:
    """Processes of this training (torchrun's)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def wants_bf16(stage: Stage) -> bool:
    """Whether a stage computes in bfloat16: as it says, or where the GPU has it. CPUs have it, slowly: if asked for.

    Raises:
        BadInput: Asked for, and this GPU has not got it.
    """
    if stage.precision == "fp32":
        return False
    has = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    if stage.precision == "bf16" and torch.cuda.is_available() and not has:
        raise BadInput("precision bf16: this GPU has no bfloat16; give --set tune.precision=fp32")
    return has or stage.precision == "bf16"


def arguments(stage: Stage, work: Path, seed: int) -> TrainingArguments:
    """Trainer's settings for a stage.

    Raises:
        BadInput: The batch does not divide over the processes, or a precision this device has not.
    """
    cuda = torch.cuda.is_available()
    made = TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=stage.micro_batch,
        per_device_eval_batch_size=stage.micro_batch,
        gradient_accumulation_steps=stage.accumulation(processes(), "tune"),
        num_train_epochs=stage.epochs,
        max_steps=stage.max_steps or -1,
        learning_rate=stage.lr,
        lr_scheduler_type=stage.schedule if stage.schedule != "constant" else "constant_with_warmup",
        warmup_steps=stage.warmup,  # a share, below 1
        weight_decay=stage.weight_decay,
        adam_beta2=stage.beta2,
        max_grad_norm=stage.max_grad_norm,
        activation_checkpointing=stage.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        bf16=wants_bf16(stage),
        logging_steps=stage.log_every,
        logging_nan_inf_filter=False,
        save_steps=stage.save_every,
        save_total_limit=2,
        eval_strategy="steps" if stage.eval_every else "no",
        eval_steps=stage.eval_every or None,
        seed=seed,
        data_seed=seed,
        use_cpu=not cuda,
        ddp_backend="gloo" if not cuda and processes() > 1 else None,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        report_to=[],
        dataloader_pin_memory=cuda,
        save_only_model=False,
    )
    if cuda:  # Trainer would spread one process over all GPUs it sees, and multiply the batch: more take torchrun
        made._n_gpu = min(made.n_gpu, 1)
    return made


class WholeCheckpoints(Trainer):
    """Trainer whose checkpoints are written aside and renamed, and which stops at a loss that is not a number.

    A checkpoint holds the weights that train (by name, bit by bit), the optimizer's state, the schedule's, and those of
    the generators: what is frozen is in the base.

    Args:
        given: As Trainer's.
        projector_lr: Learning rate of the projector's parameters, where it differs.
        named: As Trainer's.
    """

    def __init__(self, *given: Any, projector_lr: float | None = None, **named: Any) -> None:
        super().__init__(*given, **named)
        self.projector_lr = projector_lr
        self.remove_callback(PrinterCallback)
        self._aside: Path | None = None
        if self.args.activation_checkpointing:  # for the language model: Trainer would do the frozen tower too
            base_model(self.model).model.language_model.activation_checkpointing_enable(
                activation_checkpointing_kwargs=self.args.activation_checkpointing_kwargs
            )
            self.args.activation_checkpointing = False

    def train(
        self, resume_from_checkpoint: Any = None, trial: Any = None, ignore_keys_for_eval: list[str] | None = None
    ) -> TrainOutput:
        """Trains; from the checkpoint of the last step, only its weights are taken (Trainer would do one step more)."""
        if resume_from_checkpoint:
            state = _read_state(Path(resume_from_checkpoint))
            stops = [back.stop_after for back in self.callback_handler.callbacks if isinstance(back, PlainLog)]
            if state.global_step >= (max(stops, default=0) or state.max_steps):
                self._load_from_checkpoint(resume_from_checkpoint)
                self.state = state
                return TrainOutput(state.global_step, 0.0, {})
        return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW; the projector in groups of its own where it has another learning rate."""
        optimizer, whole = super().create_optimizer(model), base_model(self.model)
        if self.projector_lr is None or any("projector" in group for group in optimizer.param_groups):
            return optimizer
        apart = {id(p) for n, p in whole.named_parameters() if "multi_modal_projector" in n}
        for group in list(optimizer.param_groups):
            inside = [p for p in group["params"] if id(p) in apart]
            group["params"] = [p for p in group["params"] if id(p) not in apart]
            if inside:
                rest = {key: value for key, value in group.items() if key != "params"}
                optimizer.add_param_group({**rest, "params": inside, "lr": self.projector_lr, "projector": True})
        return optimizer

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: Trainer walks all parameters for it at every batch."""
        return 0

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        work = Path(str(self.args.output_dir))
        target = work / f"checkpoint-{self.state.global_step}"
        self._aside = work / _ASIDE
        if self.args.should_save and self._aside.exists():
            shutil.rmtree(self._aside)
        wait_for_all()  # nobody writes into what is being removed
        try:
            with disk_errors(f"checkpoint {target}"):
                super()._save_checkpoint(model, trial)
        except BaseException:
            shutil.rmtree(self._aside, ignore_errors=True)
            raise
        finally:
            self._aside = None
        wait_for_all()  # until everybody's part is there
        if self.args.should_save:
            if target.exists():
                shutil.rmtree(target)
            for file in (work / _ASIDE / target.name).iterdir():  # a name must not reach the disk before its content
                with file.open("rb") as stream:
                    os.fsync(stream)
            (work / _ASIDE / target.name).rename(target)
            shutil.rmtree(work / _ASIDE)
            self._forget_old()
        wait_for_all()

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside or super()._get_output_dir(trial))

    def _forget_old(self) -> None:
        found = sorted(Path(str(self.args.output_dir)).glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
        for folder in found[: -(self.args.save_total_limit or len(found))]:
            shutil.rmtree(folder)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        model: Any = self.model
        whole = state_dict or dict(model.named_parameters())  # gathered before, where the model is sharded
        save_file({name: whole[name].detach().contiguous() for name in _trainable(model)}, folder / WEIGHTS_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        file = Path(resume_from_checkpoint) / WEIGHTS_FILE
        try:
            stored = load_file(file)
        except (OSError, SafetensorError) as error:
            raise _damaged(file, error) from error
        wanted = _trainable(self.model)
        if {n: v.shape for n, v in stored.items()} != {n: v.shape for n, v in wanted.items()}:
            raise BadInput(f"{file} is of another training: remove {file.parent.parent} to begin anew")
        with torch.no_grad():
            for name, value in wanted.items():
                value.copy_(stored[name])


def _read_state(folder: Path) -> TrainerState:
    """Trainer's state in a checkpoint to resume from, all of whose files are looked at.

    Raises:
        BadInput: One is missing or cut off.
    """
    named = [folder / OPTIMIZER_NAME, folder / SCHEDULER_NAME]
    for file in sorted({*named, *folder.glob("*.pth")}):
        try:
            with zipfile.ZipFile(file):  # torch.save's; the directory that it reads stands at the end
                pass
        except (OSError, zipfile.BadZipFile) as error:
            raise _damaged(file, error) from error
    file = folder / TRAINER_STATE_NAME
    try:
        return TrainerState.load_from_json(str(file))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> BadInput:
    return BadInput(f"{file} cannot be read ({error}); remove {file.parent} to go on from an earlier one")


def _trainable(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def wait_for_all() -> None:
    """Until every process of the training is here."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turns the several errors of a full or closed disk into one line; `what` begins it.

    Raises:
        BadInput: Writing failed.
    """
    try:
        yield
    except OSError as error:
        raise BadInput(f"{what} cannot be written: {error.strerror or error}") from error
    except (SafetensorError, RuntimeError) as error:
        text = " ".join(str(error).split())
        torchs = any(word in text for word in _TORCH_WRITES)
        if isinstance(error, RuntimeError) and not torchs:
            raise
        cause = "the disk is full, or files may not grow so large" if torchs else text
        raise BadInput(f"{what} cannot be written: {cause}") from error


def _not_a_number(step: int, what: str, value: float) -> BadInput:
    return BadInput(
        f"training stopped at step {step}: {what} is {value}; "
        "try a lower learning rate, or precision fp32. The last checkpoint is kept"
    )


class PlainLog(TrainerCallback):
    """Writes each log entry as a JSON line, stops at NaN, ends early where the stage says so, and tells how it goes.

    There is an entry before every checkpoint too, so that the entries of a resumed training are those of an unbroken
    one, and weights from a step that was no number never become a checkpoint.

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
        """Keeps the entry; Trainer's closing one, which says how long it took, is not part of the log."""
        entry = {"step": state.global_step, **(logs or {})}
        bad = [key for key, value in entry.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise _not_a_number(state.global_step, bad[0], entry[bad[0]])
        if state.is_world_process_zero and "train_runtime" not in entry:
            with disk_errors(str(self.file)), self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
            self.tell(state.global_step, self.stop_after or state.max_steps, entry)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Stops a schedule early, at a checkpoint."""
        if self.stop_after and state.global_step >= self.stop_after:
            control.should_training_stop = control.should_save = True
        if control.should_save:
            control.should_log = True
        return control


def last_checkpoint(work: Path) -> str | None:
    """The newest whole checkpoint to resume from."""
    return get_last_checkpoint(str(work)) if work.is_dir() else None
