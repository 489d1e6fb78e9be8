"""How fast a training goes and how long it still takes."""

from __future__ import annotations

import time


class Clock:
    """Rate and time left, from what this run has done; where it started is told by the first call.

    Args:
        unit: What is counted.
    """

    def __init__(self, unit: str = "step") -> None:
        self._unit = unit
        self._since: tuple[int, float] | None = None

    def told(self, done: int, whole: int) -> str:
        """`2.50 steps/s  0:01:20 left`; empty at the first call: how many were done before a resume is not known."""
        now = time.monotonic()
        if self._since is None:
            self._since = (done, now)
            return ""
        rate = (done - self._since[0]) / max(now - self._since[1], 1e-9)
        if not rate:
            return ""
        left = int((whole - done) / rate)
        end = "done" if done >= whole else f"{left // 3600:d}:{left // 60 % 60:02d}:{left % 60:02d} left"
        return f"{rate:.2f} {self._unit}s/s  {end}" if rate >= 0.1 else f"{1 / rate:.1f} s/{self._unit}  {end}"
