"""What a training leaves: a checkpoint or a PEFT adapter, the record beside it, and all of it at once or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..errors import BadInput
from ..models import peft_adapter
from ..models.checkpoint import one_line
from ..models.llava_layout import open_checkpoint
from ..models.llava_save import SHARD, save_llava
from ..models.tuned import KEYS, TUNING_FILE, read_json, read_training, read_tuned
from .assemble import resolve
from .config import Recipe

_VERSIONS = ("mmalign-eval", "torch", "transformers", "peft", "accelerate", "tokenizers")
_CALLED = {"merged": "choice of --merge", "from": "base"}  # keys of a record, in messages
_LEFTOVERS = ("README.md",)  # peft's model card: a form to fill in


@dataclass(frozen=True)
class Base:
    """What was tuned.

    Attributes:
        name: As its own results call it.
        weights: Fingerprint, as its own results have it.
        peft: Of its PEFT adapter, or empty.
        training: What it had been trained on itself, as far as it is recorded.
    """

    name: str
    weights: str
    peft: str = ""
    training: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class DataFile:
    """A file that was trained on.

    Attributes:
        role: What for: `pretrain`, `tune`, `held_out`, ...
        path: Where it is; the record keeps its name only.
        rows: Rows that were used.
    """

    role: str
    path: Path
    rows: int


def base_of(target: str, adapter: str = "") -> Base:
    """The base of a training: a language model (mm-ft, mm-lora) or a LLaVA (sft, bpo), perhaps with a PEFT adapter.

    Raises:
        BadInput: Not a checkpoint, or no adapter.
    """
    checkpoint = open_checkpoint(resolve(target))
    checkpoint.fetch_weights()
    name = target.replace(":", "-") if resolve(target) != target else Path(checkpoint.target).resolve().name
    peft = peft_adapter.fingerprint(adapter) if adapter else ""
    return Base(
        name=f"{name}+{Path(adapter).resolve().name}" if adapter else name,
        weights=checkpoint.fingerprints()["weights"],
        peft=peft,
        training=read_training(checkpoint.folder, adapter),
    )


def save_checkpoint(model: Any, processor: Any, folder: Path, shard: str = SHARD) -> None:
    """Writes a LLaVA with the key names of llava-hf's checkpoints (`models.llava_save.save_llava`).

    Args:
        model: LlavaForConditionalGeneration, or what accelerate wrapped it in.
        processor: Its processor.
        folder: Where to; not the final place (`finish`).
        shard: Size from which weights go into several files.

    Raises:
        BadInput: It cannot be written; nothing is left there.
    """
    with _whole(folder):
        save_llava(getattr(model, "module", model), processor, folder, shard)


def save_adapter(model: Any, folder: Path) -> None:
    """Writes a PEFT adapter: its LoRA and whatever is trained whole (mm-lora's projector).

    Args:
        model: PeftModel, or what accelerate wrapped it in.
        folder: Where to; not the final place (`finish`).

    Raises:
        BadInput: It cannot be written; nothing is left there.
    """
    with _whole(folder):
        getattr(model, "module", model).save_pretrained(folder)
        for name in _LEFTOVERS:
            (folder / name).unlink(missing_ok=True)


def write_record(
    folder: Path,
    recipe: Recipe,
    seed: int,
    base: Base,
    data: Iterable[DataFile] = (),
    images: Mapping[str, Any] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Writes `mmeval.json` (`models/tuned.py` reads it) and returns its content.

    Args:
        folder: Of the checkpoint or adapter.
        recipe: As run, with all changes.
        seed: Of the training.
        base: What was tuned (`base_of`).
        data: Files trained on; their hashes are taken.
        images: Ids and hashes of their images (`data.used_images`); None where none was shown (text only).
        facts: Further keys (`steps`, `pairs`, ...).

    Raises:
        BadInput: It cannot be written, or a data file is gone.
    """
    record: dict[str, Any] = {
        "tuned": {
            "method": recipe.method,
            "recipe": recipe.name,
            "seed": seed,
            "base": {"name": base.name, "weights": base.weights, "peft": base.peft},
        },
        "training": _images([images or {}, base.training or {}]),
        "recipe": recipe.model_dump(mode="json"),
        "data": [file_facts(file) for file in data],
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _VERSIONS},
        },
        **facts,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TUNING_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from error
    return record


def already(out: Path, recipe: Recipe, seed: int, base: Base, data: Iterable[DataFile] = (), **facts: Any) -> bool:
    """Whether `out` is there and is the result of this very training.

    Args:
        out: The result's place.
        recipe: With all changes.
        seed: Of the training.
        base: What is tuned.
        data: Files trained on.
        facts: Further keys of the record that must be the same.

    Raises:
        BadInput: Something else is there.
    """
    if not out.exists():
        return False
    record = read_json(out / TUNING_FILE) if (out / TUNING_FILE).is_file() else {}
    tuned = read_tuned(out) or {}  # which refuses a record that is none
    wanted: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "data": [file_facts(file) for file in data],
        "seed": seed,
        "base": [base.weights, base.peft],
        **facts,
    }
    started = tuned.get("base", {})
    found = {**record, "seed": tuned.get("seed"), "base": [started.get("weights"), started.get("peft", "")]}
    other = [_CALLED.get(key, key) for key, value in wanted.items() if found.get(key) != json.loads(json.dumps(value))]
    if other:
        what = f"of another {' and '.join(dict.fromkeys(other))}" if record else "that is no training's result"
        raise BadInput(f"--out {out}: there is already something there, {what}; give another --out or move it away")
    return True


def finish(final: Path, out: Path) -> None:
    """Brings a result to its place: written through to the disk, then one rename.

    Args:
        final: The complete folder, on the same file system.
        out: Its place, where nothing is yet.

    Raises:
        BadInput: Something is there, or the disk does not take it.
    """
    if out.exists():
        raise BadInput(f"--out {out}: there is already something there; give another --out or move it away")
    try:
        for place, _, files in os.walk(final, topdown=False):
            for name in (*files, "."):
                _sync(Path(place) / name)
        final.rename(out)
        _sync(out.parent)
    except OSError as error:
        raise _unwritable(out, error) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """Leaves nothing of a folder that could not be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: Exception) -> BadInput:
    cause = getattr(error, "strerror", None) or one_line(error)
    return BadInput(f"{folder}: cannot be written: {cause}; the last checkpoint to resume from is kept")


def _images(records: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, set[Any]] = {key: set() for key in KEYS}
    for record in records:
        for key in KEYS:
            found[key].update(record.get(key, ()))
    return {key: sorted(values) for key, values in found.items()}


def file_facts(file: DataFile) -> dict[str, Any]:
    """What a record says of a file: role, name, rows, SHA-256.

    Raises:
        BadInput: It cannot be read.
    """
    try:
        with file.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{file.path}: cannot be read: {error.strerror}") from error
    return {**asdict(file), "path": file.path.name, "sha256": digest}
