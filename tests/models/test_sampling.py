"""Draws depend on seed and step only, and follow the model's distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from mmalign_eval.models.sampling import SeededSampling, filtered, gumbel
from mmalign_eval.requests import Generate, GenParams, Prompt

from .hf_case import ask, load, nano, opened, pictures

LOGITS = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, 0.9]])


def draws(params: GenParams, count: int) -> np.ndarray[Any, Any]:
    """Tokens drawn with `count` seeds at one step."""
    processor = SeededSampling(params, range(count), prompt_length=0)
    scores = processor(torch.zeros(count, 3, dtype=torch.long), LOGITS.expand(count, -1))  # type: ignore[arg-type]
    return np.bincount(scores.argmax(dim=-1).numpy(), minlength=LOGITS.shape[1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_softmax(temperature: float) -> None:
    found = draws(GenParams(temperature=temperature), 20_000)
    expected = torch.softmax(LOGITS[0].double() / temperature, dim=0).numpy() * found.sum()
    assert stats.chisquare(found, expected).pvalue > 1e-3


def test_steps_of_one_seed_follow_softmax_too() -> None:
    noise = np.stack([gumbel(7, step, LOGITS.shape[1]) for step in range(20_000)])
    found = np.bincount((noise + LOGITS.numpy()).argmax(axis=1), minlength=LOGITS.shape[1])
    assert stats.chisquare(found, torch.softmax(LOGITS[0].double(), dim=0).numpy() * found.sum()).pvalue > 1e-3


def test_noise_is_a_function_of_seed_and_step() -> None:
    assert np.array_equal(gumbel(3, 5, 10), gumbel(3, 5, 10))
    assert np.array_equal(gumbel(3, 5, 10), gumbel(3, 5, 20)[:10])
    large = 2**64 - 1
    different = {tuple(gumbel(seed, step, 4)) for seed in (0, 1, 2**63, large) for step in (0, 1, 2, 1000)}
    assert len(different) == 16
    assert abs(np.corrcoef(gumbel(0, 0, 10_000), gumbel(0, 1, 10_000))[0, 1]) < 0.05
    assert np.isfinite(gumbel(0, 0, 1_000_000)).all()


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        (GenParams(temperature=1.0, top_k=2), {0, 1}),
        (GenParams(temperature=1.0, top_k=99), {0, 1, 2, 3, 4, 5}),
        (GenParams(temperature=1.0, top_p=0.5), {0, 1}),  # p(0) = .45, p(1) = .17
        (GenParams(temperature=1.0, top_p=0.01), {0}),
        (GenParams(temperature=0.1, top_p=0.9), {0}),  # temperature comes before top-p
        (GenParams(temperature=9.0, top_k=3, top_p=0.6), {0, 1}),  # and top-k before it: .37, .33, .30
    ],
)
def test_filters(params: GenParams, kept: set[int]) -> None:
    logits = filtered(LOGITS, params)[0]
    assert set(torch.isfinite(logits).nonzero().flatten().tolist()) == kept
    found = draws(params, 2000)
    assert set(np.flatnonzero(found)) <= kept


def test_filters_equal_transformers_own() -> None:
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(50, 200, generator=torch.Generator().manual_seed(0)) * 3
    for temperature, top_k, top_p in ((0.2, 50, 1.0), (1.3, 20, 0.8), (0.7, 0, 0.95)):
        theirs = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
        if top_k:
            theirs.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            theirs.append(TopPLogitsWarper(top_p))
        ours = filtered(logits, GenParams(temperature=temperature, top_k=top_k, top_p=top_p))
        assert torch.equal(ours, theirs(torch.zeros(50, 1, dtype=torch.long), logits.clone()))  # type: ignore[arg-type]


def sampled(text: str, seed: int, **more: Any) -> Generate:
    params = GenParams(**{"max_new_tokens": 20, "temperature": 1.0, "seed": seed, **more})
    return Generate(Prompt(text, template="raw"), params)


TEXTS = ["Is there", "Question: How many apples does Tom have?", "A", "Please describe the image", "no"]
REQUESTS = [sampled(text, 100 + i) for i, text in enumerate(TEXTS)]
REQUESTS += [sampled(text, i, temperature=0.7, top_p=0.9, top_k=40) for i, text in enumerate(TEXTS)]


def test_batch_and_order_do_not_change_sampled_texts() -> None:
    model = opened("llama")
    alone = [response.text for response in ask(model, REQUESTS, batch=1)]
    assert [response.text for response in ask(model, REQUESTS)] == alone
    assert [response.text for response in ask(model, REQUESTS[::-1], batch=3)][::-1] == alone
    assert [response.text for response in ask(load(nano("llama")), REQUESTS, batch=2)] == alone


def test_seeds_make_different_texts_and_torchs_seed_does_not_matter() -> None:
    requests = [sampled("Is there", seed) for seed in range(12)]
    texts = [response.text for response in ask(opened("llama"), requests)]
    assert len(set(texts)) == 12
    torch.manual_seed(999)
    assert [response.text for response in ask(opened("llama"), requests)] == texts


def test_sampling_with_images() -> None:
    model = opened("llava")
    requests = [
        Generate(Prompt("Describe the image", (image,)), GenParams(12, temperature=1.0, seed=i))
        for i, image in enumerate(pictures())
    ]
    alone = [response.text for response in ask(model, requests, batch=1)]
    assert [response.text for response in ask(model, requests[::-1])][::-1] == alone
    assert len(set(alone)) == len(alone)


def test_generated_first_tokens_follow_the_models_distribution() -> None:
    model = opened("llama")
    prompt = "Is there a dog"
    ids = torch.tensor([model.encoder.prompt(prompt)])
    with torch.inference_mode():
        chances = torch.softmax(model._model(ids).logits[0, -1].double(), dim=0)
    first: list[int] = []
    hook = model._model.generate

    def record(**more: Any) -> Any:
        output = hook(**more)
        first.extend(output[:, ids.shape[1]].tolist())
        return output

    model._model.generate = record
    reason, model._alone = model._alone, "generate is listened to"
    try:
        ask(model, [sampled(prompt, seed, max_new_tokens=1) for seed in range(3000)], batch=500)
    finally:
        del model._model.generate
        model._alone = reason
    likely = chances.topk(8).indices.tolist()
    found = [first.count(token) for token in likely]
    expected = [float(chances[token]) * 3000 for token in likely]
    rest = [3000 - sum(found)], [3000 - sum(expected)]
    assert stats.chisquare(found + rest[0], expected + rest[1]).pvalue > 1e-3
