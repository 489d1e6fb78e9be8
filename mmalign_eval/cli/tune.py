"""`mmeval tune`: make the checkpoints to score. Each verb is a module of its own, `tune_*.py`."""

from __future__ import annotations

import typer

from . import tune_bpo, tune_pairs

app = typer.Typer(
    help="Make checkpoints: visual instruction tuning, preference pairs, BPO.",
    no_args_is_help=True,
    add_completion=False,
)
app.command("bpo")(tune_bpo.bpo)
app.command("positives")(tune_pairs.positives)
app.command("negatives")(tune_pairs.negatives)
app.command("quality")(tune_pairs.quality)
