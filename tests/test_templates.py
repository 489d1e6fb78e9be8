import pytest

from mmalign_eval import templates
from mmalign_eval.errors import BadInput
from mmalign_eval.requests import ImageRef, Prompt

SYSTEM_V1 = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
SEEN = Prompt("What is it?", images=(ImageRef("a.png"),))
DEMOS = Prompt("Q3", demos=(("Q1", "A1"), ("Q2", "A2")), system="S")


def test_vicuna_v1_with_image() -> None:
    assert templates.render("vicuna_v1", SEEN) == f"{SYSTEM_V1} USER: <image>\nWhat is it? ASSISTANT:"


def test_llava_v1_differs_from_vicuna_v1_only_in_its_system_prompt() -> None:
    assert "curious human" in templates.render("llava_v1", SEEN)
    with_system = Prompt("Q", system="S")
    assert templates.render("llava_v1", with_system) == templates.render("vicuna_v1", with_system)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("raw", "SQ1A1Q2A2Q3"),
        ("plain", "S\nQ1\nA1\nQ2\nA2\nQ3\n"),
        ("vicuna_v1", "S USER: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>USER: Q3 ASSISTANT:"),
        (
            "llava_llama_2",
            "[INST] <<SYS>>\nS\n<</SYS>>\n\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST] A2 </s><s>[INST] Q3 [/INST]",
        ),
    ],
)
def test_demonstrations_and_system_override(name: str, text: str) -> None:
    assert templates.render(name, DEMOS) == text


def test_vicuna_v0_carries_its_own_demonstration_before_the_prompts_own() -> None:
    text = templates.render("vicuna_v0", DEMOS)
    assert text.startswith("S###Human: What are the key differences between renewable and non-renewable energy")
    assert "sources:\n1. Availability: " in text
    assert "social instability.\n###Human: Q1###Assistant: A1###Human: Q2###Assistant: A2###Human: Q3###" in text
    assert text.endswith("###Human: Q3###Assistant:")


def test_an_empty_system_prompt_leaves_no_gap() -> None:
    for name in templates.TEMPLATES:
        text = templates.render(name, Prompt("Q", system=""))
        assert not text.startswith((" ", "\n", "###")), name
        assert "<<SYS>>" not in text


def test_raw_is_the_text_itself() -> None:
    assert templates.render("raw", Prompt("  Q: x\nA:")) == "  Q: x\nA:"


def test_images_come_first_as_the_models_own_token() -> None:
    two = Prompt("Q", images=(ImageRef("a"), ImageRef("b")))
    assert templates.render("raw", two, "<img>") == "<img>\n<img>\nQ"


def test_messages_for_processors_and_tokenizers() -> None:
    turns = templates.messages(Prompt("Q", (ImageRef("a"),), "S", (("q", "a"),)), parts=True)
    assert [t["role"] for t in turns] == ["system", "user", "assistant", "user"]
    assert turns[-1]["content"] == [{"type": "image"}, {"type": "text", "text": "Q"}]
    assert templates.messages(Prompt("Q"), parts=False) == [{"role": "user", "content": "Q"}]


def test_unknown_template_is_one_line_with_a_suggestion() -> None:
    with pytest.raises(BadInput, match=r"unknown template 'vicuna_v2' - did you mean 'vicuna_v.'\?.*known: model, raw"):
        templates.render("vicuna_v2", Prompt("Q"))


def test_fingerprints_tell_templates_apart() -> None:
    assert len({templates.fingerprint_text(name) for name in templates.TEMPLATES}) == len(templates.TEMPLATES)
