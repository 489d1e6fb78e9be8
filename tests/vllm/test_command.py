"""The real command line with `--model vllm:`, and what it says when vLLM does not start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mmalign_eval.results import find_results, read_result

from .case import checkpoint

TASKS = "truthfulqa,boolq"


def mmeval(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmalign_eval", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ.copy(), check=False)


def scored(out: Path) -> dict[str, Any]:
    return {path.name: read_result(path) for path in find_results(out)}


def run(out: Path, model: str, limit: int) -> dict[str, Any]:
    done = mmeval("run", "--model", model, "--tasks", TASKS, "--data", "mini", "--limit", str(limit), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return scored(out)


def asked(results: dict[str, Any]) -> int:
    return sum(result["provenance"]["run"]["asked"] for result in results.values())


def decisions(result: dict[str, Any]) -> Any:
    return {name: value for name, value in result["metrics"].items() if "acc" in name or "mc1" in name}


def test_a_run_is_resumed_and_scores_as_with_hf(tmp_path: Path) -> None:
    there, here = tmp_path / "vllm", tmp_path / "hf"
    model = f"vllm:{checkpoint()},kv_cache_gb=1"
    first = asked(run(there, model, 3))
    results = run(there, model, 6)
    again = run(there, model, 6)
    assert asked(again) == 0
    plain = run(here, f"hf:{checkpoint()}", 6)
    assert 0 < first < first + asked(results) == asked(plain), "what was answered is not asked again"
    assert set(again) == set(plain)
    assert len(plain) >= 2
    for name, result in plain.items():
        assert decisions(result)
        assert decisions(again[name]) == decisions(result)
        assert again[name]["metrics"].keys() == result["metrics"].keys()
        for metric, value in result["metrics"].items():
            assert abs(again[name]["metrics"][metric]["value"] - value["value"]) <= 1e-5 * max(1, abs(value["value"]))
        assert again[name]["model"]["fingerprint"] != result["model"]["fingerprint"]


START = """
import json, sys
from mmalign_eval.errors import BadInput
from mmalign_eval.images import ImagePool
from mmalign_eval.models.vllm import open_model
from mmalign_eval.requests import Choose, Prompt

long, short = sys.argv[1:]
said = []
try:
    open_model(long, {"kv_cache_gb": "1"}).load()
except BadInput as error:
    said.append(str(error))
for path, options in ((long, {"max_length": "64"}), (short, {})):
    model = open_model(path, {"kv_cache_gb": "1", **options})
    model.load()
    ((_, response),) = model.answer([Choose(Prompt("x " * 100, template="raw"), (" yes",))], ImagePool())
    model.close()
    said.append(response.status)
print(json.dumps(said))
"""


def test_too_little_memory_is_one_line_and_models_follow_one_another() -> None:
    arguments = [str(checkpoint(1_000_000)), str(checkpoint())]
    done = subprocess.run([sys.executable, "-c", START, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    message, *statuses = json.loads(done.stdout.splitlines()[-1])
    assert "vLLM cannot start it" in message
    assert "-M max_length=" in message
    assert "\n" not in message
    assert statuses == ["truncated", "ok"]
