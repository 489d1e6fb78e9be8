"""A small task, a counting model and data without a benchmark: what tests of the engine need."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmalign_eval.images import ImagePool
from mmalign_eval.models.scripted import ScriptedModel
from mmalign_eval.registry import TASKS
from mmalign_eval.requests import Choose, Generate, ImageRef, Prompt, Request, Response, greedy

PLUGIN = '''
"""Toy: is the number even?"""
from mmalign_eval.data.files import read_jsonl
from mmalign_eval.data.source import TaskData
from mmalign_eval.metrics.base import mean
from mmalign_eval.requests import GenParams, Response, greedy
from mmalign_eval.task import ImageTask, Protocol, Sample, task


class Files(TaskData):
    """`toy.jsonl` and its images."""

    folder, layout, get = "toy", "toy.jsonl and images", "tests make it"

    def native(self, folder):
        for _, row in read_jsonl(folder.find("toy.jsonl")):
            yield Sample(row["id"], row, (folder.image(row["image"]),), cluster=row["image"])


@task(
    "toy",
    version=1,
    protocols={
        "official": Protocol("{question}", greedy(5)),
        "sampled": Protocol("{question}", GenParams(max_new_tokens=5, temperature=1.0)),
    },
    data=Files,
)
class Toy(ImageTask):
    """Yes if even."""

    def score(self, sample, answer):
        return {"correct": float(answer == sample.data["gold"])}

    def metrics(self):
        return [mean("accuracy", "correct", proportion=True)]

    def right_answer(self, sample):
        return [Response("ok", text=sample.data["gold"])]
'''


def make_toy(folder: Path, samples: int = 40, images: int = 8) -> tuple[Path, Path]:
    """Writes the plugin and its data; returns (plugin file, data folder)."""
    data = folder / "toy"
    (data / "images").mkdir(parents=True)
    for i in range(images):
        Image.new("RGB", (16, 12), (i * 20 % 256, 40, 90)).save(data / "images" / f"{i}.png")
    rows = [
        {"id": f"s{i}", "question": f"Is {i} even?", "gold": "no" if i % 2 else "yes", "image": f"{i % images}.png"}
        for i in range(samples)
    ]
    (data / "toy.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    plugin = folder / "toy_task.py"
    plugin.write_text(PLUGIN)
    return plugin, data


def isolate_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets after a test what it included."""
    TASKS.names()
    for name in ("_tasks", "_origin", "failures"):
        monkeypatch.setattr(TASKS, name, dict(getattr(TASKS, name)))


def text_requests(count: int, prefix: str = "q") -> list[Request]:
    return [Generate(Prompt(f"{prefix}{i}"), greedy(4)) for i in range(count)]


def choices(count: int) -> list[Request]:
    return [Choose(Prompt(f"c{i}", template="raw"), (" a", " b")) for i in range(count)]


def image_request(path: Path, text: str) -> Request:
    return Generate(Prompt(text, (ImageRef(str(path)),)), greedy(4))


class CountingModel(ScriptedModel):
    """Counts what it is asked; `behave` may raise or return anything."""

    def __init__(self, behave: Callable[[Request], Any] | None = None, **kwargs: Any) -> None:
        super().__init__(behave or echo, **kwargs)
        self.asked: list[Request] = []
        self.batches: list[int] = []
        self.loads = 0
        self._lock = threading.Lock()

    def load(self) -> None:
        self.loads += 1

    def answer(self, batch: Sequence[Request], images: ImagePool) -> Iterator[tuple[int, Response]]:
        self.batches.append(len(batch))
        for index, response in super().answer(batch, images):
            self.asked.append(batch[index])
            yield index, response


def echo(request: Request) -> Response:
    if isinstance(request, Choose):
        return Response("ok", logprobs=tuple(-float(i) for i in range(len(request.options))), greedy=(True, False))
    return Response("ok", text=request.prompt.text.upper(), finish="stop", new_tokens=1)


def texts(responses: Iterable[Response]) -> list[str]:
    return [response.text for response in responses]
