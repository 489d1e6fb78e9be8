"""Where a run's time goes: seconds by phase, and what went through a model meanwhile.

A phase ends where another begins inside it, so that phases add up to no more than the time on the wall. Devices that
compute behind the program's back (CUDA) make phases approximate: work started in one is waited for in a later one.
With `exact`, the device is waited for wherever a phase begins or ends; that costs a little speed, so only
`mmeval run --profile` asks for it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TypeVar

LOAD = "load"  # bringing the weights
IMAGES = "images"  # waiting for decoded images, and making the model's input of them
VISION = "vision"  # encoding them
PREFILL = "prefill"  # prompts and options through the language model, and reading options' log-likelihoods
DECODE = "decode"  # generated tokens
SCORE = "score"  # parsing, judging, metrics and intervals
ANSWERING = (LOAD, IMAGES, VISION, PREFILL, DECODE)
PHASES = (*ANSWERING, SCORE)
T = TypeVar("T")


@dataclass
class Counts:
    """What went through a model.

    Attributes:
        computed_tokens: Tokens of prompts and options, images expanded, padding included.
        decoded_tokens: Generated tokens that were fed back, for rows that had ended too where they stayed.
        hits: How often a row went on from tokens whose keys and values were held.
        hit_tokens: Those tokens.
        images: Images encoded.
    """

    computed_tokens: int = 0
    decoded_tokens: int = 0
    hits: int = 0
    hit_tokens: int = 0
    images: int = 0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(Counts)))


@dataclass
class Work:
    """What a model adapter has done so far; filled by it while it answers, on one thread.

    Attributes:
        counts: What went through the model.
        seconds: By phase.
        exact: The device is waited for at the ends of phases.
    """

    counts: Counts = field(default_factory=Counts)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ANSWERING, 0.0))
    exact: bool = False
    _open: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts time to a phase; the one around it stands still meanwhile."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def go_on(self, name: str) -> None:
        """The innermost phase is over; the rest of it is another one."""
        if self._open and self._open[-1] != name:
            self._turn()
            self._open[-1] = name

    def through(self, name: str, made: Iterator[T]) -> Iterator[T]:
        """What a generator makes; the time it takes is a phase, not that of who takes it."""
        while True:
            with self.phase(name):
                try:
                    item = next(made)
                except StopIteration:
                    return
            yield item

    def tokens(self, count: int) -> None:
        """So many tokens go through the language model."""
        if DECODE in self._open[-1:]:
            self.counts.decoded_tokens += count
        else:
            self.counts.computed_tokens += count

    def hit(self, tokens: int) -> None:
        """A row goes on from so many tokens that are held; from none is no hit."""
        self.counts.hits += tokens > 0
        self.counts.hit_tokens += tokens

    def _turn(self) -> None:
        if self.exact:
            _wait_for_device()
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def _wait_for_device() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
