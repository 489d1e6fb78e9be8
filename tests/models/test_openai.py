"""The OpenAI adapter against a loopback server that misbehaves on purpose."""

from __future__ import annotations

import base64
import io
import itertools
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmalign_eval.engine import Engine
from mmalign_eval.errors import BadInput, MmevalError, Refused
from mmalign_eval.images import ImagePool
from mmalign_eval.models import openai_call
from mmalign_eval.models.openai import OPENAI_URL, OpenAIModel, open_model
from mmalign_eval.models.openai_call import Backoff, retry_after
from mmalign_eval.requests import Choose, Generate, GenParams, ImageRef, Prompt, Request, Response, greedy
from mmalign_eval.store import Store

from .fault_server import FaultServer, Reply, Seen, ToyLM, as_json, error, ok

QUICK = Backoff(base=0.001, cap=0.01)
KEY = "sk-test-1234567890abcdef"
Make = Callable[..., tuple[OpenAIModel, FaultServer]]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def make() -> Iterator[Make]:
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


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_chat_messages_and_greedy_parameters(make: Make) -> None:
    model, server = make()
    response = one(model, ask("And this?", system="Be brief.", demos=(("Is snow white?", "Yes"),)))
    assert response == Response("ok", text="Yes", finish="stop", prompt_tokens=11, new_tokens=3)
    assert server.seen[0].path == "/v1/chat/completions"
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert server.seen[0].body == {
        "model": "toy",
        "max_tokens": 16,
        "temperature": 0.0,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Is snow white?"},
            {"role": "assistant", "content": "Yes"},
            {"role": "user", "content": "And this?"},
        ],
    }


def test_sampling_parameters_are_sent_and_only_four_stops(make: Make) -> None:
    model, server = make([ok("one two STOP6 three", finish="length")])
    params = GenParams(8, temperature=0.7, top_p=0.9, seed=5, stop=("a1", "b2", "c3", "d4", "STOP5", "STOP6"))
    response = one(model, ask(params=params))
    body = server.seen[0].body
    assert (body["temperature"], body["top_p"], body["seed"], body["max_tokens"]) == (0.7, 0.9, 5, 8)
    assert body["stop"] == ["a1", "b2", "c3", "d4"]
    assert (response.text, response.finish) == ("one two ", "stop")


def test_stop_strings_stay_here_when_told(make: Make) -> None:
    model, server = make([ok("yes\nno")], send_stop=False)
    assert one(model, ask(params=greedy(8, ("\n",)))).text == "yes"
    assert "stop" not in server.seen[0].body


@pytest.mark.parametrize(
    ("params", "named"),
    [
        (GenParams(temperature=1.0, top_k=50), "top_k"),
        (GenParams(min_new_tokens=1), "min_new_tokens"),
        (GenParams(num_beams=5), "num_beams"),
    ],
)
def test_parameters_without_a_field_are_refused(params: GenParams, named: str) -> None:
    model = OpenAIModel("toy", "http://127.0.0.1:9/v1")
    with pytest.raises(Refused, match=named):
        model.check(ask(params=params))
    model.check(ask(params=GenParams(top_k=50)))  # greedy: the same for every top_k


def test_prompts_that_the_api_would_change_are_refused(image: Callable[..., ImageRef]) -> None:
    chat, text = (OpenAIModel("toy", "http://127.0.0.1:9/v1", api=api) for api in ("chat", "completions"))
    for model, request, named in [
        (chat, raw(), "api=completions"),
        (chat, ask(template="vicuna_v1"), "api=completions"),
        (chat, choose("Q:", " a"), "api=completions"),
        (text, ask(), "api=chat"),
        (text, Choose(Prompt("Q:"), (" a",)), "api=chat"),
        (text, ask(template="vicuna_v1", images=(image("a.jpg"),)), "api=chat"),
        (text, choose("", "a"), "context"),
        (text, Choose(Prompt("", template="raw"), ("a text",), rolling=True), "context"),
    ]:
        with pytest.raises(Refused, match=named):
            model.check(request)
    chat.check(ask(images=(image("a.jpg"),)))
    text.check(raw())
    text.check(choose("Q:", " a"))


def test_completions_send_raw_and_rendered_text(make: Make) -> None:
    model, server = make(api="completions")
    assert [r.text for r in answers(model, raw("Q: x\nA:"), ask("Hi", template="vicuna_v1"))] == ["Yes", "Yes"]
    assert {seen.path for seen in server.seen} == {"/v1/completions"}
    prompts = sorted(seen.body["prompt"] for seen in server.seen)
    assert prompts[1] == "Q: x\nA:"
    assert prompts[0].endswith("USER: Hi ASSISTANT:")
    assert model.render(raw("Q: x\nA:")) == "Q: x\nA:"


