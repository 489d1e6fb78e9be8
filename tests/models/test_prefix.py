"""Packed options equal their slow twin, wherever packing is used; elsewhere it is not used."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmalign_eval.miniature.nano import nano_tokenizer
from mmalign_eval.models.encoding import Scored
from mmalign_eval.models.hf_model import HfModel
from mmalign_eval.models.kv import Path as HeldPath
from mmalign_eval.models.prefix import score_separately
from mmalign_eval.models.shared import TreeScorer
from mmalign_eval.models.sharing import why_not_shared
from mmalign_eval.requests import Choose, Generate, Prompt, Request, greedy

from .hf_case import ask, load, nano, near, opened, pictures, same, scratch

POSITIONS = 64
IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
COMMON: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS, **IDS,
}  # fmt: skip
GQA: dict[str, Any] = {"num_key_value_heads": 2}
FALCON = {k: v for k, v in COMMON.items() if k not in ("intermediate_size", "max_position_embeddings")}
CONFIGS: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**COMMON),
    "gqa_tied": lambda: transformers.LlamaConfig(**COMMON, **GQA, tie_word_embeddings=True),
    "opt": lambda: transformers.OPTConfig(**COMMON, ffn_dim=64, word_embed_proj_dim=32),
    "sliding": lambda: transformers.MistralConfig(**COMMON, **GQA, sliding_window=6),
    "alternating": lambda: transformers.Gemma2Config(**COMMON, **GQA, head_dim=8, sliding_window=6),
    "alibi": lambda: transformers.BloomConfig(vocab_size=512, hidden_size=32, n_layer=2, n_head=4, **IDS),
    "rotating_alibi": lambda: transformers.FalconConfig(**FALCON, alibi=True),
    "recurrent": lambda: transformers.MambaConfig(**{**FALCON, "state_size": 4}),
    "local": lambda: transformers.GPTNeoConfig(
        **FALCON,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=8,
        max_position_embeddings=POSITIONS,
    ),
    "dynamic": lambda: transformers.LlamaConfig(
        **COMMON, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    ),
}
PACKED = ("llama", "gqa_tied", "opt")
APART = ("sliding", "alternating", "alibi", "rotating_alibi", "recurrent", "local", "dynamic")


@cache
def built(kind: str) -> Path:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[kind]())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5.0)  # at the usual scale all log-likelihoods would be nearly equal
    folder = scratch(kind)
    model.save_pretrained(folder)
    nano_tokenizer().save_pretrained(folder)
    return folder


@cache
def model_of(kind: str) -> HfModel:
    return load(built(kind))


def apart(model: Any, requests: list[Choose]) -> list[Any]:
    """The same requests through the slow twin."""
    reason, model._alone = model._alone, "asked for by a test"
    try:
        return ask(model, requests, batch=1)
    finally:
        model._alone = reason


words = st.text(alphabet="aé漢😀 \nQYes:no7", max_size=24)


@st.composite
def requests(draw: st.DrawFn) -> list[Choose]:
    found = []
    for _ in range(draw(st.integers(1, 4))):
        context = draw(st.one_of(words, words.map(lambda text: text * 8)))  # some longer than the model
        options = draw(st.lists(words, min_size=1, max_size=5))
        if draw(st.booleans()):
            options.append(options[0] + draw(words))  # one is the beginning of another
        found.append(Choose(Prompt(context, template="raw"), tuple(options)))
    return found


def check_twins(kind: str, batch: list[Choose]) -> None:
    model = model_of(kind)
    assert not model._alone
    for fast, slow in zip(ask(model, batch), apart(model, batch), strict=True):
        same(fast, slow)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(kind=st.sampled_from(PACKED), batch=requests())
def test_packed_options_equal_their_slow_twin(kind: str, batch: list[Choose]) -> None:
    check_twins(kind, batch)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(PACKED), batch=requests())
def test_packed_options_equal_their_slow_twin_in_many_cases(kind: str, batch: list[Choose]) -> None:
    check_twins(kind, batch)


EDGES = [
    Choose(Prompt("Is there a dog?", template="raw"), ("", " Yes", " Yes, Yes", " No")),
    Choose(Prompt("Is there", template="raw"), (" a", " b")),
    Choose(Prompt("", template="raw"), ("Yes", "")),
    Choose(Prompt("caf", template="raw"), ("é", "😀漢")),
    Choose(Prompt("long " * POSITIONS, template="raw"), (" Yes", "", " No no no")),
    Choose(Prompt("half " * (POSITIONS // 5), template="raw"), tuple(" word" * n for n in range(6))),
]


@pytest.mark.parametrize("kind", PACKED)
def test_edges(kind: str) -> None:
    check_twins(kind, EDGES)
    statuses = [response.status for response in ask(model_of(kind), EDGES)]
    assert statuses[4] == "truncated"
    assert statuses[:4] == ["ok"] * 4


@pytest.mark.parametrize("kind", APART)
def test_unsafe_models_are_scored_apart_and_say_so_once(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="mmalign_eval.models.hf_model"):
        model = load(built(kind))
        ask(model, EDGES[:3])
    assert model.describe()["prefixes_are_shared"] is False
    assert [r.message for r in caplog.records if "one by one" in r.message] == [
        f"{kind}: prompts and options go through it one by one: {model._alone}"
    ]


@pytest.mark.parametrize("kind", APART)
def test_models_that_share_nothing_answer_alike_in_any_batch(kind: str) -> None:
    """Rows padded to one width, whatever becomes of positions in these models, against rows of their own."""
    model = model_of(kind)
    heads = ("Question: Is there", "Question: Is there a dog", "Tom")
    asked: list[Request] = [*EDGES[:4], EDGES[5]]
    asked += [Generate(Prompt(head, template="raw"), greedy(6)) for head in heads]
    assert model._alone
    for together, alone in zip(ask(model, asked), ask(model, asked, batch=1), strict=True):
        same(together, alone)


def test_positions_of_three_axes_are_not_shared() -> None:
    text = {k: v for k, v in COMMON.items() if k not in IDS} | {
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
    }
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2}
    config = transformers.Qwen2VLConfig(text_config=text, vision_config=vision)
    model = transformers.Qwen2VLForConditionalGeneration._from_config(config, attn_implementation="sdpa").eval()
    assert why_not_shared(model) == "its rotary positions are of the mrope kind"


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_both_attention_implementations(attention: str) -> None:
    model = load(nano("llama"), attn=attention)
    assert model.describe()["attention"] == attention
    for fast, slow in zip(ask(model, EDGES), apart(model, EDGES), strict=True):
        same(fast, slow)


def test_packing_is_tried_out_on_the_model_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("llama")._model
    assert why_not_shared(model) == ""
    forward = model.forward

    def deaf(input_ids: Any, attention_mask: Any = None, position_ids: Any = None, **more: Any) -> Any:
        return forward(input_ids=input_ids, attention_mask=attention_mask, **more)

    monkeypatch.setattr(model, "forward", deaf)
    assert why_not_shared(model) == "its positions or its mask do not follow what it is given"


def test_options_do_not_see_one_another() -> None:
    model = opened("llama")._model
    numbers = np.random.default_rng(1)
    context, *options = (numbers.integers(5, 500, n).astype(np.int32) for n in (7, 4, 3, 4))
    scorer = TreeScorer(HeldPath(model), 64)
    ((_, (alone,)),) = scorer.score([Scored(context, (options[1],))])
    ((_, (_, between, _)),) = scorer.score([Scored(context, tuple(options))])
    assert near(between.logprob, alone.logprob)
    twin = score_separately(model, [(context, options[1])], 100)[0]
    assert near(alone.logprob, twin.logprob)
    assert not near(alone.logprob, score_separately(model, [(options[0], options[1])], 100)[0].logprob)


def test_one_forward_pass_computes_the_context_once() -> None:
    model = opened("llama")
    model._path.forget()  # of what other tests asked
    shapes = []
    hook = model._model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append((tuple(kwargs["input_ids"].shape), len(kwargs["logits_to_keep"]))),
        with_kwargs=True,
    )
    request = Choose(Prompt("Question: Is there a dog in the image?", template="raw"), (" Yes", " No", " It is a dog"))
    scored = model._scored(request)
    ask(model, [request])
    hook.remove()
    fed = sum(len(option) - 1 for option in scored.options)
    assert shapes == [((1, len(scored.context) + fed), 1 + fed)]


def test_images_before_options() -> None:
    model = opened("llava")
    a, b, c = pictures()
    batch = [
        Choose(Prompt("Is there a dog?", (a,)), (" Yes", " No", "", " a red cup")),
        Choose(Prompt("Is there a dog? ", (b,)), (" Yes", " No")),
        Choose(Prompt("Q: ", (a, c), template="raw"), ("Yes", "No")),
        Choose(Prompt("Q: Is there a dog", template="raw"), ("Yes", "No")),
    ]
    found = ask(model, batch)
    for fast, slow in zip(found, apart(model, batch), strict=True):
        same(fast, slow)
    other = ask(model, [Choose(Prompt("Is there a dog?", (b,)), batch[0].options)])[0]
    assert not near(found[0].logprobs[0], other.logprobs[0])
