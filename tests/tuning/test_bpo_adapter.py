"""Preference tuning that begins with a base and its PEFT adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmalign_eval.tuning.bpo import BpoJob, run
from mmalign_eval.tuning.config import Lora
from mmalign_eval.tuning.export import save_adapter
from mmalign_eval.tuning.loading import load_llava
from mmalign_eval.tuning.lora import add_lora

from mmalign_eval.cli.main import main
from mmalign_eval.errors import BadInput
from mmalign_eval.models.hf import open_model

from .bpo_support import make_world, recipe

BARELY = {"lr": 1e-30, "max_steps": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `first`, an adapter that changes the LLaVA, its projector too."""
    folder = make_world(tmp_path_factory.mktemp("adapter"))
    model = add_lora(load_llava(str(folder / "llava"))[0], Lora(r=4, alpha=8), train_projector=True)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    save_adapter(model, folder / "first")
    facts = {"training": {"coco_ids": [77], "images": []}}
    (folder / "first" / "mmeval.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def job(world: Path, out: Path, **more: Any) -> BpoJob:
    made = recipe(lora=more.pop("lora", True), **BARELY)
    given = {"adapter": str(world / "first"), "merge": True, **more}
    return BpoJob(str(world / "llava"), world / "pairs.json", world / "images", out, made, **given)


def logits(model: Any) -> torch.Tensor:
    torch.manual_seed(3)
    shown = {"pixel_values": torch.randn(1, 3, 24, 24)}
    ids = torch.randint(10, 500, (1, 12))
    ids[0, 1:5] = model.config.image_token_id
    with torch.no_grad():
        return model(input_ids=ids, **shown).logits


def test_base_and_adapter_are_the_base_and_what_a_result_of_theirs_is_called(world: Path, tmp_path: Path) -> None:
    scored = open_model(str(world / "llava"), {"adapter": str(world / "first"), "dtype": "float32", "device": "cpu"})
    record = run(job(world, tmp_path / "out"), lambda line: None)
    identity = scored.identity()
    wanted = {"name": scored.name, "weights": identity["weights"], "peft": identity["peft"]}
    assert record["tuned"]["base"] == wanted
    assert wanted["peft"]
    assert 77 in record["training"]["coco_ids"]
    scored.load()
    before, after = logits(scored._model), logits(load_llava(str(tmp_path / "out"))[0])  # one step at next to no rate
    assert torch.allclose(after, before, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(load_llava(str(world / "llava"))[0]), before, rtol=0.1, atol=0.1)
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    with pytest.raises(BadInput, match="of another base; give another --out"):
        run(job(world, tmp_path / "out", adapter=""), lambda line: None)


@pytest.mark.slow
def test_the_reference_is_base_and_adapter(world: Path, tmp_path: Path) -> None:
    """The first step's margins are 0, as from any base; a shared folder keeps both bases' numbers apart."""
    shared = tmp_path / "references"
    for name, more in (("plain", {"adapter": "", "merge": False}), ("both", {}), ("full", {"lora": False})):
        run(job(world, tmp_path / name, references=shared, **more), lambda line: None)
    first = {}
    for name in ("plain", "both", "full"):
        lines = (tmp_path / name / "training" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        first[name] = json.loads(lines[0])
        assert abs(first[name]["rewards/margins"]) < 1e-5
        assert abs(first[name]["logps/base"] - first[name]["logps/chosen"]) < 1e-3
    assert abs(first["both"]["logps/base"] - first["plain"]["logps/base"]) > 0.1
    assert abs(first["both"]["logps/base"] - first["full"]["logps/base"]) < 1e-3


def test_merged_in_float32_then_rounded(world: Path) -> None:
    kinds, given = (torch.float32, torch.bfloat16), str(world / "first")
    exact, half = (load_llava(str(world / "llava"), kind, given)[0] for kind in kinds)
    for one, other in zip(exact.parameters(), half.parameters(), strict=True):
        assert torch.equal(one.to(torch.bfloat16), other)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--adapter", "first"], "a model that has one already, and --model takes one only: add --merge"),
        (["--adapter", "none", "--merge"], "none: no PEFT adapter there (no adapter_config.json)"),
        (["--adapter", "llava", "--merge"], "llava: no PEFT adapter there"),
        (["--fsdp"], "--fsdp spreads the model over several processes: start it with torchrun"),
    ],
)
def test_refused_in_one_line_before_any_work(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: list[str],
    said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(world)
    given = ["--model", "llava", "--pairs", "pairs.json", "--images", "images", "--recipe", "mini-bpo"]
    assert main(["tune", "bpo", *given, "--out", str(tmp_path / "out"), *more]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not list(tmp_path.iterdir())
