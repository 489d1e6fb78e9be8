"""Our preference tuning against TRL's DPOTrainer, fed identical token ids and images: losses, log-probabilities,
gradients and weights, step by step.

The first values of LoRA's B are drawn at random here, so that the first loss is not the ln 2 of any implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from mmalign_eval.tuning import bpo
from mmalign_eval.tuning.bpo import BpoJob
from mmalign_eval.tuning.bpo_pairs import Item
from mmalign_eval.tuning.bpo_trainer import BpoTrainer
from transformers import AutoProcessor, LlavaForConditionalGeneration

from mmalign_eval.images import open_image

from .bpo_support import make_world, recipe

pytest.importorskip("trl", reason="the test extra brings it")
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

STEPS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("trl"), pairs=4 * STEPS)


def ours(world: Path, out: Path, layout: str = "auto", **tune: Any) -> BpoTrainer:
    """Our trainer as `mmeval tune bpo` makes it, its reference filled."""
    tune = {"schedule": "constant", "group_by_length": False, "max_steps": STEPS, **tune}
    job = BpoJob(str(world / "llava"), world / "pairs.json", world / "images", out, recipe(**tune), layout=layout)
    found = bpo._read(job)
    model = bpo._model(job)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.02)
    train, _ = bpo._items(job, found, "base")
    out.mkdir()
    trainer = bpo._trainer(job, found, out, model, train, [], lambda line: None)
    bpo._fill(trainer, train, lambda line: None)
    return trainer


class TrlCollate:
    """TRL's form of a batch (chosen rows, then rejected rows), from our token ids."""

    def __init__(self, items: Sequence[Item], image_processor: Any) -> None:
        self.items, self.image_processor = items, image_processor

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        items = [self.items[row["index"]] for row in rows]
        answers = [item.ids.chosen for item in items] + [item.ids.rejected for item in items]
        whole = [(item.ids.prompt, answer) for item, answer in zip(items * 2, answers, strict=True)]
        width = max(len(prompt) + len(answer) for prompt, answer in whole)
        ids = torch.zeros(len(whole), width, dtype=torch.long)
        mask, completion = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, (prompt, answer) in enumerate(whole):
            ids[row, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
            mask[row, : len(prompt) + len(answer)] = 1
            completion[row, len(prompt) : len(prompt) + len(answer)] = 1
        pictures = [open_image(item.image) for item in items] * 2
        pixels = self.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        return {"input_ids": ids, "attention_mask": mask, "completion_mask": completion, "pixel_values": pixels}


class InOrder(DPOTrainer):  # type: ignore[misc]
    """TRL's trainer, its rows taken in the order given."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def theirs(world: Path, out: Path, mine: BpoTrainer, **more: Any) -> DPOTrainer:
    """TRL's trainer on the same model, LoRA values, rows and order."""
    llava = LlavaForConditionalGeneration.from_pretrained(world / "llava")
    processor = AutoProcessor.from_pretrained(world / "llava")
    items: list[Item] = [mine.items[i] for i in mine.order]
    given = mine.args
    args = DPOConfig(
        output_dir=str(out), per_device_train_batch_size=given.per_device_train_batch_size,
        gradient_accumulation_steps=given.gradient_accumulation_steps, max_steps=STEPS,
        learning_rate=given.learning_rate, lr_scheduler_type="constant", beta=0.1, logging_steps=1, use_cpu=True,
        bf16=False, activation_checkpointing=False, report_to=[], remove_unused_columns=False, max_length=None,
        save_strategy="no", disable_tqdm=True, optim=given.optim, max_grad_norm=given.max_grad_norm, **more,
    )  # fmt: skip
    tuned: Any = mine.model
    config = tuned.peft_config["default"]
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=config.r, lora_alpha=config.lora_alpha, lora_dropout=0.05,
        target_modules=config.target_modules,
    )  # fmt: skip
    trainer = InOrder(
        model=llava, args=args, processing_class=processor, peft_config=lora,
        train_dataset=Dataset.from_list([{"index": i, "images": []} for i in range(len(items))]),
        data_collator=TrlCollate(items, processor.image_processor),
    )  # fmt: skip
    values = {name: parameter for name, parameter in tuned.named_parameters() if "lora_" in name}
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_" in name:
                parameter.copy_(values.pop(name))
    assert not values
    return trainer


