"""vLLM itself against transformers on the same weights: equal by the house's rule, texts and decisions identical."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mmalign_eval.requests import Choose, Generate, GenParams, Prompt, Request, Response, greedy
from tests.models.hf_case import ask, same

from .case import BROKEN, POSITIONS, TEXT, by_hf, by_vllm

LONG = "Tom has 3 apples and a red cup. " * 160  # more tokens than the model takes
CHOICES = [
    (TEXT + " Answer:", (" 7", " Tom has 3 apples", " no", " no idea", " no", "")),
    ("trailing blanks move  ", ("Yes", " No", "")),
    ("a line ends\n", ("Yes", "No")),
    ("   ", ("Yes", "No way")),
    ("", ("Is there a dog", " cup", "<s>already")),
    ("<s>begins with BOS", (" a", " b c")),
    ("caf", ("é au lait", "e", "ﬀ漢字")),
    (LONG, (" the end", " dog")),
    ("x", (" y" * 300, " y" * 480)),
    ("too long an option", (LONG, " Yes")),
]


def raw(text: str, special: bool | None = None) -> Prompt:
    return Prompt(text, template="raw", special_tokens=special)


def both(requests: list[Request], batch: int = 0) -> tuple[list[Response], list[Response]]:
    return ask(by_vllm(), requests, batch), ask(by_hf(), requests)


def agree(requests: list[Request], batch: int = 0) -> list[Response]:
    """Asserts that both give the same; returns it."""
    ours, theirs = both(requests, batch)
    for one, other in zip(ours, theirs, strict=True):
        same(one, other)
        assert (one.prompt_tokens, one.marks, one.error) == (other.prompt_tokens, other.marks, other.error)
    return ours


def test_log_likelihoods() -> None:
    found = agree([Choose(raw(context), options) for context, options in CHOICES])
    assert [r.status for r in found] == [*["ok"] * 7, "truncated", "ok", "error"]
    assert any(any(r.greedy) for r in found)
    assert found[0].logprobs[2] == found[0].logprobs[4], "the same option is asked once"


def test_log_likelihoods_without_special_tokens() -> None:
    agree([Choose(raw(context, special), options) for special in (False, True) for context, options in CHOICES[:3]])


def test_a_batch_of_any_size_and_what_is_in_the_cache_change_nothing() -> None:
    requests: list[Request] = [Choose(raw(context), options) for context, options in CHOICES]
    agree(requests, batch=1)
    agree(requests[::-1], batch=3)


def test_more_options_of_one_token_than_vllm_names_at_once() -> None:
    letters = tuple(f"<extra_{i}>" for i in range(10, 200))
    (found,) = agree([Choose(raw(TEXT), letters)])
    assert len(set(found.logprobs)) > 128


def test_what_greedy_decoding_gives_is_marked_so() -> None:
    (text,) = agree([Generate(raw(TEXT), greedy(4))])
    (found,) = agree([Choose(raw(TEXT), (text.text, text.text + " apples"))])
    assert len(found.greedy) == 2


def test_log_likelihoods_at_the_models_length() -> None:
    options = (" y y y", " y")
    contexts = ["x" + " y" * count + tail for count in range(400, 530) for tail in ("", " no")]
    lengths = {context: by_hf().length(Choose(raw(context), options)) for context in contexts}
    near = [context for context in contexts if abs(lengths[context] - POSITIONS) <= 4]
    assert len({lengths[context] for context in near}) > 3
    found = agree([Choose(raw(context), options) for context in near])
    assert {r.status for r in found} == {"ok", "truncated"}


@pytest.mark.parametrize("text", ["", "Tom", LONG, "漢字 and more"])
def test_rolling_log_likelihoods(text: str) -> None:
    agree([Choose(raw(""), (text,), rolling=True)])


PROMPTS = [TEXT, "Is there a dog in the image? ", "<s>A", LONG, "USER: describe", TEXT + " ", "no"]


@pytest.mark.parametrize(
    "params",
    [
        greedy(40),
        greedy(1),
        GenParams(40, min_new_tokens=25),
        GenParams(6, min_new_tokens=9),
        GenParams(40, top_p=0.5, top_k=7),  # greedy all the same
    ],
)
def test_greedy_generations(params: GenParams) -> None:
    found = agree([Generate(raw(text), params) for text in PROMPTS])
    assert [r.status == "truncated" for r in found] == [text == LONG for text in PROMPTS]
    if params == greedy(40):
        assert {r.finish for r in found} == {"stop", "length"}
        assert found[0].new_tokens <= 20, "the checkpoint's second end token ends it"
    if params.min_new_tokens == 25:
        assert all(r.new_tokens >= 25 for r in found)


@pytest.mark.parametrize("min_new_tokens", [0, 12])
def test_stop_strings(min_new_tokens: int) -> None:
    plain = ask(by_hf(), [Generate(raw(text), greedy(30)) for text in PROMPTS])
    requests: list[Request] = []
    for text, response in zip(PROMPTS, plain, strict=True):
        for at in (0, 5, 11):
            stop = ("never seen", response.text[at : at + 3] or "x", "\n")
            requests.append(Generate(raw(text), GenParams(30, stop=stop, min_new_tokens=min_new_tokens)))
    found = agree(requests)
    assert sum(r.finish == "stop" for r in found) > len(PROMPTS)
    ended = [r.new_tokens for r in found if r.finish == "stop"]
    assert min(ended) < 12, "a stop string ends a text whatever its length"


def test_a_stop_string_that_only_vllms_decoder_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    text = ask(by_hf(), [Generate(raw("no"), greedy(12))])[0].text
    tokenizer = by_vllm().tokenizer
    stop = text[4:8]
    monkeypatch.setattr(type(tokenizer), "decode", _without(stop, tokenizer.decode))
    monkeypatch.setattr(type(tokenizer), "batch_decode", _without(stop, tokenizer.batch_decode))
    (found,) = ask(by_vllm(), [Generate(raw("no"), greedy(12, (stop,)))])
    assert (found.text, found.new_tokens, found.finish) == (text.replace(stop, ""), 12, "length")


def _without(word: str, decode: Any) -> Any:
    def decoded(self: Any, *args: Any, **more: Any) -> Any:
        found = decode(*args, **more)
        return found.replace(word, "") if isinstance(found, str) else [text.replace(word, "") for text in found]

    return decoded


def test_sampled_texts_follow_their_seed_alone() -> None:
    params = GenParams(16, temperature=1.0, top_p=0.95, top_k=50)
    requests: list[Request] = [
        Generate(raw(text), replace(params, seed=seed)) for text in PROMPTS[:3] for seed in (1, 2, (1 << 63) - 1)
    ]
    together = ask(by_vllm(), requests)
    assert [r.text for r in ask(by_vllm(), requests[::-1], batch=1)][::-1] == [r.text for r in together]
    assert len({r.text for r in together}) == len(requests)
    assert all(r.status == "ok" for r in together)


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}])
def test_sampling_from_the_likeliest_token_alone_is_greedy(narrow: dict[str, Any]) -> None:
    params = GenParams(16, temperature=1.5, seed=3, **narrow)
    sampled = ask(by_vllm(), [Generate(raw(text), params) for text in PROMPTS])
    plain = ask(by_hf(), [Generate(raw(text), greedy(16)) for text in PROMPTS])
    assert [r.text for r in sampled] == [r.text for r in plain]


def test_different_requests_in_one_batch() -> None:
    agree(
        [
            Generate(raw(TEXT), greedy(12)),
            Choose(raw(TEXT), (" yes", " no idea")),
            Generate(raw(TEXT), greedy(5)),
            Choose(raw(""), ("Tom has an apple",), rolling=True),
        ]
    )


def test_described_with_its_version() -> None:
    about = by_vllm().describe()
    assert about["class"] == "LlamaForCausalLM"
    assert about["vllm"].split(".")[0].isdigit()
    assert about["parameters"] == by_hf().describe()["parameters"]


def test_not_a_number_is_an_error_of_that_request_only() -> None:
    requests: list[Request] = [
        Generate(raw(TEXT), greedy(8)),
        Generate(raw(TEXT + BROKEN), greedy(8)),
        Choose(raw(TEXT + BROKEN), (" yes", " no idea")),
        Choose(raw(TEXT), (" yes", " no idea")),
    ]
    for batch in (0, 1):
        found = agree(requests, batch)
        assert [r.status for r in found] == ["ok", "error", "error", "ok"]
    agree([Generate(raw(text), greedy(12)) for text in PROMPTS])
