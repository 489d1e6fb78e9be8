from __future__ import annotations

import numpy as np
import pytest

from mmalign_eval.stats import draws
from mmalign_eval.stats.draws import resample, swapped


def test_few_kinds_are_drawn_as_their_rows_would_be() -> None:
    """The fast path (how often each kind comes) and its slow twin (which clusters come) have one distribution."""
    rng = np.random.default_rng(0)
    sums = np.column_stack([rng.random(2000) < 0.3, np.ones(2000), rng.integers(0, 3, 2000)]).astype(float)
    fast, slow = resample(sums, 4000), resample(sums + 1e-12 * np.arange(2000)[:, None], 4000)
    assert (fast[:, 1] == 2000).all()
    assert fast.mean(axis=0) == pytest.approx(slow.mean(axis=0), rel=0.01)
    expected = 2000 * np.cov(sums.T, bias=True)  # of a multinomial
    for found in (fast, slow):
        assert np.cov(found.T) == pytest.approx(expected, rel=0.1, abs=30)


def test_few_kinds_are_swapped_as_their_rows_would_be() -> None:
    rng = np.random.default_rng(0)
    differences = np.column_stack([rng.integers(-1, 2, 2000), rng.integers(-2, 3, 2000)]).astype(float)
    fast, slow = swapped(differences, 4000), swapped(differences + 1e-12 * np.arange(2000)[:, None], 4000)
    spread = differences.T @ differences / 4
    for found in (fast, slow):
        assert found.mean(axis=0) == pytest.approx(differences.sum(axis=0) / 2, abs=4)
        assert np.cov(found.T) == pytest.approx(spread, rel=0.1, abs=30)


def test_swaps_of_the_other_side_are_the_same_swaps() -> None:
    rng = np.random.default_rng(1)
    for differences in (rng.integers(-1, 2, (500, 2)).astype(float), rng.normal(size=(40, 2)), rng.normal(size=(5, 2))):
        there, back = swapped(differences, 300), swapped(-differences, 300)
        total = differences.sum(axis=0)
        assert np.sort(np.abs(total - 2 * there), axis=0) == pytest.approx(np.sort(np.abs(-total - 2 * back), axis=0))


def test_every_way_to_swap_comes_once() -> None:
    found = swapped(np.array([[1.0], [10.0], [100.0]]), 8)
    assert sorted(found[:, 0]) == [0, 1, 10, 11, 100, 101, 110, 111]
    assert len(swapped(np.array([[1.0], [10.0], [100.0]]), 7)) == 7


@pytest.mark.parametrize("clusters", [3, 70, 3001])
def test_draws_do_not_depend_on_what_is_kept_or_done_at_once(clusters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = np.random.default_rng(2).integers(0, 1000, (clusters, 3)).astype(float)
    kept, moved = resample(sums, 900), swapped(sums, 900)
    assert (resample(sums, 900) == kept).all()
    monkeypatch.setattr(draws, "_tables", {})
    monkeypatch.setattr(draws, "KEPT", 0)
    monkeypatch.setattr(draws, "CHUNK", 5000)
    assert (resample(sums, 900) == kept).all()
    assert (swapped(sums, 900) == moved).all()


def test_tables_of_draws_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "_tables", {})
    monkeypatch.setattr(draws, "KEPT", 100_000)
    for clusters in range(50, 250, 10):
        resample(np.random.default_rng(0).random((clusters, 1)), 100)
        assert sum(table.size for table in draws._tables.values()) <= 100_000
    resample(np.random.default_rng(0).random((260, 1)), 100)
    assert all(clusters != 260 for _, clusters, _ in draws._tables)  # too large to keep


def test_groups_of_equally_many_clusters_see_the_same_draws() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.random((100, 2)), rng.random((100, 3))
    together = resample(np.concatenate([one, other], axis=1), 200)
    assert resample(one, 200) == pytest.approx(together[:, :2])
    assert resample(other, 200) == pytest.approx(together[:, 2:])
