"""The README shows what `make demo` gives: its commands run as they stand, and the table and figure are theirs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mmalign_eval.cli.main import main

REPO = Path(__file__).parent.parent
FIGURE = "docs/figures/differences.svg"


def demo_commands() -> list[list[str]]:
    """The `mmeval` commands of the Makefile's demo, as words."""
    recipe = re.search(r"^demo: install\n((?:\t.+\n)+)", (REPO / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    start = "$(BIN)/mmeval "
    return [
        shlex.split(line.strip()[len(start) :]) for line in recipe[1].splitlines() if line.strip().startswith(start)
    ]


def readme_table() -> list[str]:
    text = (REPO / "README.md").read_text()
    block = re.search(r"^```\n(mini against mini-lm\n.+?)^```", text, re.MULTILINE | re.DOTALL)
    assert block
    return [line.rstrip() for line in block[1].splitlines()]


@pytest.mark.slow
def test_the_demo_gives_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = {}
    for words in demo_commands():
        assert main(words) == 0, words
        printed[words[0]] = capsys.readouterr().out
    assert list(printed) == ["run", "compare", "leaderboard", "report"]
    assert [line.rstrip() for line in printed["compare"].strip().splitlines()] == readme_table()
    figures = {path.name: path.read_bytes() for path in (tmp_path / "demo" / "figures").iterdir()}
    assert figures["differences-mini-lm-mini.svg"] == (REPO / FIGURE).read_bytes()
    assert FIGURE in (REPO / "README.md").read_text()
    page = (tmp_path / "demo" / "leaderboards" / "multimodal.md").read_text()
    assert re.search(r"^\| mini .*\| measured", page, re.MULTILINE)
    assert (tmp_path / "demo" / "report.html").stat().st_size < 5_000_000
