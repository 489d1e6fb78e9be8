"""What a run says that it cost: tokens in sequences, in the tree and computed, cache hits, seconds by phase."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign_eval.engine import Engine
from mmalign_eval.errors import OutOfMemory
from mmalign_eval.images import ImagePool
from mmalign_eval.models.encoding import Scored
from mmalign_eval.phases import ANSWERING, DECODE, PREFILL, SCORE, Work
from mmalign_eval.provenance import provenance
from mmalign_eval.requests import Choose, Generate, Prompt, Request, Response, greedy
from mmalign_eval.run_stats import RunStats
from mmalign_eval.store import Store

from .toy import CountingModel, choices, echo, text_requests


def ids(text: str) -> Any:
    return np.array([ord(letter) for letter in text], np.int32)


class Letters(CountingModel):
    """Each letter is a token; a batch goes through it as a prefix tree would."""

    def __init__(self, fits: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.work, self.fits = Work(), fits

    def laid_out(self, request: Request) -> Sequence[Scored]:
        if isinstance(request, Choose):
            return [Scored(ids(request.prompt.text), tuple(map(ids, request.options)))]
        return [Scored(ids(request.prompt.text), (ids(""),))]

    def prefix(self, request: Request) -> Any:
        return self.laid_out(request)[0].context

    def length(self, request: Request) -> int:
        part = self.laid_out(request)[0]
        return len(part.context) + sum(map(len, part.options))

    def load(self) -> None:
        super().load()
        time.sleep(0.02)

    def answer(self, batch: Sequence[Request], images: ImagePool) -> Iterator[tuple[int, Response]]:
        nodes = set[str]()
        for index, response in super().answer(batch, images):
            text = batch[index].prompt.text
            nodes |= {text[:end] for end in range(1, len(text) + 1)}
            if self.fits and len(nodes) > self.fits:
                raise OutOfMemory(f"{len(nodes)} tokens")
            with self.work.phase(PREFILL):  # type: ignore[union-attr]
                time.sleep(0.001)
            yield index, response
        assert self.work
        self.work.tokens(len(nodes))
        self.work.hit(3)
        with self.work.phase(DECODE):
            self.work.tokens(len(batch))


def test_tokens_of_what_is_asked_now(tmp_path: Path) -> None:
    store, few = Store(tmp_path / "s.sqlite"), greedy(4)
    requests: list[Request] = [
        Choose(Prompt("abcd", template="raw"), ("xyz", "xy", "", "w")),
        Generate(Prompt("abce"), few),
        Generate(Prompt("abce"), few),
        Generate(Prompt("abcexy"), few),
    ]
    _, stats = Engine(Letters(), store).run(requests)
    # of the options abcdxy, abcdx and abcd have to go through the model, beside abce and abcexy
    assert (stats.sequence_tokens, stats.tree_tokens) == (6 + 5 + 4 + 4 + 6, 6 + 3)
    _, stats = Engine(Letters(), store).run([*requests, Generate(Prompt("abq"), few)])
    assert (stats.asked, stats.sequence_tokens, stats.tree_tokens) == (1, 3, 3)


def test_work_is_read_as_a_difference(tmp_path: Path) -> None:
    engine = Engine(Letters(batch_rows=10), Store(tmp_path / "s.sqlite"))
    _, first = engine.run(text_requests(20))
    _, second = engine.run(text_requests(3, "other"))
    assert (first.decoded_tokens, first.cache_hits, first.cache_hit_tokens, first.images_encoded) == (20, 2, 6, 0)
    assert (second.decoded_tokens, second.cache_hits, second.cache_hit_tokens) == (3, 1, 3)
    assert second.computed_tokens == second.tree_tokens == 5 + 3
    assert first.seconds_by_phase.keys() == set(ANSWERING)
    assert first.seconds_by_phase["load"] >= 0.02 > (second.seconds_by_phase["load"] or 0)  # type: ignore[operator]
    assert first.seconds_by_phase[PREFILL] > second.seconds_by_phase[PREFILL] > 0  # type: ignore[operator]
    for stats in (first, second):
        spent = sum(seconds or 0 for seconds in stats.seconds_by_phase.values())
        assert 0 < spent <= stats.load_seconds + stats.seconds


def test_an_adapter_that_does_not_know_leaves_none(tmp_path: Path) -> None:
    _, stats = Engine(CountingModel(), Store(tmp_path / "s.sqlite")).run(text_requests(3))
    unknown = (stats.sequence_tokens, stats.tree_tokens, stats.computed_tokens, stats.decoded_tokens, stats.cache_hits)
    assert unknown == (None,) * 5
    assert {name for name, seconds in stats.seconds_by_phase.items() if seconds is None} == {
        "vision", "prefill", "decode"
    }  # fmt: skip


def test_a_run_that_asks_nothing_costs_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    Engine(Letters(), store).run(text_requests(5))
    _, stats = Engine(Letters(), store).run(text_requests(5))
    assert stats == RunStats(
        5, 5, 5, sequence_tokens=0, tree_tokens=0, computed_tokens=0, decoded_tokens=0, cache_hits=0,
        cache_hit_tokens=0, images_encoded=0, seconds_by_phase=dict.fromkeys(ANSWERING, 0.0),
    )  # fmt: skip


def test_what_stands_in_a_result_file() -> None:
    stats = RunStats(
        asked=8, seconds=2.0, prompt_tokens=90, new_tokens=10, sequence_tokens=60, tree_tokens=30, computed_tokens=45,
        seconds_by_phase={"load": 1.0, "vision": None},
    )  # fmt: skip
    run = provenance(0, 0.0, stats, 0.5, {})["run"]
    assert (run["requests_per_second"], run["tokens_per_second"]) == (4.0, 50.0)
    assert (run["sequences_to_tree"], run["computed_to_tree"]) == (2.0, 1.5)
    assert run["seconds_by_phase"] == {"load": 1.0, "vision": None, SCORE: 0.5}
    nothing = provenance(0, 0.0, RunStats(tree_tokens=0, computed_tokens=0), 0.5, {})["run"]
    keys = ("requests_per_second", "tokens_per_second", "sequences_to_tree", "computed_to_tree")
    assert [nothing[key] for key in keys] == [None] * 4


@pytest.mark.parametrize("fits", [40, 90])
def test_a_cluster_that_does_not_fit_is_halved_and_the_size_remembered(tmp_path: Path, fits: int) -> None:
    """Memory runs out amid requests that begin alike: what was answered stays, the rest goes on in smaller batches."""
    requests: list[Request] = [
        Choose(Prompt(f"{letter * 20}{number:02d}", template="raw"), (" a", " b"))
        for letter in "xyz"
        for number in range(16)
    ]
    model = Letters(fits=fits, batch_rows=100)
    model.batch_tokens = 10_000
    engine = Engine(model, Store(tmp_path / "s.sqlite"))
    responses, stats = engine.run(requests)
    assert responses == [echo(request) for request in requests]
    assert 1 <= stats.halvings <= 4
    assert len(model.asked) == len(requests) + stats.halvings  # only the one that did not fit is asked again
    assert engine._limits.tokens < 10_000
    begun = [request.prompt.text[0] for request in model.asked]
    assert [letter for at, letter in enumerate(begun) if letter not in begun[:at]] == list(dict.fromkeys(begun))
    more: list[Request] = [Choose(Prompt(f"{'w' * 20}{number:02d}"), (" a", " b")) for number in range(16)]
    responses, stats = engine.run(more)  # nothing runs out any more
    assert (stats.halvings, responses) == (0, [echo(request) for request in more])


def test_choices_without_a_layout_are_no_error(tmp_path: Path) -> None:
    _, stats = Engine(CountingModel(), Store(tmp_path / "s.sqlite")).run(choices(2))
    assert stats.tree_tokens is None
