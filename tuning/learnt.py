"""Log-probabilities of the learnt tokens alone: the head sees their positions only, not the whole sequence.

With a vocabulary of 32,000 and answers of a few dozen tokens after hundreds of image tokens, most of the logits would
be made for nothing; they are the largest tensor of a training step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from .rows import IGNORED


def learnt_logps(model: nn.Module, llava: Any, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """One forward pass.

    Args:
        model: A LLaVA, however wrapped (PEFT, DDP, FSDP); everything happens inside one call of it, as these want it.
        llava: The LLaVA inside.
        batch: `input_ids` and `labels` (rows x tokens, padded on the right), perhaps `pixel_values`.

    Returns:
        Natural log-probability of each learnt token given all before it (float32, one for each token), and the row of
        each. Padding is never looked at: it stands on the right, and attention is causal.
    """
    labels = batch["labels"][:, 1:]
    learnt = labels != IGNORED
    given = {"input_ids": batch["input_ids"]}
    touched: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if batch.get("pixel_values") is not None:
        given["pixel_values"] = batch["pixel_values"]
    else:
        touched = _projector_touched(llava)
    with touched, _positions(llava.get_output_embeddings(), learnt):
        logits = model(**given, use_cache=False).logits
    logps = -nn.functional.cross_entropy(logits.float(), labels[learnt], reduction="none")
    return logps, learnt.nonzero()[:, 0]


@contextlib.contextmanager
def _positions(head: nn.Module, learnt: torch.Tensor) -> Iterator[None]:
    """Lets the head see the positions that predict a learnt token: (rows, tokens, width) becomes (learnt, width)."""

    def select(module: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (given[0][:, :-1][learnt],)

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _projector_touched(llava: Any) -> Iterator[None]:
    """Lets a batch without images give the projector a gradient of zero, as LLaVA's code does.

    Processes wait for each other's gradients of every trained parameter, and one may have images where another has
    none; and moments decay alike however many processes there are.
    """
    projector = llava.model.multi_modal_projector
    if not any(parameter.requires_grad for parameter in projector.parameters()):
        yield
        return

    def touch(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
        embeds = named["inputs_embeds"]
        width = llava.config.vision_config.hidden_size
        nothing = projector(embeds.new_zeros(1, 1, width)).sum() * 0.0
        return given, {**named, "inputs_embeds": embeds + nothing.to(embeds.dtype)}

    handle = llava.model.language_model.register_forward_pre_hook(touch, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
