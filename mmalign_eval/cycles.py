"""When Python does not look for cycles of objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cycles_left() -> Iterator[None]:
    """Without looking for cycles of objects, also as a decorator.

    Plans, items and rows are many objects and no cycles. A look goes through all that are there, and there is one each
    time a quarter has been added: with 50,000 requests it was a sixth of a run's time. What was made in the meantime
    counts as old afterwards, or it would be looked through as young, as middle-aged and as old.
    """
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked:
            if not gc.get_freeze_count():  # else a caller keeps objects from being looked at, and thawing is his
                gc.freeze()
                gc.unfreeze()  # into the oldest generation, all of them
            gc.enable()
