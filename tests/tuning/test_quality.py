"""Figures of preference pairs, each against a count by hand or a slow twin."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmalign_eval.tuning.quality import COLUMNS, common, lines, overlap, quality, same, says
from mmalign_eval.tuning.rows import Pair

from mmalign_eval.metrics import lexical


def pair(chosen: str, rejected: str, kind: str = "self", source: str = "llava", image: str = "a.jpg") -> Pair:
    return Pair(f"x/{kind}", "Q", chosen, rejected, image, kind, source)


WORDS = st.lists(st.sampled_from(["a", "b", "c", "dog"]), max_size=12)


@settings(deadline=None)
@given(a=WORDS, b=WORDS)
def test_the_fast_common_subsequence_is_the_slow_one(a: list[str], b: list[str]) -> None:
    assert common(a, b) == lexical._longest_common(a, b)
    assert overlap(" ".join(a), " ".join(b)) == lexical.overlap(" ".join(a), " ".join(b))


def test_overlap_by_hand() -> None:
    # "the dog on the mat" is common: 5 of 6 and of 5 words
    assert overlap("The dog sat on the mat.", "the dog on the mat") == pytest.approx(2 * 5 / 11)
    assert overlap("", "dog") == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [("Yes, it is.", "yes"), ("no", "no"), (" NO!", "no"), ("Not so", ""), ("Yesterday", ""), ("There is no dog", "")],
)
def test_what_an_answer_says(text: str, said: str) -> None:
    assert says(text) == said


def test_blanks_make_no_difference() -> None:
    assert same("A  cat.\n", "A cat.")
    assert not same("A cat.", "a cat.")


def test_lengths_longer_and_yes_no_by_kind() -> None:
    pairs = [
        pair("Yes", "No", "mllm-hal", image="a.jpg"),
        pair("No.", "yes there is", "mllm-hal", image="b.jpg"),
        pair("one two three four", "one two", "mllm-hal", image="b.jpg", source="bpo"),
        pair("w " * 351, "x", "llm-hal"),
    ]
    figures = quality(pairs)
    assert list(figures) == ["mllm-hal", "llm-hal", "all"]
    weak = figures["mllm-hal"]
    assert (weak["n"], weak["images"], weak["sources"]) == (3, 2, {"llava": 2, "bpo": 1})
    assert weak["words"] == {"chosen": {"mean": 2, "median": 1}, "rejected": {"mean": 2, "median": 2}}
    assert (weak["rejected_longer"], weak["rejected_shorter"], weak["over_350_words"]) == (1 / 3, 1 / 3, 0)
    assert weak["yes_no"] == {"chosen_yes": 1, "chosen_no": 1, "rejected_yes": 1, "rejected_no": 1}
    assert weak["overlap"]["mean"] == pytest.approx((0 + 0 + 2 * 2 / 6) / 3)
    assert figures["llm-hal"]["over_350_words"] == 1
    assert figures["all"]["n"] == 4


def test_objects_that_only_the_rejected_answer_names() -> None:
    def find(text: str) -> list[str]:
        return [word for word in text.split() if word in ("cat", "dog", "bus")]

    pairs = [pair("cat dog", "cat bus bus"), pair("dog", "dog"), pair("fine", "bus"), pair("cat", "nothing")]
    objects = quality(pairs, find)["self"]["objects"]
    assert objects == {
        "naming": 3,
        "with_new": 2 / 3,
        "new": 3 / 5,  # bus bus, bus of cat bus bus, dog, bus
        "kept": pytest.approx((0.5 + 1 + 0) / 3),
        "named_chosen": pytest.approx((2 + 1 + 0 + 1) / 4),
        "named_rejected": pytest.approx((2 + 1 + 1 + 0) / 4),
    }
    nothing = quality([pair("a", "b")], find)["self"]["objects"]
    assert (nothing["new"], nothing["with_new"], nothing["kept"]) == (None, None, None)


def test_table_rows_fit_their_columns() -> None:
    figures = quality([pair("Yes it is", "No")], lambda text: [])
    (row,) = lines(figures)
    assert dict(zip(COLUMNS, row, strict=True)) == {
        "rejected": "self", "pairs": "1", "words chosen": "3.0 (3)", "words rejected": "1.0 (1)", "longer": "0%",
        "overlap": "0.00", "chosen yes/no": "1/0", "rejected yes/no": "0/1", "new objects": "-", "answers with": "-",
    }  # fmt: skip
    assert lines(quality([pair("a", "b")]))[0][-2:] == ("-", "-")
    assert quality([]) == {}
