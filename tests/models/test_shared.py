"""Sharing equals its slow twins, whatever the tree, the row and what is held: scores, greedy and sampled texts."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.miniature.nano import nano_tokenizer
from mmalign_eval.models import together
from mmalign_eval.models.checkpoint import Ends
from mmalign_eval.models.decoding import generate_rows
from mmalign_eval.models.encoding import Ids, Scored
from mmalign_eval.models.generation import generate, plain_config
from mmalign_eval.models.kv import Path
from mmalign_eval.models.likelihood import EMPTY
from mmalign_eval.models.prefix import score_separately
from mmalign_eval.models.shared import TreeScorer, pack_tokens
from mmalign_eval.phases import Work
from mmalign_eval.requests import GenParams

from .hf_case import near

KINDS = ("sdpa", "eager", "tied", "ungrouped")  # key-value heads are shared by two, but in the last


@cache
def model_of(kind: str, seed: int = 0) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4 if kind == "ungrouped" else 2, tie_word_embeddings=kind == "tied",
        max_position_embeddings=256,
    )  # fmt: skip
    torch.manual_seed(seed)
    attention = "eager" if kind == "eager" else "sdpa"
    model = transformers.LlamaForCausalLM._from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)  # at the usual scale all log-likelihoods would be nearly equal
    return model


words = cache(nano_tokenizer)
tokens = st.sampled_from([5, 6, 7])


def ids(least: int, most: int) -> st.SearchStrategy[Ids]:
    return st.lists(tokens, min_size=least, max_size=most).map(lambda found: np.array(found, np.int32))


@st.composite
def batches(draw: st.DrawFn) -> list[Scored]:
    """Requests whose contexts begin alike, are the same, or begin one another; options likewise, some empty."""
    found: list[Scored] = []
    for _ in range(draw(st.integers(1, 6))):
        start = draw(ids(1, 5))
        if found and draw(st.booleans()):
            start = draw(st.sampled_from(found)).context
        context = np.concatenate([start, draw(ids(0, 6))])
        found.append(Scored(context, tuple(draw(st.lists(ids(0, 5), max_size=5)))))
    return found


seeds = st.integers(0, 3)


@given(st.sampled_from(KINDS), seeds, st.lists(batches(), min_size=1, max_size=3), st.sampled_from([1, 3, 8, 20, 1000]))
@settings(max_examples=200, deadline=None)
def test_scores_equal_their_slow_twin(kind: str, seed: int, several: list[list[Scored]], pack: int) -> None:
    model = model_of(kind, seed)
    scorer = TreeScorer(Path(model), pack)  # kept: what one batch leaves held, the next one goes on from
    for batch in several:
        found = dict(scorer.score(batch))
        assert sorted(found) == list(range(len(batch)))
        for number, request in enumerate(batch):
            assert len(found[number]) == len(request.options)
            for option, fast in zip(request.options, found[number], strict=True):
                if not len(option):
                    assert fast == EMPTY
                    continue
                (slow,) = score_separately(model, [(request.context, option)], 256)
                assert near(fast.logprob, slow.logprob)
                assert fast.greedy == slow.greedy


@given(batches(), st.sampled_from([4, 16, 1000]))
@settings(max_examples=60, deadline=None)
def test_each_distinct_token_goes_through_the_model_once(batch: list[Scored], pack: int) -> None:
    fed = {tuple([*r.context, *o[:-1]][:n]) for r in batch for o in r.options if len(o) for n in range(1, 99)}
    scorer = TreeScorer(Path(model_of("sdpa")), pack)
    list(scorer.score(batch))
    assert scorer.path.computed == len(fed)


def test_what_is_held_is_gone_on_from() -> None:
    scorer = TreeScorer(Path(model_of("sdpa")), 8)
    head = np.arange(5, 45, dtype=np.int32)
    first = dict(scorer.score([Scored(head, (head[:3], head[4:6]))]))
    computed = scorer.path.computed
    again = dict(scorer.score([Scored(head, (head[:3], head[4:6]))]))
    assert all(near(a.logprob, b.logprob) for a, b in zip(first[0], again[0], strict=True))
    assert scorer.path.computed - computed <= 16 < computed


def test_a_failure_leaves_nothing_half_held(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("sdpa")
    scorer = TreeScorer(Path(model), 4)
    head = np.arange(5, 25, dtype=np.int32)
    batch = [Scored(np.append(head, n).astype(np.int32), (np.array([7, 8], np.int32),)) for n in (30, 31, 32)]
    want = dict(scorer.score(batch))
    forward, calls = model.forward, []

    def breaks(**inputs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of luck")
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", breaks)
    with pytest.raises(RuntimeError, match="out of luck"):
        list(scorer.score([*batch, Scored(head[::-1].copy(), (head,))]))
    monkeypatch.undo()
    found = dict(scorer.score(batch))
    assert all(near(a.logprob, b.logprob) for n in want for a, b in zip(found[n], want[n], strict=True))


@st.composite
def writings(draw: st.DrawFn) -> dict[str, Any]:
    head = draw(ids(0, 12))
    prompts = [np.concatenate([head, own]) for own in draw(st.lists(ids(1, 5), min_size=1, max_size=6))]
    ends = draw(st.lists(st.integers(5, 511), max_size=40, unique=True))
    new = draw(st.integers(1, 20))
    params = GenParams(
        max_new_tokens=new, min_new_tokens=draw(st.integers(0, min(4, new))) if ends else 0,
        temperature=draw(st.sampled_from([0.0, 0.0, 1.0])), stop=draw(st.sampled_from([(), (), ("a",), ("e ", "the")])),
    )  # fmt: skip
    seeds = draw(st.lists(st.integers(0, 99), min_size=len(prompts), max_size=len(prompts)))
    return {"prompts": prompts, "params": params, "seeds": seeds, "ends": Ends(eos=tuple(ends), pad=0)}


several_writings = st.lists(writings(), min_size=1, max_size=2)


@given(st.sampled_from(KINDS), seeds, several_writings, st.sampled_from([0, 12, 512]))
@settings(max_examples=60, deadline=None)
def test_texts_equal_their_slow_twin(kind: str, seed: int, several: list[dict[str, Any]], others: int) -> None:
    check_texts(kind, seed, several, others)


@pytest.mark.slow
@given(st.sampled_from(KINDS), seeds, several_writings, st.sampled_from([0, 12, 512]))
@settings(max_examples=200, deadline=None)
def test_texts_equal_their_slow_twin_in_many_cases(
    kind: str, seed: int, several: list[dict[str, Any]], others: int
) -> None:
    check_texts(kind, seed, several, others)


def check_texts(kind: str, seed: int, several: list[dict[str, Any]], others: int) -> None:
    """`others`: when texts go on in rows of their own; the second group goes on from what the first one left held."""
    model, tokenizer, path = model_of(kind, seed), words(), Path(model_of(kind, seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together, "_OTHERS", others)
        for one in several:
            prompts = one["prompts"]
            width = max(map(len, prompts))
            rows, mask = np.zeros((len(prompts), width), np.int64), np.zeros((len(prompts), width), np.int64)
            for number, prompt in enumerate(prompts):
                rows[number, width - len(prompt) :], mask[number, width - len(prompt) :] = prompt, 1
            inputs = {"input_ids": torch.from_numpy(rows), "attention_mask": torch.from_numpy(mask)}
            model.generation_config = plain_config(one["ends"])
            slow = generate(model, tokenizer, inputs, one["params"], one["seeds"], one["ends"])
            fast = together.generate_together(path, prompts, one["params"], one["seeds"], tokenizer, one["ends"])
            assert fast == slow
            arguments = (one["params"], one["seeds"], tokenizer, one["ends"], Work())
            assert generate_rows(model, inputs, *arguments) == slow


def test_sharing_is_chosen_where_it_is_cheaper() -> None:
    short = together.Decoding(steps=2, rows=128, balance=8)
    assert together.pays([130] * 10, 100, 0, 64, short)
    assert not together.pays([130], 100, 0, 64, short)  # alone, and nothing held
    assert together.pays([130], 100, 100, 64, short)  # the rest of what was asked of an image before
    assert not together.pays([22] * 4, 20, 0, 4096, short)  # too little to be worth a row of its own kind
    assert not together.pays([2000] * 32, 100, 0, 768, short)  # 60,000 tokens that would look at one another


def test_a_few_long_texts_are_written_with_others_where_a_step_is_dear() -> None:
    gpu, cpu = together.Decoding(20, 128, 256), together.Decoding(20, 128, 8)
    assert not together.pays([640], 600, 600, 4096, gpu)  # a caption of an image that is held
    assert together.pays([640], 600, 600, 4096, cpu)
    assert together.pays([640] * 18, 600, 0, 4096, gpu)  # many questions about one


def test_rows_grow_with_the_models_width() -> None:
    assert (pack_tokens(64), pack_tokens(768), pack_tokens(4096), pack_tokens(4096, 2000)) == (256, 384, 2048, 2000)
