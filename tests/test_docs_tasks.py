"""docs/tasks.md is what the tasks say of themselves, and the papers' columns are metrics that exist."""

from __future__ import annotations

import difflib

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.cli.tasks_docs import _published, lines
from mmalign_eval.lmeval import bind
from mmalign_eval.plan import open_task
from mmalign_eval.registry import TASKS
from mmalign_eval.task import LmEvalTask
from tests.support import REPO

FILE = REPO / "docs" / "tasks.md"


def test_the_committed_file_is_what_the_tasks_generate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "docs"]) == 0
    made = capsys.readouterr().out
    changed = list(
        difflib.unified_diff(FILE.read_text(encoding="utf-8").split("\n"), made.split("\n"), lineterm="", n=0)
    )
    assert changed == [], "run: mmeval tasks docs > docs/tasks.md"


def test_every_task_has_its_section_data_protocols_and_metrics() -> None:
    text = "\n".join(lines())
    for name in TASKS.groups()["all"]:
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for part in ("- Data: ", "- Get it: ", "| protocol |", "| metric |", "Sources: "):
            assert part in section, (name, part)
        for protocol in TASKS.get(name).protocols:
            assert f"| `{protocol}` |" in section, (name, protocol)


def test_every_task_says_what_it_reads_and_where_its_protocols_come_from() -> None:
    """So that the document has no empty cell where the user needs one."""
    silent = [name for name in TASKS.groups()["all"] if not TASKS.get(name).submission]
    assert silent == []
    sourceless = [(n, p) for n in TASKS.groups()["all"] for p, v in TASKS.get(n).protocols.items() if not v.source]
    assert sourceless == []


def test_the_papers_columns_are_metrics_of_tasks() -> None:
    for paper in _published():
        for table in paper.tables:
            assert set(table["keys"]) <= set(paper.metrics), table["title"]
        for key, column in paper.metrics.items():
            task = open_task(column["task"], "paper")
            if isinstance(task, LmEvalTask):
                bind(task)
            if task.judge:
                task.judged_by = task.judge.official
            assert column["metric"] in [metric.name for metric in task.metrics()], key
