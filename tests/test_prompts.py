"""Every protocol's exact prompt, as `mmeval tasks show` renders it, held against a stored one.

A prompt is part of a measurement: where one of these tests fails, the numbers of the protocol change their meaning, and
the task's version has to be raised with it. To store what is rendered now:

    MMEVAL_WRITE_PROMPTS=1 python -m pytest tests/test_prompts.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmalign_eval.cli.tasks_show import lines
from mmalign_eval.data.source import DataChoice
from mmalign_eval.registry import TASKS

STORED = Path(__file__).parent / "prompts"
WRITE = "MMEVAL_WRITE_PROMPTS"
PROTOCOLS = [(name, protocol) for name in TASKS.groups()["all"] for protocol in TASKS.get(name).protocols]


def file_of(task: str, protocol: str) -> Path:
    return STORED / f"{task}@{protocol}.txt"


def rendered(task: str, protocol: str) -> str:
    """What `tasks show` prints of the samples; of image files the name alone, as the folder is the machine's."""
    shown = list(lines(task, protocol, DataChoice("mini")))
    start = next(i for i, line in enumerate(shown) if line.startswith("sample "))
    kept = []
    for line in shown[start:]:
        if line.startswith("image "):
            path, comma, transforms = line.removeprefix("image").strip().partition(", then ")
            line = f"image     {Path(path).name}{comma}{transforms}"
        kept.append(line)
    return "\n".join(kept) + "\n"


@pytest.mark.parametrize(("task", "protocol"), PROTOCOLS, ids=[f"{t}@{p}" for t, p in PROTOCOLS])
def test_the_prompt_is_the_stored_one(task: str, protocol: str) -> None:
    found, file = rendered(task, protocol), file_of(task, protocol)
    if os.environ.get(WRITE):
        STORED.mkdir(exist_ok=True)
        file.write_text(found, encoding="utf-8")
    assert file.is_file(), f"no stored prompt: {WRITE}=1 python -m pytest {Path(__file__).name}"
    assert found == file.read_text(encoding="utf-8")
    assert "prompt" in found


def test_no_stored_prompt_is_left_of_a_protocol_that_is_gone() -> None:
    assert {path.name for path in STORED.iterdir()} == {file_of(*pair).name for pair in PROTOCOLS}
