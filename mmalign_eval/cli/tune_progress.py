"""How a training tells what happens: a bar with loss, rate and ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..tuning.clock import Clock
from .progress import PLAIN_SECONDS


class TuneReporter:
    """Writes to standard error; silent in all processes of a torchrun but the first."""

    def __init__(self, speaks: bool = True) -> None:
        from rich.console import Console

        self._speaks = speaks
        self._console = Console(stderr=True, highlight=False)
        self._bars: Any = None

    def line(self, text: str) -> None:
        """A line, below a bar that ends with it."""
        self.close()
        if self._speaks:
            print(text, file=sys.stderr, flush=True)

    def stage(self, name: str) -> Callable[[int, int, Mapping[str, float]], None]:
        """A bar, or a line now and then; called at every log entry with (step, steps, entry)."""
        self.close()
        if not self._speaks:
            return lambda step, steps, entry: None
        return self._bar(name) if self._console.is_terminal else self._plain(name)

    def close(self) -> None:
        """Ends a bar."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _bar(self, name: str) -> Callable[[int, int, Mapping[str, float]], None]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        text = TextColumn("{task.fields[told]}")
        self._bars = Progress(TextColumn(f"{name:<8}"), BarColumn(), MofNCompleteColumn(), text, console=self._console)
        self._bars.start()
        bars, clock = self._bars, Clock()
        bar = bars.add_task(name, total=None, told="")

        def told(step: int, steps: int, entry: Mapping[str, float]) -> None:
            bars.update(bar, completed=step, total=steps, told=f"{_figures(entry)}  {clock.told(step, steps)}")

        return told

    def _plain(self, name: str) -> Callable[[int, int, Mapping[str, float]], None]:
        clock, last = Clock(), 0.0

        def told(step: int, steps: int, entry: Mapping[str, float]) -> None:
            nonlocal last
            if step >= steps or time.monotonic() - last > PLAIN_SECONDS:
                last = time.monotonic()
                self.line(f"{name:<8} {step}/{steps}  {_figures(entry)}  {clock.told(step, steps)}")

        return told


def print_done(out: Path, base: str, adapter: bool) -> None:
    """Says where the result is and how to score it.

    Args:
        out: The result.
        base: What a PEFT adapter is for: a folder, a hub id or a name of the miniature's.
        adapter: Whether the result is one.
    """
    named = base if base == "mini" or base.startswith("hf:") else f"hf:{base}"
    model = f"{named},adapter={out}" if adapter else f"hf:{out}"
    print(f"done    {out}")
    print(f"score   mmeval run --model {model} --tasks pope,truthfulqa   (text tasks: its language model alone)")


def _figures(entry: Mapping[str, float]) -> str:
    shown = {"loss": entry.get("loss"), "lr": entry.get("learning_rate")}
    return "  ".join(f"{name} {value:.3g}" for name, value in shown.items() if value is not None)
