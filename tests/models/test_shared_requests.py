"""Whole requests, shared and asked one by one: texts that split tokens, images, odd batches, memory that runs out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmalign_eval.engine import Engine
from mmalign_eval.errors import OutOfMemory
from mmalign_eval.miniature.nano import make_llava
from mmalign_eval.models import together
from mmalign_eval.models.hf_model import HfModel
from mmalign_eval.requests import Choose, Generate, GenParams, Prompt, Request, Response
from mmalign_eval.store import Store

from .hf_case import ask, load, nano, near, pictures, same, scratch
from .test_prefix import PACKED, model_of, words

PROJECTORS = ("linear", "mlp")  # of one layer and of two
SEEING = ("Is there a dog", "Is there a red cup? ", "é漢", "Describe the image briefly.")
MANY = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@cache
def seeing(projector: str) -> HfModel:
    return load(make_llava(scratch(f"seeing-{projector}"), projector))  # type: ignore[arg-type]


def one_by_one(model: HfModel, requests: Sequence[Request]) -> list[Response]:
    """The slow twins' answers."""
    reason, model._alone = model._alone, "asked for by a test"
    model._path.forget()  # an image that is held would be gone on from
    try:
        return ask(model, requests, batch=1)
    finally:
        model._alone = reason


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Prompts share whatever they can, however little it is, and go on in rows of their own early or late."""
    groups: list[int] = []
    whole = together.generate_together

    def counted(path: Any, prompts: Any, *more: Any, **named: Any) -> Any:
        groups.append(len(prompts))
        monkeypatch.setattr(together, "_OTHERS", (0, 6, 512)[len(groups) % 3])
        return whole(path, prompts, *more, **named)

    monkeypatch.setattr(together, "pays", lambda lengths, shared, *costs: shared > 0)
    monkeypatch.setattr(together, "generate_together", counted)
    return groups


@st.composite
def params(draw: st.DrawFn) -> Callable[[int], GenParams]:
    new = draw(st.integers(1, 8))
    fixed = {
        "max_new_tokens": new, "min_new_tokens": draw(st.integers(0, min(new, 3))),
        "temperature": draw(st.sampled_from([0.0, 0.0, 1.0])), "stop": draw(st.sampled_from([(), (), ("e",), ("s ",)])),
    }  # fmt: skip
    return lambda seed: GenParams(**fixed, seed=seed if fixed["temperature"] else 0)


@st.composite
def texts(draw: st.DrawFn) -> list[Request]:
    """Requests of both kinds that begin alike, some twice, some longer than the model takes."""
    heads = draw(st.lists(st.one_of(words, words.map(lambda text: text * 6)), min_size=1, max_size=2))
    how = draw(params())
    found: list[Request] = []
    for _ in range(draw(st.integers(1, 5))):
        prompt = Prompt(draw(st.sampled_from(heads)) + draw(words), template="raw")
        options = draw(st.lists(st.one_of(words, st.sampled_from(["", " a", " ab"])), max_size=4))
        longer = tuple(option + "e" for option in options[:1])
        one = draw(
            st.sampled_from([Choose(prompt, (*options, *longer)), Generate(prompt, how(draw(st.integers(0, 9))))])
        )
        found += [one] * draw(st.integers(1, 2))
    return found


@st.composite
def about_images(draw: st.DrawFn) -> list[Request]:
    """Questions of both kinds about a few images; some about two, some with what was said before, some about none."""
    how, system = draw(params()), draw(st.sampled_from([None, "Look."]))
    found: list[Request] = []
    for _ in range(draw(st.integers(1, 6))):
        seen = draw(st.sampled_from([pictures()[:1], pictures()[:1], pictures()[1:2], pictures()[:2], ()]))
        template = draw(st.sampled_from(["model", "model", "vicuna_v1", "raw"]))
        demos = draw(st.sampled_from([(), (), (("Is there a cup?", "Yes"),)])) if template == "vicuna_v1" else ()
        prompt = Prompt(
            draw(st.sampled_from(SEEING)), seen, system if template == "vicuna_v1" else None, demos, template
        )
        if draw(st.booleans()):
            options = draw(st.lists(st.sampled_from(["", " Yes", " Yes, é", " No", "漢"]), max_size=4))
            found.append(Choose(prompt, tuple(options)))
        else:
            found.append(Generate(prompt, how(draw(st.integers(0, 9)))))
    return found


def check(model: HfModel, requests: Sequence[Request], size: int) -> None:
    assert not model._alone
    for fast, slow in zip(ask(model, requests, batch=size), one_by_one(model, requests), strict=True):
        same(fast, slow)


@FEW
@given(kind=st.sampled_from(PACKED), requests=texts(), size=st.integers(1, 10))
def test_texts(kind: str, requests: list[Request], size: int) -> None:
    check(model_of(kind), requests, min(size, len(requests)))


@pytest.mark.slow
@MANY
@given(kind=st.sampled_from(PACKED), requests=texts(), size=st.integers(1, 10))
def test_texts_in_many_cases(kind: str, requests: list[Request], size: int) -> None:
    check(model_of(kind), requests, min(size, len(requests)))


@FEW
@given(projector=st.sampled_from(PROJECTORS), requests=about_images(), size=st.integers(1, 7))
def test_images(projector: str, requests: list[Request], size: int) -> None:
    check(seeing(projector), requests, min(size, len(requests)))


@pytest.mark.slow
@MANY
@given(projector=st.sampled_from(PROJECTORS), requests=about_images(), size=st.integers(1, 7))
def test_images_in_many_cases(projector: str, requests: list[Request], size: int) -> None:
    check(seeing(projector), requests, min(size, len(requests)))


@pytest.mark.parametrize("projector", PROJECTORS)
def test_questions_about_an_image_are_answered_together(projector: str, shared: list[int]) -> None:
    """What the tests above compare is indeed the fast path: in one group an image, also where it is held already."""
    model = seeing(projector)
    asked = [Generate(Prompt(text, (image,)), GenParams(6)) for image in pictures() for text in SEEING]
    first, _ = ask(model, asked), shared.clear()
    again = ask(model, asked, batch=3)  # an image's questions lie in two batches
    assert again == first == one_by_one(model, asked)
    assert shared == [3, 1, 2, 2, 1, 3]
    assert len({response.text for response in first}) > 3


def test_nothing_before_an_image_or_behind_it(shared: list[int]) -> None:
    """A context that ends in its image: held as a whole, it has to be seen again for the logits of its last place."""
    model = seeing("mlp")
    first, second = pictures()[:2]
    asked: list[Request] = [
        Choose(Prompt("", (image,), template="raw"), (" Yes", " No", "")) for image in (first, first, second)
    ]
    asked.append(Choose(Prompt("Is", (first,), template="raw"), (" there", " No")))
    for size in (1, 4):
        check(model, asked, size)


def test_an_image_goes_through_in_one_piece_however_short_the_passes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeing("linear")
    asked: list[Request] = [Generate(Prompt(text, (image,)), GenParams(6)) for image in pictures() for text in SEEING]
    want = one_by_one(model, asked)
    monkeypatch.setattr(model._path, "chunk", 3)
    model._path.forget()
    for fast, slow in zip(ask(model, asked), want, strict=True):
        same(fast, slow)


class _Short:
    """An adapter whose memory runs out above some number of requests, in the middle of a batch."""

    def __init__(self, model: HfModel, most: int, tokens: int, rows: int) -> None:
        self.model, self.most = model, most
        self.batch_tokens, self.batch_rows, self.choose_rows = tokens, rows, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def load(self) -> None:
        pass

    def answer(self, batch: Sequence[Request], images: Any) -> Iterator[tuple[int, Response]]:
        for number, found in enumerate(self.model.answer(batch, images)):
            if len(batch) > self.most and number == 1:
                raise OutOfMemory("asked for by a test")
            yield found


@settings(FEW, max_examples=20)
@given(
    requests=st.one_of(texts(), about_images()), most=st.integers(1, 4), tokens=st.sampled_from([0, 1, 40, 200]),
    rows=st.integers(0, 4),
)  # fmt: skip
def test_odd_batches_and_memory_that_runs_out_change_nothing(
    requests: list[Request], most: int, tokens: int, rows: int
) -> None:
    sees = any(request.prompt.images for request in requests)
    model = seeing("mlp") if sees else model_of("llama")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "s.sqlite")
        found, _ = Engine(_Short(model, most, tokens, rows), store).run(requests)  # type: ignore[arg-type]
    for fast, slow in zip(found, one_by_one(model, requests), strict=True):
        same(fast, slow)


def test_half_precision_decides_alike() -> None:
    """In bfloat16, 8 bits to a number, scores differ by rounding: decisions that are wider than that do not."""
    model = load(nano("llama"), dtype="bfloat16")
    contexts = [f"Question: Is there a {word} in the image? Answer:" for word in ("dog", "cup", "person", "table")]
    asked = [Choose(Prompt(text, template="raw"), (" Yes", " No", " a red cup", " no")) for text in contexts]
    decided = 0
    for fast, slow in zip(ask(model, asked), one_by_one(model, asked), strict=True):
        assert all(abs(a - b) <= 0.02 * max(1.0, abs(b)) for a, b in zip(fast.logprobs, slow.logprobs, strict=True))
        best, second = sorted(slow.logprobs)[:-3:-1]
        if best - second > 0.04 * abs(best):
            assert fast.logprobs.index(max(fast.logprobs)) == slow.logprobs.index(best)
            decided += 1
    assert decided
    assert not near(fast.logprobs[0], ask(load(nano("llama")), asked)[-1].logprobs[0])
