"""`python -m mmalign_eval.miniature build|measure`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmalign_eval.miniature import checkpoint, data_dir


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m mmalign_eval.miniature", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    make = verbs.add_parser("build", help="make worlds, files and weights from seeds; run again to resume")
    make.add_argument("--out", type=Path, default=Path("build/miniature"))
    make.add_argument("--smoke", action="store_true", help="every step with nano settings")
    judge = verbs.add_parser("measure", help="print how good the checkpoints are on the miniature's files")
    judge.add_argument("--limit", type=int, help="only the first items of each image file")
    arguments = parser.parse_args()
    if arguments.verb == "build":
        from mmalign_eval.miniature.build import build
        from mmalign_eval.miniature.recipe import FULL, SMOKE

        build(SMOKE, arguments.out, processes=1) if arguments.smoke else build(FULL, arguments.out)
    else:
        from mmalign_eval.miniature.measure import measure_text, measure_vision, table

        print(table(measure_vision(checkpoint("llava"), data_dir(), arguments.limit)), flush=True)
        print(table(measure_text(checkpoint("lm"), data_dir())), flush=True)


if __name__ == "__main__":
    main()
