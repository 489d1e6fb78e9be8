"""What both text benchmarks do: make a checkpoint, run the sides in pairs, compare their numbers, print the figures."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import limit, peers, text_models

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / ".venv-lmeval"  # by `make bench-peers`; without it, the lm-eval that the harness itself stands on
BATCHES = ("1", "8", "32", "64")  # 64 is where `auto` ends on a CPU, after five passes to find out
WORDS = "the cup is red and a dog runs over three green hills while nobody looks at it"  # of invented texts
Figures = dict[str, Any]


def parser(description: str) -> argparse.ArgumentParser:
    """The options that both have."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--data", type=Path, help="folder with the benchmark's own files")
    found.add_argument("--quick", action="store_true", help="a tiny model, the slow twin in place of lm-eval, no data")
    found.add_argument("--shape", choices=tuple(text_models.SHAPES), help="the checkpoint's size")
    found.add_argument("--pairs", type=int, default=0, help="paired runs; default 3, with --quick 1")
    found.add_argument("--batch", help=f"lm-eval's batch size; default: the best of {', '.join(BATCHES)} on a part")
    found.add_argument("--ours", action="store_true", help="our side only: no ratio, but the distance to the limit")
    found.add_argument("--work", type=Path, help="folder for checkpoint and scores; default: a temporary one")
    return found


def texts_of(requests: peers.Requests) -> Iterator[str]:
    """What the tokenizer is trained on."""
    for context, options in requests:
        yield context
        yield from options


def prepare(work: Path, shape: text_models.Shape, requests: peers.Requests, corpus: peers.Requests) -> None:
    """Writes requests, and a checkpoint if the folder has none of this corpus and shape."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "requests.json").write_text(json.dumps(requests))
    made = json.dumps([shape.__dict__, len(corpus), corpus[0][0]])
    note = work / "checkpoint.json"
    if not note.exists() or note.read_text() != made:
        text_models.make(work / "model", shape, texts_of(corpus))
        note.write_text(made)


def run_side(side: str, work: Path, batch: str = "32") -> Figures:
    """One side in a fresh process of one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": ""}
    python = str(PEER / "bin" / "python") if side == "lm-eval" and (PEER / ".installed").exists() else sys.executable
    command = [python, str(Path(peers.__file__)), side, str(work), batch]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: Figures = json.loads(ran.stdout.splitlines()[-1])
    print(
        f"{side:<8} {found['seconds']:8.1f} s  processor {found['cpu']:8.1f} s  peak {found['peak']:6.0f} MiB",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    return found


def best_batch(work: Path, requests: peers.Requests, part: int) -> tuple[str, dict[str, float]]:
    """lm-eval's best batch size on the first requests, and the processor's seconds at each."""
    with tempfile.TemporaryDirectory() as folder:
        some = Path(folder)
        (some / "requests.json").write_text(json.dumps(requests[:part]))
        (some / "model").symlink_to((work / "model").resolve())
        tried = {batch: run_side("lm-eval", some, batch)["cpu"] for batch in BATCHES}
    return min(tried, key=lambda batch: tried[batch]), tried


def compare(work: Path, ours: str, theirs: str) -> Figures:
    """Whether all numbers are equal, |a-b| <= 1e-5 max(1, |b|), and which option is likeliest in each request."""
    a, b = (json.loads((work / f"{side}.json").read_text()) for side in (ours, theirs))
    pairs = [(x, y) for ours_, theirs_ in zip(a, b, strict=True) for x, y in zip(ours_, theirs_, strict=True)]
    apart = [abs(x - y) / max(1.0, abs(y)) for x, y in pairs]
    chosen = sum(x.index(max(x)) != y.index(max(y)) for x, y in zip(a, b, strict=True))
    return {
        "log_likelihoods": len(pairs),
        "most_apart": max(apart),
        "equal": max(apart) <= 1e-5,
        "choices_apart": chosen,
    }


def run(name: str, options: argparse.Namespace, requests: peers.Requests, corpus: peers.Requests, part: int) -> Figures:
    """Runs the pairs and gives the figures.

    Args:
        name: Of the benchmark.
        options: From the command line.
        requests: What is asked.
        corpus: What the tokenizer is trained on.
        part: Requests on which batch sizes are tried.
    """
    shape = text_models.SHAPES[options.shape]
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)) / options.shape
        prepare(work, shape, requests, corpus)
        peer = "twin" if options.quick else "lm-eval"
        batch, tried = options.batch or "32", {}
        if not (options.batch or options.quick or options.ours):
            batch, tried = best_batch(work, requests, part)
        sides = ["ours"] if options.ours else ["ours", peer]
        found: dict[str, list[Figures]] = {side: [] for side in sides}
        for _ in range(options.pairs or (1 if options.quick else 3)):
            for side in sides:
                found[side].append(run_side(side, work, batch))
        mean_rows = max(1, round(found["ours"][0]["computed"] / found["ours"][0]["passes"]))
        bounds = limit.measure(work, shape, mean_rows)
        figures = summary(found, bounds, peer)
        if not options.ours:
            figures |= compare(work, "ours", peer)
    return {
        "benchmark": name, "shape": options.shape, "parameters": shape.parameters, "peer": peer, "batch": batch,
        "batches_tried": tried, "n": len(found["ours"]), "requests": len(requests), **figures,
        "threads": 1, "machine": machine(), "date": time.strftime("%Y-%m-%d"),
        "versions": {side: runs[0]["versions"] for side, runs in found.items()},
    }  # fmt: skip


