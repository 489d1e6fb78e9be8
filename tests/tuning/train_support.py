"""Short trainings on nano checkpoints, for the tests of trainers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmalign_eval.tuning.batches import Row, encode_rows
from mmalign_eval.tuning.config import Recipe, parse_recipe
from mmalign_eval.tuning.data import Counts, read_conversations
from mmalign_eval.tuning.encoding import Encoder
from mmalign_eval.tuning.loading import load_llava
from mmalign_eval.tuning.lora import StageName, prepare
from mmalign_eval.tuning.sft import Done, train_stage

from tests.tuning.conftest import LlavaData

STAGE: dict[str, Any] = {
    "lr": 1e-3, "max_steps": 8, "batch": 4, "micro_batch": 2, "template": "v1", "max_length": 256,
    "gradient_checkpointing": False, "precision": "fp32", "save_every": 3, "log_every": 2,
}  # fmt: skip
LORA = {"r": 4, "alpha": 8.0}


def recipe(method: str = "mm-ft", lora: dict[str, Any] | None = None, **tune: Any) -> Recipe:
    """A recipe of eight steps of four rows; `tune` changes its stages."""
    stage = {**STAGE, **tune}
    content = {
        "name": "nano", "about": "test", "method": method, "language": "miniature-lm", "vision": "miniature-clip",
        "projector": "mlp2x_gelu", "pretrain": {**stage, "template": "plain"}, "tune": stage,
    }  # fmt: skip
    if method == "bpo":
        content["preference"] = {}
    if lora or method == "mm-lora":
        content["lora"] = lora or LORA
    return parse_recipe(content, "test")


def encoded(data: LlavaData, model: Any, processor: Any, template: Any = "v1") -> list[Row]:
    """All rows of a data set, for a model."""
    counts = Counts()
    conversations = read_conversations(data.file, data.images, counts=counts)
    return encode_rows(
        conversations, Encoder(processor.tokenizer, template, model.config.image_token_id, 4, 256), counts
    )


def train(
    llava: Path, data: LlavaData, work: Path, chosen: Recipe, stage: StageName = "tune", **more: Any
) -> tuple[Any, Done]:
    """Trains a stage; `more` is given to `train_stage`."""
    model, processor = load_llava(str(llava))
    rows = more.pop("rows", None) or encoded(data, model, processor)
    trained = prepare(model, chosen, stage, 0)
    settings = chosen.pretrain if stage == "pretrain" else chosen.tune
    assert settings is not None
    done = train_stage(trained, processor, rows, settings, work, more.pop("seed", 0), lambda *told: None, **more)
    return trained, done


def weights(model: Any) -> dict[str, torch.Tensor]:
    """A copy of all parameters."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def in_child(act: Callable[[], Any]) -> int:
    """Runs something in a forked process, which may kill itself.

    Returns:
        Its exit status; minus the signal that ended it.
    """
    child = os.fork()
    if child == 0:
        code = 70
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
