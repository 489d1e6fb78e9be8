"""What a comparison costs: `mmeval compare` on two runs of 9,000 POPE questions on 500 images, start-up included.

    python benchmarks/compare.py [--quick] [--runs N]

The two runs are made by the scripted model; the command is then timed in a fresh process, as a user has it, for the
headline, for all metrics, and with the samples that changed. Ends with one line of JSON.
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
THINGS = ["dog", "cat", "chair", "car", "person", "bottle"]
VARIANTS = {"headline": [], "all": ["--all"], "flips": ["--flips"]}
SCRIPTS = {
    "base": "- {match: 'dog|chair|person', text: 'Yes, there is.'}\n- {text: 'No.'}\n",
    "other": "- {match: '(dog|chair|cat).*random|person', text: 'Yes, there is.'}\n- {text: 'No.'}\n",
}


def make_data(folder: Path, images: int) -> None:
    """Writes POPE's native files: small images, 3 x 6 questions on each."""
    from PIL import Image

    (folder / "val2014").mkdir(parents=True)
    rng = random.Random(0)
    names = [f"COCO_val2014_{i:012d}.jpg" for i in range(images)]
    for i, name in enumerate(names):
        Image.new("RGB", (32, 24), (i % 256, i // 256, 90)).save(folder / "val2014" / name)
    for split in SPLITS:
        rows = [
            {"question_id": 6 * i + j + 1, "image": name, "text": f"Is there a {thing} in the {split} image?",
             "label": "yes" if rng.random() < 0.5 else "no"}
            for i, name in enumerate(names)
            for j, thing in enumerate(THINGS)
        ]  # fmt: skip
        (folder / f"coco_pope_{split}.json").write_text("\n".join(map(json.dumps, rows)) + "\n")


def make_runs(root: Path, images: int) -> list[str]:
    """Result folders of the two models."""
    from mmalign_eval.evaluate import RunConfig, evaluate

    make_data(root / "pope", images)
    for name, script in SCRIPTS.items():
        (root / f"{name}.yaml").write_text(script)
    models = tuple(f"scripted:{root / name}.yaml" for name in SCRIPTS)
    evaluate(RunConfig(models=models, tasks=("pope",), data=(str(root / "pope"),), out=str(root / "out")))
    return [str(root / "out" / name) for name in SCRIPTS]


def timed(arguments: list[str]) -> float:
    """Wall seconds of the command in a process of its own."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mmalign_eval", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="60 images, one run")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    images, runs = (60, 1) if options.quick else (500, options.runs)
    with tempfile.TemporaryDirectory() as folder:
        folders = make_runs(Path(folder), images)
        medians = {}
        for name, more in VARIANTS.items():
            seconds = [timed(["compare", *folders, *more]) for _ in range(runs)]
            medians[name] = statistics.median(seconds)
            print(f"{name:<9} {medians[name]:.2f} s  (runs: {', '.join(f'{s:.2f}' for s in seconds)})")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    figures = {f"{name}_seconds": seconds for name, seconds in medians.items()}
    print(
        json.dumps(
            {"benchmark": "compare", "samples": images * len(SPLITS) * len(THINGS), "n": runs, **figures,
             "peak_mib": peak, "python": platform.python_version()}
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
