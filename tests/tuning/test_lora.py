"""Which parameters train in each mode, by name; LoRA saved, reloaded, merged and switched off."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmalign_eval.tuning.config import Lora, parse_recipe
from mmalign_eval.tuning.loading import load_llava
from mmalign_eval.tuning.lora import add_lora, lora_targets, prepare, trainable_names

from mmalign_eval.errors import BadInput
from mmalign_eval.miniature.nano import make_llava
from tests.tuning.train_support import recipe

SEVEN = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def trained_of(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.fixture
def llava(nano_llava: Path) -> Any:
    return load_llava(str(nano_llava))[0]


def randomised(model: Any) -> Any:
    """LoRA with values that change something: B starts at zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    pixels = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=torch.tensor([[1, 4, 4, 4, 4, 30, 31, 32]]), pixel_values=pixels).logits
    return out


def test_stage_1_trains_the_projector_alone(llava: Any) -> None:
    prepare(llava, recipe(), "pretrain")
    parts = {f"model.multi_modal_projector.linear_{n}.{p}" for n in (1, 2) for p in ("weight", "bias")}
    assert trained_of(llava) == parts


def test_mm_ft_trains_everything_but_the_tower(llava: Any) -> None:
    prepare(llava, recipe(), "tune")
    everything = {name for name, _ in llava.named_parameters()}
    assert trained_of(llava) == {name for name in everything if ".vision_tower." not in name}
    assert {"lm_head.weight", "model.language_model.embed_tokens.weight"} <= trained_of(llava)


@pytest.mark.parametrize(
    ("method", "projector"), [("mm-lora", True), ("sft", False), ("bpo", False)], ids=["mm-lora", "sft", "bpo"]
)
def test_lora_is_on_the_seven_projections_of_each_layer(llava: Any, method: str, projector: bool) -> None:
    trained = trained_of(prepare(llava, recipe(method, lora={"r": 4, "alpha": 8}), "tune"))
    lora = {name for name in trained if ".lora_" in name}
    assert len(lora) == 2 * 7 * 2  # layers, projections, A and B
    assert {re.search(r"\.(\w+)\.lora_", name)[1] for name in lora} == SEVEN  # type: ignore[index]
    assert all(".language_model." in name for name in lora)
    rest = trained - lora
    assert len(rest) == (4 if projector else 0)
    assert all(".multi_modal_projector.modules_to_save." in name for name in rest)


def test_bpo_with_its_projector(llava: Any) -> None:
    chosen = recipe("bpo", lora={"r": 4, "alpha": 8}).model_dump()
    chosen["preference"]["train_projector"] = True
    model = prepare(llava, parse_recipe(chosen, "test"), "tune")
    assert sum(".multi_modal_projector." in name for name in trained_of(model)) == 4


@pytest.mark.parametrize(("method", "stage"), [("mm-ft", "pretrain"), ("mm-ft", "tune"), ("mm-lora", "tune")])
def test_identity_of_a_linear_projector_stays(tmp_path: Path, method: str, stage: Any) -> None:
    model = load_llava(str(make_llava(tmp_path / "linear", projector="linear")))[0]
    trained = trained_of(prepare(model, recipe(method), stage))
    assert any(".linear_1." in name for name in trained)
    assert not any(".linear_2." in name for name in trained)


def test_names_are_told_without_looking_at_what_is_frozen(llava: Any) -> None:
    chosen = recipe("mm-lora")
    model = prepare(llava, chosen, "tune")
    wanted = trainable_names(model, chosen)
    model.requires_grad_(False)
    assert trainable_names(model, chosen) == wanted


def test_frozen_weights_may_be_half_precise_and_trained_ones_are_not(nano_llava: Path) -> None:
    model = prepare(load_llava(str(nano_llava), torch.bfloat16)[0], recipe("mm-lora"), "tune")
    types = {(p.requires_grad, p.dtype) for p in model.parameters()}
    assert types == {(True, torch.float32), (False, torch.bfloat16)}


def test_seed_decides_first_values_and_leaves_the_generator_alone(nano_llava: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    lora = Lora(r=4, alpha=8)
    first, again, other = (
        dict(add_lora(load_llava(str(nano_llava))[0], lora, False, seed).named_parameters()) for seed in (1, 1, 2)
    )
    name = next(name for name in first if "lora_A" in name)
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_reference_is_the_model_as_it_was_even_with_a_trained_projector(llava: Any) -> None:
    before = logits(llava)
    model: Any = add_lora(llava, Lora(r=4, alpha=8), train_projector=True)
    assert torch.equal(logits(model), before)  # B is zero, the copy is a copy
    randomised(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".modules_to_save." in name:
                parameter.add_(0.5)
    assert not torch.allclose(logits(model), before)
    with model.disable_adapter():
        assert torch.equal(logits(model), before)


@pytest.mark.parametrize("projector", [False, True])
def test_saved_reloaded_and_merged_say_the_same(nano_llava: Path, tmp_path: Path, projector: bool) -> None:
    from peft import PeftModel

    model: Any = randomised(add_lora(load_llava(str(nano_llava))[0], Lora(r=4, alpha=8), projector))
    wanted = logits(model)
    model.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(load_llava(str(nano_llava))[0], tmp_path / "adapter").eval()
    assert torch.equal(logits(again), wanted)
    torch.testing.assert_close(logits(model.merge_and_unload()), wanted, rtol=1e-5, atol=1e-5)


def test_targets_need_a_language_model() -> None:
    with pytest.raises(BadInput, match="no language_model"):
        lora_targets(torch.nn.Linear(2, 2))
