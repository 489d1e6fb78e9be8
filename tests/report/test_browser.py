"""Which samples come onto the page, and how they are written there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.metrics.base import mean
from mmalign_eval.report.browser import LENGTHS, SHARED, Browser, _shares, browse, to_json
from mmalign_eval.report.rows import outcome
from mmalign_eval.runs import by_model, open_runs
from tests.report.page_support import HOSTILE, LONG, right, write_hostile, write_world
from tests.report.test_thumbnails import silent
from tests.support_results import ACCURACY, write_run


def browsed(out: Path, per_task: int | None = None, budget: int = 10**7) -> Browser:
    runs, problems = open_runs(out)
    assert problems == []
    models = by_model(runs)
    first = "plain" if "plain" in models else next(iter(models))
    return browse({first: models[first], **models}, per_task, budget, silent)


def test_every_sample_with_every_answer(tmp_path: Path) -> None:
    found = browsed(write_world(tmp_path))
    assert [(t["name"], t["shown"], t["total"]) for t in found.tasks] == [("describe", 8, 8), ("quiz", 120, 120)]
    quiz = [s for s in found.samples if s["t"] == 1]
    assert [s["i"] for s in quiz] == [f"q/{i}" for i in range(120)]
    for i, sample in enumerate(quiz):
        assert [a["o"] == "right" for a in sample["a"]] == [right(m, i) for m in ("plain", "other", "tuned")]
    assert quiz[5]["p"] == "hard"
    assert len(found.images) == 6
    assert quiz[7]["g"] == quiz[1]["g"]


def test_hallucinated_objects_and_the_judge(tmp_path: Path) -> None:
    found = browsed(write_world(tmp_path))
    plain, other, tuned = found.samples[0]["a"]
    assert plain["x"][0]["h"][1::2] == ["dogs", "hot dog"]
    assert tuned["x"][0]["h"][1::2] == ["dogs"]
    assert "h" not in other["x"][0]
    assert (plain["o"], other["o"]) == ("wrong", "right")  # less is better
    assert plain["v"] < other["v"]
    assert plain["j"] == [["It names a dog. <b>Bad</b>.", '{"score": 3}']]


def test_few_samples_are_telling_ones_and_others(tmp_path: Path) -> None:
    found = browsed(write_world(tmp_path), per_task=20)
    quiz = [s for s in found.samples if found.tasks[s["t"]]["name"] == "quiz"]
    assert len(quiz) == 20
    changed = [s for s in quiz if len({a["o"] for a in s["a"]}) > 1]
    assert len(changed) == 10
    numbers = [int(s["i"].split("/")[1]) for s in quiz]
    assert numbers == sorted(numbers)
    assert numbers[-1] > 100  # from the whole file
    assert any("20 of 120 samples are here" in note for note in found.notes)


@pytest.mark.parametrize(
    ("totals", "per_task", "expected"),
    [
        ([10, 20], None, [10, 20]),
        ([9000], None, [SHARED]),
        ([100, 9000, 9000], None, [100, 1450, 1450]),
        ([100, 9000], 50, [50, 50]),
        ([], None, []),
    ],
)
def test_shares(totals: list[int], per_task: int | None, expected: list[int]) -> None:
    assert _shares(totals, per_task) == expected


def test_failed_samples_come_first(tmp_path: Path) -> None:
    records = [{"id": f"s{i}", "cluster": f"s{i}", "x": 1.0, "answer": "yes"} for i in range(40)]
    write_run(tmp_path, "m", "quiz", [ACCURACY], records, failed=["bad1", "bad2"])
    found = browsed(tmp_path, per_task=4)
    failed = [s for s in found.samples if s["a"][0]["o"] == "failed"]
    assert [s["i"] for s in failed] == ["bad1", "bad2"]
    assert failed[0]["a"][0]["e"] == "broke"


def test_an_answer_without_a_verdict_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    said = {"a": [None], "b": [None, 0.5], "c": [1.0]}
    records = [
        {"id": name, "cluster": name, "x": 1.0, "judged": [{"text": "hm", "verdict": v} for v in verdicts]}
        for name, verdicts in said.items()
    ]
    write_run(tmp_path, "m", "quiz", [ACCURACY], records)
    a, b, c = (sample["a"][0] for sample in browsed(tmp_path).samples)
    assert (a["o"], a["s"], a["j"]) == ("failed", "not judged", [["hm", "no verdict"]])
    assert "v" not in a  # what a failure counts as in the means is no grade
    assert [one["o"] for one in (b, c)] == ["right", "right"]
    assert b["j"] == [["hm", "no verdict"], ["hm", "0.5"]]


def test_a_marked_text_is_on_the_page_once(tmp_path: Path) -> None:
    said = "A dog. " + "word " * 1000
    record = {
        "id": "s",
        "cluster": "s",
        "x": 0.0,
        "answer": said,
        "mentions": [["dog", "dog"]],
        "hallucinated": ["dog"],
    }
    write_run(tmp_path, "m", "quiz", [ACCURACY], [record])
    (piece,) = browsed(tmp_path).samples[0]["a"][0]["x"]
    assert piece == {"h": ["A ", "dog", said[5:4000]], "n": len(said)}


def test_long_texts_are_cut_with_their_length(tmp_path: Path) -> None:
    found = browsed(write_hostile(tmp_path))
    answer, prompt = found.samples[-1]["a"][0]["x"][0]["t"], found.samples[-1]["q"][0]
    assert answer == [LONG[:4000], 1048576]
    assert prompt == [LONG[-4000:], 1048576]  # the question stands at its end
    assert found.samples[0]["a"][0]["x"][0]["t"] == HOSTILE[0]


def test_a_budget_cuts_texts_further(tmp_path: Path) -> None:
    records = [{"id": f"s{i}", "cluster": f"s{i}", "x": 1.0, "answer": "word " * 1000} for i in range(40)]
    write_run(tmp_path, "m", "quiz", [ACCURACY], records)
    found = browsed(tmp_path, budget=50_000)
    assert len(to_json(found.samples)) <= 50_000
    text, length = found.samples[0]["a"][0]["x"][0]["t"]
    assert len(text) in LENGTHS[1:]
    assert length == 5000
    assert any("characters are shown" in note for note in found.notes)
    longer = LENGTHS[LENGTHS.index(len(text)) - 1]
    assert len(to_json(found.samples)) + 40 * (longer - len(text)) > 50_000  # no more would have fitted


def test_a_result_without_samples_stands_in_the_tables_only(tmp_path: Path) -> None:
    out = write_world(tmp_path)
    (out / "tuned" / "quiz.samples.jsonl").unlink()
    found = browsed(out)
    assert found.problems == []
    assert found.notes == ["tuned: no samples files beside quiz: in the tables and figures only"]
    assert [s["a"][2] for s in found.samples if s["i"] == "q/3"] == [None]
    assert found.tasks[1]["models"] == [0, 1]


def test_a_damaged_samples_file_is_one_line(tmp_path: Path) -> None:
    out = write_world(tmp_path)
    (out / "tuned" / "quiz.samples.jsonl").write_text("{}\n")
    found = browsed(out)
    assert len(found.problems) == 1
    assert "quiz.samples.jsonl" in found.problems[0]
    assert found.tasks[1]["models"] == [0, 1]


@pytest.mark.parametrize(
    ("value", "unit", "better", "expected"),
    [
        (1.0, "fraction", "higher", "right"),
        (0.0, "fraction", "higher", "wrong"),
        (0.3, "fraction", "higher", "partial"),
        (100.0, "percent", "higher", "right"),
        (30.0, "percent", "higher", "partial"),
        (0.0, "percent", "lower", "right"),
        (100.0, "percent", "lower", "wrong"),
        (150.0, "percent", "higher", "right"),
        (2.5, "points", "higher", "scored"),
        (0.0, "points", "lower", "scored"),
        (1.0, "fraction", "neither", "scored"),
    ],
)
def test_outcomes(value: float, unit: str, better: str, expected: str) -> None:
    assert outcome(value, {"unit": unit, "better": better}) == expected


def test_scores_of_different_units_sort_on_one_scale(tmp_path: Path) -> None:
    for name, unit, full in (("a", "fraction", 1.0), ("b", "percent", 100.0)):
        records = [{"id": "s", "cluster": "s", "x": full / 2, "answer": "x"}]
        write_run(tmp_path, "m", name, [mean("acc", "x", unit=unit)], records)
    assert [s["a"][0]["v"] for s in browsed(tmp_path).samples] == [0.5, 0.5]


@pytest.mark.parametrize("text", HOSTILE)
def test_json_is_harmless_inside_a_script_element(text: str) -> None:
    written = to_json({"text": text})
    assert not set(written) & set("<>&\u2028\u2029")
    written.encode("utf-8")  # no half of a pair is left bare
    assert json.loads(written) == {"text": text}


def test_equal_results_give_equal_samples(tmp_path: Path) -> None:
    out = write_world(tmp_path)
    first: Any = browsed(out, per_task=10)
    assert to_json(first.samples) == to_json(browsed(out, per_task=10).samples)
