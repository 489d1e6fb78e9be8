"""`mmeval report` on 3,000 samples of three models, a photograph and a long answer each: seconds, memory, size.

    python benchmarks/report.py [--quick] [--samples N] [--models N] [--answer WORDS] [--runs N]

Results are made up in a temporary folder: every sample has its own 640 x 480 JPEG. Each run is a fresh process,
its time with start-up. No peer writes such a page of stored results. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEXT = "a man in the red coat is riding his bicycle past two dogs near an old wooden bench under some trees"
WORDS = TEXT.split()


def make_images(folder: Path, count: int) -> list[str]:
    """Different photographs: a few dozen, each shifted by a different amount for every use."""
    import numpy as np
    from lib.photographs import photographs
    from PIL import Image

    folder.mkdir(parents=True)
    bases = photographs(min(count, 30))
    paths = []
    for i in range(count):
        path = folder / f"{i:05d}.jpg"
        Image.fromarray(np.roll(bases[i % len(bases)], 7 * i, axis=1)).save(path, quality=85)
        paths.append(str(path))
    return paths


def make_run(out: Path, model: str, images: list[str], words: int, seed: int) -> None:
    """Result, sums and samples of one model."""
    import numpy as np

    from mmalign_eval.metrics.base import mean
    from mmalign_eval.results import SCHEMA, Summary, digest_json, signature, write_result
    from mmalign_eval.stats import estimates_of, sums_of

    rng = np.random.default_rng(seed)
    right = rng.random(len(images)) < 0.6
    records = [
        {"id": f"s{i:05d}", "cluster": f"s{i:05d}", "x": float(x), "hallucinated": [] if x else ["dog", "bench"],
         "mentions": [["dog", "dog"], ["bench", "bench"], ["bicycle", "bicycle"]]}
        for i, x in enumerate(right)
    ]  # fmt: skip
    metrics = [mean("accuracy", "x", proportion=True)]
    sums = sums_of(metrics, records)
    rows = [
        {"id": record["id"], "part": "", "cluster": record["cluster"], "status": "ok", "error": "",
         "images": [{"path": path, "row": -1, "column": "", "transforms": []}],
         "prompts": ["Describe this photograph in detail, and say what is going on in it."],
         "answers": [{"text": " ".join(rng.choice(WORDS, words)), "finish": "stop", "new_tokens": words}],
         "reference": " ".join(rng.choice(WORDS, 20)), "judged": [], "record": record}
        for record, path in zip(records, images, strict=True)
    ]  # fmt: skip
    identity = {"kind": "hf", "part": "whole", "weights": digest_json(model), "peft": ""}
    task = {"name": "described", "version": 1, "protocol": "official", "default_protocol": "official", "shots": 0}
    result = {
        "kind": "mmeval-result", "schema": SCHEMA,
        "task": {**task, "modality": "image", "headline": [], "sources": [], "note": "", "judge": "", "extra": {}},
        "judge": {}, "errors": [], "seed": 0, "params": {}, "prompt": "", "prompt_hash": "0" * 64, "provenance": {},
        "counts": {"n": len(rows), "n_ok": len(rows), "n_truncated": 0, "n_error": 0, "n_refused": 0},
        "model": {"name": model, "fingerprint": digest_json(identity), "identity": identity},
        "data": {"source": "made up", "hash": "0" * 64, "limit": None, "rows": "0" * 64},
        "metrics": Summary(estimates_of(metrics, records, sums), sums).as_json(),
    }  # fmt: skip
    write_result(out / model, "described", {**result, "signature": signature(result)}, rows, sums)


def one_run(root: Path) -> dict[str, float]:
    """The page written in a fresh process: seconds with start-up, its peak memory in MiB, the file's size in MB."""
    page = root / "report.html"
    page.unlink(missing_ok=True)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mmalign_eval", "report", str(root / "out"), "-o", str(page)], check=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"seconds": round(seconds, 2), "peak_mib": round(peak), "page_mb": round(os.path.getsize(page) / 1e6, 2)}


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="300 samples, one run")
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--answer", type=int, default=100, help="words of an answer")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    samples, runs = (300, 1) if options.quick else (options.samples, options.runs)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        images = make_images(root / "images", samples)
        for number in range(options.models):
            make_run(root / "out", f"model-{number}", images, options.answer, number)
        found = [one_run(root) for _ in range(runs)]
        same = len({json.dumps(run["page_mb"]) for run in found}) == 1
    medians = {key: statistics.median(run[key] for run in found) for key in found[0]}
    about = {"samples": samples, "models": options.models, "n": runs, "same_size": same}
    print(json.dumps({"benchmark": "report", **medians, **about, "python": platform.python_version()}))


if __name__ == "__main__":
    main()
