"""A sliding window of calls: at most so many at once, results as they complete, prompt to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
Outcome = tuple[int, T | None, BaseException | None]


def windowed(jobs: Sequence[Callable[[], T]], workers: int, stop: threading.Event) -> Iterator[tuple[int, T]]:
    """Runs all jobs on `workers` threads; yields (index of the job, result) in the order of completion.

    Threads are daemons, not a `ThreadPoolExecutor`'s: an interrupted run must not wait for calls in flight, and the
    executor's threads are joined when the interpreter ends.

    Args:
        jobs: What to run, started in order.
        workers: Most jobs at once.
        stop: Set when the iterator ends for any reason (an exception, an interrupt, the consumer's leaving): jobs not
            yet started are dropped, and jobs that wait on it wake up.

    Raises:
        BaseException: What a job raised; the jobs not yet started are dropped.
    """
    waiting = iter(enumerate(jobs))
    lock = threading.Lock()
    done: SimpleQueue[Outcome[T]] = SimpleQueue()

    def work() -> None:
        while not stop.is_set():
            with lock:
                index, job = next(waiting, (-1, None))
            if job is None:
                return
            try:
                done.put((index, job(), None))
            except BaseException as error:  # handed to the consumer, who raises it
                done.put((index, None, error))
                stop.set()

    try:
        for number in range(min(workers, len(jobs))):
            threading.Thread(target=work, name=f"mmeval-call-{number}", daemon=True).start()
        for _ in jobs:
            index, result, error = done.get()
            if error is not None:
                raise error
            yield index, result  # type: ignore[misc]
    finally:
        stop.set()
