import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.metrics.lexical import MOST_WORDS, elements_held, overlap, spoken, words

LONG = "The meme makes fun of the fact that the names of the countries are misleading for everyone who goes there."


@pytest.mark.parametrize(
    ("reference", "answer", "held"),
    [
        ("-1<AND>-5", "x = -1 or x = -5", 1.0),
        ("-1<AND>-5", "x is -5.", 0.5),
        ("-1<AND>-5", "x is 5", 0.0),
        ("1.25<OR>=1.25<OR>5/4", "It is 5/4", 1.0),
        ("2500<OR>2,500", "about 2,500 dollars", 1.0),
        ("14", "1.4 or 140", 0.0),
        ("a red car", "There is A RED CAR.", 1.0),
        ("a red car", "a car, red", 0.0),
        ("cat", "catalogue", 0.0),
        (LONG, LONG.upper(), 1.0),
        (LONG, "", 0.0),
        ("<AND>", "anything", 0.0),
        ("", "anything", 0.0),
    ],
)
def test_elements(reference, answer, held):
    assert elements_held(reference, answer) == held


def test_long_references_are_met_in_part():
    assert 0.2 < elements_held(LONG, "The names of the countries are misleading.") < 0.8
    assert elements_held(LONG, "word " * 5000) == 0.0


def test_overlap_is_rouge_l():
    # 7 of 8 words in order, 8 said: P = R = 6/8 by hand ("the seeds pass through your system" is 6 words in common)
    reference, answer = (
        "The melon seeds pass through your digestive system",
        "Nothing, the seeds pass through your system",
    )
    assert overlap(reference, answer) == pytest.approx(2 * 6 / (8 + 7))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="abc 123", min_size=1, max_size=12), min_size=1, max_size=4), st.text(max_size=40))
def test_any_reference_is_held_by_itself_and_not_by_nothing(elements, answer):
    reference = "<AND>".join(elements)
    assert 0.0 <= elements_held(reference, answer) <= 1.0
    assert elements_held(reference, "") == 0.0
    if words(reference.replace("<AND>", " ")):
        assert elements_held(reference, spoken(reference)) == 1.0
        assert overlap(reference, reference) == 1.0


def test_a_million_characters_are_read_in_part():
    assert len(words("no yes. " * 125_000)) == MOST_WORDS
