from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmalign_eval.engine import ALIKE, Engine, request_keys
from mmalign_eval.errors import BadInput, OutOfMemory, Refused
from mmalign_eval.requests import Choose, Request, Response
from mmalign_eval.store import Store

from .toy import CountingModel, choices, echo, image_request, text_requests, texts


def engine(tmp_path: Path, model: CountingModel, name: str = "s.sqlite") -> Engine:
    return Engine(model, Store(tmp_path / name))


def test_answers_come_in_the_order_of_requests_and_duplicates_are_asked_once(tmp_path: Path) -> None:
    model = CountingModel(batch_rows=3)
    requests = text_requests(7) + text_requests(4)
    responses, stats = engine(tmp_path, model).run(requests)
    assert texts(responses) == [f"Q{i}" for i in range(7)] + [f"Q{i}" for i in range(4)]
    assert len(model.asked) == 7
    assert (stats.requests, stats.unique, stats.stored, stats.asked) == (11, 7, 0, 7)


def test_a_second_run_asks_nothing_and_loads_nothing(tmp_path: Path) -> None:
    requests = text_requests(5) + choices(5)
    first, _ = engine(tmp_path, CountingModel()).run(requests)
    model = CountingModel()
    second, stats = engine(tmp_path, model).run(requests)
    assert second == first
    assert (model.asked, model.loads, stats.stored) == ([], 0, 10)


def test_another_model_does_not_get_these_answers(tmp_path: Path) -> None:
    engine(tmp_path, CountingModel(version="1")).run(text_requests(3))
    model = CountingModel(version="2")
    engine(tmp_path, model).run(text_requests(3))
    assert len(model.asked) == 3


def test_each_batch_is_committed_before_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    seen: list[int] = []

    def behave(request: Request) -> Response:
        seen.append(len(store))
        return echo(request)

    Engine(CountingModel(behave, batch_rows=4), store).run(text_requests(12))
    assert seen == [0] * 4 + [4] * 4 + [8] * 4


def test_an_interrupt_keeps_what_was_answered(tmp_path: Path) -> None:
    def behave(request: Request) -> Response:
        if request.prompt.text == "q5":
            raise KeyboardInterrupt
        return echo(request)

    model = CountingModel(behave, batch_rows=100)
    with pytest.raises(KeyboardInterrupt):
        engine(tmp_path, model).run(text_requests(10))
    again = CountingModel(batch_rows=100)
    engine(tmp_path, again).run(text_requests(10))
    assert len(again.asked) == 10 - len(model.asked)


def test_one_raising_request_fails_alone_and_is_asked_again_next_time(tmp_path: Path) -> None:
    def behave(request: Request) -> Response:
        if request.prompt.text == "q3":
            raise RuntimeError("bad\nluck")
        return echo(request)

    responses, _ = engine(tmp_path, CountingModel(behave, batch_rows=4)).run(text_requests(8))
    assert [r.status for r in responses] == ["ok"] * 3 + ["error"] + ["ok"] * 4
    assert responses[3].error == "RuntimeError: bad luck"
    model = CountingModel()
    responses, _ = engine(tmp_path, model).run(text_requests(8))
    assert [r.prompt.text for r in model.asked] == ["q3"]
    assert responses[3].text == "Q3"


@pytest.mark.parametrize("what", ["nothing", "string"])
def test_a_model_that_returns_nothing_or_rubbish_is_an_error(tmp_path: Path, what: str) -> None:
    def behave(request: Request) -> Response | None:
        if request.prompt.text != "q1":
            return echo(request)
        return None if what == "nothing" else "text"  # type: ignore[return-value]

    responses, _ = engine(tmp_path, CountingModel(behave)).run(text_requests(3))
    assert [r.status for r in responses] == ["ok", "error", "ok"]
    assert "returned" in responses[1].error


def test_nan_and_wrong_counts_are_errors_never_choices(tmp_path: Path) -> None:
    def behave(request: Request) -> Response:
        assert isinstance(request, Choose)
        values = {"c0": (-1.0, float("nan")), "c1": (-1.0,)}.get(request.prompt.text, (-1.0, -2.0))
        return Response("ok", logprobs=values)

    responses, _ = engine(tmp_path, CountingModel(behave)).run(choices(3))
    assert [r.status for r in responses] == ["error", "error", "ok"]
    assert "NaN" in responses[0].error
    assert "1 log-likelihoods for 2 options" in responses[1].error


