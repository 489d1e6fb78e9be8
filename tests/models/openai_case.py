"""What the tests of the OpenAI adapter share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmalign_eval.images import ImagePool
from mmalign_eval.models.openai import OpenAIModel
from mmalign_eval.models.openai_call import Backoff
from mmalign_eval.requests import Choose, Generate, GenParams, Prompt, Request, Response, greedy

from .fault_server import FaultServer

QUICK = Backoff(base=0.001, cap=0.01)
KEY = "sk-test-1234567890abcdef"
Make = Callable[..., tuple[OpenAIModel, FaultServer]]


def ask(text: str = "Is it?", params: GenParams | None = None, **prompt: Any) -> Generate:
    return Generate(Prompt(text, **prompt), params or greedy(16))


def raw(text: str = "Q: Is it?\nA:", params: GenParams | None = None) -> Generate:
    return ask(text, params, template="raw")


def choose(context: str, *options: str) -> Choose:
    return Choose(Prompt(context, template="raw"), options)


def answers(model: OpenAIModel, *requests: Request) -> list[Response]:
    pool = ImagePool()
    try:
        found = dict(model.answer(requests, pool))
    finally:
        pool.close()
    assert sorted(found) == list(range(len(requests)))
    return [found[i] for i in range(len(requests))]


def one(model: OpenAIModel, request: Request) -> Response:
    return answers(model, request)[0]
