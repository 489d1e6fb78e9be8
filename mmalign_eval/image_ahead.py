"""Images ahead of the model: on threads while there is little to do, in worker processes once there is much."""

from __future__ import annotations

import logging
import pickle
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import image_workers
from .errors import ImageError
from .image_workers import Answer, Made, Pixels, Preparer, Ready, Setup, Worker
from .images import ImagePool, Order, cache_in_use, open_image
from .registry import IMAGE_TRANSFORMS
from .requests import ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

AHEAD = 256 << 20  # bytes of images kept ahead of the model, about 190 of 336x336 pixels in float32
GUESS = 1 << 20  # bytes of an image before any was seen
THREADS = 2
MEASURED = 8  # images made before it is known what one costs
RECENT = 64  # images of which that is the median
PREPARING = 0.05  # seconds, more than image processors take: fewer images than that times `WORTH` are not worth a look
WORTH = 10.0  # seconds of work left from which processes pay: twice the processor time that starting one takes (5 s)
AT_ONCE = 2  # images given to a worker at a time: one under way, one waiting
LOSSES = 3  # workers that may be replaced
PROBE = (97, 61)  # width and height of the picture on which a worker's way is compared


@dataclass(eq=False)
class _Job:
    """One image to make.

    Attributes:
        ref: Which.
        future: What it becomes.
        begun: Whether somebody makes it.
        bytes: Of the result.
    """

    ref: ImageRef
    future: Future[Made] = field(default_factory=Future)
    begun: bool = False
    bytes: int = 0