def test_minus_infinity_is_an_answer(tmp_path: Path) -> None:
    model = CountingModel(lambda request: Response("ok", logprobs=(float("-inf"), -1.0)))
    responses, _ = engine(tmp_path, model).run(choices(1))
    again, _ = engine(tmp_path, CountingModel()).run(choices(1))
    assert again == responses
    assert responses[0].logprobs[0] == float("-inf")


def test_out_of_memory_halves_and_goes_on_and_remembers(tmp_path: Path) -> None:
    model = CountingModel(batch_rows=32)
    model.oom_above = 5
    responses, stats = engine(tmp_path, model).run(text_requests(64))
    assert texts(responses) == [f"Q{i}" for i in range(64)]
    assert stats.halvings == 3  # 32 -> 16 -> 8 -> 4
    assert len(model.asked) == 64
    assert max(model.batches[model.batches.index(4) :][4:]) <= 8
    assert sum(size > 8 for size in model.batches) == 2


def test_out_of_memory_alone_is_that_request_s_error(tmp_path: Path) -> None:
    def behave(request: Request) -> Response:
        if request.prompt.text == "q2":
            raise OutOfMemory("too long")
        return echo(request)

    responses, _ = engine(tmp_path, CountingModel(behave, batch_rows=4)).run(text_requests(4))
    assert [r.status for r in responses] == ["ok", "ok", "error", "ok"]
    assert "out of memory even alone" in responses[2].error


def test_a_corrupt_image_fails_its_own_requests_only(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (8, 8)).save(good)
    bad.write_bytes(b"\x89PNG\r\n\x1a\n truncated")
    requests = [image_request(good, "a"), image_request(bad, "b"), image_request(good, "c")]
    model = CountingModel()
    responses, _ = engine(tmp_path, model).run(requests)
    assert [r.status for r in responses] == ["ok", "error", "ok"]
    assert "bad.png cannot be decoded" in responses[1].error
    assert len(model.asked) == 2


def test_a_missing_image_stops_before_anything_is_asked(tmp_path: Path) -> None:
    model = CountingModel()
    with pytest.raises(BadInput, match=r"gone\.png"):
        engine(tmp_path, model).run([*text_requests(2), image_request(tmp_path / "gone.png", "a")])
    assert model.asked == []


def test_what_an_adapter_refuses_stops_before_anything_is_asked(tmp_path: Path) -> None:
    class Picky(CountingModel):
        def check(self, request: Request) -> None:
            if isinstance(request, Choose):
                raise Refused("no log-likelihoods here")

    model = Picky()
    with pytest.raises(BadInput, match="no log-likelihoods"):
        engine(tmp_path, model).run([*text_requests(2), *choices(1)])
    assert model.asked == []


