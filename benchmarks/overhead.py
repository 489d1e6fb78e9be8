"""What the harness itself costs: 9,000 POPE questions on 500 photograph-sized images through the scripted model.

    python benchmarks/overhead.py [--quick] [--runs N]

Images are opened, hashed and handed on as a real model's would be; requests are planned, answers stored, scored and
written. The model answers at once, so what is left is the harness. Each run is a fresh process on fresh folders; the
time is that of `evaluate`, without importing Python modules. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPLITS = ("random", "popular", "adversarial")
WIDTH, HEIGHT = 640, 480  # COCO's usual size


def make_data(folder: Path, images: int) -> None:
    """Writes POPE's native files: `images` JPEG photographs and 3 x 6 questions on each."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    (folder / "val2014").mkdir(parents=True)
    names = []
    for i in range(images):
        coarse = rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(picture + rng.normal(0, 14, picture.shape), 0, 255).astype(np.uint8)
        names.append(f"COCO_val2014_{i:012d}.jpg")
        Image.fromarray(noisy).save(folder / "val2014" / names[-1], quality=88)
    things = ["dog", "cat", "chair", "car", "person", "bottle"]
    for split in SPLITS:
        rows = [
            {"question_id": 6 * i + j + 1, "image": name, "text": f"Is there a {thing} in the image?",
             "label": "yes" if j % 2 == 0 else "no"}
            for i, name in enumerate(names)
            for j, thing in enumerate(things)
        ]  # fmt: skip
        # the three files ask different things of an image, as the benchmark's do
        for row in rows:
            row["text"] = row["text"].replace("the image", f"the {split} image")
        (folder / f"coco_pope_{split}.json").write_text("\n".join(map(json.dumps, rows)) + "\n")


def one_run(data: Path, out: Path) -> dict[str, float]:
    """One evaluation in this process: seconds, requests a second, peak memory in MiB."""
    from mmalign_eval.evaluate import RunConfig, evaluate
    from mmalign_eval.registry import TASKS

    TASKS.names()
    script = out.parent / f"{out.name}.yaml"
    script.write_text("- {match: 'dog|chair|person', text: 'Yes, there is.'}\n- {text: 'No.'}\n")
    start = time.perf_counter()
    outcome = evaluate(RunConfig(models=(f"scripted:{script}",), tasks=("pope",), data=(str(data),), out=str(out)))
    seconds = time.perf_counter() - start
    count = outcome.results[0]["counts"]["n_ok"]
    return {
        "requests": count,
        "seconds": seconds,
        "requests_per_second": count / seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="60 images, one run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("DATA", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_run(Path(options.one[0]), Path(options.one[1]))))
        return
    images, runs = (60, 1) if options.quick else (500, options.runs)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        random.seed(0)
        make_data(root / "pope", images)
        found = []
        for run in range(runs):
            command = [sys.executable, __file__, "--one", str(root / "pope"), str(root / f"out{run}")]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"run {run + 1}: {found[-1]}")
    medians = {key: statistics.median(run[key] for run in found) for key in found[0]}
    print(json.dumps({"benchmark": "overhead", "n": runs, **medians, "python": platform.python_version()}))


if __name__ == "__main__":
    main()
