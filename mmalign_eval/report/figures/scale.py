"""Axes: round ticks, and from values to coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

LARGEST = 1e12  # values beyond it are no measurements; they are written, not drawn
_STEPS = (1.0, 2.0, 5.0)


def drawable(value: float | None) -> float | None:
    """The value, or None where it is undefined, infinite or beyond all measure."""
    return value if value is not None and math.isfinite(value) and abs(value) <= LARGEST else None


@dataclass(frozen=True)
class Scale:
    """From values to coordinates.

    Attributes:
        low: Value at `start`.
        high: Value at `end`.
        start: Coordinate.
        end: Coordinate.
        ticks: Round values between them.
        decimals: That ticks are written with.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    decimals: int

    def __call__(self, value: float) -> float:
        """The coordinate of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def written(self, tick: float) -> str:
        """A tick as text; no negative zero."""
        if self.decimals > 4 or abs(tick) >= 1e6:
            return "0" if abs(tick) < 1e-15 else f"{tick:.6g}"
        text = f"{tick:.{self.decimals}f}"
        return text.lstrip("-") if float(text) == 0 else text


def scale(
    values: Iterable[float | None], start: float, end: float, *, zero: bool = False, whole: bool = False, ticks: int = 5
) -> Scale:
    """A scale that covers values (those that can be drawn), its ends on round ticks.

    Args:
        values: To be covered.
        start: Coordinate of the lowest.
        end: Coordinate of the highest.
        zero: Cover zero too.
        whole: Ticks at whole numbers only.
        ticks: About how many.
    """
    known = [v for v in map(drawable, values) if v is not None] + ([0.0] if zero else [])
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low < 1e-9 * max(1.0, abs(high), abs(low)):  # all the same: some room on both sides
        room = max(abs(high) * 0.1, 1.0 if whole else 0.1)
        low, high = low - room, high + room
    step, decimals = _step((high - low) / ticks, whole)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marked = tuple(i * step for i in range(first, last + 1))
    return Scale(marked[0], marked[-1], start, end, marked, decimals)


def _step(least: float, whole: bool) -> tuple[float, int]:
    """The smallest of 1, 2, 5 x 10^k that is not below `least`, and the decimals that it needs.

    Powers of ten are read from text: a logarithm may differ in its last bit from one machine to the next.
    """
    for exponent in range(0 if whole else -12, 14):
        for factor in _STEPS:
            step = factor * float(f"1e{exponent}")
            if step >= least:
                return step, max(0, -exponent)
    raise AssertionError(least)  # LARGEST keeps it below
