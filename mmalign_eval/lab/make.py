"""`python -m mmalign_eval.lab.make WHAT ...`: the laboratory's own steps; everything else is an `mmeval` command.

All paths are relative to the laboratory's folder. What is made appears whole or not at all.
"""

from __future__ import annotations

import argparse
import functools
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import scenes, world
from .inject import LENGTH_NEUTRAL, LIKE_PAPER, Mix, inject

MIXES: dict[str, Mix] = {"like_paper": LIKE_PAPER, "length_neutral": LENGTH_NEUTRAL}
INJECTED = "llm-hal"  # type of these negatives in preference files


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to write aside; it gets its name when all went well."""
    aside = folder.with_name(f".{folder.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    yield aside
    if folder.exists():
        shutil.rmtree(folder)
    aside.rename(folder)


def make_data(kind: str, count: int, questions: int) -> None:
    """`data/<kind>`: training files or benchmark folders (`questions`: scenes with yes/no questions; 0: all)."""
    asked = functools.partial(world.write_benchmarks, questions=questions)
    writers: dict[str, tuple[Callable[[Path, scenes.Block, int], None], scenes.Block]] = {
        "instruct": (world.write_instruct, scenes.INSTRUCT),
        "prefer": (world.write_prefer, scenes.PREFER),
        "choose": (asked, scenes.CHOOSE),
        "judge": (asked, scenes.JUDGE),
        "probe": (asked, scenes.PROBE),
    }
    write, block = writers[kind]
    with whole(Path("data") / kind) as folder:
        write(folder, block, count)


def make_injected(rules: str, positives: Path, out: Path) -> None:
    """A preference file whose rejected answers are the positives with errors put in by rule."""
    from ..tuning.pairs import write_pairs
    from ..tuning.positives import load_positives
    from ..tuning.rows import Pair

    pairs = []
    for one in load_positives(positives):
        rejected = inject(random.Random(f"{rules} {one.id}"), one.response, MIXES[rules])
        if rejected:
            name = f"{one.id}/{INJECTED}"
            pairs.append(Pair(name, one.prompt, one.response, rejected, one.image, INJECTED, one.source))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_pairs(out, pairs, "bpo")


def join_pairs(parts: list[Path], out: Path) -> None:
    """Several preference files as one."""
    from ..tuning.pairs import read_pairs, write_pairs

    out.parent.mkdir(parents=True, exist_ok=True)
    write_pairs(out, [pair for part in parts for pair in read_pairs(part)], "bpo")


def main() -> None:
    """Reads the command line and makes it."""
    parser = argparse.ArgumentParser(prog="python -m mmalign_eval.lab.make", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    data = verbs.add_parser("data")
    data.add_argument("kind")
    data.add_argument("count", type=int)
    data.add_argument("questions", type=int, nargs="?", default=0)
    injected = verbs.add_parser("injected")
    injected.add_argument("rules", choices=MIXES)
    injected.add_argument("positives", type=Path)
    injected.add_argument("out", type=Path)
    joined = verbs.add_parser("join")
    joined.add_argument("out", type=Path)
    joined.add_argument("parts", type=Path, nargs="+")
    given = parser.parse_args()
    if given.verb == "data":
        make_data(given.kind, given.count, given.questions)
    elif given.verb == "injected":
        make_injected(given.rules, given.positives, given.out)
    else:
        join_pairs(given.parts, given.out)


if __name__ == "__main__":
    main()
