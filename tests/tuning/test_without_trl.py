"""TRL is there for tests alone: everything imports and preference tuning runs where it is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.tuning.bpo_support import make_world

WITHOUT = """
import json, pkgutil, sys
from importlib import import_module
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "trl":
            raise ModuleNotFoundError("No module named 'trl'", name="trl")
sys.meta_path.insert(0, Absent())
import mmalign_eval.tuning, mmalign_eval.models
for package in (mmalign_eval.tuning, mmalign_eval.models):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
from mmalign_eval.cli.main import main
code = main(json.loads(sys.argv[1]))
assert "trl" not in sys.modules
sys.exit(code)
"""


def test_only_the_test_extra_asks_for_it() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {"always": project["dependencies"], **project["optional-dependencies"]}
    assert [extra for extra, needs in named.items() if any(need.startswith("trl") for need in needs)] == ["test"]


@pytest.mark.slow
def test_preference_tuning_runs_without_it(tmp_path: Path) -> None:
    world = make_world(tmp_path, pairs=4)
    words = ["tune", "bpo", "--model", world / "llava", "--pairs", world / "pairs.json", "--images", world / "images",
             "--out", tmp_path / "out", "--recipe", "mini-bpo", "--set", "tune.max_steps=1", "--set", "tune.batch=2",
             "--set", "tune.micro_batch=2", "--set", "tune.eval_every=0", "--set", "data.held_out=0"]  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps([str(word) for word in words])],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
