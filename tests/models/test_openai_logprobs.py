"""Log-likelihoods over /completions, from a server that echoes them - and from servers that do it wrong."""

from __future__ import annotations

import pytest

from mmalign_eval.errors import BadInput
from mmalign_eval.requests import greedy

from .fault_server import ToyLM
from .openai_case import Make, answers, choose, one, raw

pytestmark = pytest.mark.usefixtures("openai_environment")


def expected(context: str, option: str) -> float:
    tokens = ToyLM.split(context + option)
    n = len(ToyLM.split(context.rstrip()))
    return sum(ToyLM.logprob(tokens[i - 1], tokens[i]) for i in range(n, len(tokens)))


@pytest.mark.parametrize("mode", ["right", "bos"])
def test_options_are_scored_from_the_echo(make_openai: Make, mode: str) -> None:
    model, server = make_openai(ToyLM(mode), api="completions")
    options = (" yes", " no way", " café", ".")
    response = one(model, choose("Q: Is the dog lazy?\nA:", *options))
    assert response.status == "ok"
    assert response.logprobs == pytest.approx([expected("Q: Is the dog lazy?\nA:", o) for o in options])
    assert response.prompt_tokens == sum(len(ToyLM.split("Q: Is the dog lazy?\nA:" + o)) for o in options)
    asked = len(server.seen)
    one(model, choose("The", " dog"))
    assert len(server.seen) == asked + 1  # the server is checked once


def test_greedy_marks_what_greedy_decoding_would_give(make_openai: Make) -> None:
    model, _ = make_openai(ToyLM(), api="completions")
    generated = one(model, raw("The dog", greedy(2))).text
    other = next(o for o in (" fox fox", " dog dog") if o != generated)
    assert one(model, choose("The dog", generated, other)).greedy == (True, False)


def test_blanks_before_the_option_belong_to_it(make_openai: Make) -> None:
    model, _ = make_openai(ToyLM(), api="completions")
    left, right = one(model, choose("A: ", "fox")), one(model, choose("A:", " fox"))
    assert left.logprobs == right.logprobs == pytest.approx([expected("A:", " fox")])


def test_an_option_inside_a_token_is_an_error_not_a_number(make_openai: Make) -> None:
    model, _ = make_openai(ToyLM(), api="completions")
    response = one(model, choose("It is a do", "g", " fox"))
    assert response.status == "error"
    assert "'g'" in response.error


def test_a_server_that_reads_another_option_is_an_error_not_a_number(make_openai: Make) -> None:
    model, _ = make_openai(ToyLM("lossy"), api="completions")
    assert one(model, choose("Q:", " cafe")).status == "ok"
    response = one(model, choose("Q:", " café"))
    assert (response.status, response.logprobs) == ("error", ())


@pytest.mark.parametrize(
    ("mode", "named"),
    [("none", "no logprobs"), ("shifted", "shifted"), ("holes", "leaves"), ("deaf", "echo")],
)
def test_a_server_whose_figures_are_wrong_is_refused(make_openai: Make, mode: str, named: str) -> None:
    model, server = make_openai(ToyLM(mode), api="completions", concurrency=1)
    with pytest.raises(BadInput, match=named) as caught:
        answers(model, *(choose(f"Q{i}:", " a", " b") for i in range(5)))
    assert "cannot be used" in str(caught.value)
    assert len(server.seen) <= 2


def test_figures_that_go_missing_later_are_an_error(make_openai: Make) -> None:
    toy = ToyLM()
    model, _ = make_openai(toy, api="completions")
    assert one(model, choose("Q:", " a")).status == "ok"
    toy.mode = "none"
    response = one(model, choose("Q:", " a"))
    assert (response.status, response.logprobs) == ("error", ())
