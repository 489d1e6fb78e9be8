"""Which pairs are used: drops, held-out images, balance and samples; token ids and what is cut."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmalign_eval.tuning.bpo_pairs import encode, select
from mmalign_eval.tuning.config import Data, Preference
from mmalign_eval.tuning.encoding import Encoder
from mmalign_eval.tuning.rows import Pair

from mmalign_eval.errors import BadInput
from mmalign_eval.miniature.nano import nano_tokenizer
from mmalign_eval.miniature.tokenizer import IMAGE_ID
from mmalign_eval.requests import ImageRef


def pair(number: int, chosen: str = "a b c", rejected: str = "d e f", image: str = "", source: str = "s") -> Pair:
    return Pair(str(number), "What is it?", chosen, rejected, image or f"{number}.png", "mllm-hal", source)


def test_long_and_equal_pairs_are_dropped_and_counted() -> None:
    pairs = [
        pair(0), pair(1, chosen="w " * 351), pair(2, rejected="w " * 350), pair(3, rejected="w " * 351),
        pair(4, chosen="same ", rejected="same"),
    ]  # fmt: skip
    found = select(pairs, Preference(), Data(max_words=350), 0)
    assert [p.id for p in found.train] == ["0", "2"]
    assert found.counts == {"read": 5, "over 350 words": 2, "equal answers": 1, "train": 2}


def test_nothing_left_says_why() -> None:
    with pytest.raises(BadInput, match="no pair is left to train on: 1 read, 1 equal answers"):
        select([pair(0, "x", "x")], Preference(), Data(), 0)


@given(st.integers(2, 30), st.floats(0.01, 0.9), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_no_image_is_on_both_sides(images: int, share: float, seed: int) -> None:
    pairs = [pair(i, image=f"{i % images}.png") for i in range(3 * images)]
    found = select(pairs, Preference(), Data(held_out=share), seed)
    train, held = {p.image for p in found.train}, {p.image for p in found.held_out}
    assert not train & held
    assert len(held) == min(images - 1, max(1, round(share * images)))
    assert len(found.train) + len(found.held_out) == len(pairs)
    again = select(list(reversed(pairs)), Preference(match_length=0.1), Data(samples=1, held_out=share), seed)
    assert {p.image for p in again.held_out} == held  # whatever else differs


def test_lengths_are_matched_as_a_share_of_the_chosen_answer() -> None:
    pairs = [pair(i, "w " * 10, "v " * n) for i, n in enumerate((7, 8, 10, 12, 13))]
    found = select(pairs, Preference(match_length=0.2), Data(), 0)
    assert [p.id for p in found.train] == ["1", "2", "3"]
    assert found.counts["lengths too different"] == 2


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 3), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_balance(yes: int, no: int, other: int, seed: int) -> None:
    said = ["Yes, there is."] * yes + ["no"] * no + ["Nothing of the kind."] * (other + 1)
    found = select([pair(i, text) for i, text in enumerate(said)], Preference(balance=True), Data(), seed)
    kept = Counter(p.chosen for p in found.train)
    assert kept["Yes, there is."] == kept["no"] == min(yes, no)
    assert kept["Nothing of the kind."] == other + 1


def test_balance_leaves_out_others_at_another_seed() -> None:
    pairs = [pair(i, text) for i, text in enumerate(["Yes"] * 30 + ["No"] * 3)]
    kept = [{p.id for p in select(pairs, Preference(balance=True), Data(), seed).train} for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.data())
@settings(max_examples=60, deadline=None)
def test_samples_are_drawn_in_proportion_to_the_sources(sources: list[str], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(sources)))
    pairs = [pair(i, source=source) for i, source in enumerate(sources)]
    found = select(pairs, Preference(), Data(samples=count), 3).train
    assert len(found) == count
    assert [int(p.id) for p in found] == sorted(int(p.id) for p in found)
    drawn, there = Counter(p.source for p in found), Counter(sources)
    for source, all_of_it in there.items():
        assert abs(drawn[source] - count * all_of_it / len(sources)) < 1
    assert select(pairs, Preference(), Data(samples=count), 3).train == found


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5), st.data())
@settings(max_examples=100, deadline=None)
def test_a_sample_of_balanced_pairs_is_balanced(yes: int, no: int, other: int, data: st.DataObject) -> None:
    said = ["Yes, there is."] * yes + ["no"] * no + ["Nothing of the kind."] * other
    pairs = [pair(i, text, source="ab"[i % 2]) for i, text in enumerate(said)]
    left = 2 * min(yes, no) + other
    count = data.draw(st.integers(1, max(1, left)))
    if left < count or (not other and count % 2):
        with pytest.raises(BadInput, match=r"no pair is left|are left to draw|give an even number"):
            select(pairs, Preference(balance=True), Data(samples=count), 3)
        return
    found = Counter(p.chosen for p in select(pairs, Preference(balance=True), Data(samples=count), 3).train)
    assert found.total() == count
    assert found["Yes, there is."] == found["no"]
    assert abs(found["Nothing of the kind."] - count * other / left) <= 2


def test_more_samples_than_pairs_is_refused() -> None:
    with pytest.raises(BadInput, match="only 1 pairs are left"):
        select([pair(0)], Preference(), Data(samples=2), 0)


def test_kinds_of_conversations_are_refused() -> None:
    with pytest.raises(BadInput, match="choose conversations"):
        select([pair(0)], Preference(), Data(text_only=True), 0)


@pytest.mark.parametrize("room", [0, 1, 3, 500])
def test_answers_are_cut_and_images_never(room: int) -> None:
    tokenizer = nano_tokenizer()
    whole = Encoder(tokenizer, "v1", IMAGE_ID, 4, 1000)
    prompt = len(whole.prompt("What is it?", True))
    encoder = Encoder(tokenizer, "v1", IMAGE_ID, 4, prompt + room)
    pairs = [pair(0, "There is a red cup on the table", "No"), pair(1, "a dog", "a dog !")]
    counts: dict[str, int] = {}
    images = {p.image: ImageRef(p.image) for p in pairs}
    items = encode(pairs, images, encoder, lambda ids, image: f"{image.path}", counts)
    if room == 0:
        assert items == []
        assert counts == {"no room for answers": 2}
        return
    for item in items:
        assert item.ids.prompt == whole.prompt("What is it?", True)
        assert item.ids.prompt.count(IMAGE_ID) == 4
        for answer, text in ((item.ids.chosen, item.pair.chosen), (item.ids.rejected, item.pair.rejected)):
            assert answer == whole.response(text)[:room]
            assert len(item.ids.prompt) + len(answer) <= prompt + room
    assert [item.key for item in items] == [f"{item.pair.image}" for item in items]
    assert counts == {1: {"equal where cut": 1, "answer cut": 1}, 3: {"answer cut": 2}, 500: {}}.get(room, counts)
