"""Contrastive decoding: the formula, its cache against a twin without one, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mmalign_eval.engine import request_keys
from mmalign_eval.errors import BadInput
from mmalign_eval.models.contrast import contrasted
from mmalign_eval.models.hf import open_model
from mmalign_eval.models.hf_options import parse
from mmalign_eval.models.weaken import Contrast
from mmalign_eval.requests import Choose, Generate, GenParams, ImageRef, Prompt, greedy

from .hf_case import ask, nano, opened, pictures

A, B, _ = pictures()
WEAK = "features:950:scale=std"
LENGTH = 10


def contrastive(contrast: str, weaken: str = WEAK) -> Any:
    model = opened("llava").weakened(weaken, contrast)
    model.load()
    return model


def test_the_formula() -> None:
    clear, weak = torch.tensor([[2.0, 1.9, 1.0, -5.0]]), torch.tensor([[3.0, 1.0, -9.0, -20.0]])
    found = contrasted(clear, weak, Contrast(1.0, 0.5))
    least = 2.0 + math.log(0.5)
    assert clear[0, 2] < least < clear[0, 1]
    assert found.tolist() == [pytest.approx([1.0, 2.8, -math.inf, -math.inf])]


def step_by_step(prompt: Prompt, weaken: str, alpha: float, beta: float) -> list[int]:
    """The slow twin: both branches read everything anew for each token; nothing is cached."""
    clear, weak = opened("llava"), opened("llava").weakened(weaken)
    weak.load()
    request = Generate(prompt, greedy(LENGTH))
    inputs, seen = ({**model._process([model.render(request)], [request], _Pool())} for model in (clear, weak))
    ids, new = inputs["input_ids"], []
    for _step in range(LENGTH):
        more: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "use_cache": False}
        with torch.inference_mode():
            a = clear._model(input_ids=ids, pixel_values=inputs["pixel_values"], **more).logits[:, -1]
            with weak._seeing([request]):
                b = weak._model(input_ids=ids, pixel_values=seen["pixel_values"], **more).logits[:, -1]
        token = int(contrasted(a, b, Contrast(alpha, beta)).argmax())
        if token in clear.ends.eos:
            break
        new.append(token)
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return new


class _Pool:
    def get(self, ref: ImageRef) -> Any:
        from mmalign_eval.images import open_image

        return open_image(ref)


PROMPTS = [Prompt("Describe the image.", (A,)), Prompt("What?", (B,)), Prompt("A longer question about it?", (B, A))]


@pytest.mark.parametrize("weaken", [WEAK, "pixels:950:scale=8"])
@pytest.mark.parametrize("setting", [(1.0, 0.2), (3.0, 0.01)])
def test_the_cached_branch_equals_its_slow_twin(setting: tuple[float, float], weaken: str) -> None:
    model = contrastive(f"{setting[0]}:{setting[1]}", weaken)
    together = ask(model, [Generate(prompt, greedy(LENGTH)) for prompt in PROMPTS])  # rows of different lengths
    twins = [step_by_step(prompt, weaken, *setting) for prompt in PROMPTS]
    assert [r.text for r in together] == [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in twins]
    plain = ask(opened("llava"), [Generate(prompt, greedy(LENGTH)) for prompt in PROMPTS])
    assert [r.text for r in together] != [r.text for r in plain]


def test_without_weight_or_choice_it_is_plain_decoding() -> None:
    requests = [Generate(prompt, greedy(LENGTH)) for prompt in PROMPTS]
    plain = [r.text for r in ask(opened("llava"), requests)]
    for nothing in ("0:1e-30", "5:1"):  # no weight; or only the likeliest token is left
        assert [r.text for r in ask(contrastive(nothing), requests)] == plain
    # against itself (a step of next to no noise) the contrast is that of plain decoding too
    assert [r.text for r in ask(contrastive("2:0.0001", "features:0:scale=0.0000001"), requests)] == plain


def test_sampling_draws_from_the_contrasted_scores_whatever_the_batch() -> None:
    model = contrastive("1:0.2")
    requests = [
        Generate(prompt, GenParams(max_new_tokens=LENGTH, temperature=1.0, seed=seed))
        for prompt in PROMPTS
        for seed in (1, 2)
    ]
    together = [r.text for r in ask(model, requests)]
    assert together == [r.text for r in ask(model, requests, batch=1)]
    assert len(set(together)) > len(PROMPTS)
    certain = [r.text for r in ask(contrastive("1:1"), requests)]  # one token is left to draw
    assert certain[0::2] == certain[1::2]
    assert certain != together


def test_text_alone_is_decoded_as_ever() -> None:
    requests = [Generate(Prompt("No image", template="raw"), greedy(LENGTH))]
    assert ask(contrastive("1:0.2"), requests) == ask(opened("llava"), requests)


def test_what_cannot_be_contrasted_is_refused() -> None:
    model = contrastive("1:0.2")
    refused = {
        "log-likelihoods": Choose(Prompt("Is there a dog?", (A,)), (" Yes", " No")),
        "with 2 beams": Generate(Prompt("Describe", (A,)), GenParams(num_beams=2)),
    }
    for said, request in refused.items():
        with pytest.raises(BadInput, match=said):
            request_keys(model, [request])
    request_keys(model, [Choose(Prompt("text", template="raw"), (" Yes",))])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"contrast": "1:0.2"}, "against which weakened image"),
        ({"contrast": "1", "weaken": WEAK}, "expected ALPHA:BETA"),
        ({"contrast": "a:0.2", "weaken": WEAK}, "alpha 'a': expected a number"),
        ({"contrast": "1:0", "weaken": WEAK}, "above 0, at most 1"),
        ({"contrast": "1:2", "weaken": WEAK}, "above 0, at most 1"),
    ],
)
def test_bad_options_are_named(options: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse(options, local=True)


def test_it_is_part_of_the_identity_and_off_by_default() -> None:
    plain = open_model(str(nano("llava")), {})
    weak, mixed = plain.weakened(WEAK), plain.weakened(WEAK, "1:0.2")
    assert "contrast" not in weak.identity()
    assert mixed.identity() == {**weak.identity(), "contrast": "1:0.20000000000000001"}
    with pytest.raises(BadInput, match="against which"):
        plain.weakened("", "1:0.2")
