"""`mmeval tune probe`: what a model would say as its image weakens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Texts = list[str] | None


def probe(
    model: Annotated[str, typer.Option(metavar="MODEL", help="`mini`, or `hf:PATH_OR_ID` of a LLaVA.")],
    image: Annotated[list[Path], typer.Option(metavar="FILE", help="Image; give it again for a mean over several.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for table, figure and answers.")],
    model_option: Annotated[Texts, typer.Option("-M", metavar="KEY=VALUE", help="Option of the model.")] = None,
    question: Annotated[str, typer.Option(help="What is asked about the image.")] = "Describe the image.",
    answer_prefix: Annotated[str, typer.Option(help="What stands before the next word.")] = "The image shows a",
    words: Annotated[str, typer.Option(metavar="A,B,...", help="Words to follow.")] = "",
    steps: Annotated[str, typer.Option(metavar="N,N,...", help="Noise steps; default: 0,100,... and the last.")] = "",
    of_steps: Annotated[int, typer.Option(min=2, help="Of the schedule: 1000, or the paper's analysis' 2001.")] = 1000,
    on: Annotated[str, typer.Option(help="Where the noise goes: features or pixels.")] = "features",
    scale: Annotated[str, typer.Option(help="Of the noise: a number, or `std`, each image's own.")] = "std",
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    responses: Annotated[bool, typer.Option("--responses", help="Write greedy answers at each step, too.")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of those answers.")] = 256,
    store: Annotated[str, typer.Option(metavar="FILE", help="Response store; default: store.sqlite in DIR.")] = "",
) -> None:
    """Follow words' probabilities and answers while noise takes the image away, as figures 5 and 4 of BPO do."""
    from ..errors import BadInput
    from ..models.opening import open_model
    from ..requests import ImageRef
    from ..store import Store
    from ..tuning import probe as probing
    from ..tuning.probe_files import table, write
    from .names import pairs_of_options, split_names
    from .progress import ConsoleReporter
    from .table import print_table

    plan = probing.Plan(
        tuple(ImageRef(str(file)) for file in image),
        question,
        answer_prefix,
        tuple(dict.fromkeys(split_names([words]))),
        probing.parse_steps(steps, of_steps),
        of_steps,
        on,
        scale,
        seed,
        responses,
        max_new_tokens,
    )
    options = pairs_of_options(model_option or (), "-M")
    if "weaken" in options or ",weaken=" in model:
        raise BadInput("weaken= as an option of the model: the probe sets it; give --on, --scale and --seed")
    adapter = open_model(model, options)
    reporter = ConsoleReporter()
    reporter.model(adapter)
    kept = Store(store or out / "store.sqlite")
    try:
        found = probing.run(adapter, kept, plan, reporter.task("probe", probing.size(plan)))
    finally:
        reporter.end()
        kept.close()
        adapter.close()
    if found.words:
        print_table(table(found))
    for path in write(found, adapter.identity(), adapter.name, out):
        print(path)
