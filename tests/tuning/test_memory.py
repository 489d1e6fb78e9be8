"""The count of a step's memory against the bytes that PyTorch allocates for it, and against hand's counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from mmalign_eval.tuning.lora import prepare
from mmalign_eval.tuning.memory import SHARES, Run, estimate, kept_by_layer, moments, parameters

from .memory_run import SIZES, llava, measured, recipe_of, run_of

MODES = ("mini-mm-ft", "mini-mm-lora", "mini-bpo")
PLAIN = Run(rows=2, length=100, learnt=50)


def check(size: str, mode: str, checkpointing: bool, dropout: float = 0.0, **how: Any) -> None:
    recipe, shape = recipe_of(mode, dropout), SIZES[size]
    run = run_of(recipe, checkpointing, how.get("learnt", 60), accumulation=how.get("passes", 1))
    if how.get("stage") == "pretrain":
        run = replace(run, language=False)
    counted = estimate(shape, run).total
    assert counted == pytest.approx(measured(shape, recipe, checkpointing, **how), rel=0.15)


@pytest.mark.parametrize("checkpointing", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("mode", MODES)
def test_within_15_percent_of_allocated_bytes(mode: str, checkpointing: bool) -> None:
    check("small", mode, checkpointing)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_within_15_percent_at_a_larger_size(mode: str, checkpointing: bool) -> None:
    check("middle", mode, checkpointing)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "how"),
    [
        ("mini-mm-ft", {"passes": 2}),
        ("mini-mm-ft", {"stage": "pretrain"}),
        ("mini-mm-lora", {"dropout": 0.05}),
        ("mini-bpo", {"learnt": 120}),
    ],
)
def test_within_15_percent_in_other_ways(mode: str, how: dict[str, Any]) -> None:
    check("small", mode, True, **how)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_parameters_are_the_modules(size: str, mode: str) -> None:
    recipe = recipe_of(mode)
    model = prepare(llava(SIZES[size]), recipe, "tune")
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    every = sum(count for count, _ in sizes)
    assert parameters(SIZES[size], run_of(recipe, True)) == (sum(count for count, trains in sizes if trains), every)


def test_what_a_layer_keeps_in_full_tuning() -> None:
    """By hand, in float32: ten tensors as wide as the model, four as wide as its MLP, 4 bytes a number."""
    shape = SIZES["small"]
    assert sum(kept_by_layer(shape, PLAIN).values()) == 4 * (10 * 160 + 4 * 432) + 8 + 4 * 5


def test_sixteen_bytes_a_trained_weight_at_the_step() -> None:
    shape = SIZES["small"]
    *_, step = moments(shape, PLAIN)
    trained, every = parameters(shape, PLAIN)
    assert step.moment == "optimizer step"
    assert step.total == 16 * trained + 4 * (every - trained)
    assert step.total == sum(getattr(step, share) for share in SHARES)


def test_sharding_divides_and_ddp_does_not() -> None:
    shape = SIZES["middle"]
    one = estimate(shape, PLAIN)
    ddp = estimate(shape, replace(PLAIN, processes=4))
    trained = parameters(shape, PLAIN)[0]
    step, shared = (list(moments(shape, replace(PLAIN, processes=4, sharded=sharded)))[-1] for sharded in (False, True))
    assert ddp.total > one.total
    assert (step.optimizer, step.gradients) == (8 * trained, 8 * trained)  # with DDP's buckets
    assert (shared.optimizer, shared.gradients) == (2 * trained, trained)
    assert shared.weights < step.weights


def test_bfloat16_halves_what_is_frozen() -> None:
    shape = SIZES["middle"]
    lora = replace(PLAIN, lora=16, pairs=True, projector=False)
    full, half = (list(moments(shape, replace(lora, bf16=bf16)))[-1] for bf16 in (False, True))
    trained, every = parameters(shape, lora)
    assert full.weights - half.weights == 2 * (every - trained)
    assert full.optimizer == half.optimizer == 8 * trained
