"""Images made ahead of the model: in worker processes against on two threads, both through the engine's own pool.

    python benchmarks/images.py [--quick] [--runs N] [--images N] [--workers N] [--kinds KIND,...] [--model MS]

640x480 JPEG photographs, plain and corrupted (severity 3), then what CLIP's image processor at 336 pixels makes of
them; every picture's pixels must be the same bit for bit on both sides. The model is one that leaves the processor
alone for so many milliseconds an image, as one on an accelerator does (--model 0: nothing but images). First comes
what one image costs a core. Sides take turns and figures are medians; workers are up before the clock runs, and what
starting them takes is told apart. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
from lib.photographs import photographs

from mmalign_eval.data.corruptions import KINDS
from mmalign_eval.data.transforms import corrupted
from mmalign_eval.image_ahead import MEASURED, WORTH, ImagesAhead
from mmalign_eval.image_workers import count
from mmalign_eval.images import open_image
from mmalign_eval.requests import ImageRef

PLAIN = "plain"
COCO_C = ("gaussian_noise", "defocus_blur", "contrast", "brightness", "jpeg_compression")
QUICK = (PLAIN, "gaussian_noise")
WARM = MEASURED + 2  # images asked before the clock runs


def photos(folder: str, number: int) -> list[ImageRef]:
    """JPEG files of photographs."""
    from PIL import Image

    for i, picture in enumerate(photographs(number)):
        Image.fromarray(picture).save(Path(folder) / f"{i}.jpg", quality=90)
    return [ImageRef(str(Path(folder) / f"{i}.jpg")) for i in range(number)]


def as_kind(refs: Sequence[ImageRef], kind: str) -> list[ImageRef]:
    """The photographs as they are, or corrupted."""
    return list(refs) if kind == PLAIN else [corrupted(ref, kind, 3, ref.path) for ref in refs]


def clip() -> Any:
    """CLIP's image processor as LLaVA-1.5 has it, as a preparer."""
    from transformers import CLIPImageProcessor

    from mmalign_eval.models.pixels import ImageProcessor

    size = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
    return ImageProcessor(CLIPImageProcessor(**size), {"return_tensors": "np"})


def alone(make: Callable[[Any], Any], things: Sequence[Any]) -> float:
    """Median milliseconds of this thread's processor time."""
    make(things[0])
    spent = []
    for thing in things:
        start = time.thread_time()
        make(thing)
        spent.append(1000 * (time.thread_time() - start))
    return statistics.median(spent)


def costs(refs: Sequence[ImageRef], prepare: Any, kinds: Sequence[str]) -> dict[str, float]:
    """Milliseconds an image: decoding, the image processor, and each corruption (decoding taken off)."""
    images = list(map(open_image, refs))
    found = {"decode": alone(open_image, refs), "clip": alone(prepare, images)}
    return found | {kind: alone(open_image, as_kind(refs, kind)) - found["decode"] for kind in kinds if kind != PLAIN}


def one_run(refs: Sequence[ImageRef], prepare: Any, workers: int, model: float) -> dict[str, Any]:
    """Seconds for all images, processor seconds of this process in them, of starting, and a digest of all pixels."""
    shown = [[ref] for ref in (*(refs[i % len(refs)] for i in range(WARM)), *refs)]
    pool = ImagesAhead(shown, lambda: prepare, workers=workers, worth=0, ahead=0)
    try:
        began = time.perf_counter()
        for i in range(WARM):
            pool.reach(i, i + 1)
            pool.check(shown[i][0])
        while not all(worker.ready for worker in pool._workers):
            time.sleep(0.01)
        started = time.perf_counter() - began
        pool._ahead = 256 << 20
        pixels, start, own = [], time.perf_counter(), time.process_time()
        for i in range(WARM, len(shown)):
            pool.reach(i, i + 1)
            made = pool.prepared(shown[i][0])
            pixels.append(prepare(pool.get(shown[i][0])) if made is None else made[1])
            time.sleep(model / 1000)
        seconds, own = time.perf_counter() - start, time.process_time() - own
    finally:
        pool.close()
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in pixels)).hexdigest()
    return {"seconds": seconds, "own": own, "started": started, "digest": digest}


def measure(refs: Sequence[ImageRef], prepare: Any, runs: int, workers: int, model: float) -> dict[str, float]:
    """Images a second on both sides (medians), and the processor time that is left to the model's process."""
    sides: dict[str, list[dict[str, Any]]] = {"threads": [], "workers": []}
    for _ in range(runs):
        sides["threads"].append(one_run(refs, prepare, 0, model))
        sides["workers"].append(one_run(refs, prepare, workers, model))
    if len({run["digest"] for found in sides.values() for run in found}) != 1:
        raise SystemExit("pixels differ between threads and workers")
    out: dict[str, float] = {}
    for side, found in sides.items():
        out[f"{side}_per_s"] = len(refs) / statistics.median(run["seconds"] for run in found)
        out[f"{side}_own_ms"] = 1000 * statistics.median(run["own"] for run in found) / len(refs)
    paired = [a["seconds"] / b["seconds"] for a, b in zip(sides["threads"], sides["workers"], strict=True)]
    return out | {
        "ratio": statistics.median(paired),
        "start_s": statistics.median(r["started"] for r in sides["workers"]),
    }


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="24 images, 1 run, two kinds")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--workers", type=int, default=max(1, count()))
    parser.add_argument("--kinds", default="", help=f"of {PLAIN}, {', '.join(KINDS)} [{','.join((PLAIN, *COCO_C))}]")
    parser.add_argument("--model", type=float, default=10.0, metavar="MS")
    options = parser.parse_args()
    number, runs = (24, 1) if options.quick else (options.images, options.runs)
    kinds = options.kinds.split(",") if options.kinds else QUICK if options.quick else (PLAIN, *COCO_C)
    prepare, found = clip(), {}
    with tempfile.TemporaryDirectory() as folder:
        refs = photos(folder, number)
        each = costs(refs[:12], prepare, kinds)
        print("processor time of one image, ms   " + "  ".join(f"{name} {ms:.1f}" for name, ms in each.items()))
        print(f"{'':18}{'threads':>9}{'workers':>9}{'ratio':>7}   images/s; of the model's process, ms an image")
        for kind in kinds:
            one = found[kind] = measure(as_kind(refs, kind), prepare, runs, options.workers, options.model)
            rates = f"{one['threads_per_s']:9.1f}{one['workers_per_s']:9.1f}{one['ratio']:7.2f}"
            print(f"{kind:18}{rates}   {one['threads_own_ms']:.1f} {one['workers_own_ms']:.1f}", flush=True)
    start = statistics.median(one["start_s"] for one in found.values())
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"starting {options.workers} worker(s) took {start:.1f} s; runs start them from {WORTH:g} s of work left")
    names = ("numpy", "pillow", "opencv-python", "transformers", "torch")
    print(
        json.dumps(
            {
                "benchmark": "images", "ratio": statistics.median(one["ratio"] for one in found.values()),
                "kinds": found, "cost_ms": each, "bit_equal": True, "n": number, "runs": runs, "start_s": start,
                "workers": options.workers, "cores": os.cpu_count(), "model_ms": options.model,
                "workers_cpu_s": spent.ru_utime + spent.ru_stime, "worker_mb": spent.ru_maxrss / 1024,
                "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
