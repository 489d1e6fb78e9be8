"""`<out>.work/`: where an unfinished training lies, whose it is, and that it is there once."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerState

from ..errors import BadInput
from ..models.checkpoint import Checkpoint
from ..models.hf_loading import safetensors_header
from .config import Recipe
from .curves import draw
from .trainer import LOG_FILE, disk_errors, is_main, wants_bf16, work_folder

_ABOUT = "training.json"  # what is trained here, so that nothing else is gone on with
_LOCK = "lock"
_SLACK = 64 * 1024**2  # bytes beside weights: tokenizer, log, configuration


@contextlib.contextmanager
def workplace(out: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """The work folder of a training, held by this process alone.

    Args:
        out: The result's place.
        about: What is trained: recipe, seed, hashes of data and base. A training goes on only with the same.

    Raises:
        BadInput: Another training is in it, running or interrupted, or it cannot be made.
    """
    work = work_folder(out)
    if not is_main():  # the first process holds it for all
        yield work
        return
    with disk_errors(str(work)):
        work.mkdir(parents=True, exist_ok=True)
        lock = os.open(work / _LOCK, os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"{work}: another training is at work in it; wait for it, or give another --out") from error
        _claim(work, json.loads(json.dumps(about)))
        try:
            yield work
        except BadInput:
            if not _worth_keeping(work):
                clear(work)
            raise
    finally:
        os.close(lock)


def _claim(work: Path, about: dict[str, Any]) -> None:
    file = work / _ABOUT
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else about
    except ValueError:
        found = {}
    other = sorted(_differences(found, about))
    if other and _worth_keeping(work):  # else what was wrong has been put right
        shown = ", ".join(other[:4]) + (", ..." if len(other) > 4 else "")
        raise BadInput(
            f"{work}: an unfinished training of something else is there (differs in {shown}); "
            "give the same command as then, another --out, or remove that folder"
        )
    with disk_errors(str(file)):
        aside = file.with_suffix(".new")
        aside.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        aside.replace(file)


def _worth_keeping(work: Path) -> bool:
    """Whether hours may have gone into it: checkpoints, or reference log-probabilities."""
    return any(found for kind in ("checkpoint-*", "reference-*") for found in work.rglob(kind))


def _differences(found: Any, wanted: Any, at: str = "") -> Iterator[str]:
    """Keys under which two records differ, innermost."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {*found, *wanted}:
            yield from _differences(found.get(key), wanted.get(key), f"{at}.{key}" if at else str(key))
    elif found != wanted:
        yield at


def leave_logs(work: Path, final: Path, state: TrainerState) -> None:
    """Puts log, Trainer's state and curves beside a result, in its `training/`.

    Raises:
        BadInput: They cannot be written.
    """
    folder = final / "training"
    with disk_errors(str(folder)):
        folder.mkdir()
        shutil.copy(work / LOG_FILE, folder)
        state.save_to_json(str(folder / "trainer_state.json"))
        draw(folder / LOG_FILE, folder / "curves.svg")


def clear(work: Path) -> None:
    """Removes a finished training's work folder."""
    if is_main():
        shutil.rmtree(work, ignore_errors=True)


def need_space(
    out: Path, recipe: Recipe, models: Sequence[Checkpoint], *, whole_before: bool = False, merge: bool = False
) -> None:
    """A rough check before hours of work: checkpoints to resume from (three at a time, 12 bytes a weight) and results.

    Args:
        out: The result's place.
        recipe: What is trained.
        models: What it begins with, the one that trains first.
        whole_before: A whole checkpoint is written before the result, too: stage 1's.
        merge: The result is whole although LoRA trains.

    Raises:
        BadInput: There is not enough.
    """
    sizes = [_parameters(checkpoint) for checkpoint in models]
    whole = sum(sizes) * (2 if wants_bf16(recipe.tune) else 4)
    trained = 0 if recipe.lora is not None else sizes[0]
    written = whole * (int(whole_before) + int(recipe.lora is None or merge))
    folder = out.resolve().parent
    while not folder.exists():
        folder = folder.parent
    needed, free = 3 * 12 * trained + written + _SLACK, shutil.disk_usage(folder).free
    if free < needed:
        raise BadInput(f"--out {out}: about {needed / 1e9:.1f} GB needed there, {free / 1e9:.1f} GB free")


def _parameters(checkpoint: Checkpoint) -> int:
    """Weights of a checkpoint on disk; of pickled ones, as if they had two bytes each."""
    total = 0
    for file in checkpoint.fetch_weights():
        if file.suffix == ".safetensors":
            total += sum(math.prod(tensor["shape"]) for tensor in safetensors_header(file).values())
        else:
            total += file.stat().st_size // 2
    return total
