"""Where a result comes from: versions, hardware, time. What may differ between two equal runs, and only that."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .errors import MmevalError
from .phases import SCORE
from .results import Result, read_result
from .run_stats import RunStats

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
    run = {
        **asdict(stats),
        "score_seconds": score_seconds,
        "requests_per_second": _per(stats.asked, stats.seconds),
        "tokens_per_second": _per(stats.prompt_tokens + stats.new_tokens, stats.seconds),
        "sequences_to_tree": _per(stats.sequence_tokens, stats.tree_tokens),
        "computed_to_tree": _per(stats.computed_tokens, stats.tree_tokens),
        "seconds_by_phase": {**stats.seconds_by_phase, SCORE: score_seconds},
    }
    return {
        "date": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "hardware": hardware(),
        "model": model,
        "run": run,
        "command": _command(),
    }


def earlier_runs(path: Path, result: Result) -> list[dict[str, Any]]:
    """Cost of the runs whose answers this one reuses, oldest first, from the result file it replaces.

    A rerun that finds everything answered asks nothing and takes no time; what the answers cost stays on record. A file
    of another model or other prompts, or a damaged one, has nothing to do with these answers.
    """
    if not path.exists():
        return []
    try:
        old = read_result(path)
    except MmevalError:
        return []
    same = old["model"]["fingerprint"] == result["model"]["fingerprint"] and old["prompt_hash"] == result["prompt_hash"]
    found = old["provenance"]
    return [*found.get("earlier_runs", []), *([found["run"]] if found["run"]["asked"] else [])] if same else []


def hardware() -> dict[str, Any]:
    """Machine, cores and accelerators (those of torch, if it is loaded)."""
    found: dict[str, Any] = {"machine": platform.machine(), "system": platform.system(), "cpus": os.cpu_count()}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found


def _per(part: float | None, whole: float | None) -> float | None:
    """A ratio; None where it is not known or nothing was asked."""
    return part / whole if part is not None and whole else None


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
