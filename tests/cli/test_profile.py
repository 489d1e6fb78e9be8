"""`mmeval run --profile`: a table of what went through the models, and nothing else changes."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.cli.profile import profile_table
from mmalign_eval.phases import PHASES
from mmalign_eval.provenance import provenance
from mmalign_eval.results import find_results, read_result
from mmalign_eval.run_stats import RunStats

from ..models.hf_case import copy_of, nano
from ..toy import isolate_registry, make_toy

STATS = RunStats(
    asked=1200, seconds=2.0, prompt_tokens=9000, new_tokens=10, sequence_tokens=60000, tree_tokens=3000,
    computed_tokens=3300, decoded_tokens=9, cache_hits=7, images_encoded=2, load_seconds=1.0,
    seconds_by_phase={"load": 1.0, "images": 0.25, "vision": None, "prefill": 0.5, "decode": 0.0},
)  # fmt: skip


def result(task: str, stats: RunStats) -> dict[str, Any]:
    return {"task": {"name": task}, "provenance": {"run": provenance(0, 0.0, stats, 0.125, {})["run"]}}


def test_a_row_for_each_task_that_asked_something() -> None:
    table = profile_table("m", [result("one", STATS), result("two", RunStats())])
    shown = dict(zip(table.columns, table.rows[0], strict=True))
    assert shown == {
        "profile of m": "one", "asked": "1,200", "requests/s": "600.0", "tokens/s": "4,505.0", "sequences": "60,000",
        "tree": "3,000", "computed": "3,300", "computed/tree": "1.10", "decoded": "9", "hits": "7", "images": "2",
        "load s": "1.00", "images s": "0.25", "vision s": "-", "prefill s": "0.50", "decode s": "0.00",
        "score s": "0.12",
    }  # fmt: skip
    assert len(table.rows) == 1
    assert table.notes[-1] == "two: nothing was asked, all answers were there"


def runs(out: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: read_result(path)["provenance"]["run"] for path in find_results(out)}


def kept(out: Path) -> dict[str, Any]:
    """All that a run leaves: samples and sums by their hashes, scores, no time and place."""
    found = {}
    for path in find_results(out):
        found[path.stem] = copy.deepcopy(read_result(path))
        del found[path.stem]["provenance"]
    return found


def test_a_profiled_run_of_the_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--model", "mini", "--tasks", "truthfulqa,pope", "--limit", "12"]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    assert "profile of" not in capsys.readouterr().out
    assert main([*command, "--out", str(tmp_path / "b"), "--profile"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("profile of mini"))
    assert [line.split()[0] for line in lines[start + 1 : start + 3]] == ["truthfulqa", "pope"]
    assert kept(tmp_path / "a") == kept(tmp_path / "b")
    for run in (found := runs(tmp_path / "b")).values():
        assert run["sequence_tokens"] > 1.5 * run["tree_tokens"]
        assert 1 <= run["computed_to_tree"] < 1.25  # a question is gone through for its options, and to be answered
        spent = run["seconds_by_phase"]
        assert set(spent) == set(PHASES)
        assert sum(spent.values()) <= run["load_seconds"] + run["seconds"] + run["score_seconds"]
    assert found["truthfulqa"]["images_encoded"] == 0 < found["pope"]["images_encoded"]

    assert main([*command, "--out", str(tmp_path / "b"), "--profile"]) == 0
    assert "truthfulqa, pope: nothing was asked, all answers were there" in capsys.readouterr().out
    for path in find_results(tmp_path / "b"):
        later = read_result(path)["provenance"]
        run = later["run"]
        zero = ("asked", "sequence_tokens", "tree_tokens", "computed_tokens", "decoded_tokens", "cache_hits", "seconds")
        assert [run[key] for key in zero] == [0] * len(zero)
        assert [earlier["computed_tokens"] for earlier in later["earlier_runs"]] == [
            found[path.stem]["computed_tokens"]
        ]


def test_options_of_the_miniature_go_through_once(tmp_path: Path) -> None:
    """Choices only, so that nothing is padded: what is computed is the tree."""
    out = tmp_path / "out"
    assert main(["run", "--model", "mini:lm", "--tasks", "boolq", "--limit", "60", "--out", str(out), "--profile"]) == 0
    run = runs(out)["boolq"]
    assert 1 <= run["computed_to_tree"] <= 1.02
    assert run["decoded_tokens"] == 0


def test_a_model_that_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    isolate_registry(monkeypatch)
    plugin, data = make_toy(tmp_path, samples=8)
    (tmp_path / "s.yaml").write_text("- {text: 'no'}\n")
    command = ["run", "--model", f"scripted:{tmp_path / 's.yaml'}", "--include", str(plugin), "--tasks", "toy"]
    command += ["--data", str(data), "--out", str(tmp_path / "out"), "--profile"]
    assert main(command) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("toy  ") and " - " in line)
    assert row.split()[1] == "8"
    assert main(command) == 0
    assert "toy: nothing was asked" in capsys.readouterr().out
    assert main([*command, "--dry-run"]) == 0
    assert "profile of" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_fallback_is_on_the_screen_once(tmp_path: Path) -> None:
    """In an ordinary run, whose log nobody set up."""
    folder = copy_of(nano("qwen2"), tmp_path / "sliding")
    config = json.loads((folder / "config.json").read_text())
    config.update(use_sliding_window=True, sliding_window=64, max_window_layers=0)
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "mmalign_eval", "run", "--model", f"hf:{folder}", "--data", "mini"]
    command += ["--tasks", "boolq,mathqa", "--limit", "3", "--out", str(tmp_path / "out")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    why = "not all of its layers have full attention"
    assert (
        ran.stderr.count(why)
        == ran.stderr.count(f"sliding: prompts and options go through it one by one: {why}\n")
        == 1
    )
    for path in find_results(tmp_path / "out"):
        assert read_result(path)["provenance"]["model"]["prefixes_not_shared_because"] == why