def test_the_limit_is_renamed_once_and_remembered(make: Make) -> None:
    def picky(seen: Seen) -> Reply:
        if "max_tokens" in seen.body:
            return error(400, "Unsupported parameter: use 'max_completion_tokens' instead.", "unsupported_parameter")
        return ok(str(seen.body["max_completion_tokens"]))

    model, server = make(picky)
    assert one(model, ask()).text == "16"
    assert one(model, ask()).text == "16"
    assert len(server.seen) == 3


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> Callable[..., ImageRef]:
    def made(name: str, color: tuple[int, int, int] = (200, 30, 30), transforms: tuple[str, ...] = ()) -> ImageRef:
        Image.new("RGB", (20, 10), color).save(tmp_path / name)
        return ImageRef(str(tmp_path / name), transforms=transforms)

    return made


def sent_images(seen: Seen) -> list[tuple[str, bytes]]:
    parts = [p["image_url"]["url"] for p in seen.body["messages"][-1]["content"] if p["type"] == "image_url"]
    return [(url.split(";")[0], base64.b64decode(url.split("base64,")[1])) for url in parts]


@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "jpeg"), ("a.png", "png"), ("a.webp", "webp")])
def test_images_go_out_as_their_own_bytes(make: Make, image: Callable[..., ImageRef], name: str, kind: str) -> None:
    model, server = make()
    ref = image(name)
    one(model, ask("What?", images=(ref,)))
    assert sent_images(server.seen[0]) == [(f"data:image/{kind}", Path(ref.path).read_bytes())]


def test_other_formats_and_transformed_images_go_out_as_png(make: Make, image: Callable[..., ImageRef]) -> None:
    model, server = make(concurrency=1)
    answers(model, ask(images=(image("a.bmp"),)), ask(images=(image("b.png", transforms=("center_crop",)),)))
    (bmp,), (cropped,) = (sent_images(seen) for seen in server.seen)
    assert (bmp[0], cropped[0]) == ("data:image/png", "data:image/png")
    assert Image.open(io.BytesIO(bmp[1])).size == (20, 10)
    assert Image.open(io.BytesIO(cropped[1])).size == (10, 10)


def test_images_come_first_in_order_then_the_text(make: Make, image: Callable[..., ImageRef]) -> None:
    model, server = make()
    refs = (image("1.png", (1, 1, 1)), image("2.png", (2, 2, 2)))
    one(model, ask("Same?", images=refs))
    content = server.seen[0].body["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    assert [data for _, data in sent_images(server.seen[0])] == [Path(r.path).read_bytes() for r in refs]
    assert json.loads(model.render(ask("Same?", images=refs)))[0]["content"][1]["image_url"] == {"url": "<image>"}


def test_questions_on_one_image_are_asked_side_by_side(
    make: Make, image: Callable[..., ImageRef], tmp_path: Path
) -> None:
    model, server = make(concurrency=1)
    refs = [image(f"{i}.png", (i, i, i)) for i in range(4)]
    shuffled = [ask(f"{q}?", images=(refs[i],)) for q in range(5) for i in range(4)]
    Engine(model, Store(tmp_path / "s.sqlite")).run(shuffled)
    order = [sent_images(seen)[0][1] for seen in server.seen]
    assert len(order) == 20
    assert sum(a != b for a, b in itertools.pairwise(order)) == 3


def test_a_damaged_or_missing_image_is_an_error_of_its_request_alone(
    make: Make, image: Callable[..., ImageRef], tmp_path: Path
) -> None:
    model, server = make()
    damaged = image("bad.png")
    Path(damaged.path).write_bytes(Path(damaged.path).read_bytes()[:40])
    bad, gone, good = answers(
        model, ask(images=(damaged,)), ask(images=(ImageRef(str(tmp_path / "no.png")),)), ask(images=(image("ok.png"),))
    )
    assert (bad.status, gone.status, good.status) == ("error", "error", "ok")
    assert "bad.png" in bad.error
    assert "no.png" in gone.error
    assert len(server.seen) == 1


# --- what comes back --------------------------------------------------------------------------------------------------


def test_length_is_told_apart_from_stop(make: Make) -> None:
    model, _ = make([ok("a", finish="length")])
    assert one(model, ask()).finish == "length"


def test_an_empty_answer_is_an_answer(make: Make) -> None:
    model, _ = make([ok("")])
    assert one(model, ask()) == Response("ok", text="", finish="stop", prompt_tokens=11, new_tokens=3)


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        (as_json({"choices": []}), "no choices"),
        (as_json({"error": {"message": "upstream is down"}}), "upstream is down"),
        (ok(None, finish="length"), "no text"),
        (ok(None, finish="tool_calls"), "no text"),
        (error(400, "image too large"), "image too large"),
        (error(413, "body too large"), "body too large"),
    ],
)
def test_unusable_replies_are_failures_and_not_repeated(make: Make, reply: Reply, named: str) -> None:
    model, server = make([reply])
    response = one(model, ask())
    assert response.status == "error"
    assert named in response.error
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "reply",
    [
        ok(None, refusal="I cannot help with that."),
        ok("par", finish="content_filter"),
        error(400, "filtered", "content_filter"),
        error(400, "Your image was rejected", "content_policy_violation"),
    ],
)
def test_a_content_filter_is_a_refusal(make: Make, reply: Reply) -> None:
    model, server = make([reply])
    response = one(model, ask())
    assert (response.status, response.text) == ("refused", "")
    assert response.error
    assert len(server.seen) == 1