class ImagesAhead(ImagePool):
    """Makes the images of a run in order, a bounded number of bytes ahead of the batch that is asked.

    Two threads do it at first. Once it is known what an image costs, and that the images left cost more than starting
    processes does, workers take over: they also do what the model's image processor would, where that can be done for
    each image by itself. Whoever waits for an image that nobody has begun makes it.
    """

    def __init__(
        self,
        shown: Sequence[Sequence[ImageRef]],
        preparer: Callable[[], Preparer | None] = lambda: None,
        *,
        workers: int | None = None,
        worth: float = WORTH,
        ahead: int = AHEAD,
    ) -> None:
        """A pool for one run; nothing is read before `reach`.

        Args:
            shown: The images of each item, in the order of asking.
            preparer: Opens what stands for the model's image processor; None if nothing can.
            workers: Processes; None: as `image_workers.count` says.
            worth: Seconds of work left from which they are started.
            ahead: Bytes.
        """
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mmeval-image")
        self.order = Order(shown)
        self._open_preparer, self._worth, self._ahead = preparer, worth, ahead
        self._processes = image_workers.count() if workers is None else workers
        self._lock = threading.RLock()
        self._jobs: dict[ImageRef, _Job] = {}
        self._claims: Counter[ImageRef] = Counter()  # how often each comes between the batch asked and the cursor
        self._waiting: deque[_Job] = deque()
        self._low = self._batch_end = self._cursor = 0
        self._held = self._under_way = self._on_threads = 0
        self._sizes, self._seconds = deque([GUESS], RECENT), deque[float](maxlen=RECENT)
        self._measured, self._look_at = 0, MEASURED
        self._workers: list[Worker] = []
        self._prepare: Preparer | None = None
        self._candidate: tuple[Preparer, Image, Pixels, float] | None = None  # with probe, its pixels and seconds
        self._setup = b""
        self._missing: set[str] = set()
        self._told: set[str] = set()
        self._looked = self._started = self._refused = self._closed = False
        self._losses = self._numbers = 0

    # -- what the engine and the adapters call ------------------------------------------------------------------------

    def reach(self, start: int, end: int) -> None:
        """Items `start` to `end` (without it) are asked now: theirs are made first, those before are forgotten."""
        with self._lock:
            low, self._batch_end = self.order.span(start, end)
            for ref in self.order.refs[self._low : min(low, self._cursor)]:
                self._release(ref)
            self._low, self._cursor = max(self._low, low), max(self._cursor, low)
            if not self._started and self._measured >= self._look_at:
                self._look_at = self._measured + MEASURED
                if self._pays(len(self.order.refs) - self._cursor + len(self._waiting)):
                    self._start()
            self._go_on()

    def get(self, ref: ImageRef) -> Image:
        """The picture, made here and now if nobody did."""
        made = self._made(ref)
        if made.image is None:
            made.image = open_image(ref)
        return made.image

    def check(self, ref: ImageRef) -> None:
        """As `ImagePool.check`."""
        self._made(ref)

    def prepared(self, ref: ImageRef) -> tuple[tuple[int, int], Any] | None:
        """As `ImagePool.prepared`; None as long as no worker does it."""
        if self._prepare is None:
            return None
        made = self._made(ref)
        if made.pixels is None and made.image is not None:
            made.pixels = self._prepare(made.image)
        return made.size, made.pixels

    def close(self) -> None:
        """Ends threads and processes."""
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, []
            for job in self._jobs.values():
                job.future.cancel()  # whoever still waits need not
            self._jobs, self._waiting = {}, deque()
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.wait()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # -- images -------------------------------------------------------------------------------------------------------

    def _made(self, ref: ImageRef) -> Made:
        with self._lock:
            job = self._jobs.get(ref)
            if job is None:
                return _open(ref)
            mine, job.begun = not job.begun, True
            if mine:
                self._under_way += 1
        if mine:
            self._make(job)
        while not job.future.done() and self._help():
            pass
        return job.future.result()

    def _help(self) -> bool:
        """Makes the next image that nobody has begun, where workers fall behind: better than waiting for them."""
        with self._lock:
            while self._waiting and self._waiting[0].begun:
                self._waiting.popleft()
            if not self._workers or not self._waiting:
                return False
            job = self._waiting.popleft()
            job.begun = True
            self._under_way += 1
        self._make(job)
        return True

    def _make(self, job: _Job) -> None:
        """Makes an image on this thread."""
        start = time.thread_time()
        try:
            made = _open(job.ref)
        except BaseException as error:
            self._finish(job, None, error)
        else:
            self._seconds.append(time.thread_time() - start)
            self._measured += 1
            self._finish(job, made)

    def _finish(self, job: _Job, made: Made | None, error: BaseException | None = None) -> None:
        with self._lock:
            self._under_way -= 1
            if made is not None:
                job.bytes = made.bytes
                self._sizes.append(made.bytes)
                if self._jobs.get(job.ref) is job:
                    self._held += made.bytes
            if job.future.cancelled():
                return
            if error is not None:
                job.future.set_exception(error)
            elif made is not None:
                job.future.set_result(made)
            self._go_on()

    def _release(self, ref: ImageRef) -> None:
        """The batch has gone past one showing of an image."""
        self._claims[ref] -= 1
        if self._claims[ref] <= 0:
            del self._claims[ref]
            job = self._jobs.pop(ref, None)
            if job is not None:
                self._held -= job.bytes
                job.begun = True  # nobody needs it any more

    # -- who makes what -----------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Takes images from the order while there is room, and gives them to whoever is free."""
        if self._closed:
            return
        while self._cursor < len(self.order.refs) and (self._cursor < self._batch_end or self._room()):
            ref = self.order.refs[self._cursor]
            self._cursor += 1
            self._claims[ref] += 1
            if ref not in self._jobs:
                self._jobs[ref] = _Job(ref)
                self._waiting.append(self._jobs[ref])
        while self._waiting and (self._waiting[0].begun or self._hand_out(self._waiting[0])):
            self._waiting.popleft()

    def _room(self) -> bool:
        expected = sum(self._sizes) / len(self._sizes) * (self._under_way + len(self._waiting) + 1)
        return self._held + expected <= self._ahead

    def _hand_out(self, job: _Job) -> bool:
        """Gives an image to a worker, or to a thread where none can take it; False if all are busy."""
        ready = [worker for worker in self._workers if worker.ready is not None]
        if ready and not self._foreign(job.ref):
            worker = min(ready, key=lambda worker: len(worker.jobs))
            if len(worker.jobs) >= AT_ONCE:
                return False
            job.begun = True
            self._under_way += 1
            self._numbers += 1
            worker.jobs[self._numbers] = job
            worker.ask(self._numbers, job.ref, self._prepare is not None)
            return True
        if self._on_threads >= THREADS:
            return False
        self._to_thread(job)
        return True

    def _to_thread(self, job: _Job) -> None:
        if not job.begun:
            job.begun = True
            self._under_way += 1
        self._on_threads += 1
        if self._closed:
            return
        self._threads.submit(self._on_thread, job)

    def _on_thread(self, job: _Job) -> None:
        try:
            self._make(job)
        finally:
            with self._lock:
                self._on_threads -= 1
                self._go_on()

    def _foreign(self, ref: ImageRef) -> bool:
        """Whether no worker can make it."""
        return bool(self._missing) and any(name.partition(":")[0] in self._missing for name in ref.transforms)

    # -- worker processes ---------------------------------------------------------------------------------------------

    def _pays(self, left: int) -> bool:
        """Whether the images left are more work than `worth`."""
        seconds = statistics.median(self._seconds)
        if not self._processes or left * (seconds + PREPARING) < self._worth:
            return False
        if not self._looked:
            self._looked, self._candidate = True, self._probe()
        return left * (seconds + (self._candidate[3] if self._candidate else 0)) >= self._worth

    def _probe(self) -> tuple[Preparer, Image, Pixels, float] | None:
        """What stands for the image processor, a picture, what it makes of it here, and what it takes."""
        prepare = self._open_preparer()
        if prepare is None:
            return None
        from PIL import Image as Images

        noise = np.random.default_rng(0).integers(0, 256, (PROBE[1], PROBE[0], 3), dtype=np.uint8)
        probe = Images.fromarray(noise)
        prepare(probe)  # the first call imports and fills tables
        start = time.thread_time()
        return prepare, probe, prepare(probe), time.thread_time() - start

    def _start(self) -> None:
        self._started = True
        names = {name.partition(":")[0] for ref in self.order.refs for name in ref.transforms}
        setup = Setup(cache_in_use(), IMAGE_TRANSFORMS.carried(sorted(names)))
        if self._candidate is not None:
            try:
                setup.preparer, setup.probe = pickle.dumps(self._candidate[0]), self._candidate[1]
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                self._say_once(f"the image processor stays in the main process: {error}")
        self._setup = pickle.dumps(setup)
        for _ in range(self._processes):
            self._add_worker()

    def _add_worker(self) -> None:
        try:
            self._workers.append(Worker(self._setup, self._heard, self._lost))
        except OSError as error:
            self._say_once(f"images are made on threads: no worker process can be started ({error})")

    def _heard(self, worker: Worker, message: Ready | Answer, data: bytearray) -> None:
        if isinstance(message, Ready):
            self._welcome(worker, message)
            return
        made, error = None, None
        if message.error:
            error = ImageError(message.error)
        elif not message.again:
            made = message.made(data)
        with self._lock:
            job = worker.jobs.pop(message.number)
            cache = cache_in_use()
            for line in message.said:
                if cache is not None and line not in self._told:
                    self._told.add(line)
                    cache.tell(line)
            if made is None and error is None:
                self._to_thread(job)
            else:
                self._finish(job, made, error)

    def _welcome(self, worker: Worker, ready: Ready) -> None:
        with self._lock:
            worker.ready = ready
            for name, cause in ready.missing.items():
                self._missing.add(name)
                self._say_once(f"images with the transform {name!r} are made in the main process: {cause}")
            if self._candidate is not None and not self._refused:
                prepare, _, expected, _ = self._candidate
                same = ready.probe is not None and np.array_equal(ready.probe, expected)
                if not same:
                    cause = ready.why_not or "a worker's result differs"
                    self._say_once(f"the image processor stays in the main process: {cause}")
                self._refused, self._prepare = not same, prepare if same else None
            self._go_on()

    def _lost(self, worker: Worker) -> None:
        """A worker died: what it had is tried again here."""
        with self._lock:
            if self._closed or worker not in self._workers:
                return
            self._workers.remove(worker)
            for job in worker.jobs.values():
                self._to_thread(job)
            worker.jobs = {}
            if worker.ready is not None and self._losses < LOSSES:
                self._losses += 1
                self._add_worker()
            code = worker.process.returncode
            self._say_once(f"a worker process that makes images ended with {code}: the main process makes what it had")
            self._go_on()

    def _say_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            log.warning("%s", line)


def _open(ref: ImageRef) -> Made:
    image = open_image(ref)
    return Made(image.size, image)
