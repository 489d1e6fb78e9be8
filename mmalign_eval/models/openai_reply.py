"""What an OpenAI-compatible server replied, as a `Response`; nothing in a reply is taken on trust."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..requests import Response, failure

MAX_TOKENS = 2**31  # a count above this is not a count


def generation(reply: Any, chat: bool, stop: Sequence[str]) -> Response:
    """The response to a `Generate`.

    Args:
        reply: The reply's JSON value, of any shape.
        chat: Whether it came from /chat/completions.
        stop: Strings at which the text is cut.
    """
    choice = first_choice(reply)
    if choice is None:
        return failure(f"the reply has no choices{_said(reply)}")
    message = choice.get("message") if chat else choice
    message = message if isinstance(message, dict) else {}
    text, refusal = message.get("content" if chat else "text"), message.get("refusal")
    finish = choice.get("finish_reason")
    if isinstance(refusal, str) and refusal:
        return Response("refused", error=" ".join(encodable(refusal).split())[:300])
    if finish == "content_filter":
        return Response("refused", error="the server's content filter ended the answer")
    if not isinstance(text, str):
        return failure(f"the reply has no text (finish_reason {finish!r})")
    kept, was_cut = cut(encodable(text), stop)
    served = reply.get("model")
    return Response(
        "ok",
        text=kept,
        finish="length" if finish == "length" and not was_cut else "stop",
        prompt_tokens=tokens_used(reply, "prompt_tokens"),
        new_tokens=tokens_used(reply, "completion_tokens"),
        served=encodable(served)[:100] if isinstance(served, str) else "",
    )


def first_choice(reply: Any) -> dict[str, Any] | None:
    """`choices[0]` where there is one."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    return None


def tokens_used(reply: dict[str, Any], field: str) -> int:
    """A count of `usage`; 0 where it is missing or nonsense."""
    usage = reply.get("usage")
    value = usage.get(field) if isinstance(usage, dict) else 0
    return value if type(value) is int and 0 <= value < MAX_TOKENS else 0


def cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop string, and whether there was one."""
    ends = [at for s in stop if s and (at := text.find(s)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


def encodable(text: str) -> str:
    """The text with lone surrogates (legal in JSON escapes, not in UTF-8) replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _said(reply: Any) -> str:
    error = reply.get("error") if isinstance(reply, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return f": {encodable(message)[:200]}" if isinstance(message, str) else ""
