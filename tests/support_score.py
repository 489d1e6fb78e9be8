"""Scoring a submission as `mmeval score` does, without its command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmalign_eval.answers import score_submission
from mmalign_eval.data.source import Source
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.task import Task


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
