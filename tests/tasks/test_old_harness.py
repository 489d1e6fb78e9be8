"""The paper's text protocol: documents, demonstrations and requests of the old harness."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmalign_eval.tasks._old_harness import OldHarness, OldPart, draw, likeliest

from mmalign_eval.data.files import Folder
from mmalign_eval.data.source import Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.lmeval import bind
from mmalign_eval.metrics.base import Metric, mean
from mmalign_eval.requests import RAW_TEMPLATE, Choose, Generate, GenParams, Prompt, Response, greedy
from mmalign_eval.task import LmEvalTask, Protocol, Record, Sample

TRAINING = [{"q": f"train {i}", "a": i % 2} for i in range(9)]
TEST = [{"q": f"test {i}", "a": i % 2} for i in range(6)]


def old_contexts(test: Sequence[Any], training: Sequence[Any], shots: int) -> dict[str, str]:
    """What the old harness's evaluator does, written down from its description: shuffle, then draw as it goes."""
    docs = list(test)
    rnd = random.Random()
    rnd.seed(42)
    rnd.shuffle(docs)
    found = {}
    for doc in docs:
        drawn = rnd.sample(list(training), shots) if shots else []
        labelled = "\n\n".join(f"Q: {d['q']}\nA: {'yes' if d['a'] else 'no'}" for d in drawn) + "\n\n" if shots else ""
        found[doc["q"]] = f"{labelled}Q: {doc['q']}\nA:"
    return found


class Docs(TaskData):
    folder = layout = get = "given by the test"
    splits: dict[str, list[Any]]

    def native(self, folder: Folder) -> Iterator[Sample]:
        raise AssertionError("not read from files")

    def _open(self, source: Source) -> Iterator[Sample]:
        for split, docs in self.splits.items():
            for at, doc in enumerate(docs):
                yield Sample(f"{split}/{at}", {"split": split, "doc": doc}, cluster=f"c{at // 2}", part="toy")


class Toy(LmEvalTask):
    """Yes or no."""

    name, version, default_protocol = "toy", 1, "paper"
    protocols = {"paper": Protocol(ask="", params=greedy(1), template=RAW_TEMPLATE, shots=3)}  # noqa: RUF012
    parts = {"toy": ""}  # noqa: RUF012
    stop: tuple[str, ...] | None = None

    def own_binding(self, source: Source | None) -> OldHarness:
        part = OldPart(
            text=lambda doc: f"Q: {doc['q']}\nA:",
            target=lambda doc: " yes" if doc["a"] else " no",
            options=lambda doc: ("no", "yes"),
            gold=lambda doc: doc["a"],
            stop=self.stop,
        )
        return OldHarness(self, {"toy": part}, source, score=self.scored, metrics=self.measured)

    def scored(self, sample: Sample, responses: Sequence[Response]) -> Record:
        return {"right": float(likeliest(responses[-1]) == sample.data["doc"]["a"])}

    def measured(self) -> Sequence[Metric]:
        return [mean("acc", "right")]


def toy(splits: dict[str, list[Any]], few_shot: int | None = None, *, images: bool = True) -> Toy:
    task = Toy(few_shot=few_shot)
    task.data = Docs()  # type: ignore[misc]
    task.data.task, task.data.splits = "toy", splits  # type: ignore[attr-defined]
    bind(task, Source("dir", "", images=images))
    return task


def contexts(task: Toy) -> dict[str, str]:
    return {s.data["doc"]["q"]: task.requests(s)[0].prompt.text for s in task.samples(Source("dir", ""))}


@pytest.mark.parametrize("shots", [0, 1, 3, 9])
def test_prompts_are_those_of_the_old_evaluator(shots: int) -> None:
    task = toy({"train": TRAINING, "test": TEST}, shots)
    assert contexts(task) == old_contexts(TEST, TRAINING, shots)
    assert contexts(toy({"test": TEST, "train": TRAINING}, shots)) == contexts(task)  # the order of splits is no matter


def test_three_shots_of_the_first_document() -> None:
    """Worked out with CPython's own generator: Random(42) shuffles 0-5 to 3 1 2 4 0 5, then draws 3, 8, 1 of 9."""
    text = contexts(toy({"train": TRAINING, "test": TEST}))["test 3"]
    assert [line for line in text.split("\n") if line.startswith("Q: train")] == [f"Q: train {i}" for i in (3, 8, 1)]
    assert text.count("\n\n") == 3


@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 40), m=st.integers(1, 30), data=st.data())
def test_draws_have_no_repeats_and_do_not_depend_on_who_asks(n: int, m: int, data: st.DataObject) -> None:
    shots = data.draw(st.integers(0, m))
    training = [{"n": i} for i in range(m)]
    drawn = draw(n, training, shots, "t")
    assert [len(d) for d in drawn] == [shots] * n
    assert all(len({doc["n"] for doc in d}) == shots for d in drawn)
    assert drawn == draw(n, training, shots, "t")


def test_samples_keep_the_data_s_order_ids_and_clusters() -> None:
    found = list(toy({"train": TRAINING, "test": TEST}).samples(Source("dir", "")))
    assert [s.id for s in found] == [f"test/{i}" for i in range(6)]
    assert [s.cluster for s in found] == ["c0", "c0", "c1", "c1", "c2", "c2"]


def test_validation_stands_in_for_a_missing_test_split() -> None:
    assert len(contexts(toy({"train": TRAINING, "validation": TEST[:2]}))) == 2
    assert set(contexts(toy({"validation": TEST[:2], "test": TEST[2:], "train": TRAINING}))) == {
        f"test {i}" for i in range(2, 6)
    }


def test_requests_carry_no_bos_and_the_part_s_own_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    (asked,) = toy({"test": TEST}, 0).requests(Sample("test/0", {"doc": TEST[0]}, part="toy"))
    assert asked == Choose(Prompt("Q: test 0\nA:", template=RAW_TEMPLATE, special_tokens=False), (" no", " yes"))
    monkeypatch.setattr(Toy, "stop", (":", "\n"))
    task = toy({"test": TEST}, 0)
    sample = next(iter(task.samples(Source("dir", ""))))
    generate, choose = task.requests(sample)
    assert isinstance(generate, Generate)
    assert generate.params == GenParams(max_new_tokens=256, stop=(":", "\n"))
    assert choose.prompt == generate.prompt
    text, lls = task.right_answer(sample)
    assert (text.text, lls.logprobs, lls.greedy) == ("no", (-1.0, -1000.0), (True, False))


def test_too_few_training_documents_are_named() -> None:
    with pytest.raises(BadInput, match="toy: 3 shots asked for, 2 training documents"):
        toy({"train": TRAINING[:2], "test": TEST})
    with pytest.raises(BadInput, match="toy: no documents in"):
        toy({"train": TRAINING})


def test_scoring_needs_no_training_split() -> None:
    task = toy({"test": TEST}, images=False)
    assert contexts(task)["test 0"] == "Q: test 0\nA:"


def test_metrics_and_signature_are_known_without_data() -> None:
    task = Toy()
    bind(task)
    assert [m.name for m in task.metrics()] == ["acc"]
    assert task.signature_extra() == {
        "harness": "lm-eval before 0.4 (old master)", "harness_seed": 42, "add_bos": False,
    }  # fmt: skip


def test_the_first_of_equals_is_the_likeliest() -> None:
    assert likeliest(Response("ok", logprobs=(-2.0, -1.0, -1.0))) == 1
