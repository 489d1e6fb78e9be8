"""`--quick` of a text benchmark works and finds its numbers equal to the slow twin's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_quick_mmlu() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "mmlu.py"), "--quick"], capture_output=True, text=True, check=True
    )
    figures = json.loads(ran.stdout.splitlines()[-1])
    assert figures["equal"]
    assert figures["choices_apart"] == 0
    assert figures["n"] == 1
    assert figures["computed"] == figures["tokens"]["tree"] < figures["tokens"]["distinct_sequences"]
