"""Caption metrics on 5,000 images with five references each: one pass of all metrics, and COCO-C's thirteen of CIDEr.

    python benchmarks/cider.py [--quick] [--images N] [--no-peer] [--runs N]

Captions are made up: scenes of everyday things in everyday words, as long as COCO's (ten to eleven words), every
caption worded anew. Each measurement is a fresh process; times are of scoring alone, the start of Java included,
memory is that of Python and its Java children together. The peer is pycocoevalcap's own tokeniser and scorers (SPICE
aside) on the same captions. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path


def _lists(text: str) -> dict[str, list[str]]:
    """`name: words`, lines that begin with a blank continue."""
    found = (line.partition(":") for line in text.replace("\n  ", " ").strip().split("\n"))
    return {name: words.split() for name, _, words in found}


WORDS = _lists(
    """
things: man woman boy girl child dog cat horse cow sheep bird elephant giraffe zebra bear bicycle motorcycle
  car bus train truck boat airplane bench umbrella backpack suitcase frisbee skateboard surfboard snowboard
  kite racket bottle glass cup fork knife spoon bowl banana apple sandwich orange pizza donut cake chair couch
  bed table toilet laptop television phone keyboard microwave oven sink refrigerator book clock vase bear
  toothbrush hydrant sign
looks: small large red blue white black old young colorful wooden empty tall brown yellow wet bright busy
doings: standing sitting walking running riding holding eating looking playing waiting lying jumping flying
  parked resting
places: street beach kitchen park field table room road snow grass water city bathroom sidewalk yard track
"""
)
WHERE = ("in", "on", "near", "next to", "beside", "by", "at", "in front of", "close to")
SHAPES = (
    "A {look} {thing} is {doing} {where} the {place} with a {other}.",
    "There is a {thing} {doing} {where} a {look2} {other} on the {place}",
    "{thing} {doing} {where} the {look} {place}, a {other} behind it.",
    "The {look} {thing} and the {look2} {other} are {doing} {where} a {place}",
    "Two {thing}s {doing} {where} a {other}; it's a {look} {place}.",
    "A picture of a {thing} that is {doing} {where} a {look} {other} and a {place}.",
)
PASSES = 13


def make_records(images: int, seed: int = 0) -> list[dict]:
    """A caption and five references for each image, of one scene."""
    rng = random.Random(seed)
    records = []
    for i in range(images):
        thing, other = rng.sample(WORDS["things"], 2)
        scene = {
            "thing": thing,
            "other": other,
            "place": rng.choice(WORDS["places"]),
            "doing": rng.choice(WORDS["doings"]),
        }
        texts = [_caption(rng, scene) for _ in range(6)]
        records.append({"image": str(i), "caption": texts[0], "references": texts[1:]})
    return records


def _caption(rng: random.Random, scene: dict[str, str]) -> str:
    told = {key: value if rng.random() < 0.7 else None for key, value in scene.items()}
    words = {
        "thing": told["thing"] or rng.choice(WORDS["things"]),
        "other": told["other"] or rng.choice(WORDS["things"]),
        "place": told["place"] or rng.choice(WORDS["places"]),
        "doing": told["doing"] or rng.choice(WORDS["doings"]),
        "look": rng.choice(WORDS["looks"]),
        "look2": rng.choice(WORDS["looks"]),
        "where": rng.choice(WHERE),
    }
    return rng.choice(SHAPES).format(**words)


def ours(records: list[dict]) -> dict[str, float]:
    """All metrics of one pass."""
    from mmalign_eval.metrics.captions import CAPTION_METRICS, score_captions
    from mmalign_eval.stats import estimates

    score_captions(records)
    found = estimates(CAPTION_METRICS, [{**record, "cluster": record["image"]} for record in records])
    return {estimate.name: float(estimate.value or 0) for estimate in found}


def thirteen(records: list[dict]) -> dict[str, float]:
    """CIDEr of thirteen passes over the same images, each with captions of its own."""
    from mmalign_eval.metrics.captions import score_passes

    n = len(records)
    passes = [
        {**record, "part": str(p), "caption": records[i]["references"][p % 5] if p else record["caption"]}
        for p in range(PASSES)
        for i, record in enumerate(records)
    ]
    score_passes(passes, "part")
    return {"CIDEr": sum(r["CIDEr"] for r in passes[:n]) / n}


def peer(records: list[dict]) -> dict[str, float]:
    """The same as `ours` by pycocoevalcap's own classes, as its COCOEvalCap calls them."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    from mmalign_eval.metrics.java import find_java

    os.environ["PATH"] = f"{Path(find_java()).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    tokenizer = PTBTokenizer()
    references = tokenizer.tokenize({r["image"]: [{"caption": c} for c in r["references"]] for r in records})
    captions = tokenizer.tokenize({r["image"]: [{"caption": r["caption"]}] for r in records})
    found = {}
    for name, scorer in (("CIDEr", Cider()), ("METEOR", Meteor()), ("ROUGE_L", Rouge())):
        found[name] = float(scorer.compute_score(references, captions)[0])
    bleu = Bleu(4).compute_score(references, captions, verbose=0)[0]
    return {**found, **{f"Bleu_{n}": float(value) for n, value in enumerate(bleu, start=1)}}


WAYS: dict[str, Callable[[list[dict]], dict[str, float]]] = {"ours": ours, "thirteen": thirteen, "peer": peer}


def measure(way: str, images: int) -> dict:
    """One measurement in this process: seconds, peak MiB with children, values."""
    records = make_records(images)
    done = threading.Event()
    peak = [0.0]

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], _tree_mib(os.getpid()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    values = WAYS[way](records)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return {"seconds": seconds, "peak_mib": peak[0], "values": values}


def _tree_mib(root: int) -> float:
    """Resident memory of a process and its descendants (Linux)."""
    parents, resident = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue  # it ended
        pid = int(status.parent.name)
        parents[pid] = int(fields["PPid"])
        resident[pid] = int(fields.get("VmRSS", "0 kB").split()[0])
    mine = {root}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sum(resident.get(pid, 0) for pid in mine) / 1024


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="300 images, one run")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true", help="without pycocoevalcap's own classes")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    images, runs = (300, 1) if options.quick else (options.images, options.runs)
    if options.one:
        print(json.dumps(measure(options.one, options.images)))
        return
    ways = [way for way in WAYS if way != "peer" or not options.no_peer]
    found: dict[str, list[dict]] = {way: [] for way in ways}
    for run in range(runs):
        for way in ways:
            command = [sys.executable, __file__, "--one", way, "--images", str(images)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
            last = found[way][-1]
            print(f"run {run + 1}  {way:9} {last['seconds']:7.2f} s  {last['peak_mib']:6.0f} MiB  {last['values']}")
    median = {w: {k: statistics.median(r[k] for r in rs) for k in ("seconds", "peak_mib")} for w, rs in found.items()}
    figures = {"benchmark": "cider", "images": images, "references": 5, "passes": PASSES, "n": runs, **median}
    if "peer" in found:
        figures["ratio"] = median["peer"]["seconds"] / median["ours"]["seconds"]
        theirs, mine = found["peer"][0]["values"], found["ours"][0]["values"]
        figures["largest_difference"] = max(abs(theirs[name] - mine[name]) for name in theirs)
    figures["versions"] = {"python": platform.python_version(), "pycocoevalcap": version("pycocoevalcap")}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
