"""Tuned checkpoints know their base; seeds of one recipe are taken together."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.compare import compare, compare_runs, model_runs
from mmalign_eval.compare.bases import against_bases, folder_of_base, folder_of_base_of
from mmalign_eval.compare.seeds import over_recipe, seeds_table
from mmalign_eval.errors import BadInput

from ..support_results import ACCURACY, records, tuned_from, write_run


def write(folder: Path, model: str, values: list[float] | None = None, task: str = "toy", **facts: Any) -> Path:
    return write_run(folder, model, task, [ACCURACY], records(values or [1, 0, 1]), **{"rows": "r", **facts})


def base_of(path: Path) -> str:
    return folder_of_base_of(model_runs(path.parent)[0]).name


def test_the_base_is_found_by_its_weights(tmp_path: Path) -> None:
    for model in ("a-other", "llm", "z-other"):
        write(tmp_path, model)
    write(tmp_path, "renamed", weights="w" * 64)
    assert base_of(write(tmp_path, "ft", tuned=tuned_from("llm"))) == "llm"
    by_weights = {"method": "bpo", "base": {"name": "whatever", "weights": "w" * 64}}
    assert base_of(write(tmp_path, "bpo", tuned=by_weights)) == "renamed"


def test_a_peft_adapter_is_part_of_the_base(tmp_path: Path) -> None:
    write(tmp_path, "plain", weights="w")
    write(tmp_path, "lora", weights="w", peft="p")
    on_lora = {"method": "bpo", "base": {"name": "lora", "weights": "w", "peft": "p"}}
    assert base_of(write(tmp_path, "ft", weights="w", peft="q", tuned=on_lora)) == "lora"
    on_plain = {"method": "mm-lora", "base": {"name": "plain", "weights": "w", "peft": ""}}
    assert base_of(write(tmp_path, "ft2", weights="w", peft="q", tuned=on_plain)) == "plain"


def test_the_folder_with_more_of_the_tasks_wins_and_a_tie_is_refused(tmp_path: Path) -> None:
    for model in ("llm", "llm-twin"):
        write(tmp_path, model, weights="w")
    tuned = {"method": "mm-ft", "base": {"name": "llm", "weights": "w"}}
    path = write(tmp_path, "ft", tuned=tuned)
    with pytest.raises(BadInput, match="llm and .*llm-twin are both results of the base of ft: name the one"):
        base_of(path)
    write(tmp_path, "llm-twin", task="more", weights="w")
    write(tmp_path, "ft", task="more", tuned=tuned)
    assert base_of(path) == "llm-twin"


def test_damaged_and_foreign_files_do_not_hide_a_base(tmp_path: Path) -> None:
    write(tmp_path, "llm")
    write(tmp_path, "llm", task="another")
    (tmp_path / "llm" / "another.json").write_text("{")
    (tmp_path / "llm" / "a.json").write_text("[1]")
    (tmp_path / "empty").mkdir()
    assert base_of(write(tmp_path, "ft", tuned=tuned_from("llm"))) == "llm"


def test_no_base_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no base is on record for plain; name it: mmeval compare BASE OTHER"):
        base_of(write(tmp_path, "plain"))
    with pytest.raises(
        BadInput, match=r"no results of gone \(weights [0-9a-f]{8}\), which ft was tuned from; score it"
    ):
        base_of(write(tmp_path, "ft", tuned=tuned_from("gone")))
    itself = {"method": "x", "base": {"name": "self", "weights": "w"}}
    runs = model_runs(write(tmp_path, "self", weights="w", tuned=itself).parent)[0]
    assert folder_of_base(runs, tmp_path) is None  # a model is not its own base


def test_a_run_compares_all_that_the_folders_hold(tmp_path: Path) -> None:
    for task in ("toy", "more"):
        write(tmp_path, "llm", task=task)
        path = write(tmp_path, "ft", [0, 0, 1], task=task, tuned=tuned_from("llm"))
    found, problems = against_bases([path])
    comparison, place = found[path.parent]
    assert place == tmp_path / "llm"
    assert problems == []
    assert comparison == compare(tmp_path / "llm", tmp_path / "ft")[0]  # the p-values of the command
    assert [one.task for one in comparison.changes] == ["more", "toy"]


def test_a_run_says_why_it_cannot_compare(tmp_path: Path) -> None:
    write(tmp_path, "llm")
    path = write(tmp_path, "ft", tuned=tuned_from("llm"))
    (tmp_path / "llm" / "toy.sums.npz").unlink()
    found, problems = against_bases([path])
    assert found == {}
    assert any("toy.sums.npz: missing" in line for line in problems)
    plain = write(tmp_path / "2", "plain")
    assert against_bases([plain]) == ({}, [])
    assert against_bases([plain], str(plain.parent)) == ({}, [])  # with itself


def seeds(folder: Path, rates: list[float], **facts: Any) -> Any:
    rng = random.Random(5)
    base = [float(rng.random() < 0.6) for _ in range(400)]
    write(folder, "base", base)
    paths = []
    for seed, rate in enumerate(rates):
        values = [1.0 if rng.random() < rate else value for value in base]
        tuned = tuned_from("base", seed=seed, recipe="llava")
        paths.append(write(folder, f"ft-{seed}", values, **{"tuned": tuned, **facts}).parent)
    runs = model_runs(folder / "base")[0]
    return [compare_runs(runs, model_runs(path)[0]) for path in paths]


def test_seeds_have_a_mean_a_spread_and_an_interval(tmp_path: Path) -> None:
    comparisons = seeds(tmp_path, [0.1, 0.3, 0.6])
    deltas = [one.changes[0].paired.delta for one in comparisons]
    (found,) = over_recipe(comparisons, 2000)
    assert found.seeds is not None
    assert found.differences == tuple(deltas)
    assert found.seeds.mean == pytest.approx(sum(deltas) / 3)
    assert found.seeds.low < found.seeds.mean < found.seeds.high
    single = comparisons[0].changes[0].paired
    assert found.seeds.high - found.seeds.low > single.high - single.low  # three seeds that differ much tell little
    change = found.change
    assert (change.paired.delta, change.paired.p, change.paired.base) == (found.seeds.mean, None, single.base)
    assert change.paired.other == pytest.approx(single.base + found.seeds.mean)
    row = found.as_row()
    assert (row["metric"], row["differences"], row["over_seeds"]["seeds"]) == ("accuracy", deltas, 3)


def test_the_table_of_seeds(tmp_path: Path) -> None:
    comparisons = seeds(tmp_path, [0.2, 0.2, 0.2])
    table = seeds_table(comparisons, over_recipe(comparisons, 2000))
    assert table.columns[:5] == ("task", "metric", "base", "mean of 3", "change")
    assert len(table.rows) == 1
    assert len(table.rows[0]) == len(table.columns)
    assert any(note.startswith("seeds: ft-0, ft-1, ft-2; ") for note in table.notes)
    assert not any("recipe" in note or "on record" in note for note in table.notes)


def test_seeds_that_are_none_are_told_or_refused(tmp_path: Path) -> None:
    same = {"method": "mm-ft", "seed": 1, "recipe": "llava", "base": {"name": "base", "weights": "w"}}
    comparisons = seeds(tmp_path / "1", [0.2, 0.3], tuned=same)
    notes = seeds_table(comparisons, over_recipe(comparisons, 2000)).notes
    assert "training seeds on record are not different: 1, 1" in notes
    comparisons = seeds(tmp_path / "2", [0.2, 0.3], tuned=None)
    comparisons[0].pairs[0].other.result["model"]["tuned"] = same
    notes = seeds_table(comparisons, over_recipe(comparisons, 2000)).notes
    assert "not of one recipe: llava, not on record" in notes
    with pytest.raises(BadInput, match="at least two OTHER"):
        over_recipe(comparisons[:1])
    with pytest.raises(BadInput, match="are results of one model, not of two seeds"):
        over_recipe([comparisons[0], comparisons[0]])
