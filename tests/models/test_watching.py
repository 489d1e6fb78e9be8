"""What is counted of a loaded model, on fast paths and slow ones: tokens, images, cache hits, seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmalign_eval.engine import Engine
from mmalign_eval.models import sharing, vllm_engine
from mmalign_eval.models.hf import open_model
from mmalign_eval.phases import DECODE, IMAGES, PREFILL, VISION, Counts, Work
from mmalign_eval.requests import Choose, Generate, Prompt, Request, greedy
from mmalign_eval.run_stats import RunStats
from mmalign_eval.store import Store

from .hf_case import ask, load, nano, pictures, same

LONG = "There is a dog and a cup and a red box on the table. "


def questions(count: int = 6) -> list[Request]:
    """Text questions that begin alike."""
    return [
        Choose(
            Prompt(LONG * 3 + f"Is it {number}? Answer:", template="raw"), (" Yes", " No, it is red", " No, it is not")
        )
        for number in range(count)
    ]


def about(new: int = 6) -> list[Request]:
    """Two kinds of questions about each of three images."""
    asked: list[Request] = []
    for image in pictures():
        for word in ("dog", "cup", "box"):
            asked.append(Generate(Prompt(f"{LONG * 2}Is there a {word}?", (image,)), greedy(new)))
            asked.append(Choose(Prompt(f"{LONG * 2}Is there a {word}?", (image,)), (" Yes", " No")))
    return asked


def done(model: Any, requests: Sequence[Request], batch: int = 0) -> Counts:
    """What went through a model for requests."""
    before = model.work.counts - Counts()
    for response in ask(model, requests, batch):
        assert response.status == "ok", response.error
    counts: Counts = model.work.counts - before
    return counts


@pytest.fixture
def unloaded(tmp_path: Path) -> Iterator[Any]:
    model = open_model(str(nano("llava")), {})
    yield model
    model.close()


def test_a_tree_is_computed_once_and_nothing_else(tmp_path: Path) -> None:
    model = load(nano("llama"))
    engine = Engine(model, Store(tmp_path / "s.sqlite"))
    _, stats = engine.run(questions(60))
    assert stats.tree_tokens is not None
    assert stats.computed_tokens == stats.tree_tokens < stats.sequence_tokens / 4  # type: ignore[operator]
    assert (stats.decoded_tokens, stats.images_encoded) == (0, 0)
    assert stats.cache_hits  # more than fits into one row goes on below the path that is held
    model._alone, engine.store = "the slow twin", Store(tmp_path / "slow.sqlite")
    _, slow = engine.run(questions(60))
    assert (slow.tree_tokens, slow.cache_hits) == (stats.tree_tokens, 0)
    assert slow.computed_tokens >= slow.sequence_tokens > 4 * stats.computed_tokens  # type: ignore[operator]


@pytest.mark.parametrize("together", [True, False])
def test_texts_count_as_prompts_and_as_what_is_fed_back(together: bool) -> None:
    model = load(nano("llama"))
    model._alone = "" if together else "the slow twin"
    prompts = [LONG * 3 + f"Is it {number}?" for number in range(5)]
    requests: list[Request] = [Generate(Prompt(text, template="raw"), greedy(8, stop=())) for text in prompts]
    counts = done(model, requests)
    sizes = [len(model.sequences(request)[0]) for request in requests]
    new = [response.new_tokens for response in ask(model, requests)]
    if together:
        assert max(sizes) < counts.computed_tokens < 2 * max(sizes)
        assert counts.hits == 1  # one row goes on from what all share
        assert counts.decoded_tokens == sum(new) - 5  # the last token of a text is not fed back
    else:
        assert counts.computed_tokens == 5 * max(sizes)  # padded
        assert counts.hits == 0
        assert sum(new) - 5 <= counts.decoded_tokens <= 5 * (max(new) - 1)


def test_an_image_is_encoded_once_for_all_that_is_asked_of_it() -> None:
    model = load(nano("llava"))
    counts = done(model, about())
    assert counts.images == 3 + 2  # for the choices, and then for the texts; the last one is held from the first
    assert counts.hits >= 6
    model._alone = "the slow twin"
    slow = done(model, about(), batch=1)
    assert slow.images == 9 + 9 * 2  # a text, and each of two options
    assert slow.computed_tokens > 2 * counts.computed_tokens


def test_an_image_held_from_the_batch_before_is_a_hit() -> None:
    model = load(nano("llava"))
    image = pictures()[0]
    first, second = (
        [Generate(Prompt(f"{LONG * 2}Is there a {word}?", (image,)), greedy(4)) for word in words]
        for words in (("dog", "cup", "box", "table"), ("red", "on", "Yes", "No"))
    )
    assert done(model, first).images == 1
    again = done(model, second)
    assert again.images == 0
    assert again.hits == 2  # the path, and the row below it
    assert again.hit_tokens == 2 * 48


def test_the_slow_path_of_generation_decodes_after_its_prompts() -> None:
    model = load(nano("llava"))
    model._alone = "the slow twin"
    model.work.seconds.update(dict.fromkeys(model.work.seconds, 0.0))
    done(model, about())
    spent = model.work.seconds
    assert all(spent[name] > 0 for name in (IMAGES, VISION, PREFILL, DECODE)), spent


@pytest.mark.parametrize("arch", ["llama", "llava"])
def test_phases_make_up_most_of_a_run(arch: str, tmp_path: Path) -> None:
    requests, shares = questions(40) if arch == "llama" else about(24), []
    for attempt in range(3):  # a machine with other work may stop us anywhere
        model = open_model(str(nano(arch)), {})
        engine = Engine(model, Store(tmp_path / f"{attempt}.sqlite"))
        _, stats = engine.run(requests)
        shares.append(phase_seconds(stats) / (stats.load_seconds + stats.seconds))
        assert stats.seconds_by_phase["load"]
        _, nothing = engine.run(requests)
        assert phase_seconds(nothing) == nothing.seconds == nothing.computed_tokens == nothing.cache_hits == 0
        model.close()
    assert max(shares) <= 1
    assert max(shares) >= 0.7


def phase_seconds(stats: RunStats) -> float:
    return sum(seconds or 0.0 for seconds in stats.seconds_by_phase.values())


def test_what_cannot_be_shared_is_said_once(
    unloaded: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sharing, "why_not_shared", lambda model: "attention of another kind")
    assert "prefixes_not_shared_because" not in unloaded.describe()
    with caplog.at_level(logging.WARNING):
        unloaded.load()
        done(unloaded, about())
        done(unloaded, about())
    said = [record.getMessage() for record in caplog.records if "mmalign_eval" in record.name]
    assert said == [f"{unloaded.name}: prompts and options go through it one by one: attention of another kind"]
    about_it = unloaded.describe()
    assert about_it["prefixes_not_shared_because"] == "attention of another kind"
    assert about_it["prefixes_are_shared"] is False


def test_images_that_a_processor_puts_elsewhere_are_said_once(
    unloaded: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unloaded.load()
    expected = ask(unloaded, about())
    process = type(unloaded)._process

    def moved(self: Any, *asked: Any) -> dict[str, Any]:
        """Puts a token before the text, as a processor may that knows better."""
        made = dict(process(self, *asked))
        ids = made["input_ids"]
        made["input_ids"] = torch.cat([ids[:, :1], ids], dim=1)
        made["attention_mask"] = torch.cat([made["attention_mask"][:, :1], made["attention_mask"]], dim=1)
        return made

    monkeypatch.setattr(type(unloaded), "_process", moved)
    with caplog.at_level(logging.WARNING):
        found = [ask(unloaded, about()) for _ in range(2)]
    assert [len(response.logprobs) for response in found[0]] == [len(response.logprobs) for response in expected]
    said = [record.getMessage() for record in caplog.records if "mmalign_eval" in record.name]
    why = "its processor puts them elsewhere than planned"
    assert said == [f"{unloaded.name}: images go through it again for each request about them: {why}"]
    assert unloaded.describe()["images_not_shared_because"] == why
    assert unloaded.describe()["prefixes_are_shared"] is True


def test_memory_that_runs_out_amid_a_tree_is_halved_and_the_answers_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(nano("llama"))
    requests = questions(24) + [
        Generate(Prompt(LONG * 3 + f"Is it {number}?", template="raw"), greedy(4)) for number in range(12)
    ]
    expected, _ = Engine(model, Store(tmp_path / "s.sqlite")).run(requests)
    forward = type(model._model).forward
    passes: list[int] = []

    def scarce(self: Any, *args: Any, **inputs: Any) -> Any:
        """More than 300 tokens, held ones included, do not fit; the third pass finds that out amid the tree."""
        held = inputs["past_key_values"].get_seq_length() if inputs.get("past_key_values") is not None else 0
        size = inputs["input_ids"].shape
        passes.append(size[0] * (held + size[1]))
        if len(passes) > 2 and passes[-1] > 300:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (in a test)")
        return forward(self, *args, **inputs)

    again = load(nano("llama"), batch_tokens="4000")
    monkeypatch.setattr(type(again._model), "forward", scarce)
    engine = Engine(again, Store(tmp_path / "again.sqlite"))
    found, stats = engine.run(requests)
    assert stats.halvings >= 1
    assert engine._limits.tokens < 4000
    for x, y in zip(found, expected, strict=True):
        assert x.status == "ok", x.error
        same(x, y)


def test_what_vllm_says_of_its_cache_is_counted() -> None:
    def output(held: int | None, new: int) -> SimpleNamespace:
        return SimpleNamespace(num_cached_tokens=held, outputs=[SimpleNamespace(token_ids=[5] * new)])

    engine = vllm_engine.Engine.__new__(vllm_engine.Engine)
    engine.work = Work()
    engine._llm = SimpleNamespace(generate=lambda *asked, use_tqdm: [output(None, 1), output(16, 4)])
    engine._generate([[1] * 20, [1] * 24], [None, None])
    engine._generate([], [])
    assert engine.work.counts == Counts(20 + 8, 3, 1, 16, 0)
