"""The build runs end to end, and a second call resumes instead of starting again."""

import os
import subprocess
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

import mmalign_eval.miniature


def run(out: Path) -> str:
    command = [sys.executable, "-m", "mmalign_eval.miniature", "build", "--smoke", "--out", str(out)]
    root = Path(mmalign_eval.miniature.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=out).stdout


def test_smoke_build_and_resume(tmp_path):
    first = run(tmp_path)
    assert all(f"{step}: " in first for step in ("tower", "language", "stage1", "stage2", "files"))
    AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoints/lm")
    AutoModelForImageTextToText.from_pretrained(tmp_path / "checkpoints/llava")
    AutoProcessor.from_pretrained(tmp_path / "checkpoints/llava")
    assert (tmp_path / "data/pope/coco_pope_random.json").exists()
    again = run(tmp_path)
    assert "loss" not in again
