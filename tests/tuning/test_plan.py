"""`mmeval tune plan` and `mmeval tune recipes`: numbers, refusals, and that nothing heavy is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mmalign_eval.tuning.architectures import build
from mmalign_eval.tuning.config import load_recipe, recipe_names
from mmalign_eval.tuning.lora import prepare
from mmalign_eval.tuning.memory import Run, parameters
from mmalign_eval.tuning.plan import plan, shape_of
from typer.testing import CliRunner

from mmalign_eval.cli.main import app
from mmalign_eval.errors import BadInput


def test_steps_of_the_papers() -> None:
    stage_1, stage_2 = plan(load_recipe("llama2-7b-mm-lora"), gpus=8)
    assert (stage_1.steps, stage_1.accumulation) == (4649, 1)  # 595,000 / 128, the last batch filled up
    assert (stage_2.steps, stage_2.accumulation) == (1250, 2)  # 80,000 / 64; 4 x 8 x 2
    assert stage_2.trained == 159_907_840 + 4_198_400
    assert stage_2.tokens == 1250 * 64 * 2048
    (bpo,) = plan(load_recipe("llava15-7b-bpo"), gpus=8)
    assert (bpo.steps_per_epoch, bpo.steps, bpo.accumulation) == (5241, 10482, 1)
    assert bpo.trained == 159_907_840
    assert bpo.parameters == 7_063_427_072 + 159_907_840


def test_samples_steps_and_early_stops() -> None:
    recipe = load_recipe("llava15-7b-bpo")
    assert plan(recipe, samples=100)[0].steps == 8  # two epochs of 100 / 32
    assert plan(load_recipe("llava15-7b-bpo-25pct"))[0].samples == 41_928
    assert plan(load_recipe("mini-mm-ft"))[-1].steps == 468
    assert plan(load_recipe("mini-mm-ft", {"tune.stop_after": "300"}))[-1].steps == 300


@pytest.mark.parametrize("name", ["mini-mm-ft", "mini-mm-lora", "mini-bpo", "llama2-7b-mm-lora"])
def test_parameters_are_those_of_the_real_modules(name: str) -> None:
    recipe = load_recipe(name)
    model = prepare(build(recipe), recipe, "tune")
    stage = plan(recipe)[-1]
    assert stage.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert stage.trained == sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def test_every_recipe_has_a_plan() -> None:
    for name in recipe_names():
        recipe = load_recipe(name)
        for stage in plan(recipe, gpus=2):
            assert stage.fsdp is not None
            assert stage.fsdp.total > 0
            assert stage.ddp.weights >= 2 * stage.parameters
            assert stage.steps > 0
        shape = shape_of(recipe)
        assert parameters(shape, Run(1, 1, 1))[0] == shape.language + shape.projector_trained


def test_more_gpus_and_shorter_rows_take_less() -> None:
    recipe = load_recipe("llama2-7b-mm-ft")
    two, eight = (plan(recipe, gpus)[-1] for gpus in (2, 8))
    assert two.fsdp is not None
    assert eight.fsdp is not None
    assert eight.fsdp.total < two.fsdp.total < two.ddp.total
    assert plan(recipe, 8, length=512)[-1].ddp.activations < eight.ddp.activations
    assert plan(recipe)[-1].fsdp is None
    # LLaMA-7B in full: float32 weights, gradients and two moments alone
    assert plan(recipe, 8)[-1].ddp.total > 16 * 6_738_415_616


def test_bfloat16_or_not() -> None:
    recipe = load_recipe("llava15-7b-bpo")
    half, full = plan(recipe)[0], plan(load_recipe("llava15-7b-bpo", {"tune.precision": "fp32"}))[0]
    assert (half.precision, full.precision) == ("bf16", "fp32")
    assert full.ddp.weights > 1.9 * half.ddp.weights


def test_refusals() -> None:
    with pytest.raises(
        BadInput, match="tune: batch 32 is no multiple of micro_batch 4 x 3 processes: give --set tune.batch"
    ):
        plan(load_recipe("llava15-7b-bpo"), gpus=3)
    with pytest.raises(BadInput, match="rows of 576 tokens have no room beside 576 image tokens"):
        plan(load_recipe("llava15-7b-bpo"), length=576)


def test_text_only_rows_have_no_image() -> None:
    recipe = load_recipe("mini-mm-ft", {"data.text_only": "true"})
    assert plan(recipe, length=40)[-1].ddp.vision == 0


def test_command_lines(tmp_path: Path) -> None:
    run = CliRunner().invoke
    shown = run(app, ["tune", "plan", "llama-7b-mm-lora", "--gpus", "8"])
    assert shown.exit_code == 0
    assert "164,106,240" in shown.stdout
    assert "FSDP2" in shown.stdout
    found = json.loads(run(app, ["tune", "plan", "mini-bpo", "--length", "200", "--json", "-"]).stdout)
    (stage,) = found["stages"]
    assert stage["length"] == 200
    assert stage["ddp"]["total"] == sum(value for key, value in stage["ddp"].items() if key not in ("total", "moment"))
    changed = run(app, ["tune", "plan", "mini-bpo", "--set", "lora.r=1", "--json", str(tmp_path / "plan.json")])
    assert changed.exit_code == 0
    assert json.loads((tmp_path / "plan.json").read_text())["stages"][0]["trained"] == 782_336 // 64
    unknown = run(app, ["tune", "plan", "mini-dpo"])
    assert isinstance(unknown.exception, BadInput)
    assert "did you mean" in str(unknown.exception)


def test_recipes_are_listed_and_shown_with_their_sources() -> None:
    run = CliRunner().invoke
    listed = run(app, ["tune", "recipes"]).stdout
    assert all(name in listed for name in recipe_names())
    shown = {line.split()[0]: line for line in run(app, ["tune", "recipes", "llava15-7b-bpo"]).stdout.splitlines()}
    assert "BPO section 5.1" in shown["lora.r"]
    assert shown["preference.anchor"].split()[-1] == "default"
    assert shown["tune.log_every"].split()[-1] == "default"
    content = json.loads(run(app, ["tune", "recipes", "mini-sft", "--json", "-"]).stdout)
    assert content["method"] == "sft"


def test_a_plan_loads_no_torch() -> None:
    code = (
        "import sys; from mmalign_eval.tuning.config import load_recipe; from mmalign_eval.tuning.plan import plan;"
        "plan(load_recipe('llava15-13b-bpo'));"
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
