"""Preference tuning on a nano LLaVA: what changes, what does not, what is logged, and what faults leave behind."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mmalign_eval.tuning import bpo
from mmalign_eval.tuning.bpo import BpoJob, displacement, run
from mmalign_eval.tuning.bpo_trainer import BpoTrainer, preference_loss, summary
from mmalign_eval.tuning.config import Preference, Recipe
from mmalign_eval.tuning.logprobs import answer_logits, token_logprobs
from safetensors.torch import load_file

from mmalign_eval.errors import BadInput
from mmalign_eval.miniature.nano import make_llava
from mmalign_eval.report.figures import training_curves

from .bpo_support import make_world, recipe


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("bpo"))


def job(world: Path, out: Path, made: Recipe | None = None, **more: Any) -> BpoJob:
    return BpoJob(str(world / "llava"), world / "pairs.json", world / "images", out, made or recipe(), **more)


def quiet(line: str) -> None:
    pass


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "training" / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def trainer_of(world: Path, folder: Path, made: Recipe, layout: str = "packed") -> BpoTrainer:
    """As `run` makes it, reference filled, nothing trained."""
    given = job(world, folder / "out", made, layout=layout)
    found = bpo._read(given)
    train, held_out = bpo._items(given, found, "base")
    folder.mkdir(parents=True, exist_ok=True)
    trainer = bpo._trainer(given, found, folder, bpo._model(given), train, held_out, quiet)
    bpo._fill(trainer, [*train, *held_out], quiet)
    return trainer


def close(found: float, wanted: float) -> bool:
    return abs(found - wanted) <= 1e-5 * max(1.0, abs(wanted))


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_the_loss_is_eq_4() -> None:
    policy, reference = torch.tensor([[-3.0, -5.0], [-10.0, -9.0]]), torch.tensor([[-4.0, -4.5], [-9.0, -9.0]])
    found = preference_loss(policy, reference, 0.1).tolist()
    wanted = [-math.log(1 / (1 + math.exp(-0.1 * gain))) for gain in ((2.0 - 0.5), (-1.0 - 0.0))]
    assert all(close(a, b) for a, b in zip(found, wanted, strict=True))


def test_summary_of_two_pairs() -> None:
    told = torch.tensor([[-3.0, -5.0, -4.0, -4.5, 0.6, 1.5], [-10.0, -9.0, -9.0, -9.0, 0.7, 2.5]])
    found = summary(told, Preference(beta=0.1, anchor=0.5))
    assert found["logps/chosen"] == -6.5
    assert close(found["logps/chosen_sd"], math.sqrt(2 * 3.5**2))
    assert found["logps/base"] == -6.5
    assert close(found["rewards/chosen"], 0.0)
    assert close(found["rewards/rejected"], -0.025)
    assert close(found["rewards/margins"], 0.025)
    assert found["rewards/accuracies"] == 0.5
    assert found["anchor"] == 2.0
    assert "anchor" not in summary(told, Preference())


def test_the_anchor_is_nats_a_token_of_the_chosen_answer(world: Path, tmp_path: Path) -> None:
    losses = []
    for anchor in (0.0, 0.5):
        trainer = trainer_of(world, tmp_path / str(anchor), recipe(preference={"anchor": anchor}))
        items = trainer.items[:4]
        losses.append(trainer.compute_loss(trainer.model, trainer.collate(items)).item())  # type: ignore[arg-type]
    known = [trainer.references.known[item.key][0] / len(item.ids.chosen) for item in items]
    assert losses[0] == pytest.approx(math.log(2), rel=1e-5)  # nothing is trained yet: B of zeros
    assert losses[1] - losses[0] == pytest.approx(-0.5 * sum(known) / 4, rel=1e-4)


def test_displacement_is_said_from_held_out_pairs_where_there_are_any() -> None:
    train = {"logps/base": -9.0, "logps/chosen": -8.0}
    held = {"eval_logps/base": -9.0, "eval_logps/chosen": -10.0}
    assert displacement([{"loss": 1.0}]) is None
    up, down = displacement([held, {**train}][1:]), displacement([train, held])
    assert up is not None
    assert not up["fell"]
    assert up["pairs"] == "train"
    assert "did not fall" in up["verdict"]
    assert down is not None
    assert down["fell"]
    assert down["pairs"] == "held_out"
    assert "fell from -9 to -10 (likelihood displacement)" in down["verdict"]


# -- training ---------------------------------------------------------------------------------------------------------


def test_only_lora_trains_and_the_reference_stays(world: Path, tmp_path: Path) -> None:
    trainer = trainer_of(world, tmp_path, recipe(data={"held_out": 0.3}))
    model: Any = trainer.model
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainer.train()
    for name, parameter in model.named_parameters():
        lora = ".language_model." in name and ".lora_" in name
        assert lora == (not torch.equal(parameter, before[name])), name
    items = trainer.items
    again = trainer.base_logprobs(items)
    known = torch.tensor([trainer.references.known[item.key] for item in items])
    assert torch.allclose(again, known, rtol=1e-5, atol=1e-4)


def test_the_reference_does_not_drift_where_the_projector_trains(world: Path, tmp_path: Path) -> None:
    trainer = trainer_of(world, tmp_path, recipe(preference={"train_projector": True}, lr=2e-2))
    items = trainer.items[:4]
    known = torch.tensor([trainer.references.known[item.key] for item in items])
    trainer.train()
    model: Any = trainer.model
    moved = [n for n, p in model.named_parameters() if p.requires_grad and "multi_modal_projector" in n]
    assert moved
    assert all(".modules_to_save." in name for name in moved)
    with trainer.at_rest():
        batch, features = trainer._seen(items)
        tuned = token_logprobs(answer_logits(trainer.model, batch, features), batch["token"])
        assert not torch.allclose(tuned.sum(), known.sum(), atol=1e-2)
    assert torch.allclose(trainer.base_logprobs(items), known, rtol=1e-5, atol=1e-4)


def test_full_tuning_leaves_the_tower_and_measures_from_the_first_weights(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "full"
    record = run(job(world, out, recipe(lora=False, data={"held_out": 0.3}, lr=1e-3, max_steps=3)), quiet)
    before, after = load_file(world / "llava" / "model.safetensors"), load_file(out / "model.safetensors")
    renamed = {name.replace("vision_tower.vision_model.", "vision_tower."): value for name, value in after.items()}
    before = {name.replace("vision_tower.vision_model.", "vision_tower."): value for name, value in before.items()}
    assert renamed.keys() == before.keys()
    changed = {name for name, value in before.items() if not torch.equal(value, renamed[name])}
    assert changed
    assert not any("vision_tower" in name for name in changed)
    assert any("multi_modal_projector" in name for name in changed)
    assert record["held_out"]["eval_kl"] > 0


def test_accumulation_and_layout_change_nothing(world: Path, tmp_path: Path) -> None:
    weights, losses = [], []
    for micro_batch, layout in ((4, "packed"), (2, "packed"), (1, "rows")):
        trainer = trainer_of(world, tmp_path / f"{micro_batch}{layout}", recipe(micro_batch=micro_batch), layout)
        trainer.train()
        model: Any = trainer.model
        weights.append({n: p.detach() for n, p in model.named_parameters() if p.requires_grad})
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    for other, found in zip(weights[1:], losses[1:], strict=True):
        assert all(close(a, b) for a, b in zip(found, losses[0], strict=True))
        assert all(torch.allclose(other[n], value, rtol=1e-3, atol=1e-5) for n, value in weights[0].items())


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing(world: Path, tmp_path: Path) -> None:
    losses = []
    for on in (False, True):
        trainer = trainer_of(world, tmp_path / str(on), recipe(gradient_checkpointing=on, max_steps=3))
        trainer.train()
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    assert all(close(a, b) for a, b in zip(*losses, strict=True))
    assert abs(losses[0][-1] - math.log(2)) > 1e-3


@pytest.mark.slow
def test_bfloat16_is_near_float32(world: Path, tmp_path: Path) -> None:
    means = {}
    for precision in ("fp32", "bf16"):
        made = recipe(precision=precision, max_steps=4, data={"held_out": 0.3})
        trainer = trainer_of(world, tmp_path / precision, made)
        trainer.train()
        assert trainer.evaluate()["eval_kl"] > 0
        model: Any = trainer.model
        kinds = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
        assert kinds == {torch.float32}
        log = [row for row in trainer.state.log_history if "loss" in row]
        assert log[0]["loss"] == pytest.approx(math.log(2), abs=0.02)
        means[precision] = [row["logps/chosen"] for row in log]
    assert model.get_base_model().lm_head.weight.dtype == torch.bfloat16
    assert means["bf16"] != means["fp32"]
    assert means["bf16"] == pytest.approx(means["fp32"], rel=0.02)


@pytest.mark.slow
def test_the_anchor_holds_the_chosen_answers(world: Path, tmp_path: Path) -> None:
    ends = []
    for anchor in (0.0, 2.0):
        out = tmp_path / f"a{anchor}"
        run(job(world, out, recipe(preference={"anchor": anchor}, max_steps=8, lr=1e-2)), quiet)
        entry = [row for row in log_of(out) if "loss" in row][-1]
        ends.append(entry["logps/chosen"] - entry["logps/base"])
        assert ("anchor" in entry) == (anchor > 0)
    assert ends[1] > ends[0] + 0.5


# -- evaluation, log, record -------------------------------------------------------------------------------------------


def test_divergence_is_the_definition(world: Path, tmp_path: Path) -> None:
    trainer = trainer_of(world, tmp_path, recipe(data={"held_out": 0.3}, lr=1e-2))
    assert close(trainer.evaluate()["eval_kl"], 0.0)
    trainer.train()
    found = trainer.evaluate()["eval_kl"]
    total, count = 0.0, 0
    model: Any = trainer.model
    for item in trainer.held_out:
        with trainer.at_rest():
            batch, features = trainer._seen([item])
            now = answer_logits(model, batch, features).double().softmax(dim=1)
            with model.disable_adapter():
                then = answer_logits(model, batch, features).double().softmax(dim=1)
        length = len(item.ids.chosen)
        total += float((now[:length] * (now[:length] / then[:length]).log()).sum())
        count += length
    assert found > 1e-3
    assert abs(found - total / count) <= 1e-4 * found


def test_what_a_training_leaves(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told: list[str] = []
    record = run(job(world, out, recipe(data={"held_out": 0.3}, eval_every=3), seed=5), told.append)
    assert sorted(p.name for p in out.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "mmeval.json", "training",
    ]  # fmt: skip
    assert sorted(p.name for p in (out / "training").iterdir()) == ["curves.svg", "log.jsonl", "trainer_state.json"]
    assert not out.with_name("out.work").exists()
    assert record == json.loads((out / "mmeval.json").read_text(encoding="utf-8"))
    assert record["tuned"]["method"] == "bpo"
    assert record["tuned"]["seed"] == 5
    assert record["pairs"]["read"] == 16 == record["pairs"]["train"] + record["pairs"]["held out"]
    assert len(record["training"]["images"]) == 8
    assert record["lora_dropout"].startswith("none")
    assert record["displacement"]["verdict"] in told
    log = log_of(out)
    steps = [row for row in log if "loss" in row]
    evaluations = [row for row in log if "eval_loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in evaluations] == [3, 6]
    for name in ("logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected", "rewards/margins"):
        assert all(name in row and f"{name}_sd" in row for row in steps)
        assert all(f"eval_{name}" in row for row in evaluations)
    assert all("eval_kl" in row and "eval_rewards/accuracies" in row for row in evaluations)
    assert "log-probability, chosen" in (out / "training" / "curves.svg").read_text(encoding="utf-8")
    assert "logps, chosen" in [row[0] for row in training_curves(out / "training" / "log.jsonl").data]


def test_finished_is_finished(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = job(world, out, recipe(max_steps=1))
    run(given, quiet)
    stamp = (out / "adapter_model.safetensors").stat().st_mtime_ns
    told: list[str] = []
    run(given, told.append)
    assert (out / "adapter_model.safetensors").stat().st_mtime_ns == stamp
    assert told == [f"{out} is there already, of this recipe, data, base and seed"]
    with pytest.raises(BadInput, match="another recipe"):
        run(job(world, out, recipe(max_steps=2)), quiet)
    with pytest.raises(BadInput, match="another choice of --merge"):
        run(replace(given, merge=True), quiet)
    with pytest.raises(BadInput, match="another base"):
        run(replace(given, model=str(make_llava(tmp_path / "other", seed=5))), quiet)


@pytest.mark.slow
def test_the_reference_is_computed_of_what_is_drawn_and_shared_by_trainings(world: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    lines, told = [], []
    for number, (steps, lr) in enumerate(((2, 1e-2), (2, 1e-3), (3, 1e-2))):
        run(job(world, tmp_path / f"out{number}", recipe(max_steps=steps, lr=lr), references=shared), told.append)
        lines.append(sum(file.read_bytes().count(b"\n") for file in shared.glob("reference-*.jsonl")))
    assert lines == [8, 8, 12]  # 16 pairs, 4 a step
    said = [line for line in told if line.startswith("reference")]
    assert [line[: len("reference 8/8 pairs")] for line in said] == ["reference 8/8 pairs", "reference 4/4 pairs"]
    assert said[0].endswith(" pairs/s  done")
    run(job(world, tmp_path / "alone", recipe(max_steps=2)), quiet)
    run(job(world, tmp_path / "again", recipe(max_steps=2), references=shared), quiet)
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("alone", "again"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_shared_reference_is_of_one_image_processor(world: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(world / "llava", other)
    file = other / "processor_config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["image_processor"]["image_mean"] = [0.1, 0.9, 0.1]
    file.write_text(json.dumps(content), encoding="utf-8")
    made = recipe(max_steps=1)
    run(job(world, tmp_path / "one", made, references=tmp_path / "shared"), quiet)
    run(replace(job(world, tmp_path / "two", made, references=tmp_path / "shared"), model=str(other)), quiet)
    run(replace(job(world, tmp_path / "alone", made), model=str(other)), quiet)
    one, two, alone = (log_of(tmp_path / name)[0]["logps/base"] for name in ("one", "two", "alone"))
    assert two == alone
    assert abs(one - two) > 1e-4


@pytest.mark.slow
def test_merged_gives_the_logits_of_the_adapter(world: Path, tmp_path: Path) -> None:
    from mmalign_eval.tuning.loading import load_llava

    from mmalign_eval.models import peft_adapter

    made = recipe(lr=2e-2, max_steps=3)
    run(job(world, tmp_path / "adapter", made), quiet)
    run(job(world, tmp_path / "merged", made, merge=True), quiet)
    base, _ = load_llava(str(world / "llava"))
    merged, _ = load_llava(str(tmp_path / "merged"))
    ids = torch.arange(10, 40)[None]
    with torch.no_grad():
        plain = base(input_ids=ids).logits
        adapted = peft_adapter.apply(base, str(tmp_path / "adapter"), lambda name: name)(input_ids=ids).logits
        whole = merged(input_ids=ids).logits
    assert torch.allclose(adapted, whole, atol=1e-4)
    assert not torch.allclose(plain, whole, atol=1e-2)


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_leaves_no_result(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadInput, match="lower learning rate"):
        run(job(world, out, recipe(lr=1e30, max_grad_norm=0.0)), quiet)
    assert not out.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from mmalign_eval.tuning import bpo_trainer
from tests.tuning.test_bpo import job, recipe
world, out, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
seen = bpo_trainer.BpoTrainer.compute_loss
def dies(self, *given, **named):
    if self.state.global_step == step:
        os.kill(os.getpid(), signal.SIGKILL)
    return seen(self, *given, **named)
bpo_trainer.BpoTrainer.compute_loss = dies
from mmalign_eval.tuning.bpo import run
run(job(world, out, recipe(save_every=2, max_steps=7, data={"held_out": 0.3}, eval_every=3)), print)
"""


@pytest.mark.slow
def test_killed_and_resumed_is_the_training_that_was_not_killed(world: Path, tmp_path: Path) -> None:
    made = recipe(save_every=2, max_steps=7, data={"held_out": 0.3}, eval_every=3)
    command = [sys.executable, "-c", KILLED, str(world), str(tmp_path / "killed"), "5"]
    died = subprocess.run(command, env=os.environ, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert died.returncode == -signal.SIGKILL, died.stderr
    work = tmp_path / "killed.work"
    references = (work / "reference-0.jsonl").read_bytes()
    assert references.count(b"\n") == 16
    told: list[str] = []
    run(job(world, tmp_path / "killed", made), told.append)
    assert not any(line.startswith("reference") for line in told)  # computed once
    assert not any(line.startswith("step     1/") for line in told)
    run(job(world, tmp_path / "whole", made), quiet)
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("killed", "whole"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")
