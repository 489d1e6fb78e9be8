"""Captions: one request an image, nothing shared, against a plain batched loop and lmms-eval's `llava_hf`.

    python benchmarks/captions.py [--quick] [--images N] [--runs N] [--tokens N] [--rows N] [--shapes 576] [--work DIR]

The checkpoint and the photographs are those of `pope.py`. `plain` is a loop written by hand (`lib/seeing_ours.py`): the
processor and `generate` with padding on the left, `--rows` images a batch; ours has the same limit. lmms-eval takes one
image at a time; what it is slower by is what a batch brings on this device. `--quick` leaves it out and takes a small
model. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from lib import seeing_bench as bench


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small model, without lmms-eval")
    parser.add_argument("--images", type=int, default=0, help="default 20, with --quick 8")
    parser.add_argument("--runs", type=int, default=0, help="of each side; default 3, with --quick 1")
    parser.add_argument("--tokens", type=int, default=24, help="new tokens of each caption")
    parser.add_argument("--rows", type=int, default=10, help="images of a batch")
    parser.add_argument("--shapes", default="576", help="image tokens")
    parser.add_argument("--work", type=Path, help="folder for checkpoints and photographs; default: a temporary one")
    options = parser.parse_args()
    if not options.quick:
        bench.need_peer()
    images, runs = options.images or (8 if options.quick else 20), options.runs or (1 if options.quick else 3)
    sides = ["ours", "plain", *([] if options.quick else [bench.PEER])]
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        for shape in ["quick"] if options.quick else options.shapes.split(","):
            made = bench.pairs(sides, shape, work, images, 0, options.tokens, options.rows, runs)
            bench.show(made)
            found[f"{shape}/{options.tokens}"] = made
    bench.close("captions", found)


if __name__ == "__main__":
    main()
