"""What a plan says of its tokens is what a slow count says."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.models.encoding import Scored
from mmalign_eval.models.tree_size import sizes
from mmalign_eval.plan import plan_size, token_sizes
from mmalign_eval.requests import Choose, Generate, ImageRef, Prompt, Request, greedy

from .hf_case import load, nano, opened, pictures
from .tree_size_case import tree_size

IDS = st.lists(st.sampled_from([-300, -1, 0, 1, 256, 65536]), max_size=4)


@given(st.lists(st.tuples(IDS, st.lists(IDS, max_size=4)), max_size=10))
@settings(max_examples=400, deadline=None)
def test_sizes_are_those_of_all_sequences(parts: list[tuple[list[int], list[list[int]]]]) -> None:
    made = [Scored(array(context), tuple(map(array, options))) for context, options in parts]
    whole = [(*context, *option) for context, options in parts for option in options]
    assert sizes(made) == (sum(map(len, whole)), tree_size(whole))


def array(ids: list[int]) -> np.ndarray:
    return np.array(ids, np.int32)


def prompts(texts: st.SearchStrategy[str], images: tuple[ImageRef, ...] = ()) -> st.SearchStrategy[Prompt]:
    shown = st.sampled_from([(), *((image,) for image in images)])
    system = st.sampled_from([None, "You see.", ""])
    return st.builds(
        Prompt, texts, shown, system, template=st.just("raw"), special_tokens=st.sampled_from([None, False])
    )


TEXT = st.lists(st.sampled_from(["Q: a dog?\n", "A:", " ", "cat", "\n\nThe dog", "é", "漢"]), max_size=5).map("".join)
OPTIONS = st.lists(TEXT | st.sampled_from([" A", " B", ""]), max_size=4).map(tuple)


def requests(images: tuple[ImageRef, ...] = ()) -> st.SearchStrategy[list[Request]]:
    asked = prompts(TEXT, images)
    some = st.builds(Generate, asked, st.sampled_from([greedy(2), greedy(4)])) | st.builds(Choose, asked, OPTIONS)
    rolling = st.builds(lambda text: Choose(Prompt("", template="raw"), (text,), rolling=True), TEXT)
    more = st.sampled_from([0, 1])  # duplicates
    return st.lists(some | rolling, max_size=8).flatmap(lambda made: more.map(lambda again: made + made * again))


@given(requests(pictures(2)))
@settings(max_examples=200, deadline=None)
def test_a_plan_counts_as_the_slow_count_does(asked: list[Request]) -> None:
    model = opened_llava()
    sequences = [tuple(ids) for request in dict.fromkeys(asked) for ids in model.sequences(request)]
    assert token_sizes(model, dict.fromkeys(asked)) == (sum(map(len, sequences)), tree_size(sequences))


def opened_llava():  # type: ignore[no-untyped-def]
    return opened("llava")


def test_an_image_is_as_many_ids_as_it_has_tokens_and_its_own() -> None:
    model, (one, other) = opened_llava(), pictures(2)
    asked = [Generate(Prompt("What?", (image,), template="raw"), greedy(3)) for image in (one, other)]
    tokens, nodes = token_sizes(model, asked) or (0, 0)
    assert tokens == sum(len(model.sequences(request)[0]) for request in asked)
    first = [i for i in model.sequences(asked[0])[0] if i < 0]
    assert len(first) == 4
    assert nodes == tokens - model.sequences(asked[0])[0].index(first[0])  # what stands before the images
    assert plan_size([], model, 0).prompt_tokens == 0


def test_an_adapter_that_does_not_tell_gives_no_figure() -> None:
    class Silent(type(load(nano()))):  # type: ignore[misc]
        def laid_out(self, request: Request) -> None:
            return None

    model = load(nano())
    model.__class__ = Silent
    assert token_sizes(model, [Generate(Prompt("A", template="raw"), greedy(3))]) is None
