"""`mmeval tasks new`: what it writes works as it is, and it never writes over anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmalign_eval.cli.main import main

from ..toy import isolate_registry


@pytest.mark.parametrize("kind", ["--image", "--text"])
def test_the_skeleton_passes_its_own_test(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my tasks"
    assert main(["tasks", "new", "street_signs", kind, "--dir", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"wrote    {folder / 'street_signs.py'}" in said
    assert "mmeval tasks check street_signs --include" in said
    content = (folder / "street_signs.py").read_text()
    assert "class StreetSigns(" in content
    assert "$" not in content
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_street_signs.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_the_skeletons_test_notices_a_wrong_parser(tmp_path: Path) -> None:
    assert main(["tasks", "new", "street_signs", "--dir", str(tmp_path)]) == 0
    file = tmp_path / "street_signs.py"
    file.write_text(file.read_text().replace(".lower() if words", ".upper() if words"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_street_signs.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "accuracy is 0, best is 1" in done.stdout


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "test_street_signs.py"
    mine.write_text("mine")
    assert main(["tasks", "new", "street_signs", "--dir", str(tmp_path)]) == 2
    assert f"{mine} exists and is not overwritten" in capsys.readouterr().err
    assert mine.read_text() == "mine"
    assert os.listdir(tmp_path) == [mine.name]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Street-Signs", "for example 'street_signs'"),
        ("9lives", "a letter first"),
        ("class", "cannot be the name of a task"),
        ("../evil", "for example 'evil'"),
        ("test_signs", "cannot be the name of a task"),
        ("pope", "already a task"),
        ("all", "already a task or a group"),
        ("json", "would hide the Python module 'json'"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, says: str) -> None:
    assert main(["tasks", "new", name, "--dir", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_a_folder_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("")
    assert main(["tasks", "new", "street_signs", "--dir", str(tmp_path / "taken")]) == 2
    assert "cannot write there" in capsys.readouterr().err


def test_a_written_task_is_shown_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    isolate_registry(monkeypatch)
    assert main(["tasks", "new", "street_signs", "--text", "--dir", str(tmp_path)]) == 0
    rows = [
        {"id": str(i), "question": f"Which is {i}?", "options": ["this", "that"], "answer": i % 2} for i in range(4)
    ]
    (tmp_path / "street_signs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["street_signs", "--include", str(tmp_path / "street_signs.py"), "--data", f"street_signs={tmp_path}"]
    capsys.readouterr()
    assert main(["tasks", "show", *words]) == 0
    shown = capsys.readouterr().out
    assert "          | Question: Which is 0?\n          | Answer:\n" in shown
    assert "option    ' this'\noption    ' that'\nright     ' this'\n" in shown
    assert main(["tasks", "check", *words]) == 0
