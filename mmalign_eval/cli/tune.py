"""`mmeval tune`: make the checkpoints to score. Each verb is a module of its own, `tune_*.py`."""

from __future__ import annotations

import typer

from . import tune_bpo, tune_convert, tune_pairs, tune_plan, tune_probe, tune_train

app = typer.Typer(
    help="Make checkpoints: visual instruction tuning, preference pairs, BPO.",
    no_args_is_help=True,
    add_completion=False,
)
app.command("bpo")(tune_bpo.bpo)
app.command("positives")(tune_pairs.positives)
app.command("negatives")(tune_pairs.negatives)
app.command("quality")(tune_pairs.quality)
app.command("mm-ft")(tune_train.mm_ft)
app.command("mm-lora")(tune_train.mm_lora)
app.command("sft")(tune_train.sft)
app.command("probe")(tune_probe.probe)
app.command("convert")(tune_convert.convert)
app.command("recipes")(tune_plan.recipes)
app.command("plan")(tune_plan.plan)
