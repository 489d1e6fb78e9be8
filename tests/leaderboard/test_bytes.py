"""Pages are byte-equal on every machine: no order of files, locale, time zone or hash seed is in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmalign_eval.leaderboard.pages import leaderboard

from ..support_results import tuned_from
from .test_measured import captions, graded, truthful

MAKE = """
import hashlib, os, sys
backwards = sys.argv[2] == "backwards"
plain = os.listdir
os.listdir = lambda *a: sorted(plain(*a), reverse=backwards)
import locale
locale.setlocale(locale.LC_ALL, "")
from mmalign_eval.leaderboard.pages import leaderboard
for name, text in sorted(leaderboard(sys.argv[1]).files().items()):
    print(name, hashlib.sha256(text.encode()).hexdigest())
"""


def filled(root: Path, *, backwards: bool = False) -> Path:
    """A leaderboard with several models, its files made in one order or the other."""
    made = root / "made"
    truthful(made, "b", 0.30)
    truthful(made, "t", 0.45, tuned=tuned_from("b"))
    truthful(made, "B", 0.40, tuned=tuned_from("gone"))
    truthful(made, "\u00e4", 0.40, protocol="lm_eval")
    captions(made, "t", 0.6, 0.5, tuned=tuned_from("b"))
    graded(made, "b", "lexical", "lexical/", 0.3)
    graded(made, "b", "gpt-4-0613", "", 0.3)
    for path in sorted(made.rglob("*.*"), reverse=backwards):
        if path.is_file() and "samples" not in path.name:
            target = root / "board" / path.relative_to(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return root / "board"


def made(root: Path, order: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", MAKE, str(root), order],
        capture_output=True, text=True, check=False, cwd=root, env={**os.environ, **environment},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_equal_files_give_equal_bytes_everywhere(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two" / "deeper").mkdir(parents=True)
    first = made(filled(tmp_path / "one"), "forwards", LC_ALL="C", TZ="UTC", PYTHONHASHSEED="0")
    second = made(
        filled(tmp_path / "two" / "deeper", backwards=True), "backwards",
        LC_ALL="C.UTF-8", TZ="Asia/Kathmandu", PYTHONHASHSEED="4242", OMP_NUM_THREADS="2", PYTHONUTF8="1",
    )  # fmt: skip
    assert first == second
    assert first.count("\n") == 11


def test_nothing_of_the_machine_stands_on_a_page(tmp_path: Path) -> None:
    root = filled(tmp_path)
    for name, text in leaderboard(root).files().items():
        assert str(tmp_path) not in text, name
        assert "2026-01-01" not in text, "the date of a run"


def test_a_changed_result_changes_its_page_and_no_other_table(tmp_path: Path) -> None:
    root = filled(tmp_path)
    before = leaderboard(root).files()
    truthful(tmp_path / "again", "b", 0.31)
    for path in (tmp_path / "again" / "results" / "b").iterdir():
        if "samples" not in path.name:
            shutil.copyfile(path, root / "results" / "b" / path.name)
    after = leaderboard(root).files()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"truthfulness.md", "details.md"}


@pytest.mark.parametrize("name", ["truthfulness.svg", "README.md"])
def test_generated_files_say_so_in_their_head(name: str) -> None:
    assert leaderboard().files()[name].startswith("<!-- made by mmeval leaderboard -->\n")
