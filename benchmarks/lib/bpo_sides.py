"""One side of the BPO step benchmark, in a process of its own: our trainer, or TRL's, on the same random LLaVA.

Model, images, token ids, batches and their order, LoRA and optimizer are the same; each side does with them what it
does when it is used. What is timed is an optimizer step from end to end: images decoded and preprocessed, forward and
backward passes, the optimizer.
"""

from __future__ import annotations

import io
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmalign_eval.tuning.batches import LengthGroups
from mmalign_eval.tuning.bpo_pairs import Item
from mmalign_eval.tuning.bpo_trainer import BpoTrainer, PairCollate
from mmalign_eval.tuning.config import Lora, Preference, Stage
from mmalign_eval.tuning.logprobs import PairIds
from mmalign_eval.tuning.looks import Looks
from mmalign_eval.tuning.lora import add_lora, lora_targets
from mmalign_eval.tuning.reference import References, fill
from mmalign_eval.tuning.rows import Pair
from mmalign_eval.tuning.trainer import arguments
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, TrainerCallback

from lib.llava_shape import LlavaShape
from mmalign_eval.images import open_image
from mmalign_eval.miniature.nano import nano_tokenizer
from mmalign_eval.miniature.tokenizer import BOS_ID, EOS_ID, IMAGE_ID, PAD_ID, make_processor
from mmalign_eval.requests import ImageRef

MIB = 1024**2
FIRST_ID = 300  # of ordinary tokens: those below are the tokenizer's special ones and its bytes
PROMPT = 40  # text tokens of a prompt; a question in the v1 template has about as many
ANSWERS = (30, 181)  # tokens of an answer, uniformly: LLaVAR's are short, ShareGPT4V's descriptions long


@dataclass(frozen=True)
class Shape(LlavaShape):
    """What is trained on what.

    Attributes:
        batch: Pairs of a step.
        steps: Timed ones; one more comes before them.
        checkpointing: Gradient checkpointing.
    """

    batch: int = 2
    steps: int = 2
    checkpointing: bool = False


SHAPES = {
    "quick": Shape((192, 768, 4, 3), (384, 1024, 6, 6), 8000, 384, 16, batch=2, steps=2),
    "small": Shape((768, 3072, 12, 12), (768, 2048, 8, 12), 16000, 384, 16, batch=2, steps=2),  # CLIP ViT-B/16
    "llava-1.5-7b": Shape(
        (1024, 4096, 24, 16), (4096, 11008, 32, 32), 32064, 336, 14, batch=4, steps=8, checkpointing=True
    ),
}


def build(shape: Shape) -> LlavaForConditionalGeneration:
    """The model with random weights, the same in every process."""
    torch.manual_seed(0)
    (width, mlp, layers, heads), (wide, deep, count, many) = shape.vision, shape.language
    vision = CLIPVisionConfig(
        hidden_size=width, intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=heads,
        image_size=shape.image, patch_size=shape.patch, projection_dim=width,
    )  # fmt: skip
    ids: dict[str, Any] = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": PAD_ID}
    text = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=wide, intermediate_size=deep, num_hidden_layers=count,
        num_attention_heads=many, max_position_embeddings=2048, tie_word_embeddings=False, **ids,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_ID, vision_feature_layer=-2,
        vision_feature_select_strategy="default", image_seq_length=shape.image_tokens, tie_word_embeddings=False, **ids,
    )  # fmt: skip
    cuda = torch.cuda.is_available()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if cuda else torch.float32)
    try:
        with torch.device("cuda" if cuda else "cpu"):
            return LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)


def make_items(shape: Shape, folder: Path) -> list[Item]:
    """Pairs for the steps and the one before them, each with a photograph-like image of its own."""
    from PIL import Image

    numbers = np.random.default_rng(0)
    items = []
    for i in range(shape.batch * (shape.steps + 1)):
        coarse = numbers.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
        (folder / f"{i}.jpg").write_bytes(data.getvalue())
        sizes = (PROMPT, *numbers.integers(*ANSWERS, 2))
        text, chosen, rejected = (numbers.integers(FIRST_ID, shape.vocabulary, n).tolist() for n in sizes)
        prompt = (BOS_ID, *[IMAGE_ID] * shape.image_tokens, *text)
        ids = PairIds(prompt, (*chosen, EOS_ID), (*rejected, EOS_ID))
        items.append(Item(Pair(str(i), "", "", "", f"{i}.jpg"), ids, ImageRef(str(folder / f"{i}.jpg")), str(i)))
    return items


class Clock(TrainerCallback):
    """Wall and processor seconds at each step's end."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, *given: Any, **named: Any) -> None:
        """Looks at the clocks."""
        self.ends.append(clocks())


def clocks() -> tuple[float, float]:
    """Wall and processor seconds, the device's work done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def stage_of(shape: Shape) -> Stage:
    """Ours; TRL gets the same values."""
    return Stage(
        lr=2e-6, max_steps=shape.steps + 1, batch=shape.batch, micro_batch=shape.batch, schedule="constant", warmup=0.0,
        group_by_length=False, gradient_checkpointing=shape.checkpointing, log_every=10**6, save_every=10**6,
    )  # fmt: skip


LORA = Lora(r=64, alpha=128)


