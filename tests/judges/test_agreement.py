import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from mmalign_eval.errors import BadInput
from mmalign_eval.judges.agreement import Judged, agreement, ranking, ranks, spearman

values = st.lists(st.integers(0, 4).map(float), min_size=2, max_size=30)


def made(judge, numbers, model="m", value=None, said="text", lower=False):
    found = {f"s{i}": number for i, number in enumerate(numbers)}
    return Judged(judge, model, model, "t", "total", value, found, {key: f"{said} {key}" for key in found}, lower)


@settings(max_examples=300, deadline=None)
@given(values, st.randoms())
def test_spearman_is_scipys(a, rng):
    b = [rng.choice((x, 0.0, 1.0)) for x in a]
    found = spearman(np.array(a), np.array(b))
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(a, b).statistic)


def test_ties_share_their_rank():
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_exact_means_and_failures():
    found = agreement([made("a", [0.5, 1.0, None, 0.0])], [made("b", [0.5, 0.5, 1.0, 0.0])])
    assert (found.n, found.n_failed, found.exact) == (3, 1, pytest.approx(2 / 3))
    assert found.means == (pytest.approx(0.5), pytest.approx(1 / 3))


def test_nothing_in_common_to_say():
    found = agreement([made("a", [None])], [made("b", [1.0])])
    assert (found.n, found.exact, found.spearman, found.means) == (0, None, None, (None, None))


def test_other_answers_are_no_agreement():
    with pytest.raises(BadInput, match="judged different answers to s0"):
        agreement([made("a", [1.0])], [made("b", [1.0], said="other")])
    with pytest.raises(BadInput, match="different samples"):
        agreement([made("a", [])], [made("b", [1.0])])


def test_a_gain_that_vanishes_changes_the_ranking():
    one = [made("a", [1.0], "base", 45.7), made("a", [1.0], "tuned", 49.9), made("a", [1.0], "poor", 20.0)]
    other = [made("b", [1.0], "base", 48.2), made("b", [1.0], "tuned", 48.2), made("b", [1.0], "poor", 21.0)]
    found = ranking(one, other)
    assert found.changes
    assert [(m, r) for m, r, *_ in found.swapped] == [("base", "tuned")]
    assert found.orders[0] == ("tuned", "base", "poor")
    assert not ranking(one, [made("b", [1.0], a.model, a.value / 2) for a in one]).changes


def test_less_is_better_where_the_metric_says_so():
    one = [made("a", [1.0], "base", 30.0, lower=True), made("a", [1.0], "tuned", 20.0, lower=True)]
    other = [made("b", [1.0], "base", 25.0, lower=True), made("b", [1.0], "tuned", 26.0, lower=True)]
    assert ranking(one, other).orders == (("tuned", "base"), ("base", "tuned"))
