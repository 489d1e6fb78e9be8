"""The miniature: a pictogram world, text files in the benchmarks' own formats and two tiny checkpoints.

It lets every task, model adapter and tuning recipe run end to end on two CPU cores without a download. Nothing measured
on it is a fact about a real model. `python -m mmalign_eval.miniature build` remakes all of it from seeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parent

CheckpointName = Literal["llava", "lm"]


def checkpoint(name: CheckpointName) -> Path:
    """Folder of a committed checkpoint: "llava" (sees) or "lm" (its language model before any visual tuning)."""
    path = ROOT / "checkpoints" / name
    if name not in ("llava", "lm"):
        raise ValueError(f"no miniature checkpoint {name!r}: choose 'llava' or 'lm'")
    return path


def data_dir() -> Path:
    """Folder of the miniature's benchmark files, one sub-folder a benchmark, each in that benchmark's own layout."""
    return ROOT / "data"
