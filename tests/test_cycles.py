"""What leaves cycles of objects alone leaves the process as it found it."""

from __future__ import annotations

import gc
import weakref

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


def test_what_was_made_in_the_meantime_is_old_and_still_found_when_it_dies() -> None:
    class Node:
        other: Node

    with cycles_left():
        made = [Node() for _ in range(10)]
        dying = Node()
        dying.other = dying
        gone = weakref.ref(dying)
        del dying
    young = {id(thing) for generation in (0, 1) for thing in gc.get_objects(generation)}
    assert not young & set(map(id, made))
    assert gone() is not None
    gc.collect()
    assert gone() is None


def test_what_a_caller_keeps_from_being_looked_at_stays_so() -> None:
    gc.freeze()
    try:
        with cycles_left():
            pass
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
