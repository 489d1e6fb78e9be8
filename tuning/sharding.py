"""FSDP2: one model's weights, gradients and optimizer state spread over the processes of a training.

`torch.distributed.fsdp.fully_shard` is called here and nowhere else, not through Trainer's `fsdp` option, which on CPU
silently becomes DistributedDataParallel. A training uses it as

    trainer = wrap_for_trainer(ItsTrainer)(model=model, args=args, ...)   # under torchrun; BadInput outside
    trainer.train(resume_from_checkpoint=...)
    unshard(trainer.model)                                               # every process
    if trainer.args.should_save: ...save trainer.model as ever...

Its checkpoints hold whole weights and a whole optimizer state, as those of a single process do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.experimental import implicit_replication
from transformers import PreTrainedModel, Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from ..errors import BadInput

T = TypeVar("T", bound=Trainer)


def mesh_of_all(device: str) -> DeviceMesh:
    """A one-dimensional mesh of all processes.

    Args:
        device: `cpu` or `cuda`.

    Raises:
        BadInput: There is one process only: nothing could be sharded.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count < 2:
        raise BadInput("--fsdp spreads the model over several processes: start it with torchrun --nproc-per-node 2")
    return init_device_mesh(device, (count,))


def layers(model: nn.Module) -> list[nn.Module]:
    """What is gathered as one: the language model's layers, in order.

    Raises:
        BadInput: None are found, so that a step would gather the whole model at once.
    """
    found = [layer for name, part in model.named_modules() if name.endswith("language_model.layers") for layer in part]
    if not found:
        raise BadInput(f"--fsdp: {type(model).__name__} has no language_model.layers to shard")
    return found


def towers(model: nn.Module) -> list[nn.Module]:
    """Vision towers: frozen, small beside the language model, and looked through alone, so whole on every process."""
    return [part for name, part in model.named_modules() if name.endswith("vision_tower")]


def shard(
    model: nn.Module, mesh: DeviceMesh, compute: torch.dtype | None = None, methods: Iterable[str] = ()
) -> nn.Module:
    """Shards a model in place: every layer of the language model by itself, the rest but for vision towers together.

    Frozen and trained parameters may be mixed, as LoRA does: both are spread, gradients are only of the trained ones.
    Every process must hold the same weights before. Forward passes must then go through the model itself (through the
    vision tower alone, too). Returns the same object.

    Args:
        model: On any device; its parts move to the mesh's as they are sharded.
        mesh: Of `mesh_of_all`.
        compute: Dtype of forward and backward pass where it is not the weights' own; gradients are summed over
            processes in float32 and added to weights of the dtype they have.
        methods: Names of further methods that run parts of the model and so need its weights gathered.
    """
    if isinstance(model, FSDPModule):
        return model
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32 if compute else None)
    whole = {parameter for tower in towers(model) for parameter in tower.parameters()}
    for layer in layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    for tower in towers(model):
        tower.to(mesh.device_type, compute)  # frozen: nothing is lost that the forward pass would not lose
    fully_shard(model, mesh=mesh, mp_policy=policy, ignored_params=whole)
    for name in methods:
        register_fsdp_forward_method(model, name)
    check_sharded(model)
    return model


def reshard(model: nn.Module) -> None:
    """Gives up what a forward pass left gathered of a sharded model; another is left as it is.

    Without a backward pass, the parameters in no layer would stay whole: an optimizer, or a checkpoint that is loaded,
    must see the shards.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def check_sharded(model: nn.Module) -> None:
    """Makes sure that sharding is in effect.

    Raises:
        BadInput: The model is wrapped otherwise, or a parameter outside of vision towers is whole on every process.
    """
    if not isinstance(model, FSDPModule):
        raise BadInput(f"--fsdp is not in effect: the model is wrapped as {type(model).__name__}")
    apart = {parameter for tower in towers(model) for parameter in tower.parameters()}
    whole = [
        n for n, p in model.named_parameters() if not isinstance(p, DTensor) and (p.requires_grad or p not in apart)
    ]
    if whole:
        raise BadInput(f"--fsdp is not in effect: {whole[0]} is not sharded ({len(whole)} parameters are not)")


def full_state(model: nn.Module, trained_only: bool = False) -> dict[str, Any]:
    """The whole weights on the first process' CPU, an empty dict on the others; all processes call it together."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only)
    return get_model_state_dict(model, options=options)


