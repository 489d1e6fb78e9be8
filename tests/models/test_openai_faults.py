"""The OpenAI adapter when things go wrong: faults, waiting, interruption, garbage."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mmalign_eval.engine import Engine
from mmalign_eval.errors import BadInput
from mmalign_eval.images import ImagePool
from mmalign_eval.models import openai_call
from mmalign_eval.models.openai import OpenAIModel
from mmalign_eval.models.openai_call import Backoff, retry_after
from mmalign_eval.requests import Response, greedy
from mmalign_eval.store import Store

from .fault_server import FaultServer, Reply, Seen, as_json, error, ok
from .openai_case import KEY, QUICK, Make, answers, ask, one, raw

pytestmark = pytest.mark.usefixtures("openai_environment")

TRANSIENT = {
    "429": error(429, "slow down"),
    "500": error(500, "oops"),
    "503": Reply(b"<html>busy</html>", 503),
    "garbage": Reply(b"<html>hello</html>"),
    "empty": Reply(b""),
    "truncated": Reply(ok().body[:30], missing=400),
    "slow": ok(delay=3),
    "bad-gzip": Reply(b"not gzip", headers={"Content-Encoding": "gzip"}),
    "nested": Reply(b"[" * 100_000),
}


def patience(kind: str) -> float:
    return 0.5 if kind == "slow" else 30


@pytest.mark.parametrize("kind", TRANSIENT)
def test_transient_faults_are_tried_again(make_openai: Make, kind: str) -> None:
    model, server = make_openai([TRANSIENT[kind], TRANSIENT[kind]], timeout=patience(kind))
    assert one(model, ask()).text == "Yes"
    assert len(server.seen) == 3


@pytest.mark.parametrize("kind", TRANSIENT)
def test_after_the_last_try_it_is_a_failure(make_openai: Make, kind: str) -> None:
    model, server = make_openai([TRANSIENT[kind]] * 9, timeout=patience(kind), max_retries=1)
    response = one(model, ask())
    assert response.status == "error"
    assert "2 tries" in response.error
    assert "\n" not in response.error
    assert len(server.seen) == 2


def test_a_failing_server_with_stop_strings_gets_a_hint(make_openai: Make) -> None:
    model, _ = make_openai([error(500)] * 4)
    assert "send_stop=false" in one(model, ask(params=greedy(8, ("\n",)))).error


def test_one_failure_leaves_the_others_alone(make_openai: Make) -> None:
    model, _ = make_openai(lambda seen: error(500) if "bad" in seen.body["messages"][0]["content"] else ok())
    found = answers(model, *(ask("bad" if i == 7 else f"q{i}") for i in range(20)))
    assert [i for i, r in enumerate(found) if r.status != "ok"] == [7]


# --- waiting ----------------------------------------------------------------------------------------------------------


def waits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    asked: list[float | None] = []
    monkeypatch.setattr(
        openai_call.Backoff, "delay", lambda self, attempt, after: asked.append(after) or 0.0  # type: ignore[func-returns-value]
    )  # fmt: skip
    return asked


def test_retry_after_is_honoured_in_seconds_and_as_a_date(make_openai: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = waits(monkeypatch)
    now = 1_700_000_000
    dates = {"Retry_After": formatdate(now + 40, usegmt=True), "Date": formatdate(now, usegmt=True)}
    model, _ = make_openai([error(429, Retry_After="7"), error(503, **dates), error(429, Retry_After="soon")])
    assert one(model, ask()).status == "ok"
    assert asked == [7.0, 40.0, None]


def test_retry_after_without_a_date_header_uses_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000.0)
    assert retry_after({"retry-after": formatdate(1_030, usegmt=True)}) == 30.0
    assert retry_after({"retry-after": formatdate(900, usegmt=True)}) == 0.0
    assert retry_after({}) is None


@pytest.mark.parametrize("attempt", range(12))
def test_backoff_is_bounded_and_spread(attempt: int) -> None:
    backoff = Backoff(base=1.0, cap=20.0)
    drawn = [backoff.delay(attempt, None) for _ in range(300)]
    top = min(20.0, 2.0**attempt)
    assert 0 <= min(drawn) < 0.1 * top
    assert 0.9 * top < max(drawn) <= top
    assert all(5.0 <= backoff.delay(attempt, 5.0) <= 6.0 for _ in range(50))
    assert backoff.delay(attempt, 10_000.0) <= 21.0


# --- errors that end the run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), "OPENAI_API_KEY"),
        (error(403, "no access"), "'toy'"),
        (error(404, "The model `toy` does not exist", "model_not_found"), "'toy'"),
        (error(429, "You exceeded your current quota", "insufficient_quota"), "quota"),
    ],
)
def test_a_wrong_key_or_model_ends_the_run_at_once(make_openai: Make, reply: Reply, named: str) -> None:
    model, server = make_openai(lambda seen: reply, concurrency=2)
    with pytest.raises(BadInput, match=named) as caught:
        answers(model, *(ask(f"q{i}") for i in range(50)))
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    time.sleep(0.05)
    assert len(server.seen) <= 4


def test_an_address_where_nothing_listens_ends_the_run(make_openai: Make) -> None:
    with FaultServer() as server:
        url = server.url
    model = OpenAIModel("toy", url, backoff=QUICK, max_retries=1)
    with pytest.raises(BadInput, match="is the server running"):
        answers(model, ask())


def test_a_server_that_goes_away_is_a_failure_not_the_end() -> None:
    with FaultServer([as_json(json.loads(ok().body), headers={"Connection": "close"})]) as server:
        model = OpenAIModel("toy", server.url, backoff=QUICK, max_retries=1)
        assert one(model, ask()).status == "ok"
    response = one(model, ask())
    model.close()
    assert response.status == "error"
    assert "connection failed" in response.error


# --- concurrency, interruption, resume --------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_concurrency_is_reached_and_never_exceeded(make_openai: Make, concurrency: int) -> None:
    gate = threading.Barrier(concurrency)  # nothing goes back before so many calls are open
    model, server = make_openai(
        lambda seen: replace(ok(seen.body["messages"][0]["content"]), gate=gate), concurrency=concurrency, timeout=60
    )
    found = answers(model, *(ask(f"q{i}") for i in range(4 * concurrency)))
    assert [r.text for r in found] == [f"q{i}" for i in range(4 * concurrency)]
    assert server.peak == concurrency


def test_answers_come_as_they_complete(make_openai: Make) -> None:
    model, _ = make_openai(
        lambda seen: ok(delay=0.5 if seen.body["messages"][0]["content"] == "q0" else 0.0), concurrency=2
    )
    order = [index for index, _ in model.answer([ask(f"q{i}") for i in range(6)], ImagePool())]
    assert order[-1] == 0


def test_an_interrupt_ends_promptly_and_starts_nothing_more(make_openai: Make) -> None:
    model, server = make_openai(lambda seen: ok(delay=0.05), concurrency=2)
    results = model.answer([ask(f"q{i}") for i in range(50)], ImagePool())
    next(results)
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    begun = len(server.seen)
    time.sleep(0.3)
    assert len(server.seen) <= begun + 2  # of 50: at most what the two threads had in hand


def test_waiting_for_the_next_try_ends_with_the_run(make_openai: Make) -> None:
    model, _ = make_openai(lambda seen: error(429, Retry_After="60"), backoff=Backoff(), concurrency=2)
    before = set(threading.enumerate())
    results = model.answer([ask("a"), ask("b")], ImagePool())
    timer = threading.Timer(0.2, lambda: results.gi_frame.f_locals["stop"].set())  # type: ignore[attr-defined]
    timer.start()
    start = time.perf_counter()
    assert {r.error for _, r in results} == {"interrupted"}
    assert time.perf_counter() - start < 30
    callers = [t for t in threading.enumerate() if t.name.startswith("mmeval-call") and t not in before]
    for thread in callers:
        thread.join(1)
    assert not [t for t in callers if t.is_alive()]


INTERRUPTED = """
import sys
from mmalign_eval.images import ImagePool
from mmalign_eval.models.openai import open_model
from mmalign_eval.requests import Generate, Prompt, greedy
model = open_model("toy", {"base_url": sys.argv[1], "concurrency": "2"})
try:
    list(model.answer([Generate(Prompt(f"q{i}"), greedy(4)) for i in range(9)], ImagePool()))
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_does_not_wait_for_calls_in_flight() -> None:
    with FaultServer(lambda seen: ok(delay=30)) as server:
        child = subprocess.Popen([sys.executable, "-c", INTERRUPTED, server.url])
        deadline = time.monotonic() + 120
        while len(server.seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        try:
            assert child.wait(15) == 130
        finally:
            child.kill()
    assert len(server.seen) == 2


def test_resume_asks_only_what_failed(make_openai: Make, tmp_path: Path) -> None:
    broken = True

    def behave(seen: Seen) -> Reply:
        text = seen.body["messages"][0]["content"]
        return error(400, "no") if broken and text in ("q1", "q4") else ok(text)

    model, server = make_openai(behave)
    requests = [ask(f"q{i}") for i in range(6)]
    store = Store(tmp_path / "s.sqlite")
    first, _ = Engine(model, store).run(requests)
    assert [r.status for r in first] == ["ok", "error", "ok", "ok", "error", "ok"]
    broken, asked = False, len(server.seen)
    second, stats = Engine(model, store).run(requests)
    assert [r.text for r in second] == [f"q{i}" for i in range(6)]
    assert (stats.stored, stats.asked, len(server.seen) - asked) == (4, 2, 2)


# --- garbage ----------------------------------------------------------------------------------------------------------

FIELDS = (
    *(
        "choices",
        "message",
        "content",
        "text",
        "finish_reason",
        "refusal",
        "usage",
        "prompt_tokens",
        "completion_tokens",
    ),
    *("model", "error", "code", "logprobs", "tokens", "token_logprobs", "text_offset", "top_logprobs"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)
LIKELY = st.fixed_dictionaries({"choices": st.lists(JSON, max_size=2)}, optional={"usage": JSON, "model": JSON})


@pytest.fixture(scope="module")
def garbage() -> Iterator[tuple[list[Reply], dict[str, OpenAIModel]]]:
    following: list[Reply] = []
    with FaultServer(lambda seen: following[0]) as server:
        apis = ("chat", "completions")
        yield following, {api: OpenAIModel("toy", server.url, api=api, max_retries=0, backoff=QUICK) for api in apis}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON | LIKELY, status=st.sampled_from([200, 200, 400, 500]), api=st.sampled_from(["chat", "completions"]))
@example(value={"choices": [{"message": {"content": "\ud800"}}], "model": "\ud800"}, status=200, api="chat")
@example(
    value={"choices": [{"text": "x"}], "usage": {"prompt_tokens": "9", "completion_tokens": -1}},
    status=200,
    api="completions",
)
@example(value={"error": {"message": "\ud800", "code": ["content_filter"]}}, status=400, api="chat")
def test_no_json_garbage_ever_raises(
    garbage: tuple[list[Reply], dict[str, OpenAIModel]], value: Any, status: int, api: str
) -> None:
    following, models = garbage
    following[:] = [as_json(value, status)]
    response = one(models[api], ask() if api == "chat" else raw())
    assert response.status in ("ok", "error", "refused")
    assert response.status == "ok" or response.error
    assert type(response.prompt_tokens) is type(response.new_tokens) is int
    assert min(response.prompt_tokens, response.new_tokens) >= 0
    if response.status == "ok":
        text = value["choices"][0]["message"]["content"] if api == "chat" else value["choices"][0]["text"]
        assert response.text == text.encode("utf-8", "replace").decode()
    Response.from_json(response.to_json()).to_json().encode()
    json.dumps(models[api].describe(), ensure_ascii=False).encode()
