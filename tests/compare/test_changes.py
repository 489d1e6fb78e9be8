from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.compare import Change, Comparison, compare, compare_runs, model_runs
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric, by, mean, percent, ratio, whole
from mmalign_eval.metrics.formula import Formula
from mmalign_eval.stats.paired import Paired

from ..support_results import ACCURACY, records, write_run


def both(tmp_path: Path, base: list[float], other: list[float], **facts: Any) -> Comparison:
    """Two runs of one task, on equal data, compared."""
    for name, values in (("base", base), ("other", other)):
        write_run(tmp_path, name, "toy", [ACCURACY], records(values), rows="r", **facts)
    return compare(tmp_path / "base", tmp_path / "other")[0]


def change(p_holm: float | None, delta: float | None, better: str = "higher", clusters: int = 100) -> Change:
    found = Paired(0.5, 0.6, delta, -0.1, 0.3, 0.1, p_holm, "mcnemar", 1, 0, 9, 10, clusters, 0, 0.3)
    return Change("t", "official", "", "t", "m", "fraction", better, True, found, p_holm)


@pytest.mark.parametrize(
    ("p", "delta", "better", "verdict"),
    [
        (0.04, 0.1, "higher", "better"),
        (0.04, -0.1, "higher", "worse"),
        (0.04, 0.1, "lower", "worse"),
        (0.04, -0.1, "lower", "better"),
        (0.04, 0.1, "neither", "changed"),
        (0.05, 0.1, "higher", "same?"),
        (None, 0.1, "higher", "same?"),
    ],
)
def test_verdicts(p: float | None, delta: float, better: str, verdict: str) -> None:
    assert change(p, delta, better).verdict == verdict


def test_few_clusters_make_an_interval_rough() -> None:
    assert change(0.1, 0.1, clusters=49).rough
    assert not change(0.1, 0.1, clusters=50).rough


def test_a_case_by_hand(tmp_path: Path) -> None:
    """Ten samples: three lost, none won; exact McNemar of 3:0 is 2 * (1/2)**3."""
    found = both(tmp_path, [1] * 8 + [0] * 2, [0] * 3 + [1] * 5 + [0] * 2)
    assert (found.base, found.other, found.notes) == ("base", "other", [])
    (one,) = found.changes
    assert (one.task, one.metric, one.unit, one.better, one.headline) == ("toy", "accuracy", "fraction", "higher", True)
    assert (one.paired.base, one.paired.other) == (0.8, 0.5)
    assert one.paired.delta == pytest.approx(-0.3)
    assert (one.paired.wins, one.paired.losses, one.paired.ties) == (0, 3, 7)
    assert (one.paired.p, one.p_holm, one.paired.test) == (0.25, 0.25, "mcnemar")
    assert (one.paired.n, one.paired.clusters, one.paired.left_out) == (10, 10, 0)
    assert one.verdict == "same?"


def test_identical_runs_differ_in_nothing(tmp_path: Path) -> None:
    values = [float(random.Random(3).random() < 0.5) for _ in range(60)]
    for one in both(tmp_path, values, values).changes:
        assert (one.paired.delta, one.paired.low, one.paired.high, one.p_holm) == (0.0, 0.0, 0.0, 1.0)
        assert not one.significant


def test_p_values_are_adjusted_over_all_tasks_of_the_two_models(tmp_path: Path) -> None:
    """6:0 is p = 1/32, 8:0 is 1/128, 0:0 is 1: Holm's factors are 2, 3 and 1."""
    for model, gain in (("base", 0), ("other", 1)):
        for task, won in (("six", 6), ("eight", 8), ("none", 0)):
            values = [float(gain)] * won + [1.0] * (20 - won)
            write_run(tmp_path, model, task, [ACCURACY], records(values), rows="r")
    found = {one.task: one for one in compare(tmp_path / "base", tmp_path / "other")[0].changes}
    assert found["six"].p_holm == pytest.approx(2 / 32)
    assert found["eight"].p_holm == pytest.approx(3 / 128)
    assert found["none"].p_holm == 1.0
    assert [one.task for one in found.values() if one.significant] == ["eight"]


PARTS = by("part", ("a", "b"), [mean("acc", "x", proportion=True), mean("long", "y", best=None)])


