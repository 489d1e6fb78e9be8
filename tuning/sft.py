"""One supervised training stage: the projector on captions, a LLaVA on conversations, or the SFT baseline on positives.

The loss is the mean negative log-likelihood over the learnt tokens of an optimizer step's whole batch, whatever its
micro-batches and processes: 2 x 1 accumulated is 1 x 2 (LLaVA trains on the mean of each micro-batch's mean).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Sampler

from ..errors import ImageError
from .batches import Collate, EpochOrder, LengthGroups, Row
from .config import Stage
from .learnt import learnt_logps
from .lora import base_model
from .trainer import LOG_FILE, PlainLog, WholeCheckpoints, arguments, last_checkpoint

Tell = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Done:
    """What a stage came to.

    Attributes:
        steps: Optimizer steps, those before an interruption included.
        first_loss: Of the first log entry.
        last_loss: Of the last.
        trainer: Its Trainer, for the model and its state.
    """

    steps: int
    first_loss: float
    last_loss: float
    trainer: SftTrainer


def image_workers() -> int:
    """Processes that decode images ahead of a GPU; on a CPU they would only take its cores away."""
    return 4 if torch.cuda.is_available() else 0


class SftTrainer(WholeCheckpoints):
    """Trainer for encoded conversations.

    Beside what Trainer logs: `tokens`, those learnt since the last entry, over all processes; and with `answers`,
    `logps/chosen` and `logps/chosen_sd`, mean and standard deviation of the rows' summed log-probabilities (nats).

    Args:
        given: As Trainer's.
        order: The rows' order.
        answers: Whether to log log-probabilities: of interest where a row is one answer.
        named: As Trainer's.
    """

    def __init__(self, *given: Any, order: LengthGroups, answers: bool = False, **named: Any) -> None:
        super().__init__(*given, **named)
        self.order, self.answers = order, answers
        self.model_accepts_loss_kwargs = True  # the loss comes divided by the learnt tokens of the whole step
        self._loss_shifts_labels = True
        self._tokens: Any = 0.0  # a tensor, so that the device is not waited for at each step
        self._sums: list[torch.Tensor] = []

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.order

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """Counts what is learnt, for the log."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._tokens += items
        return batches, items

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """This micro-batch's part of the mean over the step's learnt tokens."""
        logps, rows = learnt_logps(model, base_model(self.model), inputs)
        if self.answers:
            sums = torch.zeros(len(inputs["labels"]), device=logps.device)
            self._sums.append(sums.index_add(0, rows, logps.detach()))
        return -logps.sum() / num_items_in_batch * self.accelerator.num_processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what was counted since the last entry."""
        if "loss" in logs:
            logs["tokens"], self._tokens = float(self._tokens), 0.0
            if self._sums:
                sums, self._sums = self.accelerator.gather(torch.cat(self._sums)), []
                logs["logps/chosen"] = sums.mean().item()
                logs["logps/chosen_sd"] = sums.std().item() if len(sums) > 1 else 0.0
        super().log(logs, start_time)


def train_stage(
    model: nn.Module,
    processor: Any,
    rows: Sequence[Row],
    stage: Stage,
    work: Path,
    seed: int,
    tell: Tell,
    answers: bool = False,
    kind: type[SftTrainer] = SftTrainer,
) -> Done:
    """Trains what `lora.prepare` set, from the last whole checkpoint in `work` if there is one.

    Args:
        model: LLaVA with what trains set.
        processor: Its LlavaProcessor.
        rows: Encoded rows.
        stage: How to train.
        work: For checkpoints and the log.
        seed: Of order and dropout.
        tell: Called with (step, steps, entry) at every log entry.
        answers: As in `SftTrainer`.
        kind: The Trainer (`sharding.wrap_for_trainer` makes one that shards).

    Raises:
        BadInput: NaN, a full disk, a checkpoint of another training.
        ImageError: An image cannot be read.
    """
    args = arguments(stage, work, seed)
    args.dataloader_num_workers = image_workers()
    order = LengthGroups.of(rows, stage.batch, seed, stage.group_by_length)
    log = PlainLog(work / LOG_FILE, stage.stop_after, tell)
    trainer = kind(
        model=model,
        args=args,
        data_collator=Collate(processor.tokenizer.pad_token_id, processor.image_processor),
        train_dataset=list(rows),
        callbacks=[EpochOrder(order), log],
        order=order,
        answers=answers,
        projector_lr=stage.projector_lr,
    )
    try:
        trainer.train(resume_from_checkpoint=last_checkpoint(work))
    except ImageError as error:
        text = str(error).strip()
        if not text.startswith("Caught "):
            raise
        raise ImageError(text.splitlines()[-1].partition(": ")[2]) from error  # a worker's, after its traceback
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    first, last = (losses[0], losses[-1]) if losses else (math.nan, math.nan)
    return Done(trainer.state.global_step, first, last, trainer)