def close(found: float, wanted: float) -> bool:
    """Rule 12."""
    return abs(found - wanted) <= 1e-5 * max(1.0, abs(wanted))


def logged(trainer: Any) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("optimizer", "layout", "micro_batch"),
    [("sgd", "packed", 4), pytest.param("adamw_torch", "rows", 2, marks=pytest.mark.slow)],
)
def test_every_step_is_trls(world: Path, tmp_path: Path, optimizer: str, layout: str, micro_batch: int) -> None:
    lr = 0.5 if optimizer == "sgd" else 2e-3
    mine = ours(world, tmp_path / "ours", layout, lr=lr, micro_batch=micro_batch)
    mine.args.optim = optimizer
    trl = theirs(world, tmp_path / "trl", mine)
    mine.train()
    trl.train()
    found, wanted = logged(mine), logged(trl)
    assert len(found) == len(wanted) == STEPS
    assert abs(wanted[0]["loss"] - 0.6931) > 1e-3  # not the ln 2 of a B of zeros
    losses = [entry["loss"] for entry in wanted]
    assert max(losses) - min(losses) > 1e-2  # and it went somewhere
    for one, other in zip(found, wanted, strict=True):
        for key in ("loss", "logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected", "rewards/margins",
                    "rewards/accuracies", "grad_norm"):  # fmt: skip
            assert close(one[key], other[key]), (one["step"], key, one[key], other[key])
    theirs_now = dict(trl.model.named_parameters())
    for name, parameter in mine.model.named_parameters():  # type: ignore[union-attr]
        if parameter.requires_grad:
            assert torch.allclose(parameter, theirs_now[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("layout", ["packed", "rows"])
def test_gradients_are_trls(world: Path, tmp_path: Path, layout: str) -> None:
    mine = ours(world, tmp_path / "ours", layout, batch=8, micro_batch=8)
    trl = theirs(world, tmp_path / "trl", mine)
    items: list[Item] = [mine.items[i] for i in mine.order][:8]
    mine.compute_loss(mine.model, mine.collate(items)).backward()  # type: ignore[arg-type]
    batch = trl.data_collator([{"index": i} for i in range(8)])
    trl.compute_loss(trl.model, batch).backward()
    found = {n: p.grad for n, p in mine.model.named_parameters() if p.requires_grad}  # type: ignore[union-attr]
    wanted = {n: p.grad for n, p in trl.model.named_parameters() if p.requires_grad}
    assert found.keys() == wanted.keys()
    assert max(float(g.abs().max()) for g in wanted.values()) > 1e-2
    for name, gradient in wanted.items():
        assert bool(((found[name] - gradient).abs() <= 1e-5 * gradient.abs().clamp(min=1.0)).all()), name


def test_trl_looks_at_an_image_four_times_where_we_look_once(world: Path, tmp_path: Path) -> None:
    mine = ours(world, tmp_path / "ours", batch=8, micro_batch=8)
    trl = theirs(world, tmp_path / "trl", mine)
    counts = []
    for trainer, batch in ((trl, trl.data_collator([{"index": i} for i in range(8)])), (mine, None)):
        tower = trainer.model.get_base_model().model.vision_tower
        seen: list[int] = []

        def count(module: Any, given: Any, named: Any, seen: list[int] = seen) -> None:
            seen.append(len((*given, *named.values())[0]))

        hook = tower.register_forward_pre_hook(count, with_kwargs=True)
        if batch is None:
            mine.looks._kept.clear()
            batch = mine.collate([mine.items[i] for i in mine.order][:8])
        trainer.compute_loss(trainer.model, batch)
        hook.remove()
        counts.append(sum(seen))
    images = len({item.image for item in [mine.items[i] for i in mine.order][:8]})
    assert counts == [4 * 8, images]
