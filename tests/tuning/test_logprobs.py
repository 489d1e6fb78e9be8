"""Log-probabilities of pairs: both layouts against a plain forward pass of each answer alone, gradients included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmalign_eval.tuning import logprobs
from mmalign_eval.tuning.logprobs import PairIds

from mmalign_eval.miniature.nano import make_llava
from mmalign_eval.miniature.tokenizer import IMAGE_ID, PAD_ID

IMAGE_TOKENS, FIRST_WORD = 4, 10


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import LlavaForConditionalGeneration

    folder = make_llava(tmp_path_factory.mktemp("nano") / "llava")
    return LlavaForConditionalGeneration.from_pretrained(folder).eval()


@pytest.fixture
def fresh(llava: Any) -> Iterator[Any]:
    """The model, its gradients and modes put back afterwards."""
    yield llava
    llava.zero_grad(set_to_none=True)
    llava.gradient_checkpointing_disable()
    llava.eval()


def some_pair(numbers: np.random.Generator, before: int, asked: int, chosen: int, rejected: int) -> PairIds:
    def words(count: int) -> tuple[int, ...]:
        return tuple(int(i) for i in numbers.integers(FIRST_WORD, 500, count))

    return PairIds((1, *words(before), *[IMAGE_ID] * IMAGE_TOKENS, *words(asked)), words(chosen), words(rejected))


def pixels_of(numbers: np.random.Generator, count: int) -> torch.Tensor:
    return torch.from_numpy(numbers.standard_normal((count, 3, 24, 24)).astype(np.float32))


def alone(llava: Any, prompt: tuple[int, ...], answer: tuple[int, ...], pixels: torch.Tensor) -> torch.Tensor:
    """The definition: one row, no padding, transformers' own forward pass."""
    ids = torch.tensor([[*prompt, *answer]])
    logits = llava(input_ids=ids, pixel_values=pixels[None], use_cache=False).logits[0, :-1].float()
    found = torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])[:, 0]
    return found[len(prompt) - 1 :].sum()


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(((a - b).abs() <= 1e-5 * b.abs().clamp(min=1.0)).all())


sizes = st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(sizes, min_size=1, max_size=4), st.booleans(), st.integers(0, 99))
def test_both_layouts_give_what_a_plain_pass_gives(
    llava: Any, shapes: list[tuple[int, int, int, int]], packed: bool, seed: int
) -> None:
    numbers = np.random.default_rng(seed)
    pairs = [some_pair(numbers, *shape) for shape in shapes]
    pixels = pixels_of(numbers, len(pairs))
    with torch.no_grad():
        features = logprobs.tower_features(llava, pixels)
        found = logprobs.pair_logprobs(llava, logprobs.lay_out(pairs, PAD_ID, packed), features)
        wanted = torch.stack(
            [alone(llava, p.prompt, a, x) for p, x in zip(pairs, pixels, strict=True) for a in (p.chosen, p.rejected)]
        ).view(-1, 2)
    assert close(found, wanted)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_gradients_are_those_of_plain_passes(fresh: Any, packed: bool, checkpointing: bool) -> None:
    numbers = np.random.default_rng(7)
    pairs = [some_pair(numbers, 2, 5, 8, 3), some_pair(numbers, 0, 9, 1, 11)]
    pixels = pixels_of(numbers, 2)
    weights = torch.tensor([[0.3, -1.0], [2.0, 0.7]])
    wanted = sum(
        w * alone(fresh, p.prompt, a, x)
        for p, x, row in zip(pairs, pixels, weights, strict=True)
        for a, w in zip((p.chosen, p.rejected), row, strict=True)
    )
    wanted.backward()  # type: ignore[union-attr]
    tower = {id(p) for p in fresh.model.vision_tower.parameters()}
    kept = {n: p.grad.clone() for n, p in fresh.named_parameters() if id(p) not in tower}
    fresh.zero_grad(set_to_none=True)
    if checkpointing:
        fresh.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        fresh.train()
    features = logprobs.tower_features(fresh, pixels)
    found = logprobs.pair_logprobs(fresh, logprobs.lay_out(pairs, PAD_ID, packed), features)
    (found * weights).sum().backward()
    assert all(p.grad is None for p in fresh.model.vision_tower.parameters())
    for name, gradient in kept.items():
        grown = dict(fresh.named_parameters())[name].grad
        assert torch.allclose(grown, gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max())), name


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_both_kinds_of_attention_take_the_packed_mask(fresh: Any, attention: str) -> None:
    numbers = np.random.default_rng(3)
    pairs = [some_pair(numbers, 1, 4, 6, 9)]
    pixels = pixels_of(numbers, 1)
    before = fresh.config._attn_implementation
    fresh.set_attn_implementation(attention)
    try:
        with torch.no_grad():
            features = logprobs.tower_features(fresh, pixels)
            found = [logprobs.pair_logprobs(fresh, logprobs.lay_out(pairs, PAD_ID, p), features) for p in (True, False)]
    finally:
        fresh.set_attn_implementation(before)
    assert close(found[0], found[1])