@torch.no_grad()
def unshard(model: Any) -> nn.Module:
    """Makes a sharded model an ordinary one again, on the first process' CPU; all processes call it together.

    On the others its weights are left without storage (device `meta`): they must not be used.
    """
    first = dist.get_rank() == 0
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, DTensor):
                full = parameter.full_tensor()  # collective: every process takes part
                kept = full.cpu() if first else torch.empty_like(full, device="meta")
                setattr(module, name, nn.Parameter(kept, requires_grad=parameter.requires_grad))
        if isinstance(module, FSDPModule):
            _forget_sharding(module)
    return model.cpu() if first else model


def _forget_sharding(module: Any) -> None:
    """Undoes what `fully_shard` did to a module besides its parameters: the class put before its own, and hooks."""
    module.__class__ = next(c for c in type(module).__mro__ if c is not FSDPModule and FSDPModule not in c.__mro__)
    hooks: dict[int, Any]
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key, hook in list(hooks.items()):
            owner = type(getattr(hook, "__self__", None)).__module__
            if owner.startswith("torch.distributed"):
                del hooks[key]
    # hooks have their options in dicts beside, which torch looks up by the keys deleted above: leftovers do no harm


class _Sharded:
    """What a Trainer does differently where the model is sharded; mixed in before it by `wrap_for_trainer`."""

    forward_methods: tuple[str, ...] = ()

    def _move_model_to_device(self: Any, model: nn.Module, device: torch.device) -> None:
        """Nothing: layers move as they are sharded, so that no device ever holds all of the model."""

    def spread(self: Any, model: nn.Module) -> None:
        """Shards a model in place, the Trainer's or one beside it, as `create_optimizer` does if nobody did before."""
        device = "cuda" if self.args.device.type == "cuda" else "cpu"
        compute = torch.bfloat16 if self.args.bf16 else None
        shard(model, mesh_of_all(device), compute, self.forward_methods)

    def create_optimizer(self: Any, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Shards the model first, so that the optimizer gets the shards."""
        self.spread(self.model)
        self.model._is_accelerate_prepared = True  # or accelerate would put DistributedDataParallel around it
        return super().create_optimizer(model)  # type: ignore[misc]

    def _prepare_for_training(self: Any, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(*args, **kwargs)  # type: ignore[misc]
        check_sharded(self.model_wrapped)
        return prepared

    def _clip_grad_norm(self: Any, model: nn.Module) -> torch.Tensor:
        return _whole(super()._clip_grad_norm(model))  # type: ignore[misc]

    def _get_grad_norm(self: Any, model: nn.Module, grad_norm: Any = None) -> Any:
        return _whole(super()._get_grad_norm(model, grad_norm))  # type: ignore[misc]

    def save_model(self: Any, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Gathers the weights, then saves them as a single process does (of a PEFT model, the trained ones)."""
        state = full_state(self.model, trained_only=not isinstance(self.model, PreTrainedModel))
        if self.args.should_save:
            self._save(output_dir, state_dict=state)

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: Any = None) -> None:
        """Loads whole weights, each process its shards of them where it has shards already."""
        with implicit_replication():
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]

    def _save_optimizer_and_scheduler(self: Any, output_dir: str) -> None:
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_optimizer_state_dict(self.model, _plain(self.optimizer), options=options)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self: Any, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state: Mapping[str, Any] = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(self.model, _plain(self.optimizer), dict(state), options=options)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))


def _whole(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer inside accelerate's."""
    return getattr(optimizer, "optimizer", optimizer)


def wrap_for_trainer(trainer: type[T], methods: tuple[str, ...] = ()) -> type[T]:
    """The same Trainer, with its model sharded over the processes.

    Args:
        trainer: Any Trainer class.
        methods: As in `shard`.

    Raises:
        BadInput: There is one process only.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        mesh_of_all("cpu")  # says why not
    made: type[T] = type(f"Sharded{trainer.__name__}", (_Sharded, trainer), {"forward_methods": methods})
    return made
