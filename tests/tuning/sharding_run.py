"""What test_sharding.py starts under torchrun: trains a nano LLaVA in several ways, leaves results as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlavaForConditionalGeneration, Trainer, TrainingArguments

from mmalign_eval.errors import BadInput
from mmalign_eval.miniature.tokenizer import IMAGE_ID

TARGETS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
STEPS, BATCH, WIDTH = 4, 4, 24


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Random rows with an image each; row i is the same in every process."""

    def __len__(self) -> int:
        return STEPS * BATCH

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(i)
        ids = torch.randint(10, 500, (WIDTH,), generator=generator)
        ids[1:5] = IMAGE_ID
        labels = ids.clone()
        labels[:8] = -100
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels,
                "pixel_values": torch.randn(3, 24, 24, generator=generator)}  # fmt: skip


def model_of(folder: str, lora: bool) -> nn.Module:
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    model.model.vision_tower.requires_grad_(False)
    if not lora:
        return model
    torch.manual_seed(1)
    peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS))
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    return peft


def settings(out: Path, **changes: Any) -> TrainingArguments:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return TrainingArguments(
        **{
            "output_dir": str(out), "per_device_train_batch_size": BATCH // world, "max_steps": STEPS,
            "learning_rate": 1e-3, "max_grad_norm": 0.5, "logging_steps": 1, "save_steps": 2, "use_cpu": True,
            "ddp_backend": "gloo" if world > 1 else None, "remove_unused_columns": False, "label_names": ["labels"],
            "report_to": [], "disable_tqdm": True, "seed": 0, "lr_scheduler_type": "cosine",
            "activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": False},
            "ddp_find_unused_parameters": False, **changes,
        }
    )  # fmt: skip


def no_storage(model: nn.Module) -> None:
    """Every process but the first left the language model's weights without storage."""
    assert all(p.device.type == "meta" for n, p in model.named_parameters() if "vision_tower" not in n)


def train(folder: str, out: Path, lora: bool, fsdp: bool, resume: str | None = None, **changes: Any) -> dict[str, Any]:
    from mmalign_eval.tuning.sharding import FSDPModule, unshard, wrap_for_trainer
    from mmalign_eval.tuning.trainer import WholeCheckpoints

    kind: type[Trainer] = WholeCheckpoints if lora else Trainer
    kind = wrap_for_trainer(kind) if fsdp else kind
    trainer = kind(model=model_of(folder, lora), args=settings(out, **changes), train_dataset=Rows())
    trainer.train(resume_from_checkpoint=resume)
    log = [(e["loss"], e["grad_norm"]) for e in trainer.state.log_history if "loss" in e]
    wrapped = type(trainer.model_wrapped).__name__
    model = trainer.model
    if fsdp:
        alone = model.get_base_model() if lora else model  # the tower is looked through by itself
        with torch.no_grad():
            alone.model.vision_tower(Rows()[0]["pixel_values"][None].to(alone.model.vision_tower.dtype))
        unshard(model)
        assert not any(isinstance(m, FSDPModule) for m in model.modules())
        if not trainer.args.should_save:
            no_storage(model)
    if trainer.args.should_save:
        model.eval()
        row = {key: value[None] for key, value in Rows()[0].items()}
        with torch.no_grad():
            logits = model.float()(**row).logits
        torch.save({"logits": logits, "state": model.state_dict()}, out / "result.pt")
        model.save_pretrained(out / "final")
    return {"log": log, "wrapped": wrapped, "class": type(model).__name__}


def refused(folder: str) -> str:
    """What is said where DistributedDataParallel stands in for sharding."""
    from mmalign_eval.tuning.sharding import check_sharded

    try:
        check_sharded(nn.parallel.DistributedDataParallel(model_of(folder, lora=True)))
    except BadInput as error:
        return str(error)
    return ""


def main() -> None:
    folder, out = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    results = {
        "full": train(folder, out / "full", lora=False, fsdp=True),
        "lora": train(folder, out / "lora", lora=True, fsdp=True),
        "resumed": train(folder, out / "resumed", lora=True, fsdp=True, resume=str(out / "lora" / "checkpoint-2")),
        "half": train(folder, out / "half", lora=True, fsdp=True, bf16=True),
        "refused": refused(folder),
    }
    if dist.get_rank() == 0:
        (out / "results.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
