"""What leaves cycles of objects alone leaves the process as it found it."""

from __future__ import annotations

import gc

import pytest

from mmalign_eval.cycles import cycles_left


def fail() -> None:
    with cycles_left():
        assert not gc.isenabled()
        raise ZeroDivisionError


@pytest.mark.parametrize("looks", [True, False])
def test_cycles_are_looked_for_again_whatever_happens(looks: bool) -> None:
    before = gc.isenabled()
    try:
        gc.enable() if looks else gc.disable()
        with pytest.raises(ZeroDivisionError):
            fail()
        assert gc.isenabled() is looks
    finally:
        gc.enable() if before else gc.disable()
