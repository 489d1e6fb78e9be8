"""Checkpoints are whole or not there, logs are plain, and a full disk or a loss that is no number is told in a line."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from mmalign_eval.tuning import trainer as trainer_module
from mmalign_eval.tuning.config import Stage
from mmalign_eval.tuning.trainer import (
    LOG_FILE,
    WEIGHTS_FILE,
    PlainLog,
    arguments,
    disk_errors,
    last_checkpoint,
    processes,
    wants_bf16,
)
from safetensors.torch import load_file, save_file

from mmalign_eval.errors import BadInput
from tests.tuning.conftest import LlavaData
from tests.tuning.train_support import STAGE, recipe, train, weights


def checkpoints(work: Path) -> list[str]:
    return sorted(folder.name for folder in work.iterdir() if folder.is_dir())


def test_a_checkpoint_holds_what_trains_and_the_last_two_stay(
    nano_llava: Path, llava_data: LlavaData, tmp_path: Path
) -> None:
    trained, _ = train(nano_llava, llava_data, tmp_path, recipe("mm-lora"))
    assert checkpoints(tmp_path) == ["checkpoint-6", "checkpoint-8"]  # at 3, 6 and the end; the last two
    last = last_checkpoint(tmp_path)
    assert last == str(tmp_path / "checkpoint-8")
    names = {file.name for file in Path(last).iterdir()}
    assert names == {WEIGHTS_FILE, "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    stored = load_file(Path(last) / WEIGHTS_FILE)
    wanted = {n: p.detach() for n, p in trained.named_parameters() if p.requires_grad}
    assert stored.keys() == wanted.keys()
    assert all(torch.equal(stored[name], wanted[name]) for name in wanted)


@pytest.mark.slow
def test_stops_before_the_schedule_has_come_down_at_a_checkpoint(
    nano_llava: Path, llava_data: LlavaData, tmp_path: Path
) -> None:
    _, done = train(nano_llava, llava_data, tmp_path, recipe(stop_after=5, save_every=100, log_every=100))
    assert done.steps == 5
    assert checkpoints(tmp_path) == ["checkpoint-5"]
    (entry,) = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert entry["step"] == 5
    assert entry["learning_rate"] > 3e-4


def test_no_number_is_no_checkpoint(nano_llava: Path, llava_data: LlavaData, tmp_path: Path) -> None:
    """The loss is no number long before it is logged; nothing is saved in between."""
    with pytest.raises(BadInput, match=r"stopped at step \d+: (loss|grad_norm) is nan; try a lower learning rate"):
        train(nano_llava, llava_data, tmp_path, recipe(lr=1e30, warmup=0, log_every=100, save_every=2, max_steps=10))
    for name in checkpoints(tmp_path):
        stored = load_file(tmp_path / name / WEIGHTS_FILE)
        assert all(bool(torch.isfinite(value).all()) for value in stored.values())


def test_no_number_in_the_log(tmp_path: Path) -> None:
    log = PlainLog(tmp_path / LOG_FILE, 0, lambda *told: None)
    state: Any = type("State", (), {"global_step": 7, "is_world_process_zero": True, "max_steps": 9})()
    with pytest.raises(BadInput, match="stopped at step 7: grad_norm is inf"):
        log.on_log(None, state, None, {"loss": 1.0, "grad_norm": float("inf")})  # type: ignore[arg-type]
    assert not (tmp_path / LOG_FILE).exists()


@pytest.mark.parametrize(
    "room", [pytest.param(2_000, marks=pytest.mark.slow), pytest.param(150_000, marks=pytest.mark.slow), 400_000]
)
def test_a_full_disk_leaves_no_half_checkpoint(
    nano_llava: Path, llava_data: LlavaData, tmp_path: Path, room: int
) -> None:
    """A limit on file sizes stands for the disk: it meets weights, or the optimizer's state, as they are written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(BadInput, match=r"checkpoint .*checkpoint-3 cannot be written: \S+") as caught:
            train(nano_llava, llava_data, tmp_path, recipe())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert checkpoints(tmp_path) == []
    assert last_checkpoint(tmp_path) is None
    _, done = train(nano_llava, llava_data, tmp_path, recipe())  # room again: the same goes on
    assert done.steps == 8


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "here cannot be written: No space left on device"),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/3"), "the disk is full"),
    ],
)
def test_errors_of_disks(error: Exception, said: str) -> None:
    with pytest.raises(BadInput, match=said), disk_errors("here"):
        raise error


