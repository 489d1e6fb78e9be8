"""`mmeval tune`: make the checkpoints to score. Each verb is a module of its own, `tune_*.py`."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Make checkpoints: visual instruction tuning, preference pairs, BPO.",
    no_args_is_help=True,
    add_completion=False,
)