def test_requests_on_one_image_are_neighbours(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(path)
    requests = [image_request(paths[i % 6], f"q{i}") for i in range(60)]
    random.Random(1).shuffle(requests)
    model = CountingModel(batch_rows=7)
    engine(tmp_path, model).run(requests)
    images = [r.prompt.images[0] for r in model.asked]
    changes = sum(a != b for a, b in pairwise(images))
    assert changes == 5


def test_a_batch_ends_where_another_beginning_begins_if_that_leaves_half_of_it(tmp_path: Path) -> None:
    class Reading(CountingModel):
        def prefix(self, request: Request) -> np.ndarray:
            return np.frombuffer(request.prompt.text.encode(), np.uint8).astype(np.int32)

        def length(self, request: Request) -> int:
            return len(request.prompt.text)

    def asked(count: int, letter: str, longer: int = 0) -> list[Request]:
        return text_requests(count, letter * (ALIKE + longer))

    model = Reading(batch_rows=32)
    engine(tmp_path / "a", model).run([*asked(18, "a"), *asked(18, "b"), *asked(18, "c")])
    assert model.batches == [18, 18, 18]
    model = Reading(batch_rows=32)
    engine(tmp_path / "b", model).run([*asked(15, "a", longer=9), *asked(60, "b")])
    assert model.batches == [32, 32, 11]


def test_batches_respect_the_token_budget_longest_first(tmp_path: Path) -> None:
    class Long(CountingModel):
        def length(self, request: Request) -> int:
            return len(request.prompt.text)

    model = Long(batch_rows=100)
    model.batch_tokens = 40
    requests = text_requests(30, "a") + text_requests(3, "b" * 50)
    responses, _ = engine(tmp_path, model).run(requests)
    assert all(r.status == "ok" for r in responses)
    lengths = [len(r.prompt.text) for r in model.asked]
    assert lengths == sorted(lengths, reverse=True)
    at = 0
    for size in model.batches:
        longest = max(lengths[at : at + size])
        assert size == 1 or size * longest <= 40
        at += size


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 30),
    rows=st.integers(1, 9),
    oom=st.integers(0, 6),
    bad=st.sets(st.integers(0, 29), max_size=4),
    seed=st.integers(0, 99),
)
def test_every_request_gets_its_own_answer_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, count: int, rows: int, oom: int, bad: set[int], seed: int
) -> None:
    def behave(request: Request) -> Response:
        if request.prompt.text in {f"q{i}" for i in bad}:
            raise RuntimeError("no")
        return echo(request)

    model = CountingModel(behave, batch_rows=rows)
    model.oom_above = oom
    requests = text_requests(count) + text_requests(count // 2)
    random.Random(seed).shuffle(requests)
    heard = [0, 0]

    def advance(ok: int, errors: int) -> None:
        heard[0] += ok
        heard[1] += errors

    one = engine(tmp_path_factory.mktemp("e"), model)
    responses, _ = one.run(requests, advance=advance)
    for request, response in zip(requests, responses, strict=True):
        if int(request.prompt.text[1:]) in bad:
            assert response.status == "error"
        else:
            assert response.text == request.prompt.text.upper()
    assert sum(heard) == len(requests)
    assert heard[1] == sum(r.status == "error" for r in responses)


def test_requests_to_come_on_an_image_that_is_looked_at_are_asked_with_it(tmp_path: Path) -> None:
    for name, shade in (("a", 0), ("b", 255)):
        Image.new("L", (8, 8), shade).save(tmp_path / f"{name}.png")
    now = [image_request(tmp_path / "a.png", "1"), *text_requests(1)]
    then = [image_request(tmp_path / "a.png", "2"), image_request(tmp_path / "b.png", "3"), *text_requests(3, "z")]
    model, heard = CountingModel(), []
    one = engine(tmp_path, model)
    later = dict(zip(request_keys(model, then), then, strict=True))
    responses, stats = one.run(now, advance=lambda ok, bad: heard.append((ok, bad)), later=later)
    assert (len(responses), stats.asked, stats.along) == (2, 3, 1)
    assert sum(ok for ok, _ in heard) == 2  # what comes later is no progress of these
    asked = list(model.asked)
    assert then[0] in asked
    assert abs(asked.index(then[0]) - asked.index(now[0])) == 1
    _, stats = one.run(then)
    assert (stats.stored, stats.asked, stats.along) == (1, 4, 0)
    assert one.run(then)[0] == engine(tmp_path, CountingModel(), "alone.sqlite").run(then)[0]


def test_what_fails_before_its_turn_is_asked_again_in_its_turn_only(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    one, two, three = ([image_request(tmp_path / "a.png", text)] for text in ("1", "2", "3"))

    def behave(request: Request) -> Response:
        return Response("error", error="no") if request == three[0] else echo(request)

    model = CountingModel(behave)
    driver = engine(tmp_path, model)
    later = dict(zip(request_keys(model, [*two, *three]), [*two, *three], strict=True))
    driver.run(one, later=dict([*later.items()][1:]))
    driver.run(two, later=dict([*later.items()][1:]))
    driver.run(three)
    assert [list(model.asked).count(request) for request in (*one, *two, *three)] == [1, 1, 2]
