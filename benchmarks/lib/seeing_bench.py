"""What both image benchmarks do: make checkpoint and photographs, run the sides in turn, compare, give the figures."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib import seeing
from lib.text_bench import machine

BENCHMARKS = Path(__file__).resolve().parents[1]
PEER_PYTHON = BENCHMARKS.parent / ".venv-lmms" / "bin" / "python"  # `make bench-peers`
PEER = "llava_hf"
Figures = dict[str, Any]


def side(name: str, shape: str, folder: Path, data: Path, new_tokens: int, rows: int) -> Figures:
    """One of our sides, in this process: `ours`, `apart` (the slow twin), `plain` or `limit`."""
    import torch

    from lib import seeing_ours

    torch.set_num_threads(1)
    if name == "limit":
        return seeing_ours.limit(seeing.SHAPES[shape], folder, data, new_tokens)
    if name == "plain":
        found = seeing_ours.plain(folder, data, new_tokens, rows)
    else:
        with tempfile.TemporaryDirectory() as work:
            found = seeing_ours.ours(folder, data, new_tokens, Path(work), shared=name == "ours", rows=rows)
    return found | {"versions": seeing_ours.versions()}


def run_side(name: str, shape: str, folder: Path, data: Path, new_tokens: int, rows: int) -> Figures:
    """One side in a fresh process of one thread on one core."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(BENCHMARKS)}
    given = [shape, str(folder), str(data), str(new_tokens), str(rows)]
    command = [sys.executable, "-m", "lib.seeing_bench", name, *given]
    with tempfile.TemporaryDirectory() as work:
        if name == PEER:
            command = [str(PEER_PYTHON), "-m", "lib.lmms", str(folder / "model"), str(data), str(new_tokens), work]
        # lmms-eval writes what it logs beside what it is run on
        ran = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=work,
            preexec_fn=_one_core,
        )  # fmt: skip
    if ran.returncode:
        raise SystemExit(f"{name}: {ran.stderr[-4000:]}")
    found: Figures = json.loads(ran.stdout.splitlines()[-1])
    return found


def _one_core() -> None:
    """Whatever threads a side has, they share one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def need_peer() -> None:
    """Ends the script where lmms-eval is not installed."""
    if not PEER_PYTHON.exists():
        raise SystemExit(f"{PEER_PYTHON} is not there: run `make bench-peers` first, or give --quick")


def pairs(
    sides: Sequence[str], shape: str, work: Path, images: int, each: int, new_tokens: int, rows: int, runs: int
) -> Figures:
    """Runs the sides in turn; medians, equality and what they are made of.

    Args:
        sides: Ours first.
        shape: Of the checkpoint.
        work: Folder for checkpoint and photographs.
        images: Photographs.
        each: Questions on each; 0: a caption.
        new_tokens: Of each answer.
        rows: Most requests of our batches; 0: the adapter's limit.
        runs: Of each side.
    """
    folder = work.resolve() / shape
    data = seeing.prepare(folder, seeing.SHAPES[shape], images, each)
    found: dict[str, list[Figures]] = {name: [] for name in sides}
    for _ in range(runs):
        for name in sides:
            run = run_side(name, shape, folder, data, new_tokens, rows)
            found[name].append(run)
            print(
                f"{name:<9} {run['seconds']:8.1f} s  processor {run['cpu']:8.1f} s  peak {run['peak']:6.0f} MiB",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    medians = {
        name: {key: round(statistics.median(run[key] for run in made), 3) for key in ("seconds", "cpu", "peak")}
        for name, made in found.items()
    }
    ours, texts = found[sides[0]], found[sides[0]][0]["texts"]
    others = {name: made for name, made in found.items() if name != sides[0]}
    same = {name: sum(a == b for a, b in zip(texts, made[0]["texts"], strict=True)) for name, made in others.items()}
    ratios = {
        name: {
            key: round(statistics.median(b[key] / a[key] for a, b in zip(ours, made, strict=True)), 2)
            for key in ("seconds", "cpu")
        }
        for name, made in others.items()
    }
    return {
        "image_tokens": seeing.SHAPES[shape].image_tokens, "images": images, "requests": len(texts),
        "new_tokens": new_tokens, "n": runs, "ratios": ratios, "same_answers": same,
        "different_answers": len(set(texts)), "medians": medians,
        "per_second": round(len(texts) / medians[sides[0]]["seconds"], 2),
        "batch_tokens": ours[0].get("batch_tokens"), "position_bytes": seeing.SHAPES[shape].position_bytes,
        "versions": {name: made[0]["versions"] for name, made in found.items()},
    } | ({"batch_of_one": found[PEER][0]["batch_of_one"]} if PEER in found else {})  # fmt: skip


def to_limit(shape: str, work: Path, images: int, each: int, new_tokens: int, cpu: float) -> Figures:
    """How far `cpu` processor seconds are from the limit, measured in a process of its own."""
    folder = work.resolve() / shape
    data = seeing.prepare(folder, seeing.SHAPES[shape], images, each)
    found = run_side("limit", shape, folder, data, new_tokens, 0)
    return {
        "tera_operations": round(found["operations"] / 1e12, 3), "gflops": round(found["rate"] / 1e9, 1),
        "limit_seconds": round(found["seconds"], 2), "of_limit": round(found["seconds"] / cpu, 3),
    }  # fmt: skip


def show(figures: Figures) -> None:
    """A side a line, and what was compared."""
    print(f"{figures['image_tokens']} image tokens, {figures['requests']} requests on {figures['images']} images, "
          f"{figures['new_tokens']} new tokens")  # fmt: skip
    for name, m in figures["medians"].items():
        beside = ""
        if name in figures["ratios"]:
            ratio = figures["ratios"][name]
            beside = (f" · {ratio['seconds']} times ours (processor {ratio['cpu']}), "
                      f"{figures['same_answers'][name]} of {figures['requests']} answers the same")  # fmt: skip
        print(f"  {name:<9} {m['seconds']:8.1f} s, processor {m['cpu']:8.1f} s, peak {m['peak']:6.0f} MiB{beside}")
    if PEER in figures["medians"]:
        kept = figures["batch_tokens"] * figures["position_bytes"] / 2**20
        print(f"  memory allowed beside a batch of one: {figures['medians'][PEER]['peak']:.0f} MiB and {kept:.0f} MiB, "
              f"which is {figures['batch_tokens']} tokens x {figures['position_bytes']} bytes")  # fmt: skip
    if "of_limit" in figures:
        print(f"  limit     {figures['limit_seconds']:8.1f} s at {figures['gflops']} GFLOP/s: "
              f"{100 * figures['of_limit']:.0f} % reached")  # fmt: skip


def close(name: str, shapes: dict[str, Figures]) -> None:
    """Prints the line of JSON."""
    print(
        json.dumps(
            {"benchmark": name, "found": shapes, "threads": 1, "machine": machine(), "date": time.strftime("%Y-%m-%d")}
        )
    )


if __name__ == "__main__":
    which, shape_, folder_, data_, new_, rows_ = sys.argv[1:]
    print(json.dumps(side(which, shape_, Path(folder_), Path(data_), int(new_), int(rows_))))