def test_other_errors_are_not_the_disks() -> None:
    with pytest.raises(RuntimeError, match="shapes"), disk_errors("here"):
        raise RuntimeError("shapes differ")


def test_every_file_of_a_checkpoint_is_looked_at(nano_llava: Path, llava_data: LlavaData, tmp_path: Path) -> None:
    train(nano_llava, llava_data, tmp_path, recipe(max_steps=3))
    files = sorted((tmp_path / "checkpoint-3").iterdir())
    assert len(files) == 5
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BadInput, match=f"{file.name} cannot be read .* remove .*checkpoint-3 to go on") as caught:
            train(nano_llava, llava_data, tmp_path, recipe())
        assert "\n" not in str(caught.value)
        file.write_bytes(whole)
    (tmp_path / "checkpoint-3" / "optimizer.pt").unlink()  # Trainer would begin with a new one
    with pytest.raises(BadInput, match=r"optimizer.pt cannot be read"):
        train(nano_llava, llava_data, tmp_path, recipe())


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_or_foreign_checkpoint_is_refused(
    nano_llava: Path, llava_data: LlavaData, tmp_path: Path, damage: str
) -> None:
    train(nano_llava, llava_data, tmp_path, recipe(max_steps=3))
    file = tmp_path / "checkpoint-3" / WEIGHTS_FILE
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        save_file({"something": torch.zeros(2)}, file)
    said = "cannot be read .* remove .*checkpoint-3" if damage == "cut" else "of another training"
    with pytest.raises(BadInput, match=said):
        train(nano_llava, llava_data, tmp_path, recipe())


@pytest.mark.slow
def test_leftovers_of_a_killed_save_are_no_checkpoint(nano_llava: Path, llava_data: LlavaData, tmp_path: Path) -> None:
    (tmp_path / "aside" / "checkpoint-99").mkdir(parents=True)
    _, done = train(nano_llava, llava_data, tmp_path, recipe(max_steps=3))
    assert done.steps == 3
    assert checkpoints(tmp_path) == ["checkpoint-3"]


def test_a_resumed_log_has_each_step_once(nano_llava: Path, llava_data: LlavaData, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(nano_llava, llava_data, whole, recipe(max_steps=8))
    train(nano_llava, llava_data, broken, recipe(max_steps=8, stop_after=5))
    with (broken / LOG_FILE).open("a") as log:  # written after the checkpoint that is gone on from, and cut by a kill
        log.write('{"step": 6, "loss": 0.0}\n{"step": 7, "lo')
    train(nano_llava, llava_data, broken, recipe(max_steps=8))
    one, two = ([json.loads(s) for s in (work / LOG_FILE).read_text().splitlines()] for work in (whole, broken))
    assert [e["step"] for e in one] == [2, 3, 4, 6, 8]
    assert [e["step"] for e in two] == [2, 3, 4, 5, 6, 8]
    assert [e["loss"] for e in one if e["step"] == 8] == [e["loss"] for e in two if e["step"] == 8]


def test_batch_and_precision_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage = Stage.model_validate({**STAGE, "batch": 6, "micro_batch": 2})
    assert stage.accumulation(processes(), "tune") == 3
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match=r"batch 6 is no multiple of micro_batch 2 x 2 processes.*tune.batch"):
        stage.accumulation(processes(), "tune")
    monkeypatch.setattr(trainer_module.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(trainer_module.torch.cuda, "is_bf16_supported", lambda: False)
    assert wants_bf16(stage.model_copy(update={"precision": "auto"})) is False
    with pytest.raises(BadInput, match="this GPU has no bfloat16"):
        wants_bf16(stage.model_copy(update={"precision": "bf16"}))


def test_constant_schedule_warms_up_too(tmp_path: Path) -> None:
    stage = Stage.model_validate({**STAGE, "schedule": "constant", "warmup": 0.5})
    assert arguments(stage, tmp_path, 0).lr_scheduler_type == "constant_with_warmup"


def test_weights_of_a_copy_do_not_move(nano_llava: Path, llava_data: LlavaData, tmp_path: Path) -> None:
    """The helper of these tests copies: else nothing could be seen to change."""
    trained, _ = train(nano_llava, llava_data, tmp_path, recipe(max_steps=1))
    before = weights(trained)
    with torch.no_grad():
        trained.lm_head.weight.add_(1)
    assert not torch.equal(before["lm_head.weight"], trained.lm_head.weight)
