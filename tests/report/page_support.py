"""Results for pages: three models on a few made-up tasks, whose every flip is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmalign_eval.metrics.base import Metric, mean, ratio
from mmalign_eval.report.collect import collect
from mmalign_eval.report.figures import figures_of
from mmalign_eval.report.page import Page, page
from tests.support_results import ACCURACY, tuned_from, write_run

MODELS = ("plain", "tuned", "other")
SAMPLES = 120
HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script><!--",
    '"><img src=x onerror="window.hacked = 3"><b>bold',
    "<a href='javascript:window.hacked=4'>javascript:window.hacked=4</a>",
    "abc \u202e\u202dtxt.exe\u2066 שלום עולם مرحبا \u200f",
    "nul \x00 bell \x07 half \ud83d pair",
    "line\u2028separator & &amp; &lt;i&gt; ]]> {{ 7 * 7 }} ${7}",
)
LONG = "0123456789abcdef" * 65536  # 1 MB


def right(model: str, i: int) -> bool:
    """Which answers to `quiz` are right."""
    return {"plain": i % 2 == 0, "tuned": i % 3 != 0, "other": True}[model]


def make_images(folder: Path, count: int = 6) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        path = folder / f"picture-{i}.png"
        Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).resize((320, 240)).save(path)
        paths.append(str(path))
    return paths


def image(path: str, *transforms: str) -> dict[str, Any]:
    return {"path": path, "row": -1, "column": "", "transforms": list(transforms)}


def write_world(folder: Path, samples: int = SAMPLES) -> Path:
    """`quiz` and `describe` by three models; `plain` is what `tuned` was tuned from."""
    images = make_images(folder / "images")
    for model in MODELS:
        tuned = {"tuned": tuned_from("plain")} if model == "tuned" else {}
        write_run(folder / "out", model, "quiz", [ACCURACY], quiz(model, images, samples), **tuned)
        write_run(folder / "out", model, "describe", [HALLUCINATED, LENGTH], describe(model, images), **tuned)
    return folder / "out"


def quiz(model: str, images: list[str], samples: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q/{i}",
            "cluster": f"picture-{i % len(images)}",
            "part": "hard" if i % 5 == 0 else "easy",
            "x": float(right(model, i)),
            "prompt": f"Is {i} a number of the kind that the picture shows? zebra{i}",
            "answer": ("Yes" if right(model, i) else "No") + f", says {model}" + " indeed" * (i % 7),
            "reference": "Yes",
            "images": [image(images[i % len(images)])],
        }
        for i in range(samples)
    ]


HALLUCINATED = Metric(
    "share", lambda records: (sum(r["wrong"] for r in records), len(records)), ratio, unit="fraction", better="lower"
)
LENGTH = mean("words", "words", unit="words", better="neither")


def describe(model: str, images: list[str]) -> list[dict[str, Any]]:
    wrong = {"plain": ["dog", "hot dog"], "tuned": ["dog"], "other": []}[model]
    return [
        {
            "id": f"d{i}",
            "cluster": f"d{i}",
            "wrong": float(bool(wrong)),
            "words": 9.0,
            "answer": "Two dogs near a cat, a person and a hot dog; no hotdogma.",
            "reference": "cat, person",
            "mentions": [["dog", "dog"], ["cat", "cat"], ["person", "person"], ["hot dog", "hot dog"]],
            "hallucinated": wrong,
            "images": [image(images[i % len(images)])],
            "judged": [{"text": "It names a dog. <b>Bad</b>.", "verdict": {"score": 3}}],
        }
        for i in range(8)
    ]


def write_hostile(folder: Path) -> Path:
    """Every text of a result is an attack: of samples, of the model, of the task."""
    texts = [*HOSTILE, LONG]
    records = [
        {
            "id": f"{i} {text[:40]}",
            "cluster": f"c{i}",
            "part": text[:60],
            "x": float(i % 2),
            "prompt": text,
            "answer": text,
            "reference": text[:2000],
            "judged": [{"text": text, "verdict": text[:100]}],
            "images": [image(f"/nowhere/{'x' if len(text) > 200 else text.replace(chr(0), '')}.png")],
        }
        for i, text in enumerate(texts)
    ]
    for model in ("a<script>window.hacked=5</script>", 'b"\u202e<img src=x onerror=window.hacked=6>'):
        name = "one" if model.startswith("a") else "two"
        path = write_run(folder / "out", name, "odd", [ACCURACY], records)
        text = path.read_text(encoding="utf-8")
        import json

        result = json.loads(text)
        result["model"]["name"] = model
        result["task"]["name"] = "odd</script><script>window.hacked=7</script>"
        path.write_text(json.dumps(result))
    return folder / "out"


def made(out: Path, **options: Any) -> Page:
    material = collect([out])
    return page(material, figures_of(material.models, material.comparisons), **options)
