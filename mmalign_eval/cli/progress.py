"""How a run tells what happens: bars with rate and ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..evaluate import Reporter
from ..models.base import ModelAdapter
from ..plan import PlanSize
from ..results import Result

PLAIN_SECONDS = 15.0  # between progress lines where there is no terminal


class ConsoleReporter(Reporter):
    """Writes to standard error, so that standard output holds the table alone."""

    def __init__(self, *, dry_run: bool = False) -> None:
        self._dry_run = dry_run
        self._console = Console(stderr=True, highlight=False)
        self._bars: Progress | None = None

    def model(self, adapter: ModelAdapter) -> None:
        """One line on what is being scored."""
        about = adapter.describe()
        known = [str(about[key]) for key in ("class", "dtype", "device") if about.get(key)]
        if about.get("parameters"):
            known.insert(1, short_count(about["parameters"]))
        self._line(f"model   {adapter.name}  {' '.join(known)}{_tuned(adapter.tuned())}")

    def plan(self, adapter: ModelAdapter, size: PlanSize) -> None:
        """One line on what will be asked."""
        parts = [f"{size.requests:,} requests", f"{size.images:,} images"]
        if size.prompt_tokens is not None and size.tree_tokens is not None:
            saving = size.prompt_tokens / size.tree_tokens if size.tree_tokens else 1.0
            tokens = f"{size.prompt_tokens:,} prompt tokens, {size.tree_tokens:,} with shared prefixes"
            parts.append(f"{tokens} ({saving:.1f}x)")
        elif self._dry_run:
            parts.append("prompt tokens and shared prefixes unknown: this model's tokenizer is not here")
        if size.judge_calls or self._dry_run:
            parts.append(f"{size.judge_calls:,} judge calls")
        parts.append(f"{size.stored:,} answered before")
        self._line(f"plan    {' · '.join(parts)}")

    def task(self, name: str, total: int) -> Callable[[int, int], None]:
        """A bar, or a line now and then."""
        return self._bar(name, total) if self._console.is_terminal else self._plain(name, total)

    def result(self, result: Result, path: Path) -> None:
        """Ends the task's bar."""
        self.end()
        bad = result["counts"]["n_error"] + result["counts"]["n_refused"]
        if bad:
            name, n = result["task"]["name"], result["counts"]["n"]
            self._line(f"        {name}: {bad} of {n} samples failed; first: {result['errors'][0]}")

    def end(self) -> None:
        """Ends the bar that is live, if one is."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _bar(self, name: str, total: int) -> Callable[[int, int], None]:
        if self._bars is not None:  # the answers' bar, when judging begins: only one can be live
            self._bars.stop()
        self._bars = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._bars.start()
        bar: TaskID = self._bars.add_task(name, total=total, rate="")
        bars, clock = self._bars, _Clock()

        def advance(ok: int, bad: int) -> None:
            bars.update(bar, advance=ok + bad, rate=clock.rate(ok + bad))

        return advance

    def _plain(self, name: str, total: int) -> Callable[[int, int], None]:
        clock, done, last = _Clock(), 0, time.monotonic()

        def advance(ok: int, bad: int) -> None:
            nonlocal done, last
            if done >= total and not ok + bad:  # nothing new, and the end has been told
                return
            done += ok + bad
            rate = clock.rate(ok + bad)
            if done >= total or time.monotonic() - last > PLAIN_SECONDS:
                last = time.monotonic()
                self._line(f"{name:<16} {done}/{total}  {rate}  {clock.eta(total - done)}")

        return advance


def _tuned(record: Mapping[str, Any] | None) -> str:
    """How the model was made, where that is on record."""
    if not record:
        return ""
    base = record["base"]
    return f" · tuned by {record.get('method', 'mmeval tune')} from {base['name']} ({base['weights'][:4]}…)"


def short_count(number: int) -> str:
    """2398400 as 2.4M."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return str(number)


class _Clock:
    """Rate and time left from what was asked in this run; stored answers come first, at no cost, and do not count."""

    def __init__(self) -> None:
        self._start, self._count, self._first = time.monotonic(), 0, True

    def rate(self, more: int) -> str:
        if self._first:
            self._first, self._start = False, time.monotonic()
        else:
            self._count += more
        seconds = time.monotonic() - self._start
        return f"{self._count / seconds:,.0f}/s" if self._count and seconds > 0 else ""

    def eta(self, left: int) -> str:
        seconds = (time.monotonic() - self._start) / self._count * left if self._count else 0.0
        return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d} left" if left else "done"
