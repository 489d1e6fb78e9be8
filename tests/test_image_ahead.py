"""Images made ahead in worker processes: the same pictures and pixels, whatever becomes of the workers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmalign_eval import engine, image_ahead
from mmalign_eval.data import corruptions
from mmalign_eval.data.corruptions.cache import CorruptCache
from mmalign_eval.data.transforms import corrupted, noised, transformed
from mmalign_eval.engine import Engine
from mmalign_eval.errors import BadInput, ImageError
from mmalign_eval.image_ahead import MEASURED, ImagesAhead
from mmalign_eval.images import Order, cached_in, open_image
from mmalign_eval.registry import IMAGE_TRANSFORMS, TASKS
from mmalign_eval.requests import Generate, ImageRef, Prompt, greedy
from mmalign_eval.store import Store

PLUGIN = """
import os, signal

def upside_down(image):
    return image.rotate(180)

def deadly(image):
    if os.environ.get("OPENCV_FOR_THREADS_NUM") == "1":  # in a worker
        os.kill(os.getpid(), signal.SIGKILL)
    return image

def few_colours(image):
    return image.convert("P", palette=1)

def broken(image):
    raise RuntimeError("the plugin's own fault")
"""
NAMES = ("upside_down", "deadly", "few_colours", "broken")


@pytest.fixture
def photo(tmp_path: Path) -> ImageRef:
    picture = np.random.default_rng(0).integers(0, 256, (36, 48, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.png", dpi=(70, 70))
    return ImageRef(str(tmp_path / "photo.png"))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Transforms of a file that has a name of its own only in this process, as `--include` gives it."""
    file = tmp_path / "plugin.py"
    file.write_text(PLUGIN)
    with contextlib.suppress(BadInput):  # it has no task
        TASKS.include(str(file))
    module = next(m for name, m in sys.modules.items() if getattr(m, "__file__", "") == str(file))
    before = dict(IMAGE_TRANSFORMS._entries), dict(IMAGE_TRANSFORMS._loaded)
    for name in NAMES:
        IMAGE_TRANSFORMS.add(name, getattr(module, name))
    yield
    IMAGE_TRANSFORMS._entries, IMAGE_TRANSFORMS._loaded = before


@contextlib.contextmanager
def worked_on(refs: Sequence[ImageRef], first: ImageRef, preparer: Any = lambda: None) -> Iterator[ImagesAhead]:
    """A pool whose one worker is up; every reference is a batch of its own, and the first of them is asked next."""
    warm = [transformed(first, "center_crop") if i % 2 else first for i in range(MEASURED + 2)]
    pool = ImagesAhead([[ref] for ref in (*warm, *refs)], preparer, workers=1, worth=0, ahead=0)
    try:
        for i in range(len(warm)):
            pool.reach(i, i + 1)
            pool.check(warm[i])
        until(lambda: all(worker.ready for worker in pool._workers) and pool._workers)
        pool.reach(len(warm), len(warm) + 1)
        yield pool
    finally:
        pool.close()


