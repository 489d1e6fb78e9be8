"""SQuAD's scores against rules written down a second time, against figures by hand, and their invariants.

The official script is not installed here: `official` below states its rules (evaluate-v2.0.py) once more, straight and
slow, and the figures of the small table were worked out by hand.
"""

from __future__ import annotations

import math
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.metrics.squad import best_threshold, exact, f1, normalise, references, scores, squad_metrics
from mmalign_eval.stats import estimates

WORDS = st.lists(st.sampled_from(["the", "a", "An", "cat", "Cat.", "sat", "on", "U.S.", "'", "1,000", "Ü", ""])).map(
    " ".join
)
TEXTS = st.one_of(st.text(max_size=40), WORDS)
MANY = settings(max_examples=200, deadline=None)


def official_normal(text: str) -> str:
    kept = "".join(c for c in text.lower() if c not in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def official(
    golds: dict[str, list[str]], preds: dict[str, str], na_probs: dict[str, float] | None = None
) -> dict[str, float]:
    """The numbers that evaluate-v2.0.py prints, threshold 1.0."""
    raw_exact, raw_f1 = {}, {}
    for name, answers in golds.items():
        exacts, f1s = [], []
        for gold in [a for a in answers if official_normal(a)] or [""]:
            left, right = official_normal(gold).split(), official_normal(preds[name]).split()
            exacts.append(float(left == right))
            rest, same = list(right), 0
            for token in left:
                if token in rest:
                    rest.remove(token)
                    same += 1
            if not left or not right:
                f1s.append(float(left == right))
            else:
                f1s.append(2 * same / (len(left) + len(right)))  # the same harmonic mean
        raw_exact[name], raw_f1[name] = max(exacts), max(f1s)

    def thresholded(raw: dict[str, float]) -> dict[str, float]:
        above = [n for n in raw if na_probs and na_probs[n] > 1.0]
        return {n: float(not golds[n]) if n in above else s for n, s in raw.items()}

    out = {}
    kinds = {"": list(golds), "HasAns_": [n for n in golds if golds[n]], "NoAns_": [n for n in golds if not golds[n]]}
    for prefix, names in kinds.items():
        if names:
            out[f"{prefix}exact"] = 100 * sum(thresholded(raw_exact)[n] for n in names) / len(names)
            out[f"{prefix}f1"] = 100 * sum(thresholded(raw_f1)[n] for n in names) / len(names)
            out[f"{prefix}total"] = len(names)
    if na_probs:
        for key, raw in (("exact", raw_exact), ("f1", raw_f1)):
            current = best = len(kinds["NoAns_"])
            threshold = 0.0
            for name in sorted(na_probs, key=lambda n: na_probs[n]):
                if golds[name]:
                    current += raw[name]
                elif preds[name]:
                    current -= 1
                if current > best:
                    best, threshold = current, na_probs[name]
            out[f"best_{key}"], out[f"best_{key}_thresh"] = 100 * best / len(golds), threshold
    return out


def ours(
    golds: dict[str, list[str]], preds: dict[str, str], na_probs: dict[str, float] | None = None
) -> dict[str, Any]:
    order = {name: number for number, name in enumerate(na_probs or golds)}
    records = [
        {**scores(golds[n], preds[n], na_probs[n] if na_probs else None), "order": order[n], "cluster": "all"}
        for n in golds
    ]
    return {e.name: e.value for e in estimates(squad_metrics(), records) if e.value is not None}


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Cat's   hat.", "cats hat"),
        ("An apple a day", "apple day"),
        ("  in\tthe\nEnd ", "in end"),
        ("U.S.A.", "usa"),
        ("1,000-5", "10005"),
        ("theatre anthem", "theatre anthem"),
        ("a", ""),
        ("«Ça»", "«ça»"),  # only ASCII punctuation goes
        ("the-end", "theend"),  # punctuation goes first: no article is left
        ("", ""),
    ],
)
def test_normal_forms(text: str, normal: str) -> None:
    assert normalise(text) == normal == official_normal(text)


@pytest.mark.parametrize(
    ("gold", "said", "equal", "overlap"),
    [
        ("the 10th century", "10th century", 1, 1.0),
        ("10th and 11th centuries", "in the 10th and 11th centuries", 0, 8 / 9),
        ("a cat cat", "cat dog", 0, 0.5),  # 1 shared of 2 and 2
        ("", "", 1, 1.0),
        ("", "the", 1, 1.0),
        ("", "unanswerable", 0, 0.0),
        ("France", "", 0, 0.0),
        ("France", "Germany", 0, 0.0),
    ],
)
def test_pairs(gold: str, said: str, equal: int, overlap: float) -> None:
    assert exact(gold, said) == equal
    assert f1(gold, said) == pytest.approx(overlap)