def summary(found: dict[str, list[Figures]], bounds: Figures, peer: str) -> Figures:
    """Medians, ratios of pairs, and the distance to the limit."""
    medians = {
        side: {key: round(statistics.median(run[key] for run in runs), 3) for key in ("seconds", "cpu", "peak")}
        for side, runs in found.items()
    }
    least = bounds["operations"] / bounds["rate"]
    figures: Figures = {
        "medians": medians,
        "R": round(bounds["R"], 2),
        "tokens": {key: bounds[key] for key in ("sequences", "distinct_sequences", "tree", "asked")},
        "computed": found["ours"][0]["computed"],
        "passes": found["ours"][0]["passes"],
        "gflops": round(bounds["rate"] / 1e9, 1),
        "rows": bounds["rows"],
        "limit_cpu": round(least, 2),
        "of_limit": round(least / medians["ours"]["cpu"], 3),
    }
    if peer in found:
        pairs = list(zip(found[peer], found["ours"], strict=True))
        ratios = {key: statistics.median(b[key] / a[key] for b, a in pairs) for key in ("seconds", "cpu", "peak")}
        figures |= {
            "ratio": round(ratios["seconds"], 2),
            "ratio_cpu": round(ratios["cpu"], 2),
            "of_R": round(ratios["seconds"] / bounds["R"], 3),
            "of_R_cpu": round(ratios["cpu"] / bounds["R"], 3),
            "peak_ratio": round(1 / ratios["peak"], 2),
        }
    return figures


def machine() -> str:
    """The processor and its cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores"


def show(figures: Figures) -> None:
    """Prints the figures for a reader, and as one line of JSON."""
    tokens = figures["tokens"]
    print(
        f"{figures['benchmark']}: {figures['requests']} requests, {tokens['sequences']:,} tokens in sequences, "
        f"{tokens['distinct_sequences']:,} in different ones, {tokens['tree']:,} in the tree: "
        f"R = {figures['R']} ({figures['computed']:,.0f} computed)"
    )
    for side, median in figures["medians"].items():
        print(f"{side:<8} {median['seconds']:.1f} s, processor {median['cpu']:.1f} s, peak {median['peak']:.0f} MiB")
    if "ratio" in figures:
        print(
            f"ratio {figures['ratio']} on the clock, {figures['ratio_cpu']} of the processor; of R {figures['of_R']} "
            f"and {figures['of_R_cpu']}; numbers equal: {figures['equal']} (most apart {figures['most_apart']:.1e}, "
            f"{figures['choices_apart']} choices)"
        )
    print(
        f"limit {figures['limit_cpu']} s at {figures['gflops']} GFLOP/s on {figures['rows']} rows: "
        f"{100 * figures['of_limit']:.0f} % reached"
    )
    print(json.dumps(figures))


def requests_of(plan_requests: Sequence[Any]) -> peers.Requests:
    """Our tasks' `Choose` requests as text."""
    return [(request.prompt.text, list(request.options)) for request in plan_requests]


def invented(shots: int, groups: int, each: int, options: Callable[[int], list[str]]) -> peers.Requests:
    """Requests that share as the benchmark's do, for `--quick`: a header a group, a question a request."""
    words = WORDS.split(" ")

    def sentence(number: int, size: int) -> str:
        return " ".join(words[(number * 7 + place * (number % 5 + 1)) % len(words)] for place in range(size))

    found: peers.Requests = []
    for group in range(groups):
        header = "\n\n".join(f"Q: {sentence(group * 31 + shot, 9)}?\nA: {sentence(shot, 8)}." for shot in range(shots))
        for number in range(each):
            found.append((f"{header}\n\nQ: {sentence(1000 * group + number, 10)}?\nA:", options(number)))
    return found
