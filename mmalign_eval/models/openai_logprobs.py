"""Log-likelihoods from a server's echo of the prompt, trusted only after the server passed a check.

Servers that offer /completions with `echo` and `logprobs` differ: some leave the figures out, some return them shifted
by one position. So a short greedy continuation is scored twice, as it is generated and as it is echoed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .openai_call import CallFailed
from .openai_reply import first_choice, tokens_used

Post = Callable[[dict[str, Any]], Any]

PROBES = ("The quick brown fox jumps over the", "Question: What is the capital of France?\nAnswer:", "1, 2, 3, 4,")
PROBE_TOKENS = 4
COLUMNS = ("tokens", "text_offset", "token_logprobs", "top_logprobs")
TOLERANCE = 0.1  # nats; half-precision prefill and decoding differ by some hundredths, shifted rows by far more
OPAQUE = ("\ufffd", "bytes:")  # marks of tokens that hold part of a character and have no text of their own


class Unusable(Exception):
    """The server's log-probabilities cannot be used; the text is one line."""


@dataclass(frozen=True)
class Token:
    """One scored token.

    Attributes:
        text: Its text.
        start: Characters before it, as the server counts them.
        logprob: Natural-log probability; None where the server gives none (the first token of a text).
        best: That of the likeliest token at this place, or None.
    """

    text: str
    start: int
    logprob: float | None
    best: float | None


def check_server(post: Post, model: str) -> int:
    """Scores a greedy continuation as generated and as echoed.

    Returns:
        Characters that the server counts in front of the prompt (the name of a begin-of-text token).

    Raises:
        Unusable: Log-probabilities are missing, malformed, shifted or otherwise different, or no probe could tell.
        CallFailed: A call failed.
    """
    for probe in PROBES:
        body = {"model": model, "prompt": probe, "max_tokens": PROBE_TOKENS, "temperature": 0, "logprobs": 1}
        reply = post(body)
        generated, text = read_tokens(reply), (first_choice(reply) or {}).get("text")
        if not isinstance(text, str) or not text:
            continue
        echoed = read_tokens(post(echo_body(model, probe + text)))
        lead = "".join(t.text for t in echoed).find(probe + text)
        if lead < 0:
            raise Unusable("it does not echo the prompt")
        tail = [t for t in echoed if len(probe) <= t.start - lead < len(probe + text)]
        if tail and [t.text for t in tail] == [t.text for t in generated[: len(tail)]]:
            _compare(tail, generated)
            return lead
        # else the text splits into other tokens than it was generated from
    raise Unusable("no test sentence could be scored in two ways")


def score_option(post: Post, model: str, lead: int, context: str, option: str) -> tuple[float, bool, int]:
    """(log-likelihood of the option after the context, whether greedy decoding would give it, prompt tokens).

    Blanks at the end of the context are counted to the option, where tokenizers put them.

    Raises:
        CallFailed: The call failed, or the option's tokens cannot be told from the context's.
    """
    moved = len(context) - len(context.rstrip())
    boundary, whole = len(context) - moved, context + option
    reply = post(echo_body(model, whole))
    try:
        tokens = read_tokens(reply)
    except Unusable as problem:
        raise CallFailed(f"log-probabilities: {problem}") from problem
    own = [t for t in tokens if boundary <= t.start - lead < len(whole)]
    if not own or own[0].start - lead != boundary or not _spells(own, whole[boundary:]):
        raise CallFailed(f"the server's tokens do not split where the option {option[:40]!r} begins")
    total, greedy = 0.0, True
    for token in own:
        if token.logprob is None or token.best is None:
            raise CallFailed(f"token {token.text!r} came without a log-probability")
        total += token.logprob
        greedy = greedy and token.logprob >= token.best
    return total, greedy, tokens_used(reply, "prompt_tokens")


def echo_body(model: str, text: str) -> dict[str, Any]:
    """Asks for a text's own log-probabilities; one token is generated, since some servers read 0 as no limit."""
    return {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}


def read_tokens(reply: Any) -> list[Token]:
    """The tokens of a reply.

    Raises:
        Unusable: There are no log-probabilities, or they are not what the API says.
    """
    data = (first_choice(reply) or {}).get("logprobs")
    if not isinstance(data, dict):
        raise Unusable("it returns no logprobs")
    columns = [c for name in COLUMNS if isinstance(c := data.get(name), list)]
    if len(columns) != len(COLUMNS) or len({len(c) for c in columns}) != 1:
        raise Unusable("its logprobs lack tokens, text_offset, token_logprobs or top_logprobs, or differ in length")
    return [_token(*row) for row in zip(*columns, strict=True)]


def _token(text: Any, start: Any, logprob: Any, top: Any) -> Token:
    if not isinstance(text, str) or type(start) is not int:
        raise Unusable("its tokens have no text or no offset")
    values = [_number(v) for v in top.values()] if isinstance(top, dict) else []
    known = [v for v in values if v is not None]
    return Token(text, start, _number(logprob), max(known) if known else None)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _spells(tokens: list[Token], text: str) -> bool:
    joined = "".join(t.text for t in tokens)
    return joined == text or any(mark in t.text for t in tokens for mark in OPAQUE)


def _compare(echoed: list[Token], generated: list[Token]) -> None:
    for one, other in zip(echoed, generated, strict=False):
        if one.logprob is None or other.logprob is None or one.best is None:
            raise Unusable("it leaves log-probabilities out")
        if abs(one.logprob - other.logprob) > TOLERANCE:
            figures = f"{other.logprob:.3f} when generated and {one.logprob:.3f} when echoed"
            raise Unusable(f"token {one.text!r} scores {figures}: they are shifted or wrong")
