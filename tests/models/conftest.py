"""Fixtures of the adapters' tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mmalign_eval.models.openai import OpenAIModel

from .fault_server import FaultServer
from .openai_case import KEY, QUICK, Make


@pytest.fixture
def openai_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def make_openai(openai_environment: None) -> Iterator[Make]:
    """Starts a server and opens a model on it."""
    opened: list[Any] = []

    def started(script: Any = (), **options: Any) -> tuple[OpenAIModel, FaultServer]:
        server = FaultServer(script).__enter__()
        model = OpenAIModel("toy", server.url, **{"backoff": QUICK, "timeout": 5, "max_retries": 3, **options})
        model.load()
        opened.extend((model, server))
        return model, server

    yield started
    for thing in opened:
        thing.close() if isinstance(thing, OpenAIModel) else thing.__exit__(None, None, None)
