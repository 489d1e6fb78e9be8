"""`mmeval tune mm-ft`, `mm-lora` and `sft`: supervised trainings, from files to a checkpoint or PEFT adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BadInput
from .names import MOST_SEED, pairs_of_options, split_names

if TYPE_CHECKING:
    from ..tuning.instruct_job import Job

RecipeName = Annotated[str, typer.Option("--recipe", metavar="NAME", help="A recipe, or a YAML file.")]
DataFile = Annotated[Path, typer.Option("--data", metavar="FILE", help="LLaVA JSON with the conversations.")]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="Folder that its image names are relative to.")
]
Out = Annotated[Path, typer.Option("--out", metavar="OUT", help="Where the result appears when it is complete.")]
Language = Annotated[str, typer.Option(metavar="MODEL", help="Language model: folder or hub id; else the recipe's.")]
Tower = Annotated[str, typer.Option(metavar="MODEL", help="CLIP vision tower, or a LLaVA that has it.")]
PretrainData = Annotated[Path | None, typer.Option(metavar="FILE", help="Stage 1: image-text pairs as LLaVA JSON.")]
PretrainImages = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of its images.")]
Init = Annotated[str, typer.Option(metavar="LLAVA", help="Skip stage 1: begin with this LLaVA.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe's value: tune.lr=1e-5.")
]
Seed = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of drawn rows, their order, first values and dropout.")]
TextOnly = Annotated[bool, typer.Option("--text-only", help="The same conversations without their images.")]
Kinds = Annotated[
    list[str] | None, typer.Option(metavar="NAME,...", help="Only these: conversation, detail, reasoning.")
]
Samples = Annotated[int, typer.Option(min=0, metavar="N", help="Rows drawn, by the seed; 0: all.")]
Merge = Annotated[bool, typer.Option("--merge", help="Write a whole checkpoint rather than a PEFT adapter.")]
Fsdp = Annotated[bool, typer.Option("--fsdp", help="Under torchrun: spread the model over the processes (FSDP2).")]


def mm_ft(
    recipe: RecipeName, data: DataFile, out: Out, images: Images = None, language: Language = "", tower: Tower = "",
    pretrain_data: PretrainData = None, pretrain_images: PretrainImages = None, init: Init = "",
    changes: Changes = None, seed: Seed = 0, text_only: TextOnly = False, kinds: Kinds = None, samples: Samples = 0,
    fsdp: Fsdp = False,
) -> None:  # fmt: skip
    """Visual instruction tuning of all of a language model's weights: projector first, then both (two stages).

    OUT.stage1 keeps the first stage's LLaVA. An interrupted training goes on from its last checkpoint when the same
    command is given again, also under torchrun.
    """
    _instruct("mm-ft", locals())


def mm_lora(
    recipe: RecipeName, data: DataFile, out: Out, images: Images = None, language: Language = "", tower: Tower = "",
    pretrain_data: PretrainData = None, pretrain_images: PretrainImages = None, init: Init = "",
    changes: Changes = None, seed: Seed = 0, text_only: TextOnly = False, kinds: Kinds = None, samples: Samples = 0,
    fsdp: Fsdp = False, merge: Merge = False,
) -> None:  # fmt: skip
    """Visual instruction tuning with LoRA: projector first, then LoRA on the language model, and the projector.

    OUT is a PEFT adapter for the LLaVA in OUT.stage1; its LoRA applies to the language model alone, too. An
    interrupted training goes on from its last checkpoint when the same command is given again.
    """
    _instruct("mm-lora", locals())


def sft(
    recipe: RecipeName,
    model: Annotated[str, typer.Option(metavar="LLAVA", help="Folder or hub id of the LLaVA to tune, or `mini`.")],
    data: Annotated[
        Path, typer.Option(metavar="FILE", help="Preference pairs (chosen answers), positives, or LLaVA JSON.")
    ],
    out: Out,
    images: Images = None,
    changes: Changes = None,
    seed: Seed = 0,
    samples: Samples = 0,
    merge: Merge = False,
    fsdp: Fsdp = False,
) -> None:
    """The baseline of preference tuning: supervised on the positives alone (BPO, Table 4).

    OUT is a PEFT adapter whose mmeval.json names the base, or a checkpoint where the recipe has no LoRA.
    """
    from ..tuning.instruct_job import Job, Source

    chosen = _recipe("sft", recipe, _changes(changes, samples=samples))
    _run(Job(chosen, out, Source(data, images), seed, init=model, merge=merge, fsdp=fsdp))


def _instruct(method: str, given: dict[str, Any]) -> None:
    from ..tuning.instruct_job import Job, Source

    recipe = _recipe(method, given["recipe"], _changes(given["changes"], **_rows(given)))
    if given["init"] and (given["pretrain_data"] or given["tower"]):
        raise BadInput("--init skips stage 1: leave out --pretrain-data, --pretrain-images and --tower")
    pretrain = Source(given["pretrain_data"], given["pretrain_images"]) if given["pretrain_data"] else None
    _run(
        Job(
            recipe,
            given["out"],
            Source(given["data"], given["images"]),
            given["seed"],
            language=given["language"],
            tower=given["tower"],
            pretrain_data=pretrain,
            init=given["init"],
            merge=given.get("merge", False),
            fsdp=given["fsdp"],
        )
    )


def _rows(given: dict[str, Any]) -> dict[str, Any]:
    return {"text_only": given["text_only"], "kinds": split_names(given["kinds"] or []), "samples": given["samples"]}


def _changes(given: list[str] | None, **rows: Any) -> dict[str, str]:
    """`--set` with the options that stand for recipe keys."""
    chosen = {f"data.{key}": str(value).lower() for key, value in rows.items() if value}
    return {**chosen, **pairs_of_options(given or [], "--set")}


def _recipe(method: str, name: str, changes: dict[str, str]) -> Any:
    from ..tuning.config import load_recipe

    found = load_recipe(name, changes)
    if found.method != method:
        raise BadInput(f"--recipe {name}: it is for `mmeval tune {found.method}`")
    return found


def _run(job: Job) -> None:
    from ..tuning.instruct import run
    from ..tuning.trainer import is_main
    from .tune_progress import TuneReporter, print_done

    reporter = TuneReporter(is_main())
    try:
        run(job, reporter)
    finally:
        reporter.close()
    if is_main():
        print_done(job.out, job.begins_with, job.recipe.lora is not None and not job.merge)
