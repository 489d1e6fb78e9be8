"""What standard output cannot take: characters that its encoding has not, anything at all. Never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support_results import ACCURACY, records, write_run


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "llama\\U0001f999"), ("utf-8", "llama\U0001f999")])
def test_a_name_outside_the_encoding(tmp_path: Path, encoding: str, shown: str) -> None:
    for name in ("base", "llama\U0001f999"):
        write_run(tmp_path, name, "quiz", [ACCURACY], records([0.0, 1.0] * 5))
    command = [
        sys.executable,
        "-m",
        "mmalign_eval",
        "compare",
        str(tmp_path / "base"),
        str(tmp_path / "llama\U0001f999"),
    ]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    ran = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert shown in ran.stdout.decode(encoding)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_output_to_a_full_disk_is_one_line(tmp_path: Path) -> None:
    path = write_run(tmp_path, "base", "quiz", [ACCURACY], records([0.0, 1.0] * 5))
    command = [sys.executable, "-m", "mmalign_eval", "compare", str(path), str(path)]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (2, "mmeval: cannot write the output: No space left on device\n")
