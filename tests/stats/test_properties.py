"""What must hold of any two results."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.metrics.base import Metric, mean
from mmalign_eval.metrics.formula import Formula
from mmalign_eval.stats import sums_of
from mmalign_eval.stats.paired import Paired, holm, paired

Rows = list[dict[str, Any]]
ACCURACY = mean("accuracy", "right", proportion=True)
SCORE = mean("score", "score", best=None)
RATIO = Metric("ratio", lambda rows: [sum(r[k] for r in rows) for k in ("bad", "all")], Formula("100 * s[0] / s[1]"))
ALL_RIGHT = Metric("every", lambda rows: (float(all(r["right"] for r in rows)), 1.0), Formula("s[0] / s[1]"))
METRICS = (ACCURACY, SCORE, RATIO, ALL_RIGHT)
BETTER = {"accuracy": "higher", "score": "higher", "ratio": "lower", "every": "higher"}


@st.composite
def results(draw: st.DrawFn) -> tuple[Rows, Rows]:
    """Two results of the same 2 to 24 clusters of up to 4 samples."""
    seed, rng_sizes = draw(st.integers(0, 10**6)), draw(st.lists(st.integers(1, 4), min_size=2, max_size=24))
    rng, names = np.random.default_rng(seed), [(c, i) for c, size in enumerate(rng_sizes) for i in range(size)]
    return tuple(  # type: ignore[return-value]
        [
            {
                "id": f"{c}/{i}",
                "cluster": f"c{c:02}",
                "right": float(rng.random() < 0.6),
                "score": float(rng.integers(0, 9)),
                "bad": float(rng.integers(0, 3)),
                "all": float(rng.integers(2, 5)),
            }
            for c, i in names
        ]
        for _ in range(2)
    )


def compare(base: Rows, other: Rows) -> dict[str, Paired]:
    return paired(sums_of(METRICS, base), sums_of(METRICS, other), BETTER, 300)


def same(one: dict[str, Paired], other: dict[str, Paired]) -> None:
    for name in BETTER:
        for a, b in zip(astuple(one[name]), astuple(other[name]), strict=True):
            assert a == b if a is None or isinstance(a, str) else a == pytest.approx(b, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(sides=results(), seed=st.integers(0, 99))
def test_the_order_of_samples_changes_nothing(sides: tuple[Rows, Rows], seed: int) -> None:
    base, other = sides
    order = np.random.default_rng(seed).permutation(len(base))
    same(compare(base, other), compare([base[i] for i in order], other))
    same(compare(base, other), compare([base[i] for i in order], [other[i] for i in order[::-1]]))


@settings(max_examples=40, deadline=None)
@given(sides=results())
def test_swapped_sides_are_mirrored(sides: tuple[Rows, Rows]) -> None:
    there, back = compare(*sides), compare(*sides[::-1])
    for name in BETTER:
        one, other = there[name], back[name]
        assert (one.delta, one.low) == (pytest.approx(-other.delta), pytest.approx(-other.high))  # type: ignore[operator]
        assert one.p == pytest.approx(other.p)
        assert (one.wins, one.losses, one.ties) == (other.losses, other.wins, other.ties)
        assert one.wins + one.losses + one.ties == (one.clusters if name == "every" else one.n)  # type: ignore[operator]


@settings(max_examples=40, deadline=None)
@given(sides=results())
def test_numbers_are_in_their_ranges(sides: tuple[Rows, Rows]) -> None:
    found = compare(*sides)
    for one in found.values():
        assert one.low is not None
        assert one.high is not None
        assert one.p is not None
        assert one.low <= one.high
        assert 0 < one.p <= 1
        assert one.stderr is not None
        assert one.stderr >= 0
    same_side = compare(sides[0], sides[0])
    assert {one.p for one in same_side.values()} == {1.0}
    assert {one.delta for one in same_side.values()} == {0.0}


@settings(max_examples=40, deadline=None)
@given(sides=results(), data=st.data())
def test_a_shared_subset_is_compared_as_it_would_be_alone(sides: tuple[Rows, Rows], data: st.DataObject) -> None:
    base, other = sides
    clusters = sorted({r["cluster"] for r in base})
    gone, missing = (set(data.draw(st.lists(st.sampled_from(clusters), max_size=3))) for _ in range(2))
    less = [r for r in base if r["cluster"] not in gone], [r for r in other if r["cluster"] not in missing]
    alone = [[r for r in side if r["cluster"] not in gone | missing] for side in sides]
    for name, one in compare(*less).items():
        expected = compare(*alone)[name]
        assert astuple(one)[:13] == astuple(expected)[:13]
        assert one.left_out == len(less[0]) + len(less[1]) - 2 * one.n


@settings(max_examples=20, deadline=None)
@given(sides=results())
def test_a_second_copy_of_every_cluster_keeps_the_difference(sides: tuple[Rows, Rows]) -> None:
    twice = [side + [{**r, "id": r["id"] + "'", "cluster": r["cluster"] + "'"} for r in side] for side in sides]
    once, found = compare(*sides), compare(*twice)
    for name in BETTER:
        assert found[name].delta == pytest.approx(once[name].delta, abs=1e-9)
        assert found[name].n == 2 * once[name].n
        assert found[name].wins == 2 * once[name].wins  # type: ignore[operator]


@given(p=st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=30))
def test_holm_only_raises_and_keeps_the_order(p: list[float | None]) -> None:
    adjusted = holm(p)
    pairs = [(a, b) for a, b in zip(p, adjusted, strict=True) if a is not None and b is not None]
    assert [a is None for a in p] == [b is None for b in adjusted]
    assert all(a <= b <= 1 for a, b in pairs)
    assert [b for _, b in sorted(pairs)] == sorted(b for _, b in pairs)
