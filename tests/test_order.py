"""The order in which requests are asked: neighbours share an image, or what they begin with."""

from __future__ import annotations

import random
import time
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmalign_eval import engine
from mmalign_eval.engine import ALIKE, _Item, order
from mmalign_eval.requests import Choose, Generate, ImageRef, Prompt, Request, greedy


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRef]:
    folder: Path = tmp_path_factory.mktemp("images")
    for i in range(3):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / f"{i}.png")
    return [ImageRef(str(folder / f"{i}.png")) for i in range(3)]


Asked = tuple[int | None, bool, tuple[int, ...], list[int], int]
HEADS = st.sampled_from([(), (7,) * ALIKE, (7,) * (ALIKE - 1), (7,) * ALIKE + (8,) * ALIKE, (9,) * (2 * ALIKE)])
ONE = st.tuples(
    st.sampled_from([None, 0, 1, 2]), st.booleans(), HEADS, st.lists(st.integers(0, 3), max_size=3), st.integers(1, 9)
)


def item(number: int, image: ImageRef | None, choose: bool, ids: tuple[int, ...], more: int) -> _Item:
    prompt = Prompt(str(number), (image,) if image else (), template="raw")
    request: Request = Choose(prompt, (" A",)) if choose else Generate(prompt, greedy(3))
    return _Item(f"{number:05}", request, len(ids) + more, np.array(ids, ">u4").tobytes())


@given(st.lists(ONE, max_size=24), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_order(images: list[ImageRef], asked: list[Asked], rng: random.Random) -> None:
    items = [
        item(i, None if image is None else images[image], choose, (*head, *tail), more)
        for i, (image, choose, head, tail, more) in enumerate(asked)
    ]
    found = order(items)
    assert sorted(one.key for one in found) == [one.key for one in items]
    mixed = rng.sample(items, len(items))
    assert [one.key for one in order(mixed)] == [one.key for one in found]
    shown = [key for key, _ in groupby(one.request.prompt.images for one in found) if key]
    assert len(shown) == len(set(shown))  # each image once
    kinds = [key for key, _ in groupby((begins(one), kind(one)) for one in found) if key[0]]
    assert len(kinds) == len(set(kinds))  # those that begin alike, too
    for before, one in pairwise(found):
        if kind(before) == kind(one) and begins(one) and begins(before) == begins(one):
            assert one.shared == engine._common(before.prefix, one.prefix) >= ALIKE


def kind(one: _Item) -> tuple[tuple[ImageRef, ...], bool]:
    return one.request.prompt.images, isinstance(one.request, Choose)


def begins(one: _Item) -> bytes:
    """The first tokens, if there are as many as it takes to be put together."""
    return one.prefix[: 4 * ALIKE] if len(one.prefix) >= 4 * ALIKE else b""


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_where_nothing_is_known_of_beginnings_the_longest_come_first(lengths: list[int]) -> None:
    found = order([item(i, None, True, (), length) for i, length in enumerate(lengths)])
    assert [one.length for one in found] == sorted(lengths, reverse=True)


@pytest.mark.slow
def test_a_hundred_thousand_requests_are_put_in_order_in_two_seconds() -> None:
    rng = np.random.default_rng(0)
    heads = [tuple(rng.integers(0, 32_000, 500).tolist()) for _ in range(57)]
    items = [item(i, None, True, (*heads[i % 57], *rng.integers(0, 32_000, 100).tolist()), 4) for i in range(100_000)]
    rng.shuffle(items)  # type: ignore[arg-type]
    start = time.process_time()
    assert len(order(items)) == 100_000
    assert time.process_time() - start < 4  # 2 s, and as much again for a busy machine
