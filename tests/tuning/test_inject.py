"""The injection prompts, held against the words of Table 1 and of the released script."""

from __future__ import annotations

import hashlib

import pytest
from mmalign_eval.tuning.inject import PROMPTS, injection, injection_params

from mmalign_eval.requests import GenParams


def test_the_default_of_the_script_has_no_question() -> None:
    text = injection("description", "What?", "A cat {x} sits.")
    assert text.startswith("I will give you a description an image. You must modify the description by changing")
    assert text.endswith("common and logical.Description: A cat {x} sits.. Modified description:")
    assert "What?" not in text


@pytest.mark.parametrize(
    ("name", "examples", "tail"),
    [
        ("paper", 6, "Question: Q? Response: A {response} here Modified Response:"),
        ("examples", 6, "Question: Q? Response: A {response} here. Modified response:"),
    ],
)
def test_prompts_with_examples(name: str, examples: int, tail: str) -> None:
    head, *lines, last = injection(name, "Q?", "A {response} here").split("\n")
    assert lines[0] == "Examples:"
    assert len(lines) - 1 == examples
    assert all(line.startswith("Question: ") and "Modified response:" in line for line in lines[1:])
    assert last == tail
    assert head.startswith("I will give you a question and a response about an image. ")


def test_the_papers_knife_is_unfinished_and_the_scripts_is_not() -> None:
    knife = "Question: what is the price of the knife? Response: The price shown in the image is 3 "
    assert f"{knife}dollars. Modified response:\n" in injection("paper", "q", "r")
    assert f"{knife}dollors. Modified response: The price shown in the image is 5 dollors.\n" in injection(
        "examples", "q", "r"
    )


def test_no_word_of_a_prompt_changes_by_accident() -> None:
    digests = {name: hashlib.sha256(injection(name, "Q", "R").encode()).hexdigest()[:12] for name in PROMPTS}
    assert digests == {"paper": "3e125bb77a0a", "description": "6521b2f54f43", "examples": "5e7d2add16f4"}


def test_the_scripts_sampling() -> None:
    assert injection_params(1024) == GenParams(1024, temperature=0.8, top_p=0.95, stop=("</s>",))
