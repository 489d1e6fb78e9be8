"""Our numbers are those of lm-eval's own Hugging Face model, on several architectures."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from mmalign_eval.requests import Choose, Generate, GenParams, Prompt, Request, greedy

from .hf_case import ask, load, nano, near, opened, same

LONG = "Tom has 3 apples and a red cup. " * 160  # more tokens than the nano models' 1,024
CHOICES = [
    ("Question: How many apples does Tom have? Answer:", (" 7", " Tom has 3 apples", " no", " no idea")),
    ("trailing blanks move  ", ("Yes", " No", "")),
    ("a line ends\n", ("Yes", "No")),
    ("   ", ("Yes", "No way")),
    ("", ("Is there a dog", " cup", "<s>already")),
    ("<s>begins with BOS", (" a", " b c")),
    ("caf", ("é au lait", "e", "ﬀ漢字")),
    (LONG, (" the end", " dog")),
    ("x", (" y" * 300, " y" * 480)),
]
PROMPTS = ["Question: How many apples", "Is there a dog in the image? ", "<s>A", LONG, "USER: describe"]


def raw(text: str) -> Prompt:
    return Prompt(text, template="raw")


@cache
def lm_eval_model(arch: str, batch: int = 4, **more: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(nano(arch)), device="cpu", dtype="float32", batch_size=batch, **more)


def instance(kind: str, *arguments: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def their_choices(arch: str, choices: Any = CHOICES, **more: Any) -> list[list[tuple[float, bool]]]:
    pairs = [(context, option) for context, options in choices for option in options]
    asked = [instance("loglikelihood", *pair) for pair in pairs]
    left = iter(lm_eval_model(arch, **more).loglikelihood(asked, disable_tqdm=True))
    return [[next(left) for _ in options] for _, options in choices]


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gpt_neox", "qwen2"])
def test_log_likelihoods(arch: str) -> None:
    ours = ask(opened(arch), [Choose(raw(context), options) for context, options in CHOICES])
    for (context, _), response, theirs in zip(CHOICES, ours, their_choices(arch), strict=True):
        assert response.status == ("truncated" if context == LONG else "ok")
        assert response.greedy == tuple(flag for _, flag in theirs)
        for a, (b, _) in zip(response.logprobs, theirs, strict=True):
            assert near(a, b), (context[:20], a, b)


def test_log_likelihoods_without_bos() -> None:
    choices = [(context, options) for context, options in CHOICES if context.strip() or not context]  # theirs asserts
    requests = [Choose(raw(context), options) for context, options in choices]
    ours, with_bos = ask(load(nano("llama"), add_bos="false"), requests), ask(opened("llama"), requests)
    for response, theirs in zip(ours, their_choices("llama", choices, add_bos_token=False), strict=True):
        assert all(near(a, b) for a, (b, _) in zip(response.logprobs, theirs, strict=True))
    assert not near(ours[0].logprobs[0], with_bos[0].logprobs[0])


@pytest.mark.parametrize("arch", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("stop", [(), ("\n", "e"), ("Q", "in the")])
def test_greedy_generations(arch: str, stop: tuple[str, ...]) -> None:
    gen = {"until": list(stop), "max_gen_toks": 24, "do_sample": False}
    asked = [instance("generate_until", prompt, gen) for prompt in PROMPTS]
    theirs = lm_eval_model(arch).generate_until(asked, disable_tqdm=True)
    ours = ask(opened(arch), [Generate(raw(prompt), greedy(24, stop)) for prompt in PROMPTS])
    assert [response.text for response in ours] == theirs
    assert [response.status for response in ours] == ["ok", "ok", "ok", "truncated", "ok"]
    assert len(set(theirs)) > 2


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_rolling_log_likelihoods(arch: str) -> None:
    texts = [LONG * 2, "a short text", LONG[:10], "<s>with BOS", "é"]
    model = lm_eval_model(arch)
    theirs = model.loglikelihood_rolling([instance("loglikelihood_rolling", text) for text in texts], disable_tqdm=True)
    ours = ask(opened(arch), [Choose(raw(""), (text,), rolling=True) for text in texts])
    assert all(near(a.logprobs[0], b) for a, b in zip(ours, theirs, strict=True))
    assert {response.status for response in ours} == {"ok"}


def test_rolling_windows_are_lm_evals() -> None:
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    encoder = opened("llama").encoder
    for text in ("Is there a dog in the image?" * 3, "a", "Tom has 3"):
        ids = encoder.encode([text])[0].tolist()
        for length in (1, 2, 5, 7, len(ids), len(ids) + 1):
            theirs = [make_disjoint_window(w) for w in get_rolling_token_windows(ids, encoder.prefix_id, length, 1)]
            ours = [(w.context.tolist(), w.options[0].tolist()) for w in encoder.rolling(text, length)]
            assert ours == theirs


MIXED: list[Request] = [
    *(Choose(raw(context), options) for context, options in CHOICES[:7]),
    *(Generate(raw(prompt), greedy(16, ("\n",))) for prompt in PROMPTS if prompt != LONG),
    *(Generate(raw(p), GenParams(16, temperature=0.9, top_p=0.95, seed=i)) for i, p in enumerate(PROMPTS[:3])),
]


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_batch_size_and_order_change_nothing(arch: str) -> None:
    alone = ask(opened(arch), MIXED, batch=1)
    for together in (ask(opened(arch), MIXED, batch=8), ask(opened(arch), MIXED[::-1], batch=5)[::-1]):
        for a, b in zip(alone, together, strict=True):
            same(a, b)
