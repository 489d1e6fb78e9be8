"""Fixtures of the tuning tests: random tiny checkpoints and a data set of a dozen drawn images, each made once."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ANSWERS = ("There is a red cup on the table.", "Yes", "No", "Tom has 3 apples and a dog.", "a person next to a table")


@dataclass(frozen=True)
class LlavaData:
    """A LLaVA JSON file with its images.

    Attributes:
        file: List of rows: with an image and one or two turns, every fourth without.
        images: Folder of the images.
        rows: The file's content.
    """

    file: Path
    images: Path
    rows: list[dict[str, Any]]


def row(id_: str, *turns: tuple[str, str], image: str = "") -> dict[str, Any]:
    """A row of a LLaVA JSON file; `<image>` is put in front of the first question if there is one."""
    said = []
    for number, (question, answer) in enumerate(turns):
        mark = "<image>\n" if image and number == 0 else ""
        said += [{"from": "human", "value": mark + question}, {"from": "gpt", "value": answer}]
    return {"id": id_, **({"image": image} if image else {}), "conversations": said}


def write_rows(file: Path, rows: Sequence[Any]) -> Path:
    """Writes a JSON list."""
    file.write_text(json.dumps(list(rows)), encoding="utf-8")
    return file


def draw(folder: Path, count: int) -> list[str]:
    """Draws images that differ, 40 x 30, and returns their (COCO-like) names."""
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{1000 + number:012d}.png" for number in range(count)]
    for number, name in enumerate(names):
        rng = random.Random(number)
        image = Image.new("RGB", (40, 30), tuple(rng.randrange(256) for _ in range(3)))
        corner = (rng.randrange(20), rng.randrange(15))
        box = (*corner, corner[0] + 15, corner[1] + 12)
        ImageDraw.Draw(image).rectangle(box, fill=tuple(rng.randrange(256) for _ in range(3)))
        image.save(folder / name)
    return names


def make_data(folder: Path, count: int = 12) -> LlavaData:
    """Rows on `count` drawn images, and a third as many without image."""
    names = draw(folder / "images", count)
    rng = random.Random(7)
    rows = []
    for number, name in enumerate(names):
        turns = [("Describe the image.", rng.choice(ANSWERS)), ("Is there a dog?", rng.choice(ANSWERS))]
        rows.append(row(f"{number}", *turns[: 1 + number % 2], image=name))
        if number % 3 == 2:
            rows.append(row(f"text{number}", ("How many apples does Tom have?", rng.choice(ANSWERS))))
    return LlavaData(write_rows(folder / "rows.json", rows), folder / "images", rows)


@pytest.fixture(scope="session")
def llava_data(tmp_path_factory: pytest.TempPathFactory) -> LlavaData:
    """Sixteen rows on twelve images; not to be written to."""
    return make_data(tmp_path_factory.mktemp("llava-data"))


@pytest.fixture(scope="session")
def nano_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random LLaVA: 24 px images, 4 image tokens, 512 entries; not to be written to."""
    from mmalign_eval.miniature.nano import make_llava

    return make_llava(tmp_path_factory.mktemp("nano") / "llava")


@pytest.fixture(scope="session")
def nano_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random LLaMA with the same tokenizer; not to be written to."""
    from mmalign_eval.miniature.nano import make_causal_lm

    return make_causal_lm(tmp_path_factory.mktemp("nano") / "lm")
