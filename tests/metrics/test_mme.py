import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.metrics.mme import (
    COGNITION,
    PAPER_PERCEPTION,
    PERCEPTION,
    SUBTASKS,
    lmms_yes_no_other,
    mme_metrics,
    official_yes_no_other,
    stripped_yes_no_other,
    yes_no_other,
)
from mmalign_eval.stats import estimates

PARSERS = (official_yes_no_other, stripped_yes_no_other, lmms_yes_no_other)
SAID = st.sampled_from(["yes", "no", "other"])
# (subtask, the answers to an image's two questions; the first is right with yes, the second with no)
IMAGES = st.lists(st.tuples(st.sampled_from(SUBTASKS), SAID, SAID), min_size=1, max_size=40)


def records_of(images):
    return [
        {"cluster": f"{subtask}/{i}", **yes_no_other(subtask, truth, said)}
        for i, (subtask, *answers) in enumerate(images)
        for truth, said in zip(("yes", "no"), answers, strict=True)
    ]


def values_of(records):
    """Values without their intervals: those cost a bootstrap each."""
    values = {}
    for metric in mme_metrics():
        clusters = {}
        for record in records:
            if metric.keep is None or metric.keep(record):
                clusters.setdefault(record["cluster"], []).append(record)
        sums = np.array([metric.stat(own) for own in clusters.values()], dtype=float)
        values[metric.name] = float(metric.value(sums.sum(axis=0))) if len(sums) else math.nan
    return values


@pytest.mark.parametrize(
    ("text", "official", "stripped", "lmms"),
    [
        ("Yes", "yes", "yes", "yes"),
        ("yes, the", "yes", "yes", "yes"),
        ("not sure", "no", "no", "no"),
        ("none", "no", "no", "no"),
        ("I know", "other", "other", "other"),
        ("know", "no", "no", "no"),
        ("I think yes", "other", "other", "other"),
        (" yes", "yes", "yes", "yes"),
        ("  yes", "other", "yes", "yes"),
        ("\n\n\nNo", "other", "no", "no"),
        ("yes\n", "yes", "yes", "yes"),
        ("", "other", "other", "other"),
        ("y", "other", "other", "yes"),
        ("N.", "other", "other", "no"),
        ("...no", "other", "other", "no"),
        ("eyes", "yes", "yes", "yes"),
        ("A: no", "other", "other", "other"),
        ("NO!", "no", "no", "no"),
    ],
)
def test_parsers(text, official, stripped, lmms):
    assert tuple(parse(text) for parse in PARSERS) == (official, stripped, lmms)


@settings(max_examples=300)
@given(st.text() | st.text(alphabet="yesnoYESNO .\n\t"))
def test_parsers_read_any_text_as_the_straight_rule_does(text):
    def straight(lower):  # the official script's branches, one after the other
        if lower in ("yes", "no"):
            return lower
        return "yes" if lower[:4].count("yes") else "no" if lower[:4].count("no") else "other"

    assert official_yes_no_other(text) == straight(text.lower())
    assert stripped_yes_no_other(text) == straight(text.strip().lower())
    assert lmms_yes_no_other(text) in ("yes", "no", "other")


@settings(max_examples=300, deadline=None)
@given(IMAGES)
def test_values_equal_a_straight_computation_and_acc_plus_is_at_most_acc(images):
    values = values_of(records_of(images))
    scores = {}
    for subtask in SUBTASKS:
        own = [(a == "yes", b == "no") for name, a, b in images if name == subtask]
        if not own:
            assert math.isnan(values[f"{subtask}/score"])
            continue
        acc = 100 * sum(a + b for a, b in own) / (2 * len(own))
        acc_plus = 100 * sum(a and b for a, b in own) / len(own)
        assert values[f"{subtask}/acc"] == pytest.approx(acc)
        assert values[f"{subtask}/acc_plus"] == pytest.approx(acc_plus)
        assert values[f"{subtask}/acc_plus"] <= values[f"{subtask}/acc"] + 1e-9
        assert values[f"{subtask}/other"] == sum([a, b].count("other") for n, a, b in images if n == subtask)
        scores[subtask] = acc + acc_plus
        assert values[f"{subtask}/score"] == pytest.approx(scores[subtask])
    assert values["overall/acc_plus"] <= values["overall/acc"] + 1e-9
    for name, parts in (("perception", PERCEPTION), ("cognition", COGNITION), ("perception_paper", PAPER_PERCEPTION)):
        total = sum(scores[part] for part in parts) if set(parts) <= set(scores) else math.nan
        assert values[f"{name}/total"] == pytest.approx(total, nan_ok=True)


def test_totals_have_the_published_maxima():
    values = values_of(records_of([(subtask, "yes", "no") for subtask in SUBTASKS]))
    assert (values["perception/total"], values["cognition/total"], values["perception_paper/total"]) == (
        2000,
        800,
        1600,
    )
    assert {m.name: m.best for m in mme_metrics()}["perception_paper/total"] == 1600
    assert len(PAPER_PERCEPTION) == 8
    assert not {"landmark", "artwork"} & set(PAPER_PERCEPTION)


def test_an_image_with_one_answer_counts_in_acc_only():
    records = records_of([("count", "yes", "no"), ("count", "yes", "no")])[:3]
    values = values_of(records)
    assert (values["count/acc"], values["count/acc_plus"]) == (100, 100)
    records[2]["correct"] = 0.0
    assert (values_of(records)["count/acc"], values_of(records)["count/acc_plus"]) == (pytest.approx(200 / 3), 100)


def test_intervals_are_in_the_unit_of_the_value():
    images = [("existence", "yes", "no" if i % 3 else "yes") for i in range(30)]
    found = {e.name: e for e in estimates(mme_metrics(), records_of(images))}
    for name in ("existence/acc", "existence/acc_plus", "existence/score"):
        assert 0 < found[name].low < found[name].value < found[name].high
        assert found[name].high - found[name].low > 5, "percent and points, not fractions"
    assert found["existence/acc"].unit == "percent"
    assert found["existence/score"].unit == "points"
    assert found["perception/total"].value is None
