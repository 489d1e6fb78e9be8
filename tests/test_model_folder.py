"""Where a model's results lie, whatever it is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.results import FOLDER_BYTES, model_folder

from .support_results import ACCURACY, records, write_run


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("llava-1.5_7b+x", "llava-1.5_7b+x"),
        ("org/name", "org-name"),
        ("..", "model"),
        ("", "model"),
        (".hidden", "hidden"),
        ("../../up", "-..-up"),
        ("a|b <i>\n", "a-b--i--"),
        ("\u0639\u0631\u0628\u064a", "\u0639\u0631\u0628\u064a"),
    ],
)
def test_a_name_becomes_one_visible_folder(name: str, folder: str) -> None:
    assert model_folder(name) == folder


@pytest.mark.parametrize("letter", ["x", "\u0639", "\U00020000"])
def test_a_long_name_is_cut_and_told_apart(letter: str, tmp_path: Path) -> None:
    one, two = model_folder(letter * 300), model_folder(letter * 301)
    assert one != two
    assert len(one.encode()) <= FOLDER_BYTES
    (tmp_path / f"{one}-0123abcd").mkdir()


@pytest.mark.parametrize("name", ["..", "x" * 300])
def test_a_leaderboard_takes_it_in_below_its_results(name: str, tmp_path: Path) -> None:
    path = write_run(tmp_path / "out", "m", "quiz", [ACCURACY], records([0.0, 1.0]))
    path.write_text(path.read_text().replace('"name": "m"', f'"name": "{name}"'))
    root = tmp_path / "board"
    root.mkdir()
    assert main(["leaderboard", "add", str(path), "--root", str(root)]) == 0
    assert [one.relative_to(root).parts[0] for one in root.rglob("quiz.json")] == ["results"]
    assert len(list(root.glob("results/*/quiz.json"))) == 1