def test_the_best_reference_counts_and_empty_ones_do_not() -> None:
    assert references(["the", "France", "."]) == ["France"]
    assert references(["the"]) == references([]) == [""]
    record = scores(["10th century", "in the 10th century"], "in 10th century")
    assert record == {"has_answer": True, "exact": 1, "f1": 1.0}
    assert scores([], "unanswerable") == {"has_answer": False, "exact": 0, "f1": 0.0}
    assert scores(["the"], "")["exact"] == 1  # a gold answer of nothing but an article is matched by nothing


GOLDS: dict[str, list[str]] = {"q1": ["Paris"], "q2": [], "q3": ["a red fox", "fox"], "q4": []}
PREDS = {"q1": "Paris", "q2": "London", "q3": "red foxes", "q4": ""}


def test_a_small_table_by_hand() -> None:
    found = ours(GOLDS, PREDS)
    assert found == pytest.approx({
        "exact": 50.0, "f1": (1 + 0 + 0.5 + 1) / 4 * 100, "total": 4.0,
        "HasAns_exact": 50.0, "HasAns_f1": 75.0, "HasAns_total": 2.0,
        "NoAns_exact": 50.0, "NoAns_f1": 50.0, "NoAns_total": 2.0,
    })  # fmt: skip


def test_thresholds_by_hand() -> None:
    na_probs = {"q1": 0.1, "q2": 0.9, "q3": 0.4, "q4": 0.05}
    found = ours(GOLDS, PREDS, na_probs)
    # withheld: 2 right; q4 (+0), q1 (+1) = 3 at 0.1, q3 (exact +0, F1 +.5) = 3.5 at 0.4, q2 (-1)
    assert (found["best_exact"], found["best_exact_thresh"]) == (75.0, 0.1)
    assert (found["best_f1"], found["best_f1_thresh"]) == (87.5, 0.4)
    assert found["exact"] == 50.0  # no probability is above the threshold of 1
    # a score above 1 withholds the answer: q1 becomes wrong, q2 right
    assert ours(GOLDS, PREDS, {**na_probs, "q1": 1.5, "q2": 7.0})["exact"] == 50.0
    assert ours(GOLDS, PREDS, {**na_probs, "q2": 7.0})["exact"] == 75.0
    withheld = ours({"q2": []}, {"q2": "x"}, {"q2": 0.3})
    assert (withheld["best_exact"], withheld["best_exact_thresh"]) == (100.0, 0.0)


@pytest.mark.parametrize("seed", range(20))
def test_random_tables_equal_the_rules_written_a_second_time(seed: int) -> None:
    rng = random.Random(seed)
    words = ["the", "a", "red", "fox", "Fox!", "ran", "U.S.", ""]

    def text() -> str:
        return " ".join(rng.choices(words, k=rng.randint(0, 4)))

    golds = {f"q{i}": [text() for _ in range(rng.choice([0, 0, 1, 3]))] for i in range(30)}
    preds = {name: text() for name in golds}
    names = rng.sample(list(golds), len(golds))
    na_probs = {name: rng.choice([-2.0, 0.0, 0.25, 0.5, 0.5, 0.99, 1.0, 1.01, 4.0]) for name in names}  # with ties
    assert ours(golds, preds) == pytest.approx(official(golds, preds))
    assert ours(golds, preds, na_probs) == pytest.approx(official(golds, preds, na_probs))


@MANY
@given(TEXTS)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert once == official_normal(text)
    assert normalise(once) == once
    assert normalise(f"  The {text}.") == normalise(f"the {text}")


@MANY
@given(TEXTS, TEXTS)
def test_f1_is_symmetric_within_bounds_and_1_where_exact(gold: str, said: str) -> None:
    value = f1(gold, said)
    assert 0.0 <= value <= 1.0
    assert value == pytest.approx(f1(said, gold))
    assert exact(gold, said) == exact(said, gold)
    assert f1(gold, gold) == exact(gold, gold) == 1
    if exact(gold, said):
        assert value == 1.0


@MANY
@given(st.lists(st.tuples(st.lists(TEXTS, max_size=3), TEXTS, st.floats(0, 2)), min_size=1, max_size=12))
def test_totals_are_the_weighted_means_and_the_best_threshold_is_no_worse(rows: list[Any]) -> None:
    golds = {str(i): answers for i, (answers, _, _) in enumerate(rows)}
    preds = {str(i): said for i, (_, said, _) in enumerate(rows)}
    found = ours(golds, preds, {str(i): p for i, (_, _, p) in enumerate(rows)})
    assert found["exact"] <= found["f1"] + 1e-9
    for name in ("exact", "f1"):
        kinds = [(found[f"{k}_{name}"], found[f"{k}_total"]) for k in ("HasAns", "NoAns") if f"{k}_{name}" in found]
        assert found[name] == pytest.approx(sum(v * n for v, n in kinds) / found["total"])
        assert 0 <= found[f"best_{name}"] <= 100 + 1e-9
        assert found[f"best_{name}"] >= 100 * sum(not a for a in golds.values()) / len(golds) - 1e-9


def test_best_of_nothing_is_undefined() -> None:
    assert all(math.isnan(v) for v in best_threshold([], "raw_f1"))
    assert "best_f1" not in ours(GOLDS, PREDS)
