"""Worker processes that read, decode, transform and prepare images; `image_ahead.ImagesAhead` decides when.

A worker is a fresh interpreter at the end of a socket: it inherits no thread of the model's process, runs none of the
user's script again, and ends when the socket closes, however its parent ended. Pixels come as raw bytes after a short
pickled head, which takes next to no longer than shared memory and needs no room in /dev/shm, small in containers.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import ImageError
from .images import ImageCache, cached_in, open_image
from .registry import IMAGE_TRANSFORMS, Carried
from .requests import ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[Any]
BUFFER = 4 << 20  # bytes of the socket's buffer: a picture fits, so that a worker goes on to the next one
GRACE = 2.0  # seconds between asking a worker to end and ending it
# One thread a worker, none of the model's devices, and silence about what the model's process has said already.
ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"),
    **{"CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"},
}


class Preparer(Protocol):
    """What a model's image processor makes of one image; survives pickling."""

    def __call__(self, image: Image) -> Pixels:
        """Pixels as the model takes them, of the same shape for every image."""


@dataclass
class Made:
    """What was made of one image.

    Attributes:
        size: Width and height after the transforms.
        image: The picture, if it is at hand.
        pixels: What the model's image processor made of it, if it was asked to.
    """

    size: tuple[int, int]
    image: Image | None = None
    pixels: Pixels | None = None

    @property
    def bytes(self) -> int:
        """Memory held."""
        return (0 if self.pixels is None else self.pixels.nbytes) + (
            3 * self.size[0] * self.size[1] if self.image else 0
        )


@dataclass
class Setup:
    """What a worker is told first.

    Attributes:
        cache: Where transformed images are kept (`images.cached_in`).
        transforms: Those that no fresh process knows.
        preparer: The model's image processor, pickled; empty: images stay pictures.
        probe: A picture for it.
    """

    cache: ImageCache | None = None
    transforms: list[Carried] = field(default_factory=list)
    preparer: bytes = b""
    probe: Image | None = None


@dataclass
class Ready:
    """A worker's first answer.

    Attributes:
        missing: Transforms it cannot make, with the cause.
        probe: What its preparer made of the probe.
        why_not: Why it has no preparer although one was sent.
    """

    missing: dict[str, str]
    probe: Pixels | None = None
    why_not: str = ""


