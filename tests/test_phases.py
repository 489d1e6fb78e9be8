"""Seconds by phase: they stand still inside one another, whatever ends them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from mmalign_eval import phases
from mmalign_eval.phases import DECODE, IMAGES, LOAD, PREFILL, VISION, Work


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes only where a test says so."""
    now = [0.0]
    monkeypatch.setattr(phases, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return now


def test_a_phase_inside_another_is_not_counted_twice(clock: list[float]) -> None:
    work = Work()
    with work.phase(PREFILL):
        clock[0] += 1
        with work.phase(VISION):
            clock[0] += 10
            with work.phase(VISION):
                clock[0] += 100
        clock[0] += 2
    clock[0] += 1000  # nobody's
    assert work.seconds == {LOAD: 0, IMAGES: 0, VISION: 110, PREFILL: 3, DECODE: 0}


def test_a_phase_goes_on_as_another(clock: list[float]) -> None:
    work = Work()
    work.go_on(DECODE)  # none is open
    with work.phase(PREFILL):
        clock[0] += 1
        work.go_on(DECODE)
        clock[0] += 10
        work.go_on(DECODE)
        clock[0] += 100
    assert (work.seconds[PREFILL], work.seconds[DECODE]) == (1, 110)


def test_who_takes_what_a_generator_makes_is_not_counted(clock: list[float]) -> None:
    work = Work()

    def made() -> Iterator[int]:
        for number in range(3):
            clock[0] += 1
            yield number
        clock[0] += 1

    taken = []
    for number in work.through(PREFILL, made()):
        clock[0] += 100
        taken.append(number)
    assert (taken, work.seconds[PREFILL]) == ([0, 1, 2], 4)


def test_an_exception_ends_its_phases(clock: list[float]) -> None:
    work = Work()

    def interrupted() -> None:
        with work.phase(IMAGES), work.phase(PREFILL):
            clock[0] += 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    clock[0] += 50
    with work.phase(LOAD):
        clock[0] += 2
    assert work.seconds == {LOAD: 2, IMAGES: 0, VISION: 0, PREFILL: 1, DECODE: 0}


def test_tokens_are_those_of_the_phase() -> None:
    work = Work()
    work.tokens(1)
    with work.phase(PREFILL):
        work.tokens(20)
        with work.phase(DECODE):
            work.tokens(300)
        work.tokens(4000)
    for tokens in (0, 7, 5):
        work.hit(tokens)
    before = phases.Counts(computed_tokens=1, hits=1, hit_tokens=5)
    assert work.counts - before == phases.Counts(4020, 300, 1, 7, 0)


def test_the_device_is_waited_for_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(phases, "_wait_for_device", lambda: waited.append(time.perf_counter()))
    for exact in (False, True):
        with (work := Work(exact=exact)).phase(PREFILL):
            work.go_on(DECODE)
        assert len(waited) == (3 if exact else 0)


def test_waiting_needs_a_device_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[bool] = []

    def cuda(available: bool, used: bool) -> SimpleNamespace:
        def synchronize() -> None:
            waited.append(True)

        found = SimpleNamespace(is_available=lambda: available, is_initialized=lambda: used, synchronize=synchronize)
        return SimpleNamespace(cuda=found)

    for torch in (None, cuda(False, False), cuda(True, False), cuda(True, True)):
        monkeypatch.setitem(phases.sys.modules, "torch", torch)  # type: ignore[arg-type]
        phases._wait_for_device()
    assert waited == [True]