def test_the_prompt_stands_once_in_a_packed_row() -> None:
    pair = PairIds((1, 5, 6), (7, 8, 9), (7, 2))
    batch = logprobs.lay_out([pair], PAD_ID, packed=True)
    assert batch["input_ids"].tolist() == [[1, 5, 6, 7, 8, 7]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 3]]
    assert batch["segments"].tolist() == [[0, 0, 0, 1, 1, 2]]
    assert batch["token"].tolist() == [7, 8, 9, 7, 2]
    assert batch["column"].tolist() == [2, 3, 4, 2, 5]
    assert batch["answer"].tolist() == [0, 0, 0, 1, 1]
    assert logprobs.lengths(batch).tolist() == [[3, 2]]
    rows = logprobs.lay_out([pair], PAD_ID, packed=False)
    assert rows["input_ids"].tolist() == [[1, 5, 6, 7, 8], [1, 5, 6, 7, PAD_ID]]
    assert rows["segments"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 1, -1]]


@pytest.mark.parametrize("packed", [False, True])
def test_one_look_at_each_image_and_logits_only_where_answers_are(fresh: Any, packed: bool) -> None:
    numbers = np.random.default_rng(1)
    pairs = [some_pair(numbers, 3, 6, 5, 7), some_pair(numbers, 3, 2, 4, 4)]
    seen: list[int] = []
    hooks = [
        fresh.model.vision_tower.register_forward_hook(lambda m, args, out: seen.append(len(args[0]))),
    ]
    try:
        with torch.no_grad():
            features = logprobs.tower_features(fresh, pixels_of(numbers, 2))
            batch = logprobs.lay_out(pairs, PAD_ID, packed)
            logits = logprobs.answer_logits(fresh, batch, features)
            again = logprobs.answer_logits(fresh, batch, features)
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == [2]
    assert logits.shape[0] == 5 + 7 + 4 + 4
    assert logits.dtype == torch.float32
    assert torch.equal(logits, again)


def test_image_tokens_without_their_features_are_refused(fresh: Any) -> None:
    numbers = np.random.default_rng(1)
    pair = some_pair(numbers, 0, 2, 3, 3)
    features = logprobs.tower_features(fresh, pixels_of(numbers, 1))[:, :3]
    with torch.no_grad(), pytest.raises(ValueError, match="4 image tokens for 1 x 3 features"):
        logprobs.answer_logits(fresh, logprobs.lay_out([pair], PAD_ID, True), features)


def test_hooks_are_gone_afterwards(fresh: Any, tmp_path: Path) -> None:
    numbers = np.random.default_rng(1)
    pairs = [some_pair(numbers, 0, 2, 3, 3)]
    pixels = pixels_of(numbers, 1)
    ids = torch.tensor([[*pairs[0].prompt, *pairs[0].chosen]])
    with torch.no_grad():
        before = fresh(input_ids=ids, pixel_values=pixels).logits
        features = logprobs.tower_features(fresh, pixels)
        logprobs.pair_logprobs(fresh, logprobs.lay_out(pairs, PAD_ID, True), features)
        assert torch.equal(fresh(input_ids=ids, pixel_values=pixels).logits, before)
