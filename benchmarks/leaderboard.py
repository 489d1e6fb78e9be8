"""How long `mmeval leaderboard` takes: 50 models on 16 tasks of realistic sizes, 40 of them tuned from the other ten.

    python benchmarks/leaderboard.py [--quick] [--runs N] [--models N] [--profile]

The results are those of the miniature under `leaderboards/results/`, grown to the benchmarks' own sizes by copies of
its clusters, and made different from model to model by replacing a fifth of the sums by others; a tuned model answered
the same samples as its base, so every difference on the pages is tested. Each run is a fresh process, with start-up
and without pages there. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).parents[1]
# samples and clusters of the benchmarks; MMLU's are its subjects, coco_c is five severities of a few corruptions
SIZES = {
    "boolq": (3270, 3270), "coco_c": (15_000, 5000), "coco_caption": (5000, 5000), "ethics": (15_100, 7000),
    "flickr30k": (1000, 1000), "gsm8k": (1319, 1319), "llava_bench": (60, 24), "mathqa": (2985, 2985),
    "mme": (2374, 1187), "mmlu": (14_042, 57), "mmvet": (218, 200), "object_halbench": (300, 300), "pope": (9000, 500),
    "squad2": (11_873, 1204), "truthfulqa": (2451, 817), "vqav2": (5000, 2500),
}  # fmt: skip
TUNED = 4  # models of each base


def make_results(source: Path, root: Path, models: int, sizes: dict[str, tuple[int, int]]) -> None:
    """Writes `<root>/results/` with every task of `source` for each model."""
    from mmalign_eval.runs import open_runs

    for run in open_runs(source)[0]:
        if run.task in sizes:
            for model in range(models):
                _write(root / "results", run, model, sizes[run.task])


def _write(results: Path, run, number: int, size: tuple[int, int]) -> None:
    import numpy as np

    from mmalign_eval.results import digest_json, signature, write_result
    from mmalign_eval.stats import Group, Sums

    rng = np.random.default_rng([number, *run.task.encode()])
    sums = run.sums
    grown = _grown(sums, *size)
    groups = [Group(g.level, g.rows, _answered(g.sums, rng, 0.1 * (number % (TUNED + 1))), g.n) for g in grown.groups]
    made = Sums(grown.samples, grown.clusters, grown.cluster, groups, sums.metrics)
    base = number - number % (TUNED + 1)
    name, of = f"model-{number:02d}", f"model-{base:02d}"
    who = {"kind": "hf", "part": "whole", "weights": digest_json(name), "peft": "", "template": "t" * 64}
    model = {"name": name, "fingerprint": digest_json(who), "identity": who}
    if number != base:
        model["tuned"] = {"method": "mm-lora", "base": {"name": of, "weights": digest_json(of), "peft": ""}}
    metrics = {}
    for key, metric in run.result["metrics"].items():
        one, group = made.metrics[key], groups[made.metrics[key].group]
        value = metric["value"]
        if one.formula is not None and group.n:
            value = float(one.formula(made.by_cluster(one.group)[1].sum(axis=0)))
            value = value if np.isfinite(value) else None
        ends = {"low": value and 0.95 * value, "high": value and 1.05 * value}
        metrics[key] = {**metric, "value": value, **ends, "n": group.n, "clusters": len(made.by_cluster(one.group)[0])}
    result = {key: value for key, value in run.result.items() if key not in ("samples", "sums", "contamination")}
    result["task"] = {**run.result["task"], "protocol": "paper"}
    result["data"] = {**run.result["data"], "source": "native files"}
    count = len(made.samples)
    result["counts"] = {"n": count, "n_ok": count, "n_truncated": 0, "n_error": 0, "n_refused": 0}
    result |= {"model": model, "metrics": metrics}
    result["signature"] = signature(result)
    folder = results / name
    write_result(folder, f"{run.task}@paper", result, [], made)
    (folder / f"{run.task}@paper.samples.jsonl").unlink()  # leaderboards have none


def _answered(sums, rng, bias: float):
    """A fifth of the rows as other rows, of models with a bias rather from the upper half: as if answered anew."""
    import numpy as np

    found = sums.copy()
    chosen = np.flatnonzero(rng.random(len(sums)) < 0.2)
    order = np.argsort(sums[:, 0], kind="stable")
    start = int(bias * len(sums))
    found[chosen] = sums[order[rng.integers(start, len(sums), len(chosen))]]
    return found


def _grown(sums, samples: int, clusters: int):
    """Copies of all clusters until there are so many samples; then clusters are joined until there are so few.

    Clusters are joined where every metric's sums are those of samples; sums of whole clusters stay apart.
    """
    import numpy as np

    from mmalign_eval.stats import Group, Sums

    copies = max(1, round(samples / len(sums.samples)))
    n, c = len(sums.samples), len(sums.clusters)
    places = np.concatenate([sums.cluster + copy * c for copy in range(copies)])
    whole = any(group.level == "cluster" for group in sums.groups)
    kept = c * copies if whole else min(clusters, c * copies)
    groups = []
    for group in sums.groups:
        step = n if group.level == "sample" else c
        rows = np.concatenate([group.rows + copy * step for copy in range(copies)])
        groups.append(Group(group.level, rows.astype(np.int32), np.tile(group.sums, (copies, 1)), group.n * copies))
    names = [f"{name}-{copy}" for copy in range(copies) for name in sums.samples]
    return Sums(names, [f"c{i:06d}" for i in range(kept)], (places % kept).astype(np.int32), groups, sums.metrics)


def one_run(root: Path, profile: str) -> dict[str, float]:
    """All pages written in a fresh process: seconds with start-up, seconds of a core, peak memory in MiB."""
    command = [sys.executable, "-m", "mmalign_eval", "leaderboard", "--root", str(root)]
    if profile:
        command[1:1] = ["-m", "cProfile", "-o", profile]
    for page in [*root.glob("*.md"), *root.glob("*.svg")]:
        page.unlink()
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": after.ru_maxrss / 1024}


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="6 models, a hundredth of the samples, one run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--source", type=Path, default=REPO / "leaderboards" / "results" / "mini", help="of the sums")
    parser.add_argument("--profile", default="", help="FILE for cProfile's figures of the last run")
    options = parser.parse_args()
    models, runs = (6, 1) if options.quick else (options.models, options.runs)
    small = {task: (max(20, n // 100), max(20, c // 100)) for task, (n, c) in SIZES.items()}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_results(options.source, root, models, small if options.quick else SIZES)
        count = len(list(root.rglob("*.json")))
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 2**20
        print(f"{models} models, {count} results, {size:.0f} MiB")
        found = []
        for run in range(runs):
            found.append(one_run(root, options.profile if run == runs - 1 else ""))
            one = found[-1]
            print(f"run {run + 1}: {one['seconds']:.2f} s ({one['cpu_seconds']:.2f} s CPU), {one['peak_mib']:.0f} MiB")
        marked = sum(path.read_text(encoding="utf-8").count("\\*)](") + path.read_text(encoding="utf-8").count("\\*](")
                     for path in root.glob("*.md"))  # fmt: skip
    medians = {key: statistics.median(run[key] for run in found) for key in found[0]}
    medians["fastest_cpu_seconds"] = min(run["cpu_seconds"] for run in found)  # what other load least adds to
    about = {"models": models, "results": count, "significant": marked, "n": runs, "python": platform.python_version()}
    print(json.dumps({"benchmark": "leaderboard", **medians, **about}))


if __name__ == "__main__":
    main()
