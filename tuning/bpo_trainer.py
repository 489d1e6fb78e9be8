"""Preference tuning: eq. (4) of BPO (Pi et al., 2024) on transformers' Trainer.

What is logged is named as TRL names it. `..._sd` is the standard deviation over an interval's pairs; `logps/base` is
the mean log-probability of the chosen answers before tuning, over the same pairs, so that its fall shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from transformers import TrainingArguments

from .batches import EpochOrder, LengthGroups
from .bpo_pairs import Item
from .config import Preference
from .logprobs import Batch, answer_logits, lay_out, lengths, summed, token_logprobs
from .looks import Looks
from .lora import base_model
from .reference import References, idle, in_batches, switched_off
from .sharding import FSDPModule, reshard
from .trainer import WholeCheckpoints

_COLUMNS = ("chosen", "rejected", "base chosen", "base rejected", "loss", "anchor")


def preference_loss(policy: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """The loss of each pair (BPO, eq. 4; DPO, Rafailov et al., 2023, eq. 7).

    -log sigmoid(beta [(log p(chosen) - log p(rejected)) - (log p0(chosen) - log p0(rejected))]), with natural-log
    probabilities summed over an answer's tokens.

    Args:
        policy: `[B, 2]`, chosen and rejected, of the model that is tuned.
        reference: The same of the reference p0.
        beta: The paper's eta.

    Returns:
        `[B]`.
    """
    gain = (policy[:, 0] - policy[:, 1]) - (reference[:, 0] - reference[:, 1])
    return -functional.logsigmoid(beta * gain)


class PairCollate:
    """Pairs to a batch of tensors, their items beside them."""

    def __init__(self, pad: int, packed: bool) -> None:
        self.pad, self.packed = pad, packed

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        """Lays the pairs out."""
        return {**lay_out([item.ids for item in items], self.pad, self.packed), "items": list(items)}


class BpoTrainer(WholeCheckpoints):
    """Trainer for preference pairs.

    Args:
        model: A LLaVA, wrapped by PEFT or not, what trains already set.
        args: Trainer's.
        preference: beta and anchor.
        order: In which pairs come.
        looks: The vision tower's features.
        references: Holds every pair that is trained on or held out.
        train: Pairs to train on.
        held_out: Pairs to evaluate on; may be none.
        collate: How batches are laid out.
        base: In full tuning, a frozen copy of the model before the first step, for the divergence from it.
        projector_lr: As in `WholeCheckpoints`.
        callbacks: Trainer's.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        preference: Preference,
        order: LengthGroups,
        looks: Looks,
        references: References,
        train: Sequence[Item],
        held_out: Sequence[Item],
        collate: PairCollate,
        base: nn.Module | None = None,
        projector_lr: float | None = None,
        callbacks: list[Any] | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            data_collator=collate,
            train_dataset=list(train),
            eval_dataset=list(held_out),
            callbacks=[*(callbacks or []), EpochOrder(order)],
            projector_lr=projector_lr,
        )
        self.order, self.items = order, list(train)
        self.model_accepts_loss_kwargs = True  # the loss comes divided by the pairs of the whole step
        self.preference, self.looks, self.references = preference, looks, references
        self.held_out, self.collate, self.base = list(held_out), collate, base
        self._told: list[torch.Tensor] = []  # `_COLUMNS` of each pair since the last log

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroups:
        return self.order

    # -- training -----------------------------------------------------------------------------------------------------

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """Micro batches of a step, and how many pairs all processes have in it."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = torch.tensor(sum(len(batch["items"]) for batch in batches), device=device)
        return batches, self.accelerator.reduce(count, reduction="sum")

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro batch's part of the mean loss over the step's pairs."""
        batch = dict(inputs)
        items = batch.pop("items")
        features = self.looks.features([item.image for item in items])
        tokens = token_logprobs(answer_logits(model, batch, features), batch["token"])
        policy, reference = summed(tokens, batch), self._reference(items, tokens.device)
        losses = preference_loss(policy, reference, self.preference.beta)
        anchors = -policy[:, 0] / lengths(batch)[:, 0]  # nats a token
        self._told.append(torch.column_stack([policy, reference, losses, anchors]).detach())
        total = (losses + self.preference.anchor * anchors).sum()
        count = num_items_in_batch if num_items_in_batch is not None else len(items) * self.accelerator.num_processes
        return total * self.accelerator.num_processes / count  # DistributedDataParallel takes the mean of gradients

    def _reference(self, items: Sequence[Item], device: torch.device) -> torch.Tensor:
        return torch.tensor([self.references.known[item.key] for item in items], device=device)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what the interval's pairs say."""
        if "loss" in logs:
            told = gathered(torch.cat(self._told) if self._told else torch.zeros(0, len(_COLUMNS)))
            self._told = []
            if len(told):
                logs.update(summary(told, self.preference))
        super().log(logs, start_time)

    # -- the base -----------------------------------------------------------------------------------------------------

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Evaluation mode without gradients, in the precision that training has."""
        model: Any = self.model
        training = model.training
        model.eval()
        try:
            with torch.no_grad(), self._precision():
                yield
        finally:
            model.train(training)
            for one in (model, self.base):
                if one is not None:
                    reshard(one)

    @property
    def sharded(self) -> bool:
        """Whether the model is spread over the processes, so that all of them must run it equally often."""
        return isinstance(self.model, FSDPModule)

    def _precision(self) -> AbstractContextManager[Any]:
        """As in training: a sharded model casts its weights itself."""
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16 and not self.sharded)

    def base_logprobs(self, items: Sequence[Item]) -> torch.Tensor:
        """Log-probabilities `[n, 2]` before the first step: adapter off, or the weights as they still are."""
        with self.at_rest(), switched_off(self.model):
            batch, features = self._seen(items)
            tokens = token_logprobs(answer_logits(self.model, batch, features), batch["token"])
            return summed(tokens, batch).cpu()

    def _seen(self, items: Sequence[Item]) -> tuple[Batch, torch.Tensor]:
        batch = self.collate(items)
        batch.pop("items")
        on_device = {name: tensor.to(self.args.device) for name, tensor in batch.items()}
        return on_device, self.looks.features([item.image for item in items])

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Held-out pairs: what training logs of its own, and the divergence from the base.

        `eval_kl` is KL(tuned || base) a token: over the whole vocabulary at every position of the chosen answers.
        """
        told, divergence = [], []
        processes, batch = self.args.world_size, self.args.per_device_eval_batch_size
        mine = self.held_out[self.args.process_index :: processes]
        with self.at_rest():
            for items in in_batches(mine, batch):
                row, kl = self._judged(items)
                told.append(row)
                divergence.append(kl)
            for _ in range(idle(len(self.held_out), len(mine), batch, processes) if self.sharded else 0):
                self._judged(self.held_out[:1])
        whole = gathered(torch.cat(told) if told else torch.zeros(0, len(_COLUMNS)))
        nats = gathered(torch.cat(divergence) if divergence else torch.zeros(0, 1))
        found = summary(whole, self.preference)
        metrics = {"loss": float(whole[:, 4].mean()), **found}
        if len(nats):
            metrics["kl"] = float(nats.mean())
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _judged(self, items: Sequence[Item]) -> tuple[torch.Tensor, torch.Tensor]:
        batch, features = self._seen(items)
        logits = answer_logits(self.model, batch, features)
        policy = summed(token_logprobs(logits, batch["token"]), batch)
        reference = self._reference(items, logits.device)
        losses = preference_loss(policy, reference, self.preference.beta)
        told = torch.column_stack([policy, reference, losses, -policy[:, 0] / lengths(batch)[:, 0]])
        return told.cpu(), self._divergence(batch, features, logits).cpu()

    def _divergence(self, batch: Batch, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """KL(tuned || base) `[chosen tokens, 1]` in nats."""
        if self.base is None and base_model(self.model) is self.model:
            return torch.zeros(0, 1)
        base = self.model if self.base is None else self.base
        with switched_off(base):
            before = answer_logits(base, batch, features)
        chosen = batch["answer"] % 2 == 0
        now, then = logits[chosen].log_softmax(dim=1), before[chosen].log_softmax(dim=1)
        return (now.exp() * (now - then)).sum(dim=1, keepdim=True)


def summary(told: torch.Tensor, preference: Preference) -> dict[str, float]:
    """Means (and standard deviations) over pairs.

    Args:
        told: `[pairs, len(_COLUMNS)]`.
        preference: beta; whether there is an anchor.
    """
    told = told.double()
    chosen, rejected, base_chosen, base_rejected = told[:, :4].unbind(dim=1)
    gains = preference.beta * torch.column_stack([chosen - base_chosen, rejected - base_rejected])
    margins = gains[:, 0] - gains[:, 1]
    values = {
        "logps/chosen": chosen,
        "logps/rejected": rejected,
        "rewards/chosen": gains[:, 0],
        "rewards/rejected": gains[:, 1],
        "rewards/margins": margins,
    }
    found = {name: float(value.mean()) for name, value in values.items()}
    found |= {f"{name}_sd": float(value.std()) if len(told) > 1 else 0.0 for name, value in values.items()}
    found["rewards/accuracies"] = float((margins > 0).double().mean())
    found["logps/base"] = float(base_chosen.mean())
    if preference.anchor:
        found["anchor"] = float(told[:, 5].mean())
    return found


def gathered(values: torch.Tensor) -> torch.Tensor:
    """Rows of all processes, however many each has, on the CPU."""
    values = values.cpu()
    if not (dist.is_available() and dist.is_initialized()):
        return values
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, values)
    return torch.cat(parts)
