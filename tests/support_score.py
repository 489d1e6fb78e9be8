"""Scoring submissions: as `mmeval score` does without its command line, and through it (`Bench`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.answers import score_submission
from mmalign_eval.cli.main import main
from mmalign_eval.data.source import Source
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.task import Task

Values = dict[str, float | None]


def scored(
    task: Task, files: AnswerFiles | Path | Mapping[str, Path], source: Source | Path | None = None
) -> dict[str, float | None]:
    """Metric name to value of answers made elsewhere; some may be missing, none may be unknown.

    Args:
        task: Opened under its protocol; an `LmEvalTask` is bound here.
        files: The submission, or its single file or folder, or part to file.
        source: The data, or their folder or file; None: the folder of the answers (they hold the gold).
    """
    if isinstance(files, Path):
        files = {"": files}
    if not isinstance(files, AnswerFiles):
        files = AnswerFiles(files)
    if source is None:
        first = next(iter(files.paths.values()))
        source = first if first.is_dir() else first.parent
    if isinstance(source, Path):
        file = source.name if source.is_file() else ""
        source = Source("dir", str(source.parent if file else source), file=file, images=False)
    found = score_submission(task, files, source, allow_missing=True)
    return {name: metric["value"] for name, metric in found.result["metrics"].items()}


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


class Bench:
    """A folder of data and answers, scored by the real command line."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def write(self, files: Mapping[str, Any]) -> None:
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    def run(self, task: str, *arguments: str) -> int:
        return main(["score", task, *arguments, "--json", "-"])

    def score(self, task: str, *arguments: str) -> Values:
        self.capsys.readouterr()
        code = self.run(task, *arguments)
        captured = self.capsys.readouterr()
        assert code == 0, captured.err
        found: Values = json.loads(captured.out)
        return found

    def refused(self, task: str, *arguments: str) -> str:
        self.capsys.readouterr()
        assert self.run(task, *arguments) == 2
        captured = self.capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1, captured.err
        return captured.err


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, capsys)


def close(found: Values, expected: Values) -> None:
    for name, value in expected.items():
        assert name in found, (name, sorted(found))
        assert found[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name
