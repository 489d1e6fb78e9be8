"""`--fsdp` over two CPU processes gives what one process gives: losses, all that is logged, and weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmalign_eval.tuning.bpo import run
from safetensors.torch import load_file

from tests.support import REPO

from .bpo_sharded_run import job
from .bpo_support import make_world

pytestmark = pytest.mark.slow

LORA, WHOLE = "adapter_model.safetensors", "model.safetensors"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the results of one process and of two."""
    world = make_world(tmp_path_factory.mktemp("sharded"), pairs=15)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = ["-m", "tests.tuning.bpo_sharded_run", str(world), str(world / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *script], cwd=REPO, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    one = world / "one"
    run(job(world, one / "lora"), lambda line: None)
    run(job(world, one / "full", lora=False), lambda line: None)
    run(job(world, one / "half", merge=True, precision="bf16"), lambda line: None)
    return one, world / "two"


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "training" / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("mode", "file"), [("lora", LORA), ("full", WHOLE)])
def test_two_processes_are_one(both: tuple[Path, Path], mode: str, file: str) -> None:
    one, two = (folder / mode for folder in both)
    ours, theirs = log(two), log(one)
    assert [row["step"] for row in ours] == [1, 2, 2, 3, 4, 4]
    assert sum("eval_kl" in row for row in ours) == 2
    for row, wanted in zip(ours, theirs, strict=True):
        assert row == pytest.approx(wanted, rel=1e-5, abs=1e-5)  # losses, norms, rewards, held-out pairs, divergence
    assert theirs[-1]["eval_kl"] > 1e-3
    found, expected = load_file(two / file), load_file(one / file)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-5, rtol=1e-4, msg=name)
    assert {f.name for f in two.iterdir()} == {f.name for f in one.iterdir()}
    records = [json.loads((out / "mmeval.json").read_text(encoding="utf-8")) for out in (one, two)]
    for record in records:
        assert record.pop("held_out")["eval_kl"] > 1e-3
        record.pop("displacement")
    assert records[0] == records[1]


def test_shares_of_held_out_pairs_were_unlike(both: tuple[Path, Path]) -> None:
    """Or the tests would say nothing of a process that waits for another."""
    record = json.loads((both[1] / "lora" / "mmeval.json").read_text(encoding="utf-8"))
    assert record["pairs"]["held out"] % 2 == 1


def test_resumed_is_as_uninterrupted(both: tuple[Path, Path]) -> None:
    two = both[1]
    assert log(two / "again") == log(two / "lora")
    ours, theirs = (load_file(two / name / LORA) for name in ("again", "lora"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not (two / "again.work").exists()


def test_bfloat16_begins_where_its_reference_is(both: tuple[Path, Path]) -> None:
    """The reference rounds as training does; a merged checkpoint has the type it has without sharding."""
    one, two = (folder / "half" for folder in both)
    first = log(two)[0]
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert log(two)[-1]["eval_loss"] == pytest.approx(log(one)[-1]["eval_loss"], rel=0.05)
    found, expected = load_file(two / WHOLE), load_file(one / WHOLE)
    assert {name: value.dtype for name, value in found.items()} == {n: value.dtype for n, value in expected.items()}
    for name, value in expected.items():
        assert (found[name].float() - value.float()).abs().max() < 0.03, name