TRANSIENT = {
    "429": error(429, "slow down"),
    "500": error(500, "oops"),
    "503": Reply(b"<html>busy</html>", 503),
    "garbage": Reply(b"<html>hello</html>"),
    "empty": Reply(b""),
    "truncated": Reply(ok().body[:30], missing=400),
    "slow": ok(delay=1.0),
    "bad-gzip": Reply(b"not gzip", headers={"Content-Encoding": "gzip"}),
    "nested": Reply(b"[" * 100_000),
}


@pytest.mark.parametrize("kind", TRANSIENT)
def test_transient_faults_are_tried_again(make: Make, kind: str) -> None:
    model, server = make([TRANSIENT[kind], TRANSIENT[kind]], timeout=0.3)
    assert one(model, ask()).text == "Yes"
    assert len(server.seen) == 3


@pytest.mark.parametrize("kind", TRANSIENT)
def test_after_the_last_try_it_is_a_failure(make: Make, kind: str) -> None:
    model, server = make([TRANSIENT[kind]] * 9, timeout=0.3, max_retries=1)
    response = one(model, ask())
    assert response.status == "error"
    assert "2 tries" in response.error
    assert "\n" not in response.error
    assert len(server.seen) == 2


def test_a_failing_server_with_stop_strings_gets_a_hint(make: Make) -> None:
    model, _ = make([error(500)] * 4)
    assert "send_stop=false" in one(model, ask(params=greedy(8, ("\n",)))).error


def test_one_failure_leaves_the_others_alone(make: Make) -> None:
    model, _ = make(lambda seen: error(500) if "bad" in seen.body["messages"][0]["content"] else ok())
    found = answers(model, *(ask("bad" if i == 7 else f"q{i}") for i in range(20)))
    assert [i for i, r in enumerate(found) if r.status != "ok"] == [7]


# --- waiting ----------------------------------------------------------------------------------------------------------


def waits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    asked: list[float | None] = []
    monkeypatch.setattr(
        openai_call.Backoff, "delay", lambda self, attempt, after: asked.append(after) or 0.0  # type: ignore[func-returns-value]
    )  # fmt: skip
    return asked


