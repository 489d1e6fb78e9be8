import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.metrics import yes_no
from mmalign_eval.metrics.yes_no import BINARY_METRICS, COUNTS, confusion, mean_over, official_yes_no
from mmalign_eval.stats import estimates

PARTS = ("random", "popular", "adversarial")
TABLES = st.lists(st.integers(0, 50), min_size=4, max_size=4)
ANSWERS = st.lists(st.tuples(st.sampled_from(PARTS), st.booleans(), st.booleans()), max_size=60)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("No, there is no dog.", "no"),
        ("There isn't a dog", "yes"),
        ("Yes", "yes"),
        ("no\n", "yes"),
        ("It is not visible. Yes", "no"),
        ("Yes. It is not visible", "yes"),
        ("NO", "yes"),
        ("No!", "yes"),
        ("Nope", "yes"),
        ("isn't", "yes"),
        ("No\n", "yes"),
        ("None", "yes"),
        ("", "yes"),
        ("No", "no"),
        ("no", "no"),
        ("Not", "yes"),
        ("there is,not one", "yes"),
        ("yes, no", "no"),
        (".no", "yes"),
    ],
)
def test_parser_agrees_with_the_official_script(text, said):
    assert official_yes_no(text) == said


def straight_parser(text):
    """The rule in another shape: one of the words between blanks, commas aside, before the first full stop."""
    padded = f" {text.partition('.')[0].replace(',', '')} "
    return "no" if any(f" {word} " in padded for word in ("No", "not", "no")) else "yes"


@settings(max_examples=300)
@given(st.text() | st.text(alphabet="Nnoty ,.!\n"))
def test_parser_reads_any_text_as_the_straight_rule_does(text):
    assert official_yes_no(text) == straight_parser(text)


@pytest.mark.parametrize(
    ("truth", "said", "outcome"), [("yes", "yes", "TP"), ("no", "yes", "FP"), ("no", "no", "TN"), ("yes", "no", "FN")]
)
def test_record_shows_its_cell(truth, said, outcome):
    assert yes_no.yes_no(truth, said) == {"label": truth, "answer": said, "outcome": outcome}


@settings(max_examples=300, deadline=None)
@given(TABLES)
def test_identities_hold(counts):
    tp, fp, tn, fn = counts
    records = records_of(zip(counts, ("TP", "FP", "TN", "FN"), strict=True))
    value = {m.name: float(m.value(np.array(m.stat(records), dtype=float))) for m in BINARY_METRICS}
    cells = np.array(confusion(records), dtype=float)
    assert {m.name: float(m.value(cells)) for m in COUNTS} == {"TP": tp, "FP": fp, "TN": tn, "FN": fn}
    n = sum(counts)
    if n == 0:
        assert all(math.isnan(v) for v in value.values())
        return
    assert value["accuracy"] == pytest.approx((tp + tn) / n)
    assert value["yes_ratio"] == pytest.approx((tp + fp) / n)
    assert math.isnan(value["precision"]) == (tp + fp == 0)
    assert math.isnan(value["recall"]) == (tp + fn == 0)
    assert math.isnan(value["f1"]) == (tp == 0)
    if tp:
        # the yes-ratio times precision, and the share of positives times recall, both count the true positives
        assert value["yes_ratio"] * value["precision"] == pytest.approx((tp + fn) / n * value["recall"])
        assert value["accuracy"] == pytest.approx(1 + 2 * tp / n - value["yes_ratio"] - (tp + fn) / n)
        assert value["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
        low, high = sorted((value["precision"], value["recall"]))
        assert low - 1e-12 <= value["f1"] <= high + 1e-12


def records_of(counted):
    answers = {"TP": "yes", "FP": "yes", "TN": "no", "FN": "no"}
    return [{"outcome": name, "answer": answers[name]} for count, name in counted for _ in range(count)]


@settings(max_examples=300, deadline=None)
@given(ANSWERS)
def test_metrics_equal_a_straight_computation(answers):
    records = [
        {"split": part, **yes_no.yes_no("yes" if truth else "no", "yes" if said else "no")}
        for part, truth, said in answers
    ]
    assert confusion(records) == [
        sum(t and s for _, t, s in answers),
        sum(not t and s for _, t, s in answers),
        sum(not t and not s for _, t, s in answers),
        sum(t and not s for _, t, s in answers),
    ]
    accuracies, f1s = [], []
    for part in PARTS:
        own = [(t, s) for p, t, s in answers if p == part]
        hits = sum(t and s for t, s in own)
        precision = hits / sum(s for _, s in own) if any(s for _, s in own) else math.nan
        recall = hits / sum(t for t, _ in own) if any(t for t, _ in own) else math.nan
        accuracies.append(sum(t == s for t, s in own) / len(own) if own else math.nan)
        f1s.append(2 * precision * recall / (precision + recall) if precision + recall else math.nan)
    means = {m.name: float(m.value(np.array(m.stat(records), dtype=float))) for m in mean_over("split", PARTS)}
    assert means["mean/accuracy"] == pytest.approx(sum(accuracies) / 3, nan_ok=True)
    assert means["mean/f1"] == pytest.approx(sum(f1s) / 3, nan_ok=True)


def test_undefined_metrics_have_no_value():
    records = [{"cluster": i, "split": "random", **yes_no.yes_no("no", "no")} for i in range(5)]
    found = {e.name: e.value for e in estimates([*BINARY_METRICS, *mean_over("split", PARTS)], records)}
    assert found == {
        "accuracy": 1.0, "precision": None, "recall": None, "f1": None, "yes_ratio": 0.0,
        "mean/accuracy": None, "mean/f1": None,
    }  # fmt: skip


def test_means_resample_all_parts_of_a_cluster_together():
    records = [
        {"cluster": i, "split": part, **yes_no.yes_no("yes" if i % 3 else "no", "yes" if (i + j) % 4 else "no")}
        for i in range(40)
        for j, part in enumerate(PARTS)
    ]
    for found in estimates(mean_over("split", PARTS), records):
        assert found.clusters == 40
        assert found.low < found.value < found.high
