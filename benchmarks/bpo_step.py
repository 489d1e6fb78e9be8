"""What a BPO step costs: our trainer against TRL's DPOTrainer, on the same model, images, token ids and batches.

    python benchmarks/bpo_step.py [--quick] [--runs N] [--batch N] [--steps N] [--gpu]

Both train LoRA (r 64) on every linear layer of the language model of a LLaVA with random weights, its reference being
the same weights with LoRA off. For each pair

- TRL passes chosen and rejected answer as two rows through policy and reference in every step: 4 passes of the vision
  tower, 2 rows forward and backward, 2 rows forward for the reference. For images it refuses to compute the reference
  once;
- ours passes the image once, lays both answers behind one prompt in one row (forward and backward), and has computed
  the reference, one row forward and a look at the image, once before training. That is charged here, spread over the
  2 epochs of the paper; and reported without.

Sides run in processes of their own, interleaved; medians over the runs. `--quick` needs no TRL: our row for a pair
against our row for an answer. `--gpu` has a LLaVA-1.5-7B with random weights take the steps, at the paper's settings
(4 pairs a GPU, bfloat16, gradient checkpointing). Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

EPOCHS = 2  # BPO, section 5: over so many our reference pass is spread


def run_side(side: str, shape: str, options: argparse.Namespace) -> dict[str, float]:
    """One side in a fresh process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    if not options.gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    size = ["--batch", str(options.batch), "--steps", str(options.steps)]
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--side", side, "--shape", shape, *size],
        stdout=subprocess.PIPE, text=True, check=True, env=environment,
    )  # fmt: skip
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def cuda() -> bool:
    """Whether this machine has a GPU that torch can use."""
    import torch

    return torch.cuda.is_available()


def charged(found: dict[str, float], key: str = "step") -> float:
    """Seconds a pair in one epoch, the reference's share included."""
    return found[key] + found[key.replace("step", "reference")] / EPOCHS


def median(runs: list[dict[str, float]], key: str) -> float:
    """Of one figure."""
    return statistics.median(run[key] for run in runs)


def report(results: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Prints a line a side; returns the medians."""
    medians = {}
    for side, runs in results.items():
        for run in runs:
            run["charged"], run["charged_cpu"] = charged(run), charged(run, "step_cpu")
        medians[side] = {key: median(runs, key) for key in runs[0]}
        m = medians[side]
        spread = ", ".join(f"{run['charged']:.2f}" for run in runs)
        print(
            f"{side:<10} {m['charged']:.3f} s a pair (runs: {spread}; step {m['step']:.3f}, reference "
            f"{m['reference']:.3f} once) · processor {m['charged_cpu']:.3f} s · peak {m['peak']:.0f} MiB"
        )
    return medians


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small model, packed rows against separate ones")
    parser.add_argument("--runs", type=int, default=0, help="of each side; default 3, with --quick 1")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpu", action="store_true", help="LLaVA-1.5-7B's shape on this machine's GPU")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        from lib.bpo_sides import measure

        print(json.dumps(measure(options.side, options.shape, options.batch, options.steps)))
        return
    if options.gpu and not cuda():
        parser.error("--gpu: no CUDA device here")
    shape = "llava-1.5-7b" if options.gpu else "quick" if options.quick else "small"
    slow, fast = ("ours-rows", "ours") if options.quick else ("trl", "ours")
    sides = [slow, fast] if options.quick else [slow, fast, "ours-kept"]
    results: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for turn in range(options.runs or (1 if options.quick else 3)):
        for side in sides:
            results[side].append(run_side(side, shape, options))
            print(f"run {turn + 1} {side}: {charged(results[side][-1]):.3f} s a pair", file=sys.stderr, flush=True)
    medians = report(results)
    one, other = medians[slow], medians[fast]
    names = ["torch", "transformers", "peft"] + ([] if options.quick else ["trl"])
    figures = {
        "benchmark": "bpo_step",
        "shape": shape,
        "slow": slow,
        "n": len(results[fast]),
        "ratio": round(one["charged"] / other["charged"], 2),
        "ratio_cpu": round(one["charged_cpu"] / other["charged_cpu"], 2),
        "ratio_step_alone": round(one["step"] / other["step"], 2),
        "peak_ratio": round(other["peak"] / one["peak"], 2),
        "same_loss": abs(one["loss"] - other["loss"]) < 1e-4,
        "medians": {side: {key: round(value, 4) for key, value in m.items()} for side, m in medians.items()},
        "threads": options.threads,
        "machine": f"{platform.machine()} {os.cpu_count()} cores",
        "date": time.strftime("%Y-%m-%d"),
        "versions": {name: version(name) for name in names} | {"python": platform.python_version()},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