def ours(shape: Shape, items: list[Item], folder: Path, packed: bool, kept: bool) -> tuple[Any, Clock, float, float]:
    """Our trainer, and wall and processor seconds that its reference took for all pairs.

    Args:
        shape: Of the model.
        items: Pairs.
        folder: To write into.
        packed: Both answers of a pair in one row.
        kept: Whether there is room to keep the tower's features; without, each pass over a pair looks at it again.
    """
    model, clock = build(shape), Clock()
    processor = make_processor(nano_tokenizer(), shape.image, shape.patch)
    looks = Looks(model, processor.image_processor, *(() if kept else (0,)))
    wrapped = add_lora(model, LORA, train_projector=False)
    references = References(folder / "ours")
    order = LengthGroups([item.ids.length for item in items], [True] * len(items), shape.batch, 0, group=False)
    trainer = BpoTrainer(
        wrapped, arguments(stage_of(shape), folder / "ours", 0), preference=Preference(), order=order, looks=looks,
        references=references, train=items, held_out=[], collate=PairCollate(PAD_ID, packed), callbacks=[clock],
    )  # fmt: skip
    trainer.base_logprobs(items[:1])  # the first pass of a process also allocates and compiles
    wall, used = clocks()
    fill(references, items, trainer.base_logprobs, shape.batch, lambda done, whole: None)
    now, now_used = clocks()
    return trainer, clock, now - wall, now_used - used


class TrlCollate:
    """Our token ids in TRL's form: chosen rows, then rejected rows. Each image is preprocessed once and shown twice."""

    def __init__(self, items: Sequence[Item], image_processor: Any) -> None:
        self.items, self.image_processor = items, image_processor

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch."""
        items = [self.items[row["index"]] for row in rows]
        whole = [(i.ids.prompt, i.ids.chosen) for i in items] + [(i.ids.prompt, i.ids.rejected) for i in items]
        width = max(len(prompt) + len(answer) for prompt, answer in whole)
        ids = torch.full((len(whole), width), PAD_ID)
        mask, completion = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, (prompt, answer) in enumerate(whole):
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor([*prompt, *answer])
            mask[row, :end] = 1
            completion[row, len(prompt) : end] = 1
        pixels = self.image_processor(images=[open_image(i.image) for i in items], return_tensors="pt")["pixel_values"]
        batch = {"input_ids": ids, "attention_mask": mask, "completion_mask": completion}
        return {**batch, "pixel_values": torch.cat([pixels, pixels])}


def trls(shape: Shape, items: list[Item], folder: Path) -> tuple[Any, Clock]:
    """TRL's trainer on the same."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    class InOrder(DPOTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            order = LengthGroups([item.ids.length for item in items], [True] * len(items), shape.batch, 0, group=False)
            return list(order)

    model, clock = build(shape), Clock()
    processor = make_processor(nano_tokenizer(), shape.image, shape.patch)
    cuda = torch.cuda.is_available()
    args = DPOConfig(
        output_dir=str(folder / "trl"), per_device_train_batch_size=shape.batch, max_steps=shape.steps + 1,
        learning_rate=2e-6, lr_scheduler_type="constant", beta=0.1, logging_steps=10**6, use_cpu=not cuda, bf16=cuda,
        activation_checkpointing=shape.checkpointing, report_to=[], remove_unused_columns=False, max_length=None,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=LORA.r, lora_alpha=int(LORA.alpha), lora_dropout=0.0,
        target_modules=lora_targets(model),
    )  # fmt: skip
    trainer = InOrder(
        model=model, args=args, processing_class=processor, peft_config=lora,
        train_dataset=Dataset.from_list([{"index": i, "images": []} for i in range(len(items))]),
        data_collator=TrlCollate(items, processor.image_processor), callbacks=[clock],
    )  # fmt: skip
    return trainer, clock


def measure(side: str, name: str, batch: int = 0, steps: int = 0) -> dict[str, float]:
    """Runs one side.

    Args:
        side: `trl`, `ours` (packed), `ours-rows`, `ours-kept` (packed, the tower's features kept).
        name: Of the shape.
        batch: Pairs of a step, instead of the shape's.
        steps: Timed steps, likewise.

    Returns:
        Seconds a pair (wall `step`, processor `step_cpu`), those of the reference, and peak memory in MiB.
    """
    shape = SHAPES[name]
    shape = replace(shape, batch=batch or shape.batch, steps=steps or shape.steps)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        items = make_items(shape, folder)
        reference = (0.0, 0.0)
        if side == "trl":
            trainer, clock = trls(shape, items, folder)
        else:
            trainer, clock, *spent = ours(shape, items, folder, side != "ours-rows", side == "ours-kept")
            reference = (spent[0] / len(items), spent[1] / len(items))
        trainer.train()
        wall, used = (np.diff([end[k] for end in clock.ends]).sum() / shape.batch / shape.steps for k in (0, 1))
        losses = trainer.state.log_history[-1]["train_loss"]
    return {
        "step": float(wall), "step_cpu": float(used), "reference": reference[0], "reference_cpu": reference[1],
        "peak": memory(), "loss": float(losses),
    }  # fmt: skip


def memory() -> float:
    """Peak so far in MiB: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
