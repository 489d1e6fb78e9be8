"""Files that a leaderboard may write over, and those that it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmalign_eval.cli.main import main


def test_a_file_of_somebody_else_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "README.md"
    mine.write_text("# my project\n")
    assert main(["leaderboard", "--root", str(tmp_path)]) == 2
    assert mine.read_text() == "# my project\n"
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"], "nothing is written beside it either"
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"mmeval: {mine}: was not made by mmeval leaderboard; move it away, or choose another --root"]


def test_a_page_of_ours_that_was_changed_is(tmp_path: Path) -> None:
    assert main(["leaderboard", "--root", str(tmp_path)]) == 0
    page = tmp_path / "README.md"
    made = page.read_text()
    page.write_text(made + "changed\n")
    assert main(["leaderboard", "--root", str(tmp_path)]) == 0
    assert page.read_text() == made
