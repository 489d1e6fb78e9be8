"""Rates and times left."""

from __future__ import annotations

import pytest
from mmalign_eval.tuning import clock


@pytest.mark.parametrize(
    ("unit", "seconds", "said"),
    [
        ("step", (0.0, 2.0, 10.0), ("", "5.00 steps/s  0:00:16 left", "9.00 steps/s  done")),
        ("pair", (5.0, 305.0, 905.0), ("", "30.0 s/pair  0:40:00 left", "0.10 pairs/s  done")),
    ],
)
def test_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, unit: str, seconds: tuple[float, ...], said: tuple[str, ...]
) -> None:
    times = iter(seconds)
    monkeypatch.setattr(clock.time, "monotonic", lambda: next(times))
    told = clock.Clock(unit)
    assert tuple(told.told(done, 100) for done in (10, 20, 100)) == said


def test_after_a_resume_what_was_done_before_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.0, 10.0))
    monkeypatch.setattr(clock.time, "monotonic", lambda: next(times))
    told = clock.Clock()
    assert told.told(90, 100) == ""
    assert told.told(95, 100) == "0.50 steps/s  0:00:10 left"