def until(true: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def in_turn(pool: ImagesAhead, refs: Sequence[ImageRef]) -> Iterator[ImageRef]:
    for i, ref in enumerate(refs, start=MEASURED + 2):
        pool.reach(i, i + 1)
        yield ref


def idle(*args: object) -> None:
    raise AssertionError("made in the model's process")


def outcome(make: Any, ref: ImageRef) -> tuple[Any, Any]:
    """Mode and pixels, or an error's type and text."""
    try:
        image = make(ref)
    except Exception as error:
        return ImageError if isinstance(error, ImageError) else type(error), str(error)
    return image.mode, image.tobytes()


def test_workers_make_the_same_pictures(photo: ImageRef, plugin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = [corrupted(photo, kind, 3, "a") for kind in corruptions.KINDS]
    refs += [photo, noised(photo, 500, "a"), transformed(corrupted(photo, "snow", 1, "b"), "center_crop")]
    refs += [transformed(photo, name) for name in ("blank", "center_crop", "pad_square", "upside_down")]
    made = {name.partition(":")[0] for ref in refs for name in ref.transforms}
    assert made == {*IMAGE_TRANSFORMS.names()} - {*NAMES[1:]}, "every transform is to be seen here"
    expected = [open_image(ref) for ref in refs]
    with worked_on(refs, photo) as pool:
        monkeypatch.setattr(image_ahead, "open_image", idle)
        for ref, image in zip(in_turn(pool, refs), expected, strict=True):
            found = pool.get(ref)
            assert (found.mode, found.size, found.info) == (image.mode, image.size, image.info), ref
            assert found.tobytes() == image.tobytes(), ref


def test_errors_are_the_same(photo: ImageRef, plugin: None, tmp_path: Path) -> None:
    whole = Path(photo.path).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    refs = [ImageRef(str(tmp_path / name)) for name in ("half.png", "text.jpg", "none.png")]
    refs += [transformed(photo, name) for name in ("broken", "corrupt:fog:three", "noise:1", "few_colours")]
    with worked_on(refs, photo) as pool:
        for ref in in_turn(pool, refs):
            assert outcome(pool.get, ref) == outcome(open_image, ref)
    types = [outcome(open_image, ref)[0] for ref in refs]
    assert types == [ImageError] * 3 + [RuntimeError, BadInput, TypeError, "P"]


def test_a_worker_that_dies_costs_time_only(photo: ImageRef, plugin: None, caplog: pytest.LogCaptureFixture) -> None:
    refs = [transformed(corrupted(photo, "snow", 3, str(i)), "deadly") for i in range(8)]
    refs += [corrupted(photo, "snow", 3, str(i)) for i in range(8)]
    with worked_on(refs, photo) as pool:
        dead = pool._workers[0].process
        for ref in in_turn(pool, refs):
            assert pool.get(ref).tobytes() == open_image(ref).tobytes()
        until(lambda: dead.returncode == -signal.SIGKILL)
        until(lambda: pool._workers and pool._workers[0].ready)  # another took its place
    assert [r.message for r in caplog.records if "ended with" in r.message] == [
        "a worker process that makes images ended with -9: the main process makes what it had"
    ]


def test_what_a_worker_cannot_import_stays(
    photo: ImageRef, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(IMAGE_TRANSFORMS._entries, "mirrored", lambda image: image.transpose(0))
    refs = [transformed(photo, "mirrored"), transformed(photo, "blank")] * 3
    with worked_on(refs, photo) as pool:
        for ref in in_turn(pool, refs):
            assert pool.get(ref).tobytes() == open_image(ref).tobytes()
    IMAGE_TRANSFORMS._loaded.pop("mirrored")
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("images with the transform 'mirrored' are made in the main process: ")


def test_workers_keep_corrupted_images(photo: ImageRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = [corrupted(photo, "gaussian_noise", 3, str(i)) for i in range(5)]
    expected = [open_image(ref).tobytes() for ref in refs]
    with cached_in(CorruptCache(tmp_path / "kept", 10**7)):
        with worked_on(refs, photo) as pool:
            for ref in in_turn(pool, refs):
                pool.check(ref)
        assert len(list((tmp_path / "kept").rglob("*.ppm"))) == 5
        monkeypatch.setattr(corruptions, "corrupt", idle)
        assert [open_image(ref).tobytes() for ref in refs] == expected
        with worked_on(refs, photo) as pool:
            assert [pool.get(ref).tobytes() for ref in in_turn(pool, refs)] == expected


@pytest.mark.slow
def test_pixels_are_the_processor_s_own(photo: ImageRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from .models.hf_case import load, nano

    refs = [corrupted(photo, "snow", 3, str(i)) for i in range(30)]
    requests = [Generate(Prompt(f"What is {i % 3}?", images=(ref,)), greedy(4)) for i, ref in enumerate(refs)]
    found: list[list[str]] = []
    pools: list[ImagesAhead] = []

    class Watched(ImagesAhead):
        def reach(self, start: int, end: int) -> None:
            if not pools:
                pools.append(self)
            super().reach(start, end)
            if self._started and self._measured < len(refs):
                until(lambda: all(worker.ready for worker in self._workers))
                assert self._prepare is not None
                monkeypatch.setattr(image_ahead, "open_image", idle)

    for workers in (0, 1):
        pools.clear()
        monkeypatch.setattr(engine, "ImagesAhead", partial(Watched, workers=workers, worth=0, ahead=0))
        store = Store(tmp_path / f"{workers}.sqlite")
        model = load(nano("llava"), template="vicuna_v1", batch_rows="2")
        responses, _ = Engine(model, store).run(requests)
        store.close()
        assert all(response.answered for response in responses), responses
        found.append([response.text for response in responses])
        assert pools[0]._started == bool(workers)
    assert found[0] == found[1]


def test_few_images_start_no_process(photo: ImageRef, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_ahead, "Worker", idle)
    refs = [corrupted(photo, "gaussian_noise", 3, str(i)) for i in range(60)]
    pool = ImagesAhead([[ref] for ref in refs], workers=4)
    for i, ref in enumerate(refs):
        pool.reach(i, i + 1)
        pool.check(ref)
    assert not pool._started
    pool.close()


SCRIPT = """
import sys, time
from mmalign_eval.image_ahead import ImagesAhead
from mmalign_eval.requests import ImageRef
refs = [ImageRef({path!r}, transforms=("corrupt:zoom_blur:5:0", "center_crop") * (i + 1)) for i in range(400)]
pool = ImagesAhead([[ref] for ref in refs], workers=2, worth=0, ahead=0)
try:
    for i, ref in enumerate(refs):
        pool.reach(i, i + 1)
        pool.check(ref)
        if pool._started:
            print(*(worker.process.pid for worker in pool._workers), flush=True)
finally:
    pool.close()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_parent(photo: ImageRef, how: signal.Signals) -> None:
    # no `if __name__ == "__main__"` in the script: workers must not run it again
    script = [sys.executable, "-c", SCRIPT.format(path=photo.path)]
    parent = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    os.killpg(parent.pid, how)  # as a terminal's Ctrl-C reaches all in its group
    _, said = parent.communicate(timeout=60)
    until(lambda: not any(alive(pid) for pid in pids), 20)
    if how == signal.SIGINT:
        assert said.count("Traceback") == 1, "the parent's own, and no worker's"
        assert said.rstrip().endswith("KeyboardInterrupt")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_what_is_ahead_is_bounded_in_bytes(photo: ImageRef) -> None:
    refs = [transformed(photo, f"noise:500:{i}") for i in range(200)]
    size = 48 * 36 * 3
    pool = ImagesAhead([[ref] for ref in refs], workers=0, ahead=10 * size)
    most = 0
    for i in range(0, 200, 2):
        pool.reach(i, i + 2)
        for ref in refs[i : i + 2]:
            pool.check(ref)
        until(lambda: not pool._under_way)
        held = [job for job in pool._jobs.values() if job.begun]
        assert pool._held == sum(job.bytes for job in held) == size * len(held)
        most = max(most, len(held))
    pool.close()
    assert 8 <= most <= 12


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=2), max_size=24), st.lists(st.integers(1, 6), max_size=24))
def test_each_batch_finds_its_images(shown: list[list[int]], sizes: list[int]) -> None:
    refs = [[ImageRef(str(number)) for number in images] for images in shown]
    order, start = Order(refs), 0
    for size in sizes:
        end = min(start + size, len(refs))
        low, high = order.span(start, end)
        assert {ref for images in refs[start:end] for ref in images} <= set(order.refs[low:high])
        start = end


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=2), max_size=24), st.integers(1, 5), st.integers(0, 3))
def test_no_image_is_made_twice_for_neighbours_nor_kept_for_ever(
    shown: list[list[int]], batch: int, ahead: int
) -> None:
    refs = [[ImageRef(str(number)) for number in images] for images in shown]
    made: list[str] = []

    def make(ref: ImageRef) -> Image.Image:
        made.append(ref.path)
        return Image.new("RGB", (2, 2))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_ahead, "open_image", make)
        pool = ImagesAhead(refs, workers=0, ahead=12 * ahead)
        for start in range(0, len(refs), batch):
            pool.reach(start, start + batch)
            for images in refs[start : start + batch]:
                for ref in images:
                    pool.check(ref)
        assert len(made) <= len(pool.order.refs)
        pool.reach(len(refs), len(refs))
        until(lambda: not pool._under_way)
        assert len(pool._jobs) <= 2
        pool.close()
