"""What a recipe comes to before anything is loaded: parameters, steps, tokens, and memory on each GPU."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ..errors import BadInput
from .architectures import architecture, vocabulary
from .config import Data, Recipe, Stage
from .memory import Memory, Run, Shape, estimate, parameters

GIB = 1024**3


@dataclass(frozen=True)
class StagePlan:
    """One training of a recipe.

    Attributes:
        name: `pretrain` (stage 1) or `tune`.
        trained: Parameters that train.
        parameters: All, vision tower and LoRA included.
        samples: Rows (or pairs) of the data; 0: not known.
        steps_per_epoch: Optimizer steps; 0: not known.
        steps: Optimizer steps in all; 0: not known.
        accumulation: Forward passes of a GPU for a step.
        length: Tokens a row is taken to have, image tokens included.
        tokens: Tokens that pass through the language model in all; 0: not known.
        precision: What is computed in.
        ddp: Memory of a GPU where each holds the whole model.
        fsdp: Where the model is spread over the GPUs; None: there is one.
    """

    name: Literal["pretrain", "tune"]
    trained: int
    parameters: int
    samples: int
    steps_per_epoch: int
    steps: int
    accumulation: int
    length: int
    tokens: int
    precision: Literal["bf16", "fp32"]
    ddp: Memory
    fsdp: Memory | None

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON's types, memory in bytes with its total."""
        memory = {"ddp": self.ddp, "fsdp": self.fsdp}
        told = {name: {**asdict(kept), "total": kept.total} for name, kept in memory.items() if kept}
        return {**{key: value for key, value in asdict(self).items() if key not in memory}, **told}


def shape_of(recipe: Recipe) -> Shape:
    """Sizes of the recipe's LLaVA.

    Raises:
        BadInput: An architecture that is not known.
    """
    language, vision = architecture(recipe.language, "language").config, architecture(recipe.vision, "vision").config
    heads = language["num_attention_heads"]
    return Shape(
        hidden=language["hidden_size"],
        layers=language["num_hidden_layers"],
        heads=heads,
        kv_heads=language["num_key_value_heads"],
        head_dim=language.get("head_dim", language["hidden_size"] // heads),
        intermediate=language["intermediate_size"],
        vocabulary=vocabulary(recipe),
        vision_hidden=vision["hidden_size"],
        vision_layers=vision["num_hidden_layers"],
        vision_intermediate=vision["intermediate_size"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        two_layers=recipe.projector == "mlp2x_gelu",
    )


def plan(recipe: Recipe, gpus: int = 1, samples: int = 0, length: int = 0) -> list[StagePlan]:
    """The recipe's stages.

    Args:
        recipe: With all changes.
        gpus: Processes, a GPU each.
        samples: Rows of the last stage's data, where it is not the paper's.
        length: Tokens of a row (of a pair: prompt and both answers); 0: the stage's most.

    Raises:
        BadInput: A batch that does not divide over the GPUs, a row too short for its image, an unknown architecture.
    """
    shape = shape_of(recipe)
    made = []
    if recipe.pretrain is not None:
        made.append(_stage("pretrain", recipe, recipe.pretrain, recipe.pretrain_data, shape, gpus, 0, length))
    made.append(_stage("tune", recipe, recipe.tune, recipe.data, shape, gpus, samples, length))
    return made


def _stage(
    name: Literal["pretrain", "tune"], recipe: Recipe, stage: Stage, data: Data, shape: Shape, gpus: int, samples: int,
    length: int,
) -> StagePlan:  # fmt: skip
    accumulation = stage.accumulation(gpus, name)
    rows = samples or data.samples or data.rows
    per_epoch = math.ceil(rows / stage.batch)  # the last batch is filled up
    steps = stage.max_steps or math.ceil(stage.epochs * per_epoch)
    steps = min(steps, stage.stop_after or steps)
    run = _run(name, recipe, stage, data, shape, length or stage.max_length)
    trained, every = parameters(shape, run)
    run = replace(run, processes=gpus, accumulation=accumulation)
    return StagePlan(
        name=name,
        trained=trained,
        parameters=every,
        samples=rows,
        steps_per_epoch=per_epoch,
        steps=steps,
        accumulation=accumulation,
        length=run.length,
        tokens=steps * stage.batch * run.length,
        precision="bf16" if run.bf16 else "fp32",
        ddp=estimate(shape, run),
        fsdp=estimate(shape, replace(run, sharded=True)) if gpus > 1 else None,
    )


def _run(name: str, recipe: Recipe, stage: Stage, data: Data, shape: Shape, length: int) -> Run:
    """A forward pass of the stage on a GPU that has bfloat16; all of the text counts as learnt, which is the most."""
    tune = name == "tune"
    images = not (tune and data.text_only)
    text = length - (shape.image_tokens if images else 0)
    if text < 1:
        raise BadInput(f"{name}: rows of {length} tokens have no room beside {shape.image_tokens} image tokens")
    lora = recipe.lora if tune else None
    return Run(
        rows=stage.micro_batch,
        length=length,
        learnt=text,
        lora=lora.r if lora else 0,
        dropout=lora.dropout if lora and recipe.method != "bpo" else 0.0,
        projector=not tune or recipe.trains_projector,
        language=tune,
        pairs=recipe.method == "bpo",
        bf16=stage.precision != "fp32",
        checkpointing=stage.gradient_checkpointing,
        images=images,
    )
