"""CHAIR's numbers by hand: whole answers, answers cut at equal length, and at equal recall."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.metrics.chair.objects import parse_table
from mmalign_eval.metrics.chair.score import beginnings, chair_metrics, chair_record, counts, length_matched
from mmalign_eval.requests import MARKS, Response
from mmalign_eval.stats import estimates

TABLE = parse_table("person, man, woman\ndog, puppy\ncat\ncar\nbench\ntree", "rlhfv")
NAMES = ("CHAIRs", "CHAIRi", "CHAIRs_refine", "recall", "len")


def record(text, objects, cluster="x", **response):
    made = chair_record(Response("ok", text=text, **response), objects, TABLE.mentions, len(text.split()))
    return {**made, "cluster": cluster}


def values(records, metrics):
    found = {metric.name: float(metric.value(np.asarray(metric.stat(records)))) for metric in metrics}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


# (text, objects of the image): two hallucinate, one names nothing; 2 of 7 mentions; 3 of 8 objects found
ANSWERS = [
    ("a man and a woman with a dog", ["person", "cat"]),  # person person dog: dog is not there
    ("nothing to see", ["car"]),
    ("a cat, a cat", ["cat", "dog", "bench"]),
    ("two cars near a puppy", ["dog", "tree"]),  # car is not there
]


def test_the_numbers_by_hand():
    found = values([record(t, o, str(i)) for i, (t, o) in enumerate(ANSWERS)], chair_metrics(*NAMES))
    assert found == pytest.approx(
        {"CHAIRs": 50.0, "CHAIRs_refine": 200 / 3, "CHAIRi": 200 / 7, "recall": 300 / 8, "len": (8 + 3 + 4 + 5) / 4}
    )


def test_intervals_hold_the_values():
    records = [record(t, o, str(i)) for i, (t, o) in enumerate(ANSWERS * 5)]
    for estimate in estimates([*chair_metrics(*NAMES), *length_matched("CHAIRi")][:8], records):
        assert estimate.low <= estimate.value <= estimate.high


def test_what_rlhfv_derives_from_them():
    found = values(
        [record(t, o, str(i)) for i, (t, o) in enumerate(ANSWERS)],
        chair_metrics("correct_rate", "object_correct_rate", "object_f1", "response_f1", "naming"),
    )
    response, objects, recall, naming = 100 - 200 / 3, 100 - 200 / 7, 37.5, 75.0
    assert found == pytest.approx(
        {"correct_rate": response, "object_correct_rate": objects, "naming": naming,
         "object_f1": 2 * recall * objects / (recall + objects),
         "response_f1": 2 * naming * response / (naming + response)}
    )  # fmt: skip


def test_nothing_named_leaves_the_ratios_undefined():
    found = values([record("nothing", ["dog"])], chair_metrics(*NAMES))
    assert (found["CHAIRs"], found["CHAIRs_refine"], found["CHAIRi"], found["recall"]) == (0.0, None, None, 0.0)


def test_two_words_of_one_category_are_two_mentions_and_one_object():
    assert counts([("man", "person"), ("woman", "person")], ["person", "dog"], 5) == [1, 0, 1, 0, 2, 1, 2, 5]


def test_answers_are_cut_where_the_backend_says_its_tokens_end():
    text = "a man with a dog and a cat"
    cuts, cut_by = beginnings(Response("ok", text=text, new_tokens=70, marks=(5, 16, 16)))
    assert cut_by == "tokens"
    assert cuts == ["a man", "a man with a dog", "a man with a dog", text, text, text]


def test_short_answers_are_never_cut():
    assert beginnings(Response("ok", text="one two", new_tokens=16)) == (["one two"] * 6, "tokens")


@pytest.mark.parametrize(
    ("new_tokens", "kept"),
    [(0, [12, 24, 48, 96, 100, 100]), (200, [8, 16, 32, 64, 100, 100]), (100, [16, 32, 64, 100, 100, 100])],
)
def test_words_stand_in_for_tokens_that_nobody_told(new_tokens, kept):
    text = " ".join(f"w{i}" for i in range(100))
    cuts, cut_by = beginnings(Response("ok", text=text, new_tokens=new_tokens))
    assert cut_by == "words"
    assert [len(cut.split()) for cut in cuts] == kept


def test_length_matched_numbers_are_those_of_the_cut_answers():
    long = "a dog " + "very " * 100 + "a cat"
    marks = tuple(len("a dog " + "very " * n) for n in (14, 30, 62))  # 16, 32, 64 tokens of a token a word
    records = [record(long, ["dog"], "1", new_tokens=104, marks=marks), record("a cat", ["cat"], "2", new_tokens=2)]
    found = values(records, [*chair_metrics("CHAIRs"), *length_matched("CHAIRs", "CHAIRi", "recall")])
    assert (found["CHAIRs"], found["CHAIRs@64"], found["CHAIRs@128"]) == (50.0, 0.0, 50.0)
    assert (found["CHAIRi@64"], found["CHAIRi@512"]) == (0.0, pytest.approx(100 / 3))
    assert (found["recall@64"], found["recall@512"]) == (100.0, 100.0)


def test_equal_recall_interpolates_the_counts_between_lengths():
    # after 16 tokens 1 of 4 objects and no mistake, after 32 tokens 3 of 4 and one mistake: half-way at 50 %
    texts = ["a dog", "a dog, a cat, a car, a tree"]
    text = texts[1]
    made = record(text, ["dog", "cat", "car", "bench"], new_tokens=32, marks=(len(texts[0]),))
    found = values([made], length_matched("CHAIRs", "CHAIRi", "recall"))
    assert found["CHAIRi@recall50"] == pytest.approx(100 * 0.5 / 2.5)
    assert found["CHAIRs@recall50"] == pytest.approx(50.0)
    assert found["CHAIRi@recall40"] == pytest.approx(100 * 0.3 / 1.9)
    assert "recall@recall50" not in found


def test_below_the_first_length_the_mistakes_grow_with_the_mentions():
    made = record("a dog, a cat, a tree", ["dog", "cat"], new_tokens=5)
    found = values([made], length_matched("CHAIRs", "CHAIRi", "recall"))
    assert found["CHAIRi@recall50"] == pytest.approx(100 / 3)
    assert found["CHAIRs@recall50"] == pytest.approx(50.0)


def test_a_recall_that_is_never_reached_is_undefined():
    found = values([record("a dog", ["dog", "cat", "car"], new_tokens=2)], length_matched("CHAIRi"))
    assert found["CHAIRi@recall40"] is None
    assert found["CHAIRi@64"] == 0.0


WORDS = ["man", "woman", "dog", "cat", "car", "bench", "tree", "of", "the"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(WORDS), max_size=40),
            st.sets(st.sampled_from(["person", "dog", "cat", "car", "bench", "tree"]), min_size=1),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_invariants(answers):
    records = [record(" ".join(words), objects, str(i)) for i, (words, objects) in enumerate(answers)]
    names = ("CHAIRs", "CHAIRs_refine", "CHAIRi", "recall")
    found = values(records, [*chair_metrics(*names), *length_matched(*names)])
    assert all(v is None or -1e-9 <= v <= 100 + 1e-9 for v in found.values())
    if found["CHAIRs_refine"] is not None:
        assert found["CHAIRs"] <= found["CHAIRs_refine"] + 1e-9
        assert (found["CHAIRs"] == 0) == (found["CHAIRi"] == 0)
    recalls = [found[f"recall@{n}"] for n in (64, 128, 512)] + [found["recall"]]
    assert recalls == sorted(recalls), "a longer beginning never finds less"
    for one in records:
        assert len(one["counts"]) == len(MARKS) + 1
        assert np.shape(one["counts"]) == (len(MARKS) + 1, 8)
