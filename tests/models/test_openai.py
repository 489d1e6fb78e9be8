"""The OpenAI adapter against a loopback server: what is sent, what comes back, what is kept secret."""

from __future__ import annotations

import base64
import io
import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mmalign_eval.engine import Engine
from mmalign_eval.errors import BadInput, MmevalError, Refused
from mmalign_eval.models.openai import OPENAI_URL, OpenAIModel, open_model
from mmalign_eval.requests import Choose, GenParams, ImageRef, Prompt, Request, Response, greedy
from mmalign_eval.store import Store

from .fault_server import Reply, Seen, as_json, error, ok
from .openai_case import KEY, Make, answers, ask, choose, one, raw

pytestmark = pytest.mark.usefixtures("openai_environment")

# --- what is sent -----------------------------------------------------------------------------------------------------


def test_chat_messages_and_greedy_parameters(make_openai: Make) -> None:
    model, server = make_openai()
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


def test_sampling_parameters_are_sent_and_only_four_stops(make_openai: Make) -> None:
    model, server = make_openai([ok("one two STOP6 three", finish="length")])
    params = GenParams(8, temperature=0.7, top_p=0.9, seed=5, stop=("a1", "b2", "c3", "d4", "STOP5", "STOP6"))
    response = one(model, ask(params=params))
    body = server.seen[0].body
    assert (body["temperature"], body["top_p"], body["seed"], body["max_tokens"]) == (0.7, 0.9, 5, 8)
    assert body["stop"] == ["a1", "b2", "c3", "d4"]
    assert (response.text, response.finish) == ("one two ", "stop")


def test_the_first_stop_string_in_the_text_counts(make_openai: Make) -> None:
    model, _ = make_openai([ok("a\n\nb. c")])
    assert one(model, ask(params=greedy(8, (".", "\n")))).text == "a"


def test_stop_strings_stay_here_when_told(make_openai: Make) -> None:
    model, server = make_openai([ok("yes\nno")], send_stop=False)
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
    cases: list[tuple[OpenAIModel, Request, str]] = [
        (chat, raw(), "api=completions"),
        (chat, ask(template="vicuna_v1"), "api=completions"),
        (chat, choose("Q:", " a"), "api=completions"),
        (text, ask(), "api=chat"),
        (text, Choose(Prompt("Q:"), (" a",)), "api=chat"),
        (text, ask(template="vicuna_v1", images=(image("a.jpg"),)), "api=chat"),
        (text, choose("", "a"), "context"),
        (text, Choose(Prompt("", template="raw"), ("a text",), rolling=True), "context"),
    ]
    for model, request, named in cases:
        with pytest.raises(Refused, match=named):
            model.check(request)
    chat.check(ask(images=(image("a.jpg"),)))
    text.check(raw())
    text.check(choose("Q:", " a"))


def test_completions_send_raw_and_rendered_text(make_openai: Make) -> None:
    model, server = make_openai(api="completions")
    assert [r.text for r in answers(model, raw("Q: x\nA:"), ask("Hi", template="vicuna_v1"))] == ["Yes", "Yes"]
    assert {seen.path for seen in server.seen} == {"/v1/completions"}
    prompts = sorted(seen.body["prompt"] for seen in server.seen)
    assert prompts[1] == "Q: x\nA:"
    assert prompts[0].endswith("USER: Hi ASSISTANT:")
    assert model.render(raw("Q: x\nA:")) == "Q: x\nA:"


def test_the_limit_is_renamed_once_and_remembered(make_openai: Make) -> None:
    def picky(seen: Seen) -> Reply:
        if "max_tokens" in seen.body:
            return error(400, "Unsupported parameter: use 'max_completion_tokens' instead.", "unsupported_parameter")
        return ok(str(seen.body["max_completion_tokens"]))

    model, server = make_openai(picky)
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
def test_images_go_out_as_their_own_bytes(
    make_openai: Make, image: Callable[..., ImageRef], name: str, kind: str
) -> None:
    model, server = make_openai()
    ref = image(name)
    one(model, ask("What?", images=(ref,)))
    assert sent_images(server.seen[0]) == [(f"data:image/{kind}", Path(ref.path).read_bytes())]


def test_other_formats_and_transformed_images_go_out_as_png(make_openai: Make, image: Callable[..., ImageRef]) -> None:
    model, server = make_openai(concurrency=1)
    answers(model, ask(images=(image("a.bmp"),)), ask(images=(image("b.png", transforms=("center_crop",)),)))
    (bmp,), (cropped,) = (sent_images(seen) for seen in server.seen)
    assert (bmp[0], cropped[0]) == ("data:image/png", "data:image/png")
    assert Image.open(io.BytesIO(bmp[1])).size == (20, 10)
    assert Image.open(io.BytesIO(cropped[1])).size == (10, 10)


def test_images_come_first_in_order_then_the_text(make_openai: Make, image: Callable[..., ImageRef]) -> None:
    model, server = make_openai()
    refs = (image("1.png", (1, 1, 1)), image("2.png", (2, 2, 2)))
    one(model, ask("Same?", images=refs))
    content = server.seen[0].body["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    assert [data for _, data in sent_images(server.seen[0])] == [Path(r.path).read_bytes() for r in refs]
    assert json.loads(model.render(ask("Same?", images=refs)))[0]["content"][1]["image_url"] == {"url": "<image>"}


def test_questions_on_one_image_are_asked_side_by_side(
    make_openai: Make, image: Callable[..., ImageRef], tmp_path: Path
) -> None:
    model, server = make_openai(concurrency=1)
    refs = [image(f"{i}.png", (i, i, i)) for i in range(4)]
    shuffled = [ask(f"{q}?", images=(refs[i],)) for q in range(5) for i in range(4)]
    Engine(model, Store(tmp_path / "s.sqlite")).run(shuffled)
    order = [sent_images(seen)[0][1] for seen in server.seen]
    assert len(order) == 20
    assert sum(a != b for a, b in itertools.pairwise(order)) == 3


def test_a_damaged_or_missing_image_is_an_error_of_its_request_alone(
    make_openai: Make, image: Callable[..., ImageRef], tmp_path: Path
) -> None:
    model, server = make_openai()
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


def test_length_is_told_apart_from_stop(make_openai: Make) -> None:
    model, _ = make_openai([ok("a", finish="length")])
    assert one(model, ask()).finish == "length"


def test_an_empty_answer_is_an_answer(make_openai: Make) -> None:
    model, _ = make_openai([ok("")])
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
def test_unusable_replies_are_failures_and_not_repeated(make_openai: Make, reply: Reply, named: str) -> None:
    model, server = make_openai([reply])
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
def test_a_content_filter_is_a_refusal(make_openai: Make, reply: Reply) -> None:
    model, server = make_openai([reply])
    response = one(model, ask())
    assert (response.status, response.text) == ("refused", "")
    assert response.error
    assert len(server.seen) == 1


def test_openai_itself_needs_a_key_but_a_local_server_does_not(
    make_openai: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(BadInput, match="OPENAI_API_KEY"):
        open_model("gpt-x", {}).load()
    model, server = make_openai()
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
    make_openai: Make, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    model, _ = make_openai(
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


def test_what_the_server_says_it_served_is_described_and_not_identity(make_openai: Make) -> None:
    model, _ = make_openai()
    before = model.fingerprint()
    assert model.describe()["served"] == []
    one(model, ask())
    assert model.describe()["served"] == [{"model": "served-1", "system_fingerprint": "fp_1"}]
    assert model.fingerprint() == before
