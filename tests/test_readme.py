"""The README shows what `make demo` gives: its commands run as they stand, and the table and figure are theirs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mmalign_eval.cli.main import app, main

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


def commands(page: str, part: str = "") -> list[list[str]]:
    """Command lines in a page's code blocks, as words; of one section only, if it is named."""
    text = (REPO / page).read_text(encoding="utf-8")
    if part:
        text = text.partition(f"\n## {part}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```\w*\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [
        shlex.split(line, comments=True) for line in lines if line.startswith(("mmeval ", "python -m mmalign_eval"))
    ]


@pytest.mark.parametrize("page", ["README.md", "docs/tuning.md"])
def test_commands_have_the_options_they_are_shown_with(page: str) -> None:
    """Parsed as the command line parses them, without being run."""
    root = typer.main.get_command(app)
    found = [words[1:] for words in commands(page) if words[0] == "mmeval"]
    assert len(found) > 4
    for words in found:
        group, rest = root, list(words)
        while hasattr(group, "commands"):
            group, rest = group.commands[rest[0]], rest[1:]
        group.make_context(" ".join(words), rest)


@pytest.mark.slow
def test_tuning_on_the_miniature_as_the_readme_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in commands("README.md", "Tuning"):
        if words[0] == "mmeval":
            assert main(words[1:]) == 0, capsys.readouterr().err
        else:
            subprocess.run([sys.executable, *words[1:]], check=True)
    printed = capsys.readouterr().out
    assert "vs mini" in printed
    assert "score   mmeval run --model hf:seeing.stage1,adapter=seeing " in printed
