"""FSDP2 over two CPU processes gives what one process gives, and what is asked for is in effect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmalign_eval.tuning.sharding import layers, mesh_of_all, wrap_for_trainer
from safetensors.torch import load_file

from mmalign_eval.errors import BadInput
from mmalign_eval.miniature.nano import make_llava
from tests.support import REPO

from .sharding_run import model_of, train


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Folder of the single process' results, of the two processes', and the latter's report."""
    root = tmp_path_factory.mktemp("fsdp")
    nano = make_llava(root / "nano")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = ["-m", "tests.tuning.sharding_run", str(nano), str(root / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *script], cwd=REPO, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((root / "two" / "results.json").read_text())
    report["one"] = {
        "full": train(str(nano), root / "one" / "full", lora=False, fsdp=False),
        "lora": train(str(nano), root / "one" / "lora", lora=True, fsdp=False),
    }
    return root / "one", root / "two", report


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_losses_and_gradient_norms_are_those_of_one_process(both: tuple[Path, Path, Any], mode: str) -> None:
    log, expected = both[2][mode]["log"], both[2]["one"][mode]["log"]
    assert len(log) == 4
    for ours, theirs in zip(log, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert len({round(loss, 3) for loss, _ in log}) > 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_gathered_weights_and_their_logits_are_those_of_one_process(both: tuple[Path, Path, Any], mode: str) -> None:
    one, two, report = both
    ours, theirs = (torch.load(folder / mode / "result.pt", weights_only=True) for folder in (two, one))
    assert ours["state"].keys() == theirs["state"].keys()
    for name, expected in theirs["state"].items():
        torch.testing.assert_close(ours["state"][name], expected, atol=2e-5, rtol=1e-4, msg=name)
    torch.testing.assert_close(ours["logits"], theirs["logits"], atol=2e-4, rtol=1e-4)
    assert report[mode]["wrapped"] == f"FSDP{report[mode]['class']}"
    assert not report[mode]["class"].startswith("FSDP")


@pytest.mark.slow
def test_only_what_is_trained_changed(both: tuple[Path, Path, Any]) -> None:
    before = model_of(str(both[0].parent / "nano"), lora=True).state_dict()
    after = torch.load(both[1] / "lora" / "result.pt", weights_only=True)["state"]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "lora_" in name}


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "file"), [("full", "model.safetensors"), ("lora", "adapter_model.safetensors")])
def test_its_checkpoint_is_a_single_process_one(both: tuple[Path, Path, Any], mode: str, file: str) -> None:
    one, two, _ = both
    resume = "trainable.safetensors" if mode == "lora" else file
    for part, found in (("checkpoint-2", resume), ("checkpoint-4", resume), ("final", file)):
        ours, theirs = load_file(two / mode / part / found), load_file(one / mode / part / found)
        assert ours.keys() == theirs.keys()
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], atol=2e-5, rtol=1e-4, msg=name)
    config = json.loads((two / mode / "final" / file.replace("model.safetensors", "config.json")).read_text())
    assert config.get("architectures", ["LlavaForConditionalGeneration"]) == ["LlavaForConditionalGeneration"]


@pytest.mark.slow
def test_resumed_is_as_uninterrupted(both: tuple[Path, Path, Any]) -> None:
    _, two, report = both
    assert report["resumed"]["log"][-2:] == report["lora"]["log"][-2:]
    ours, theirs = (load_file(two / run / "final" / "adapter_model.safetensors") for run in ("resumed", "lora"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_bfloat16_computes_in_it_and_keeps_float32(both: tuple[Path, Path, Any]) -> None:
    _, two, report = both
    losses = [[loss for loss, _ in report[mode]["log"]] for mode in ("half", "lora")]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert losses[0] != losses[1]
    stored = load_file(two / "half" / "checkpoint-4" / "trainable.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float32}


@pytest.mark.slow
def test_ddp_in_its_place_is_refused(both: tuple[Path, Path, Any]) -> None:
    assert both[2]["refused"] == "--fsdp is not in effect: the model is wrapped as DistributedDataParallel"


def test_one_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import Trainer

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for ask in (lambda: mesh_of_all("cpu"), lambda: wrap_for_trainer(Trainer)):
        with pytest.raises(BadInput, match="start it with torchrun"):
            ask()


def test_layers_are_the_language_models(tmp_path: Path) -> None:
    model = model_of(str(make_llava(tmp_path)), lora=True)
    assert [type(layer).__name__ for layer in layers(model)] == ["LlamaDecoderLayer"] * 2
    with pytest.raises(BadInput, match="no language_model.layers"):
        layers(torch.nn.Linear(2, 2))
