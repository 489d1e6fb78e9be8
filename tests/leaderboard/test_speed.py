"""Leaderboards of many models: the benchmark runs, its results are true ones, and the goal is met."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mmalign_eval.leaderboard import measured
from mmalign_eval.leaderboard.add import check
from mmalign_eval.leaderboard.pages import leaderboard
from mmalign_eval.results import read_sums
from mmalign_eval.runs import open_runs

from ..support import REPO

SCRIPT = REPO / "benchmarks" / "leaderboard.py"
MINI = REPO / "leaderboards" / "results" / "mini"


def bench(*options: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("leaderboard_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_measures_what_it_says() -> None:
    found = bench("--quick")
    assert found["results"] == 6 * 16
    assert found["significant"] > 0
    assert found["seconds"] < 30
    assert found["peak_mib"] < 1024


def test_made_results_hold_together(script: ModuleType, tmp_path: Path) -> None:
    """They pass what `add` asks of a result: values, counts and signature are those of the sums."""
    script.make_results(MINI, tmp_path, 2, {"mme": (400, 200), "pope": (7200, 100), "squad2": (200, 100)})
    runs, problems = open_runs(tmp_path)
    assert problems == []
    assert [run.task for run in runs] == ["mme", "pope", "squad2"] * 2
    for run in runs:
        check(run)
    pope = next(run for run in runs if run.task == "pope")
    assert (len(pope.sums.samples), len(pope.sums.clusters)) == (7200, 100)


def test_sums_are_read_for_the_metrics_shown_and_few_are_kept(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.make_results(MINI, tmp_path, 5, {"pope": (3600, 200), "mme": (168, 84)})
    asked: list[tuple[str, int]] = []
    kept = 3

    def counted(path: Path, result: dict[str, Any], only: Any) -> Any:
        found = read_sums(path, result, only)
        asked.append((path.parent.name, len(found.groups)))
        return found

    monkeypatch.setattr(measured, "read_sums", counted)
    monkeypatch.setattr(measured, "KEPT", kept)
    board = leaderboard(tmp_path)
    assert board.problems == ()
    names = [name for name, _ in asked]
    assert names.count("model-01") == 2  # each task once, though several pages show it
    assert names.count("model-00") <= 4 * 2
    assert max(groups for _, groups in asked) <= 3  # of 16 and 62
    whole = leaderboard(tmp_path)
    assert whole.files() == board.files()  # what is kept changes nothing


@pytest.mark.slow
def test_fifty_models_on_sixteen_tasks_take_seconds() -> None:
    """The goal is 10 s, which the benchmark shows on a free machine; twice that is for one that others use too."""
    found = bench("--runs", "3")
    assert found["results"] == 50 * 16
    assert found["significant"] > 300
    assert found["fastest_cpu_seconds"] < 20
    assert found["peak_mib"] < 1024
