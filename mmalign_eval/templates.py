"""Conversation templates: how a prompt becomes the text that a model continues.

The named ones are those of LLaVA's `conversation.py` (haotian-liu/LLaVA, itself from FastChat; both Apache-2.0), with
their separators and system prompts; `model` is whatever chat template a checkpoint carries, `raw` is no template.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import BadInput, did_you_mean
from .requests import MODEL_TEMPLATE, RAW_TEMPLATE, Prompt

Turn = tuple[str, str]

_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_LLAVA_V1_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
_LLAMA_2_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
# The one-turn demonstration that vicuna_v0 always carries, word for word.
_VICUNA_V0_DEMO: Turn = (
    "What are the key differences between renewable and non-renewable energy sources?",
    "Renewable energy sources are those that can be replenished naturally in a relatively short amount of time, such "
    "as solar, wind, hydro, geothermal, and biomass. Non-renewable energy sources, on the other hand, are finite and "
    "will eventually be depleted, such as coal, oil, and natural gas. Here are some key differences between renewable "
    "and non-renewable energy sources:\n"
    "1. Availability: Renewable energy sources are virtually inexhaustible, while non-renewable energy sources are "
    "finite and will eventually run out.\n"
    "2. Environmental impact: Renewable energy sources have a much lower environmental impact than non-renewable "
    "sources, which can lead to air and water pollution, greenhouse gas emissions, and other negative effects.\n"
    "3. Cost: Renewable energy sources can be more expensive to initially set up, but they typically have lower "
    "operational costs than non-renewable sources.\n"
    "4. Reliability: Renewable energy sources are often more reliable and can be used in more remote locations than "
    "non-renewable sources.\n"
    "5. Flexibility: Renewable energy sources are often more flexible and can be adapted to different situations and "
    "needs, while non-renewable sources are more rigid and inflexible.\n"
    "6. Sustainability: Renewable energy sources are more sustainable over the long term, while non-renewable sources "
    "are not, and their depletion can lead to economic and social instability.\n",
)


@dataclass(frozen=True)
class Template:
    """One conversation format.

    Attributes:
        system: System prompt when the prompt brings none.
        join: Makes the text out of the system prompt, the finished turns and the open user turn.
        demos: Turns that always come first.
    """

    system: str
    join: Callable[[str, tuple[Turn, ...], str], str]
    demos: tuple[Turn, ...] = ()


def _raw(system: str, turns: tuple[Turn, ...], user: str) -> str:
    return "".join([system, *(question + answer for question, answer in turns), user])


def _plain(system: str, turns: tuple[Turn, ...], user: str) -> str:
    return "".join(f"{part}\n" for part in [*([system] if system else []), *sum(turns, ()), user])


def _two_separators(system: str, turns: tuple[Turn, ...], user: str) -> str:
    head = f"{system} " if system else ""
    return head + "".join(f"USER: {u} ASSISTANT: {a}</s>" for u, a in turns) + f"USER: {user} ASSISTANT:"


def _hashes(system: str, turns: tuple[Turn, ...], user: str) -> str:
    head = f"{system}###" if system else ""
    return head + "".join(f"Human: {u}###Assistant: {a}###" for u, a in turns) + f"Human: {user}###Assistant:"


def _llama_2(system: str, turns: tuple[Turn, ...], user: str) -> str:
    # The first <s> is the tokenizer's.
    questions = [*(u for u, _ in turns), user]
    if system:
        questions[0] = f"<<SYS>>\n{system}\n<</SYS>>\n\n{questions[0]}"
    asked = [f"[INST] {question} [/INST]" for question in questions]
    return "".join(f"{q} {a} </s><s>" for q, (_, a) in zip(asked, turns, strict=False)) + asked[-1]


TEMPLATES: dict[str, Template] = {
    RAW_TEMPLATE: Template("", _raw),
    "plain": Template("", _plain),
    "vicuna_v0": Template(_LLAVA_V1_SYSTEM, _hashes, demos=(_VICUNA_V0_DEMO,)),
    "vicuna_v1": Template(_VICUNA_SYSTEM, _two_separators),
    "llava_v1": Template(_LLAVA_V1_SYSTEM, _two_separators),
    "llava_llama_2": Template(_LLAMA_2_SYSTEM, _llama_2),
}


def known() -> list[str]:
    """All template names, `model` first."""
    return [MODEL_TEMPLATE, *TEMPLATES]


def check_name(name: str, where: str) -> None:
    """Refuses an unknown template name; `where` says who named it.

    Raises:
        BadInput: With did-you-mean and all names.
    """
    if name not in known():
        raise BadInput(f"{where}: unknown template {name!r}{did_you_mean(name, known())}; known: {', '.join(known())}")


def render(template: str, prompt: Prompt, image_token: str = "<image>") -> str:
    """The text of a prompt in a named template, open for the assistant's answer.

    Each image becomes `image_token` and a line break in front of the user's text; the prompt's system text replaces the
    template's own, and its demonstrations come after the template's own.

    Raises:
        BadInput: Unknown name, or `model`, which only a checkpoint can render (`messages`).
    """
    if template not in TEMPLATES:
        check_name(template, "prompt")
        raise BadInput(f"template {template!r} is rendered by the checkpoint that carries it")
    form = TEMPLATES[template]
    system = form.system if prompt.system is None else prompt.system
    user = f"{image_token}\n" * len(prompt.images) + prompt.text
    return form.join(system, form.demos + prompt.demos, user)


def messages(prompt: Prompt, parts: bool) -> list[dict[str, Any]]:
    """The prompt as chat messages, for a checkpoint's own template.

    Args:
        prompt: System text, demonstrations, images and the user's text.
        parts: Content as lists of typed parts (processors) rather than plain strings (tokenizers of text models).
    """

    def content(text: str, images: int = 0) -> Any:
        return [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}] if parts else text

    turns: list[dict[str, Any]] = []
    if prompt.system is not None:
        turns.append({"role": "system", "content": content(prompt.system)})
    for question, answer in prompt.demos:
        turns.append({"role": "user", "content": content(question)})
        turns.append({"role": "assistant", "content": content(answer)})
    turns.append({"role": "user", "content": content(prompt.text, len(prompt.images))})
    return turns


def fingerprint_text(template: str) -> str:
    """A text that changes when a named template renders anything differently; for identities."""
    sample = Prompt("question", demos=(("earlier question", "earlier answer"),))
    return render(template, sample) + "\0" + render(template, Prompt("question", system="system"))
