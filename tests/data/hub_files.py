"""Parquet folders as the hub serves them, for tests of loaders."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def picture(colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    """A small encoded image."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), colour).save(buffer, kind)
    return buffer.getvalue()


def write_parquet(path: Path, features: dict[str, str], rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows with the hub's column types: `image` is the `Image` feature, `list` a list of strings."""
    from datasets import Dataset, Features, List, Value
    from datasets import Image as ImageFeature

    kinds = {"image": ImageFeature(), "list": List(Value("string"))}
    types = Features({name: kinds.get(kind) or Value(kind) for name, kind in features.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list([{name: row[name] for name in features} for row in rows], features=types).to_parquet(str(path))
