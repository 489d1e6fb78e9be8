"""Where an answer stands after 16, 32 ... tokens: exactly what greedy decoding of so many tokens would have said."""

from dataclasses import replace

import pytest

from mmalign_eval.data.source import DataChoice
from mmalign_eval.engine import Engine
from mmalign_eval.models.opening import open_model
from mmalign_eval.plan import open_task
from mmalign_eval.requests import MARKS, Response
from mmalign_eval.store import Store


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """(whole answer, answer of at most 16 tokens, of at most 32) of the miniature's first images."""
    task = open_task("chair")
    samples = list(task.samples(DataChoice.parse(["mini"], only_mini=True).source("chair")))[:4]
    whole = [request for sample in samples for request in task.requests(sample)]
    short = [
        [replace(r, params=replace(r.params, max_new_tokens=tokens)) for r in whole] for tokens in (MARKS[0], MARKS[1])
    ]
    store = Store(tmp_path_factory.mktemp("marks") / "store.sqlite")
    adapter = open_model("mini", {})
    try:
        responses, _ = Engine(adapter, store).run([*whole, *short[0], *short[1]])
        again, _ = Engine(adapter, store).run(whole)
    finally:
        adapter.close()
        store.close()
    assert again == responses[: len(whole)], "the store keeps marks"
    return [responses[i :: len(whole)] for i in range(len(whole))]


def test_marks_are_where_shorter_generations_end(answers):
    for whole, *shorter in answers:
        assert whole.new_tokens > MARKS[1]
        assert len(whole.marks) == sum(tokens < whole.new_tokens - 1 for tokens in MARKS)
        assert [whole.text[:end] for end in whole.marks[:2]] == [response.text for response in shorter]


def test_short_answers_have_none():
    assert Response.from_json(Response("ok", text="x").to_json()).marks == ()