@dataclass
class Answer:
    """What became of an image; the bytes of its picture or its pixels follow on the socket.

    Attributes:
        number: The job's.
        size: Width and height.
        mode, info: The picture's, if it is a picture that follows.
        shape, dtype: The pixels', if it is pixels.
        error: The message of an `ImageError`.
        again: Why the model's process has to make this image.
        said: What the cache has to tell the user.
    """

    number: int
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    info: dict[Any, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    dtype: str = ""
    error: str = ""
    again: str = ""
    said: list[str] = field(default_factory=list)

    def made(self, data: bytearray) -> Made:
        """The image, of the bytes that followed."""
        if not self.mode:
            return Made(self.size, pixels=np.frombuffer(data, self.dtype).reshape(self.shape))
        from PIL import Image as Images

        image = Images.frombytes(self.mode, self.size, bytes(data))
        image.info.update(self.info)
        return Made(self.size, image=image)


def count() -> int:
    """Workers on this machine: a core each, one left to the model, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # not on macOS
    return max(0, min(8, cores - 1))


# -- the socket -----------------------------------------------------------------------------------------------------


def _send(end: socket.socket, message: object, data: Any = b"") -> None:
    head = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    view = memoryview(data).cast("B") if data is not None and len(data) else memoryview(b"")
    end.sendall(len(head).to_bytes(8, "big") + len(view).to_bytes(8, "big") + head)
    if len(view):
        end.sendall(view)


def _receive(end: socket.socket) -> tuple[Any, bytearray]:
    """A message and the bytes after it.

    Raises:
        OSError: The other side is gone (EOFError too).
    """
    sizes = _read(end, 16)
    head = _read(end, int.from_bytes(sizes[:8], "big"))
    return pickle.loads(head), _read(end, int.from_bytes(sizes[8:], "big"))


def _read(end: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        count = end.recv_into(view[at:])
        if not count:
            raise EOFError("the other side is gone")
        at += count
    return data


# -- in the worker --------------------------------------------------------------------------------------------------


def serve(handle: int) -> None:
    """A worker's life: a setup, then images until the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and closes the socket
    with contextlib.suppress(OSError, EOFError), socket.socket(fileno=handle) as end:
        setup: Setup = _receive(end)[0]
        ready, prepare = _set_up(setup)
        _send(end, ready)
        said: list[str] = []
        if setup.cache is not None:
            setup.cache.tell = said.append
        with cached_in(setup.cache):
            while True:
                number, ref, prepared = _receive(end)[0]
                answer, data = _answer(number, ref, prepare if prepared else None)
                answer.said, said[:] = list(said), []
                _send(end, answer, data)


def _set_up(setup: Setup) -> tuple[Ready, Preparer | None]:
    ready = Ready(IMAGE_TRANSFORMS.adopt(setup.transforms))
    if not setup.preparer:
        return ready, None
    try:
        prepare: Preparer = pickle.loads(setup.preparer)
        assert setup.probe is not None
        ready.probe = prepare(setup.probe)
    except Exception as error:  # a class that only the model's process has, say: pictures are sent instead
        ready.why_not = f"{type(error).__name__}: {error}"
        return ready, None
    return ready, prepare


def _answer(number: int, ref: ImageRef, prepare: Preparer | None) -> tuple[Answer, Any]:
    try:
        image = open_image(ref)
        if prepare is not None:
            pixels = np.ascontiguousarray(prepare(image))
            return Answer(number, image.size, shape=pixels.shape, dtype=pixels.dtype.str), pixels
        if image.mode not in ("RGB", "L", "RGBA"):  # a palette, say, is not in the bytes
            return Answer(number, again=f"mode {image.mode}"), b""
        pickle.dumps(image.info)
        return Answer(number, image.size, image.mode, image.info), image.tobytes()
    except ImageError as error:
        return Answer(number, error=str(error)), b""
    except Exception as error:  # it is the model's process that raises it, from a second try
        return Answer(number, again=f"{type(error).__name__}: {error}"), b""


# -- in the model's process -----------------------------------------------------------------------------------------


class Worker:
    """One process, as its parent sees it.

    Attributes:
        ready: What it said first; None while it starts.
        jobs: What it was given and has not answered, by number.
    """

    def __init__(self, setup: bytes, heard: Callable[[Worker, Any, bytearray], None], lost: Callable[[Worker], None]):
        """Starts it; returns at once.

        Args:
            setup: A pickled `Setup`.
            heard: Called with a `Ready` or an `Answer` and its bytes, on the worker's own thread.
            lost: Called there when it is gone without having been stopped.

        Raises:
            OSError: No process can be started.
        """
        self.ready: Ready | None = None
        self.jobs: dict[int, Any] = {}
        self._setup, self._heard, self._lost, self._stopped = setup, heard, lost, False
        self._end, other = socket.socketpair()
        with other:
            for end in (self._end, other):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            path = f"import sys; sys.path[:] = {list(map(str, sys.path))!r}"
            code = f"{path}; from {__name__} import serve; serve({other.fileno()})"
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[other.fileno()],
                    env={**os.environ, **ENVIRONMENT},
                    process_group=0,  # Ctrl-C is the parent's to hear
                )
            except OSError:
                self._end.close()
                raise
        self._thread = threading.Thread(target=self._listen, name="mmeval-image-worker", daemon=True)
        self._thread.start()

    def ask(self, number: int, ref: ImageRef, prepared: bool) -> None:
        """Gives it an image to make; that it is gone is heard elsewhere."""
        with contextlib.suppress(OSError):
            _send(self._end, (number, ref, prepared))

    def stop(self) -> None:
        """Asks it to end; `wait` sees to it."""
        self._stopped = True
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self.process.terminate()

    def wait(self) -> None:
        """Until it is gone: it leaves no process behind."""
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join(GRACE)

    def _listen(self) -> None:
        try:
            self._end.sendall(len(self._setup).to_bytes(8, "big") + bytes(8) + self._setup)
            self._setup = b""
            while True:
                self._heard(self, *_receive(self._end))
        except (OSError, EOFError):
            pass
        finally:
            self._end.close()
            if not self._stopped:
                self.process.kill()
                self.process.wait()
                self._lost(self)
