"""POPE: 18 questions on each photograph, against lmms-eval's `llava_hf` on the same checkpoint and the same prompts.

    python benchmarks/pope.py [--quick] [--images N] [--runs N] [--tokens 2,4,16] [--shapes 576,196] [--work DIR]

A LLaVA with random weights (a language model of 134 M parameters, a CLIP ViT-B/16 as the tower, 576 or 196 image
tokens) answers questions on 640x480 JPEG photographs with a given number of tokens. lmms-eval takes one question at a
time (`llava_hf` asserts a batch of 1); ours goes through an image once for all its questions. Sides run in processes of
their own, in turn, one thread on one core, float32; what is timed is everything between the loaded model and the last
answer, of lmms-eval's side `generate_until` alone. `make bench-peers` installs lmms-eval in an environment of its own.
`--quick` needs none: a small model, our path against its slow twin (each question in a row of its own, in batches).
Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from lib import seeing_bench as bench
from lib.seeing import THINGS


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small model, our path against its slow twin")
    parser.add_argument("--images", type=int, default=0, help="default 20, with --quick 4")
    parser.add_argument("--runs", type=int, default=0, help="of each side with 2 tokens; default 3, with --quick 1")
    parser.add_argument("--tokens", default="2,4,16", help="new tokens of the answers; all but the first run once")
    parser.add_argument("--shapes", default="576,196", help="image tokens")
    parser.add_argument("--work", type=Path, help="folder for checkpoints and photographs; default: a temporary one")
    options = parser.parse_args()
    if not options.quick:
        bench.need_peer()
    images, runs = options.images or (4 if options.quick else 20), options.runs or (1 if options.quick else 3)
    sides = ["ours", "apart" if options.quick else bench.PEER]
    shapes = ["quick"] if options.quick else options.shapes.split(",")
    tokens = [2] if options.quick else list(map(int, options.tokens.split(",")))
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        for shape in shapes:
            for number, new in enumerate(tokens):
                made = bench.pairs(sides, shape, work, images, len(THINGS), new, 0, runs if number == 0 else 1)
                made |= bench.to_limit(shape, work, images, len(THINGS), new, made["medians"]["ours"]["cpu"])
                bench.show(made)
                found[f"{shape}/{new}"] = made
    bench.close("pope", found)


if __name__ == "__main__":
    main()
