from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmalign_eval import load_results
from mmalign_eval.compare import compare
from mmalign_eval.compare.flips import Flip, flips_of, said
from mmalign_eval.errors import Damaged
from mmalign_eval.metrics.base import Metric, by, mean

from ..support_results import ACCURACY, records, write_run


def flips(folder: Path, base: list[dict[str, Any]], other: list[dict[str, Any]], metrics: Any = None) -> list[Flip]:
    for name, rows in (("base", base), ("other", other)):
        write_run(folder, name, "toy", metrics or [ACCURACY], rows, rows="r")
    (found,) = compare(folder / "base", folder / "other")
    return flips_of(found.pairs[0])


def answered(values: list[float], **more: Any) -> list[dict[str, Any]]:
    rows = records(values, **more)
    return [{**row, "answer": f"says\n{row['id']} {row['x']:g}", "reference": f"ref\t{row['id']}"} for row in rows]


def test_samples_that_changed_with_both_answers(tmp_path: Path) -> None:
    found = flips(tmp_path, answered([1, 0, 1, 0, 1]), answered([0, 0, 1, 1, 0]))
    assert [(flip.id, flip.base, flip.other, flip.better) for flip in found] == [
        ("s000", 1.0, 0.0, False),  # worse first, in the order of the samples
        ("s004", 1.0, 0.0, False),
        ("s003", 0.0, 1.0, True),
    ]
    assert found[0] == Flip(
        "toy", "s000", "accuracy", "fraction", 1.0, 0.0, False, "says s000 1", "says s000 0", "ref s000"
    )
    assert all(flip.binary for flip in found)


def test_larger_changes_stand_first_and_lower_may_be_better(tmp_path: Path) -> None:
    errors = [Metric("error", mean("e", "x").stat, mean("e", "x").value, unit="points", better="lower")]
    found = flips(tmp_path, answered([1, 5, 3, 3]), answered([2, 9, 1, 3]), errors)
    assert [(flip.id, flip.better, flip.binary) for flip in found] == [
        ("s001", False, False),
        ("s000", False, False),
        ("s002", True, False),
    ]


def test_each_part_counts_by_its_own_metric(tmp_path: Path) -> None:
    parts = by("part", ("a", "b"), [mean("acc", "x", proportion=True)])
    base, other = answered([1, 1, 1]), answered([0, 0, 1])
    for i in range(3):
        base[i]["part"] = other[i]["part"] = "ab"[i % 2]
    assert [(flip.id, flip.metric) for flip in flips(tmp_path, base, other, parts)] == [
        ("s000", "a/acc"),
        ("s001", "b/acc"),
    ]


def test_equal_results_and_rounding_change_nothing(tmp_path: Path) -> None:
    assert flips(tmp_path, answered([1, 0]), answered([1, 0])) == []
    means = [mean("m", "x", best=None)]
    assert flips(tmp_path, answered([0.1 + 0.2]), answered([0.3]), means) == []


def test_samples_of_one_side_alone_are_none(tmp_path: Path) -> None:
    assert [flip.id for flip in flips(tmp_path, answered([1, 1]), answered([0]))] == ["s000"]


def test_without_samples_there_is_one_clear_line(tmp_path: Path) -> None:
    for name, values in (("base", [1.0]), ("other", [0.0])):
        path = write_run(tmp_path, name, "toy", [ACCURACY], answered(values), rows="r")
    (found,) = compare(tmp_path / "base", tmp_path / "other")
    (path.parent / "toy.samples.jsonl").unlink()
    with pytest.raises(Damaged, match=r"toy\.samples\.jsonl: missing; run the same"):
        flips_of(found.pairs[0])


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([{"text": "Yes,\r\nit \x1b[1mis."}], "Yes, it [1mis."),
        ([{"options": [" no", " yes"], "logprobs": [-3.0, -1.0]}], "yes"),
        ([{"options": [" no", " yes"], "logprobs": [-3.0, None]}], "no"),  # None stands for -inf
        ([{"logprobs": [-3.0, -1.0]}], "option 2"),
        ([{"options": [], "logprobs": []}], ""),
        ([{"text": "one"}, {"text": "two"}], "one / two"),
        ([], ""),
    ],
)
def test_what_was_said(answers: list[dict[str, Any]], expected: str) -> None:
    assert said({"answers": answers}) == expected


def test_an_answer_that_the_judge_gave_no_verdict_on_is_no_change(tmp_path: Path) -> None:
    silent, spoke = [{"text": "hm", "verdict": None}], [{"text": "good", "verdict": 1.0}]
    base = [{**row, "judged": spoke} for row in answered([1, 1, 1])]
    other = [{**row, "judged": said} for row, said in zip(answered([0, 0, 1]), (silent, spoke, spoke), strict=True)]
    assert [flip.id for flip in flips(tmp_path, base, other)] == ["s001"]
    scores = load_results(tmp_path / "other").samples.set_index("id")["score"]
    assert scores.isna().to_dict() == {"s000": True, "s001": False, "s002": False}
