"""Corrupted images: ours on two threads, as a run decodes them, against the package `imagecorruptions` in a plain loop.

    python benchmarks/corrupt.py [--quick] [--runs N] [--images N] [--kinds KIND,...] [--workers N]

The same 640x480 pictures, severities 1, 3 and 5, the same seeds; OpenCV's own threads are off on both sides and nothing
is written. Every picture must be the same byte for byte. A kind's figure is the median over the runs, in which the two
sides take turns. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from lib.imagecorruptions_as_it_is import package
from lib.photographs import photographs

COCO_C = ("gaussian_noise", "defocus_blur", "contrast", "brightness")
SEVERITIES = (1, 3, 5)
Job = tuple[np.ndarray, str, int, int]  # picture, kind, severity, seed


def peer(jobs: list[Job]) -> list[np.ndarray]:
    """The package, one picture after the other."""
    corrupt, made = package().corrupt, []
    for picture, kind, severity, seed in jobs:
        np.random.seed(seed)
        made.append(corrupt(picture, severity=severity, corruption_name=kind))
    return made


def ours(jobs: list[Job], pool: ThreadPoolExecutor) -> list[np.ndarray]:
    """Ours, on the threads of a pool."""
    from mmalign_eval.data.corruptions import corrupt

    return list(pool.map(lambda job: corrupt(*job), jobs))


def timed(make: Callable[[], list[np.ndarray]]) -> tuple[float, list[np.ndarray]]:
    """Seconds, and what was made."""
    start = time.perf_counter()
    made = make()
    return time.perf_counter() - start, made


def measure(kind: str, pictures: list[np.ndarray], runs: int, pool: ThreadPoolExecutor) -> dict[str, float]:
    """Milliseconds a picture on both sides (medians over runs), and how many times faster ours is."""
    jobs: list[Job] = [(picture, kind, s, i) for i, picture in enumerate(pictures) for s in SEVERITIES]
    peer(jobs[:3]), ours(jobs[:3], pool)  # first calls import and fill tables
    slow, fast = [], []
    for _ in range(runs):
        seconds, theirs = timed(lambda: peer(jobs))
        slow.append(1000 * seconds / len(jobs))
        seconds, mine = timed(lambda: ours(jobs, pool))
        fast.append(1000 * seconds / len(jobs))
        if not all(np.array_equal(a, b) for a, b in zip(theirs, mine, strict=True)):
            raise SystemExit(f"{kind}: pictures differ from the package's")
    package_ms, ours_ms = statistics.median(slow), statistics.median(fast)
    return {"package_ms": package_ms, "ours_ms": ours_ms, "ratio": package_ms / ours_ms}


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="6 pictures, 3 runs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", default=",".join(COCO_C), help="impulse_noise has no seed in the package")
    options = parser.parse_args()
    images, runs = (6, 3) if options.quick else (options.images, options.runs)
    package()
    import cv2

    cv2.setNumThreads(0)
    pictures, found = photographs(images), {}
    print(f"{'kind':18} {'package':>10} {'ours':>10} {'times faster':>13}   ms a picture")
    with ThreadPoolExecutor(options.workers) as pool:
        for kind in options.kinds.split(","):
            found[kind] = measure(kind, pictures, runs, pool)
            one = found[kind]
            print(f"{kind:18} {one['package_ms']:10.1f} {one['ours_ms']:10.1f} {one['ratio']:13.2f}", flush=True)
    total = {side: sum(one[side] for one in found.values()) for side in ("package_ms", "ours_ms")}
    ratio = total["package_ms"] / total["ours_ms"]
    print(f"{'overall':18} {total['package_ms']:10.1f} {total['ours_ms']:10.1f} {ratio:13.2f}")
    names = ("imagecorruptions", "numpy", "opencv-python", "scikit-image", "scipy")
    print(
        json.dumps(
            {
                "benchmark": "corrupt", "ratio": ratio, "kinds": found, "byte_equal": True,
                "n": images * len(SEVERITIES), "runs": runs, "workers": options.workers, "cores": os.cpu_count(),
                "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
            }
        )
    )  # fmt: skip
    sys.stdout.flush()


if __name__ == "__main__":
    main()