def two_parts(folder: Path) -> Comparison:
    for model, shift in (("base", 0), ("other", 1)):
        rows = records([(i + shift) % 3 == 0 for i in range(60)])
        for i, row in enumerate(rows):
            row |= {"part": "ab"[i % 2], "y": float(i % 7 + shift)}
        write_run(folder, model, "toy", PARTS, rows, rows="r", headline=("b/acc", "a/acc"))
    return compare(folder / "base", folder / "other")[0]


def test_the_headline_is_shown_unless_others_are_asked_for(tmp_path: Path) -> None:
    assert [one.metric for one in two_parts(tmp_path).changes] == ["b/acc", "a/acc"]
    base, other = (model_runs(tmp_path / name)[0] for name in ("base", "other"))

    def shown(**asked: Any) -> list[str]:
        return [one.metric for one in compare_runs(base, other, **asked).changes]

    assert shown(everything=True) == ["b/acc", "a/acc", "a/long", "b/long"]
    assert shown(metrics=["a/*"]) == ["a/acc", "a/long"]
    assert shown(metrics=["toy/b/long"]) == ["b/long"]
    assert shown(also=["a/long"]) == ["b/acc", "a/acc", "a/long"]
    assert [one.headline for one in compare_runs(base, other, metrics=["a/*"]).changes] == [True, False]


def test_a_metric_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    two_parts(tmp_path)
    with pytest.raises(
        BadInput, match=r"no metric 'a/ac' that both have - did you mean 'a/acc'\?; they have a/acc, a/l"
    ):
        compare(tmp_path / "base", tmp_path / "other", metrics=["a/ac"])


