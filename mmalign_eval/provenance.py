"""Where a result comes from: versions, hardware, time. What may differ between two equal runs, and only that."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .engine import RunStats

PACKAGES = (
    "mmalign-eval", "torch", "transformers", "tokenizers", "peft", "accelerate", "datasets", "lm-eval",
    "pycocoevalcap", "rouge-score", "openai", "pillow", "numpy",
)  # fmt: skip


def provenance(
    seed: int, started: float, stats: RunStats, score_seconds: float, model: dict[str, Any]
) -> dict[str, Any]:
    """The provenance block of a result file.

    Args:
        seed: Seed of the run.
        started: Unix time at which the task began.
        stats: What answering cost.
        score_seconds: Time taken by parsing, metrics and intervals.
        model: The adapter's description.
    """
    rate = stats.asked / stats.seconds if stats.seconds > 0 else None
    return {
        "date": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "hardware": hardware(),
        "model": model,
        "run": {**asdict(stats), "score_seconds": score_seconds, "requests_per_second": rate},
        "command": _command(),
    }


def hardware() -> dict[str, Any]:
    """Machine, cores and accelerators (those of torch, if it is loaded)."""
    found: dict[str, Any] = {"machine": platform.machine(), "system": platform.system(), "cpus": os.cpu_count()}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _command() -> list[str]:
    """The command line, credentials inside addresses masked (keys come from the environment only)."""
    if not sys.argv or not os.path.basename(sys.argv[0]).startswith("mmeval"):
        return []
    return ["mmeval", *(re.sub(r"://[^/@\s]*@", "://***@", word) for word in sys.argv[1:])]