def test_retry_after_is_honoured_in_seconds_and_as_a_date(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = waits(monkeypatch)
    now = 1_700_000_000
    dates = {"Retry_After": formatdate(now + 40, usegmt=True), "Date": formatdate(now, usegmt=True)}
    model, _ = make([error(429, Retry_After="7"), error(503, **dates), error(429, Retry_After="soon")])
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
def test_a_wrong_key_or_model_ends_the_run_at_once(make: Make, reply: Reply, named: str) -> None:
    model, server = make(lambda seen: reply, concurrency=2)
    with pytest.raises(BadInput, match=named) as caught:
        answers(model, *(ask(f"q{i}") for i in range(50)))
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    time.sleep(0.05)
    assert len(server.seen) <= 4


def test_an_address_where_nothing_listens_ends_the_run(make: Make) -> None:
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


def test_openai_itself_needs_a_key_but_a_local_server_does_not(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(BadInput, match="OPENAI_API_KEY"):
        open_model("gpt-x", {}).load()
    model, server = make()
    assert one(model, ask()).status == "ok"
    assert server.seen[0].headers["authorization"] == "Bearer none"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": "http://user:secret@host/v1"}, "OPENAI_API_KEY"),
        ({"base_url": "http://host/v1?key=secret"}, "OPENAI_API_KEY"),
        ({"api": "chatt"}, "did you mean 'chat'"),
        ({"concurency": "3"}, "did you mean 'concurrency'"),
        ({"concurrency": "0"}, "concurrency=0"),
        ({"send_stop": "maybe"}, "send_stop"),
        ({"max_retries": "-1"}, "max_retries"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], named: str) -> None:
    with pytest.raises(BadInput, match=named) as caught:
        open_model("toy", options)
    assert "secret" not in str(caught.value)


def test_options_are_taken() -> None:
    model = open_model("org/toy-7b", {"base_url": "https://h:1/v1/", "concurrency": "3", "max_retries": "0"})
    assert (model.name, model.base_url, model.batch_rows, model.images) == ("toy-7b", "https://h:1/v1", 96, True)
    assert open_model("x", {"api": "completions"}).images is False
    assert open_model("x", {}).base_url == OPENAI_URL
    with pytest.raises(BadInput, match="NAME"):
        open_model("", {})


# --- the key and the identity -----------------------------------------------------------------------------------------


def test_the_key_is_nowhere(
    make: Make, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    model, _ = make(
        [error(400, f"bad key {KEY}"), error(500, KEY), Reply(KEY.encode()), error(401, KEY)], concurrency=1
    )
    text = one(model, ask()).error
    assert "[key]" in text
    with pytest.raises(MmevalError) as caught:
        one(model, ask())
    store = tmp_path / "s.sqlite"
    Engine(model, Store(store)).run([ask(f"q{i}") for i in range(3)])
    shown = [text, str(caught.value), repr(caught.value), json.dumps(model.identity()), json.dumps(model.describe())]
    shown += [caplog.text, *capfd.readouterr(), model.fingerprint(), model.render(ask()), repr(model)]
    assert caplog.records
    assert all(KEY not in s for s in shown)
    assert KEY.encode() not in store.read_bytes()


def test_identity_is_what_can_change_an_answer() -> None:
    def print_of(name: str = "toy", **options: str) -> str:
        return open_model(name, {"base_url": "http://h:1/v1", **options}).fingerprint()

    assert print_of() == print_of(concurrency="2", timeout="9", max_retries="0", send_stop="false")
    others = [print_of("toy2"), print_of(base_url="http://h:2/v1"), print_of(api="completions")]
    assert len({print_of(), *others}) == 4
    assert open_model("toy", {"base_url": "http://h:1/v1"}).identity() == {
        "kind": "openai", "server": "h:1/v1", "model": "toy", "api": "chat",
    }  # fmt: skip


def test_what_the_server_says_it_served_is_described_and_not_identity(make: Make) -> None:
    model, _ = make()
    before = model.fingerprint()
    assert model.describe()["served"] == []
    one(model, ask())
    assert model.describe()["served"] == [{"model": "served-1", "system_fingerprint": "fp_1"}]
    assert model.fingerprint() == before


# --- concurrency, interruption, resume --------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_concurrency_is_reached_and_never_exceeded(make: Make, concurrency: int) -> None:
    model, server = make(lambda seen: ok(seen.body["messages"][0]["content"], delay=0.04), concurrency=concurrency)
    found = answers(model, *(ask(f"q{i}") for i in range(4 * concurrency)))
    assert [r.text for r in found] == [f"q{i}" for i in range(4 * concurrency)]
    assert server.peak == concurrency


def test_answers_come_as_they_complete(make: Make) -> None:
    model, _ = make(lambda seen: ok(delay=0.5 if seen.body["messages"][0]["content"] == "q0" else 0.0), concurrency=2)
    order = [index for index, _ in model.answer([ask(f"q{i}") for i in range(6)], ImagePool())]
    assert order[-1] == 0


def test_an_interrupt_ends_promptly_and_starts_nothing_more(make: Make) -> None:
    model, server = make(lambda seen: ok(delay=0.05), concurrency=2)
    results = model.answer([ask(f"q{i}") for i in range(50)], ImagePool())
    next(results)
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert time.perf_counter() - start < 0.5
    time.sleep(0.15)
    assert len(server.seen) <= 5


def test_waiting_for_the_next_try_ends_with_the_run(make: Make) -> None:
    model, _ = make(lambda seen: error(429, Retry_After="60"), backoff=Backoff(), concurrency=2)
    before = set(threading.enumerate())
    results = model.answer([ask("a"), ask("b")], ImagePool())
    timer = threading.Timer(0.2, lambda: results.gi_frame.f_locals["stop"].set())  # type: ignore[attr-defined]
    timer.start()
    start = time.perf_counter()
    assert {r.error for _, r in results} == {"interrupted"}
    assert time.perf_counter() - start < 3
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
        deadline = time.monotonic() + 30
        while len(server.seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        try:
            assert child.wait(5) == 130
        finally:
            child.kill()
    assert len(server.seen) == 2


def test_resume_asks_only_what_failed(make: Make, tmp_path: Path) -> None:
    broken = True

    def behave(seen: Seen) -> Reply:
        text = seen.body["messages"][0]["content"]
        return error(400, "no") if broken and text in ("q1", "q4") else ok(text)

    model, server = make(behave)
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
@example(value={"error": {"message": "\ud800", "code": ["content_filter"]}}, status=400, api="chat")
def test_no_json_garbage_ever_raises(
    garbage: tuple[list[Reply], dict[str, OpenAIModel]], value: Any, status: int, api: str
) -> None:
    following, models = garbage
    following[:] = [as_json(value, status)]
    response = one(models[api], ask() if api == "chat" else raw())
    assert response.status in ("ok", "error", "refused")
    assert response.status == "ok" or response.error
    if response.status == "ok":
        text = value["choices"][0]["message"]["content"] if api == "chat" else value["choices"][0]["text"]
        assert response.text == text.encode("utf-8", "replace").decode()
    Response.from_json(response.to_json()).to_json().encode()
    json.dumps(models[api].describe(), ensure_ascii=False).encode()


# --- log-likelihoods --------------------------------------------------------------------------------------------------


def expected(context: str, option: str) -> float:
    tokens = ToyLM.split(context + option)
    n = len(ToyLM.split(context.rstrip()))
    return sum(ToyLM.logprob(tokens[i - 1], tokens[i]) for i in range(n, len(tokens)))


@pytest.mark.parametrize("mode", ["right", "bos"])
def test_options_are_scored_from_the_echo(make: Make, mode: str) -> None:
    model, server = make(ToyLM(mode), api="completions")
    options = (" yes", " no way", " café", ".")
    response = one(model, choose("Q: Is the dog lazy?\nA:", *options))
    assert response.status == "ok"
    assert response.logprobs == pytest.approx([expected("Q: Is the dog lazy?\nA:", o) for o in options])
    assert response.prompt_tokens == sum(len(ToyLM.split("Q: Is the dog lazy?\nA:" + o)) for o in options)
    asked = len(server.seen)
    one(model, choose("The", " dog"))
    assert len(server.seen) == asked + 1  # the server is checked once


def test_greedy_marks_what_greedy_decoding_would_give(make: Make) -> None:
    model, _ = make(ToyLM(), api="completions")
    generated = one(model, raw("The dog", greedy(2))).text
    other = next(o for o in (" fox fox", " dog dog") if o != generated)
    assert one(model, choose("The dog", generated, other)).greedy == (True, False)


def test_blanks_before_the_option_belong_to_it(make: Make) -> None:
    model, _ = make(ToyLM(), api="completions")
    left, right = one(model, choose("A: ", "fox")), one(model, choose("A:", " fox"))
    assert left.logprobs == right.logprobs == pytest.approx([expected("A:", " fox")])


def test_an_option_inside_a_token_is_an_error_not_a_number(make: Make) -> None:
    model, _ = make(ToyLM(), api="completions")
    response = one(model, choose("It is a do", "g", " fox"))
    assert response.status == "error"
    assert "'g'" in response.error


@pytest.mark.parametrize(
    ("mode", "named"),
    [("none", "no logprobs"), ("shifted", "shifted"), ("holes", "leaves"), ("deaf", "echo")],
)
def test_a_server_whose_figures_are_wrong_is_refused(make: Make, mode: str, named: str) -> None:
    model, server = make(ToyLM(mode), api="completions", concurrency=1)
    with pytest.raises(BadInput, match=named) as caught:
        answers(model, *(choose(f"Q{i}:", " a", " b") for i in range(5)))
    assert "cannot be used" in str(caught.value)
    assert len(server.seen) <= 2


def test_figures_that_go_missing_later_are_an_error(make: Make) -> None:
    toy = ToyLM()
    model, _ = make(toy, api="completions")
    assert one(model, choose("Q:", " a")).status == "ok"
    toy.mode = "none"
    response = one(model, choose("Q:", " a"))
    assert (response.status, response.logprobs) == ("error", ())
