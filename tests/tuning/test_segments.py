"""Training text of the four templates, letter by letter, and which of its pieces are learnt."""

from __future__ import annotations

import pytest
from mmalign_eval.tuning.segments import Marks, Name, segments

from mmalign_eval.errors import BadInput

TURNS = (("Q1", "A1"), ("Q2", "A2"))
USER = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
HUMAN = USER.replace("user", "human")
LLAMA_2 = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("v1", f"{USER} USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>"),
        (
            "llava_llama_2",
            f"[INST] <<SYS>>\n{LLAMA_2}\n<</SYS>>\n\n<image>\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST] A2 </s>",
        ),
        (
            "v0",
            f"{HUMAN}\n\n### Human: <image>\nQ1\n### Assistant: A1\n### Human: Q2\n### Assistant: A2\n### ",
        ),
    ],
)
def test_the_text_is_what_llava_trained_on(template: Name, text: str) -> None:
    assert "".join(part.text for part in segments(TURNS, template, image=True)) == text
    without = "".join(part.text for part in segments(TURNS, template, image=False))
    assert without == text.replace("<image>\n", "")


def test_plain_is_the_image_and_its_caption_the_question_discarded() -> None:
    parts = segments([("Describe it briefly.", "a cat")], "plain", image=True)
    assert [(part.text, part.learnt) for part in parts] == [("<image>", False), ("a cat\n", True)]


def test_plain_refuses_several_turns() -> None:
    with pytest.raises(BadInput, match="one turn, not 2"):
        segments(TURNS, "plain", image=True)


@pytest.mark.parametrize(
    ("template", "learnt"),
    [("v1", [" A1</s>", " A2</s>"]), ("llava_llama_2", [" A1 </s>", " A2 </s>"])],
)
def test_answers_and_their_end_are_learnt(template: Name, learnt: list[str]) -> None:
    parts = segments(TURNS, template, image=True)
    assert [part.text for part in parts if part.learnt] == learnt
    assert not any(part.head for part in parts)


def test_v0_learns_all_but_the_system_prompt_and_human_turns_from_their_third_token() -> None:
    parts = segments(TURNS, "v0", image=True)
    assert [(part.text, part.learnt, part.head) for part in parts[1:]] == [
        ("### Human: <image>\nQ1\n", False, 2),
        ("### Assistant:", True, 0),
        (" A1\n", True, 0),
        ("### Human: Q2\n", False, 2),
        ("### Assistant:", True, 0),
        (" A2\n### ", True, 0),
    ]
    assert (parts[0].learnt, parts[0].head) == (False, 0)


def test_special_tokens_are_the_tokenizers_own() -> None:
    marks = Marks("<im_start><img><im_end>", "<|begin|>", "<|end|>", "<img>")
    text = "".join(part.text for part in segments(TURNS, "llava_llama_2", True, marks))
    assert text.endswith("\n\n<im_start><img><im_end>\nQ1 [/INST] A1 <|end|><|begin|>[INST] Q2 [/INST] A2 <|end|>")
    assert segments(TURNS[:1], "plain", True, marks)[0].text == "<img>"  # never wrapped
