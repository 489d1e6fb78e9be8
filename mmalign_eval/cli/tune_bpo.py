"""`mmeval tune bpo`: preference tuning on pairs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .names import MOST_SEED, pairs_of_options


def bpo(
    model: Annotated[str, typer.Option(metavar="LLAVA", help="Folder or hub id of the LLaVA to tune, or `mini`.")],
    pairs: Annotated[Path, typer.Option(metavar="FILE", help="Preference pairs: released BPO form, or TRL's.")],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder that the pairs' image names are relative to.")],
    out: Annotated[Path, typer.Option(metavar="OUT", help="Where the result appears when it is complete.")],
    recipe: Annotated[str, typer.Option(help="Name of a recipe of method bpo, or a YAML file.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe's value: tune.lr=1e-6.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Of the choice of pairs, their order and LoRA's first values.")
    ] = 0,
    references: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the base's log-probabilities there, for other trainings of this base."),
    ] = None,
    adapter: Annotated[
        str, typer.Option(metavar="DIR", help="PEFT adapter to merge into LLAVA first; needs --merge.")
    ] = "",
    merge: Annotated[
        bool, typer.Option("--merge", help="Write a whole checkpoint rather than a PEFT adapter.")
    ] = False,
    fsdp: Annotated[
        bool, typer.Option("--fsdp", help="Under torchrun: spread the model over the processes (FSDP2).")
    ] = False,
) -> None:
    """Tune a LLaVA on preference pairs, as BPO does: chosen answers gain on rejected ones, measured from the base.

    OUT is a PEFT adapter whose mmeval.json names the base. An interrupted training goes on from its last checkpoint
    when the same command is given again.
    """
    from ..tuning.config import load_recipe

    chosen = load_recipe(recipe, pairs_of_options(changes or [], "--set"))
    from ..tuning.bpo import BpoJob, run
    from ..tuning.trainer import is_main
    from .tune_progress import print_done

    def tell(line: str) -> None:
        if is_main():
            print(line, file=sys.stderr, flush=True)

    job = BpoJob(model, pairs, images, out, chosen, seed, merge, references=references, adapter=adapter, fsdp=fsdp)
    run(job, tell)
    if is_main():
        print_done(out, model, chosen.lora is not None and not merge)