def test_metrics_of_all_records_have_values_and_no_test(tmp_path: Path) -> None:
    def middle(rows: Any) -> float:
        return float(sorted(row["x"] for row in rows)[len(rows) // 2])

    metrics = [whole("median", middle), Metric("odd", ACCURACY.stat, lambda s: s[..., 0] / s[..., 1])]
    write_run(tmp_path, "base", "toy", metrics, records([0, 0, 1, 1, 1]), rows="r")
    write_run(tmp_path, "other", "toy", metrics, records([0, 0, 0, 1, 1]), rows="r")
    median, odd = compare(tmp_path / "base", tmp_path / "other")[0].changes
    assert (median.paired.base, median.paired.other, median.paired.delta) == (1.0, 0.0, -1.0)
    assert (odd.paired.base, odd.paired.other) == (0.6, 0.4)
    for one in (median, odd):
        assert (one.paired.p, one.paired.low, one.p_holm, one.paired.test) == (None, None, None, "")
        assert one.verdict == "same?"


def test_an_undefined_value_is_no_zero(tmp_path: Path) -> None:
    """A precision without a positive answer: 0 / 0."""
    precision = Metric("precision", lambda rows: (sum(r["x"] for r in rows), sum(r["said"] for r in rows)), ratio)
    for model, said in (("base", 1.0), ("other", 0.0)):
        write_run(tmp_path, model, "toy", [precision], records([said] * 60, said=said), rows="r")
    (one,) = compare(tmp_path / "base", tmp_path / "other")[0].changes
    assert (one.paired.base, one.paired.other, one.paired.delta, one.p_holm) == (1.0, None, None, None)


def test_clusters_that_move_together_are_few_units_of_evidence(tmp_path: Path) -> None:
    """40 samples lost, but on two images of 20: not what 40 independent ones would show."""
    images = [i // 20 for i in range(120)]
    for model, lost in (("base", 0), ("other", 40)):
        values = [0.0] * lost + [1.0] * (120 - lost)
        write_run(tmp_path, model, "toy", [ACCURACY], records(values, images), rows="r")
    (one,) = compare(tmp_path / "base", tmp_path / "other")[0].changes
    assert (one.paired.test, one.paired.clusters) == ("randomisation", 6)
    assert one.paired.p == 0.5  # of the 4 ways to swap the two images that differ, 2 are as large
    assert one.rough


def test_only_shared_samples_count(tmp_path: Path) -> None:
    base, other = records([1, 1, 1, 0, 0, 1]), records([1, 0, 0, 0, 1, 1])
    write_run(tmp_path, "base", "toy", [ACCURACY], base[:5], rows="r", failed=["s005"])
    write_run(tmp_path, "other", "toy", [ACCURACY], other[1:], rows="r", failed=["s000"])
    found = compare(tmp_path / "base", tmp_path / "other")[0]
    (one,) = found.changes
    assert (one.paired.base, one.paired.other) == (0.5, 0.25)  # of s001 to s004
    assert (one.paired.n, one.paired.left_out) == (4, 2)
    assert found.notes == [
        "toy: 1 of 6 samples of base failed",
        "toy: 1 of 6 samples of other failed",
        "toy: left out: 2 samples that only one of the two has scored",
    ]


def test_without_a_shared_sample_there_is_no_difference(tmp_path: Path) -> None:
    base, other = records([1, 1, 0]), records([0, 0, 0, 1, 0, 1])[3:]
    middle = whole("last", lambda rows: float(rows[-1]["x"]))
    write_run(tmp_path, "base", "toy", [ACCURACY, middle], base, rows="r")
    write_run(tmp_path, "other", "toy", [ACCURACY, middle], other, rows="r")
    found = compare(tmp_path / "base", tmp_path / "other")[0]
    assert [(one.paired.base, one.paired.delta, one.paired.n) for one in found.changes] == [(None, None, 0)] * 2
    assert found.notes == ["toy: there is no sample that both have scored"]


def test_a_metric_of_all_records_is_of_each_one_s_own(tmp_path: Path) -> None:
    last = whole("last", lambda rows: float(rows[-1]["x"]))
    write_run(tmp_path, "base", "toy", [last], records([1, 1, 0]), rows="r")
    write_run(tmp_path, "other", "toy", [last], records([1, 1]), rows="r")
    (one,) = compare(tmp_path / "base", tmp_path / "other")[0].changes
    assert (one.paired.base, one.paired.other, one.paired.delta) == (0.0, 1.0, None)


def test_several_others_are_each_compared_with_the_first(tmp_path: Path) -> None:
    for model, won in (("base", 0), ("one", 1), ("two", 2)):
        write_run(tmp_path, model, "toy", [ACCURACY], records([1.0] * won + [0.0] * (4 - won)), rows="r")
    found = compare(*(tmp_path / name for name in ("base", "one", "two")))
    assert [(one.base, one.other, one.changes[0].paired.delta) for one in found] == [
        ("base", "one", 0.25),
        ("base", "two", 0.5),
    ]


def test_percent_and_lower_is_better(tmp_path: Path) -> None:
    metric = Metric("rate", ACCURACY.stat, percent, unit="percent", better="lower", proportion=True)
    for model, bad in (("base", 0), ("other", 12)):
        write_run(tmp_path, model, "toy", [metric], records([1.0] * bad + [0.0] * (40 - bad)), rows="r")
    (one,) = compare(tmp_path / "base", tmp_path / "other")[0].changes
    assert one.paired.delta == 30.0
    assert (one.paired.wins, one.paired.losses) == (0, 12)
    assert one.verdict == "worse"


def test_results_of_one_name_are_told_apart_by_folder_or_file(tmp_path: Path) -> None:
    one = write_run(tmp_path, "same", "toy", [ACCURACY], records([0, 1, 1]), rows="r")
    two = write_run(tmp_path, "same", "toy", [ACCURACY], records([1, 1, 1]), rows="r", protocol="paper")
    moved = write_run(tmp_path / "more", "same", "toy", [ACCURACY], records([1, 1, 1]), rows="r")

    def names(base: Path, other: Path) -> tuple[str, str]:
        found = compare(base, other, force=True)[0]
        return found.base, found.other

    assert names(one, two) == ("same (toy)", "same (toy@paper)")
    assert names(one, moved) == (f"same ({tmp_path / 'same'})", f"same ({tmp_path / 'more' / 'same'})")
    assert names(one, one) == ("same", "same")


def test_a_place_is_one_model_s(tmp_path: Path) -> None:
    for model in ("a", "b"):
        write_run(tmp_path, model, "toy", [ACCURACY], records([0, 1]), rows="r")
    with pytest.raises(BadInput, match=f"results of 2 models, give the folder of one: {tmp_path}/a, {tmp_path}/b"):
        compare(tmp_path, tmp_path / "a")
    with pytest.raises(BadInput, match="no such file or folder"):
        compare(tmp_path / "c", tmp_path / "a")


def test_tasks_are_chosen_by_name_or_glob(tmp_path: Path) -> None:
    for model in ("base", "other"):
        for task in ("alpha", "alps", "beta"):
            write_run(tmp_path, model, task, [ACCURACY], records([0, 1]), rows="r")

    def tasks(*patterns: str) -> list[str]:
        return [one.task for one in compare(tmp_path / "base", tmp_path / "other", tasks=patterns)[0].changes]

    assert tasks() == ["alpha", "alps", "beta"]
    assert tasks("al*") == ["alpha", "alps"]
    assert tasks("beta", "alps") == ["alps", "beta"]
    (one,) = compare(tmp_path / "base", tmp_path / "other", tasks="beta", metrics="accuracy")[0].changes
    assert one.task == "beta"
    with pytest.raises(BadInput, match=r"--tasks bete: .* has alpha, alps, beta - did you mean 'beta'\?"):
        tasks("bete")


def test_damaged_files_are_warned_of_and_the_others_compared(tmp_path: Path) -> None:
    for model in ("base", "other"):
        for task in ("good", "cut", "lost"):
            write_run(tmp_path, model, task, [ACCURACY], records([0, 1, 1]), rows="r")
    cut = tmp_path / "other" / "cut.json"
    cut.write_bytes(cut.read_bytes()[:100])
    (tmp_path / "base" / "lost.sums.npz").unlink()
    with pytest.warns(UserWarning, match=r"json|npz") as said:
        (found,) = compare(tmp_path / "base", tmp_path / "other")
    assert [one.task for one in found.changes] == ["good"]
    assert len(said) == 2
    assert "only base has results of cut" in found.notes


def test_a_frame_has_a_row_for_each_change(tmp_path: Path) -> None:
    found = both(tmp_path, [1] * 8 + [0] * 2, [0] * 3 + [1] * 5 + [0] * 2)
    frame = found.frame()
    assert list(frame.columns)[:6] == ["base_model", "other_model", "task", "protocol", "judge", "metric"]
    row = frame.iloc[0]
    assert (row["base_model"], row["other_model"], row["metric"]) == ("base", "other", "accuracy")
    assert (row["base"], row["other"], row["p"], row["losses"], row["verdict"]) == (0.8, 0.5, 0.25, 3, "same?")
    assert bool(row["significant"]) is False
    empty = Comparison("a", "b", []).frame()
    assert list(empty.columns) == list(frame.columns)
    assert len(empty) == 0
    assert (empty.dtypes == frame.dtypes)[["base", "wins", "p"]].all()


def test_too_few_draws_for_so_many_tests_are_told(tmp_path: Path) -> None:
    """Of 19 draws no p is below 1/20: what is plainly worse would never be called so."""
    score = mean("score", "x", unit="points")
    for name, gain in (("base", 0.0), ("other", 1.0)):
        write_run(tmp_path, name, "toy", [score], records([gain + i / 100 for i in range(60)]), rows="r")
    few, enough = (compare(tmp_path / "base", tmp_path / "other", draws=draws)[0] for draws in (19, 20))
    assert not few.changes[0].significant
    assert few.notes[0] == "19 draws are too few for 1 test: give --draws 20 or more, or fewer --metrics"
    assert enough.changes[0].significant
    assert not any("draws" in note for note in enough.notes)


def test_another_formula_is_another_metric(tmp_path: Path) -> None:
    write_run(tmp_path, "base", "toy", [ACCURACY], records([0, 1]), rows="r")
    doubled = Metric("accuracy", ACCURACY.stat, Formula("2 * s[0] / s[1]"))
    write_run(tmp_path, "other", "toy", [doubled], records([0, 1]), rows="r")
    with pytest.raises(BadInput, match=r"formula of accuracy s\[0\] / s\[1\] against 2 \* s\[0\] / s\[1\]"):
        compare(tmp_path / "base", tmp_path / "other")
    long = Metric("accuracy", ACCURACY.stat, Formula("mean(" + ", ".join(["s[0] / s[1]"] * 57) + ")"))
    write_run(tmp_path, "long", "toy", [long], records([0, 1]), rows="r")
    with pytest.raises(BadInput, match=r"against mean\(s\[0\].*…") as caught:
        compare(tmp_path / "base", tmp_path / "long")
    assert len(str(caught.value)) < 300
