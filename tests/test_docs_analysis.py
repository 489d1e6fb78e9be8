"""docs/analysis.md: its commands are run, its code block by block, and what it prints is what the document shows.

`python -m tests.test_docs_analysis` writes the outputs anew.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmalign_eval.cli.main import main

from .support import REPO

DOCUMENT = REPO / "docs" / "analysis.md"
FENCED = re.compile(r"^```(sh|python)\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[re.Match[str]]:
    """`(language, code, output)` of every block that runs; output may be None."""
    return FENCED.finditer(text)


def shell(code: str) -> None:
    """Runs the `mmeval` commands of a block; what they print is not held to the document."""
    for line in code.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "mmeval", line
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(arguments) == 0, line


def executed(text: str) -> str:
    """The document with the outputs that its code gives now, run in the current folder."""
    namespace: dict[str, object] = {"__name__": "analysis"}

    def run(block: re.Match[str]) -> str:
        language, code, _ = block.groups()
        if language == "sh":
            shell(code)
            return block[0]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{DOCUMENT.name}: {code.splitlines()[0]}", "exec"), namespace)
        lines = "".join(f"{line.rstrip()}\n" for line in printed.getvalue().splitlines())
        return f"```python\n{code}```\n" + (f"\n```text\n{lines}```\n" if lines else "")

    return FENCED.sub(run, text)


def test_the_document_shows_what_its_code_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = DOCUMENT.read_text(encoding="utf-8")
    made = executed(shown)
    changed = list(difflib.unified_diff(shown.split("\n"), made.split("\n"), lineterm="", n=0))
    assert changed == [], "run: python -m tests.test_docs_analysis"


def test_every_block_is_run_or_an_output() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    fences = re.findall(r"^```(\w*)$", text, re.MULTILINE)
    opened = [fence for fence in fences if fence]
    assert set(opened) == {"sh", "python", "text"}
    assert fences.count("") == len(opened)
    found = list(blocks(text))
    assert len(opened) == len(found) + sum(block[3] is not None for block in found), "a block that no pattern finds"
    assert sum(block[1] == "python" for block in found) >= 6


def write() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        made = executed(text)
        os.chdir(REPO)
    DOCUMENT.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write())
