"""`mmeval tasks`: list, show, new, check."""

from __future__ import annotations

import typer

app = typer.Typer(help="List, show, make and check tasks.", no_args_is_help=True)


@app.command("list")
def list_tasks() -> int:
    """List all tasks."""
    from ..registry import TASKS

    for name in TASKS.names():
        print(name)
    return 0
