"""Measured rows: joined to their columns, compared with their base, marked with everything that sets them apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign_eval.leaderboard.measured import DRAWS
from mmalign_eval.leaderboard.model import Cell, Row
from mmalign_eval.leaderboard.pages import Board, leaderboard
from mmalign_eval.metrics.base import Metric, mean, mean_of, percent
from mmalign_eval.metrics.formula import Formula
from mmalign_eval.stats.paired import holm, paired

from ..support_results import overlap, records, tuned_from, write_run
from .reading import bare, footnotes, marks, tables

N = 400
TRUTHFUL = [mean(name, name, proportion=True) for name in ("rougeL_acc", "mc1", "mc2")]
RNG = np.random.default_rng


def board(root: Path) -> Board:
    return leaderboard(root)


def outcomes(share: float, seed: int = 0, n: int = N) -> list[float]:
    """0/1 outcomes with exactly this share of ones; higher shares of one seed contain the lower ones."""
    order = RNG(seed).permutation(n)
    found = np.zeros(n)
    found[order[: round(share * n)]] = 1.0
    return found.tolist()


def truthful(
    root: Path,
    model: str,
    mc1: float,
    *,
    mc2: float = 0.5,
    gen: float = 0.5,
    seed: int = 0,
    task: str = "truthfulqa",
    **facts: Any,
) -> Path:
    """A result with three columns of the first page."""
    rows = records(outcomes(mc1, seed))
    for name, share in (("rougeL_acc", gen), ("mc1", mc1), ("mc2", mc2)):
        for row, value in zip(rows, outcomes(share, seed), strict=True):
            row[name] = value
    known = {"protocol": "paper", "default_protocol": "lm_eval", "modality": "text", **facts}
    return write_run(root / "results", model, task, TRUTHFUL, rows, **known)


def measured(page: str, made: Board) -> list[Row]:
    (table,) = made.page(page).tables
    assert [row.origin for row in table.rows] == sorted((row.origin for row in table.rows), reverse=True)
    return [row for row in table.rows if row.origin == "measured"]


def shown(page: str, made: Board) -> dict[str, dict[str, str]]:
    """Measured rows as markdown has them, by model."""
    (table,) = tables(made.files()[f"{page}.md"])
    return {bare(row["model"]): row for row in table if bare(row["rows"]) == "measured"}


def texts(made: Board, page: str) -> dict[str, str]:
    return footnotes(made.files()[f"{page}.md"])


def test_a_tuned_model_stands_below_its_base_with_differences_and_marks(tmp_path: Path) -> None:
    truthful(tmp_path, "llama-x", 0.30)
    truthful(tmp_path, "aardvark", 0.45, mc2=0.505, gen=0.5, tuned=tuned_from("llama-x", "mm-lora"))
    made = board(tmp_path)
    assert [row.name for row in measured("truthfulness", made)] == ["llama-x", "aardvark (mm-lora of llama-x)"]
    base, tuned = shown("truthfulness", made).values()
    assert bare(base["TruthfulQA-mc1"]) == "30.0%"
    assert bare(tuned["TruthfulQA-mc1"]) == "45.0% (+15.0%)*"
    assert bare(tuned["TruthfulQA-mc2"]) == "50.5% (+0.5%)"
    assert bare(tuned["TruthfulQA-gen"]) == "50.0% (+0.0%)"
    assert tuned["Ethics"] == ""
    assert made.problems == ()


def test_p_is_that_of_the_paired_test_holm_adjusted_over_the_row(tmp_path: Path) -> None:
    truthful(tmp_path, "b", 0.30)
    truthful(tmp_path, "t", 0.36, mc2=0.58, gen=0.54, seed=1, tuned=tuned_from("b"))
    made = board(tmp_path)
    runs = made.runs
    found = paired(
        runs["b/truthfulqa@paper"].sums, runs["t/truthfulqa@paper"].sums, {m.name: "higher" for m in TRUTHFUL}, DRAWS
    )
    row = measured("truthfulness", made)[1]
    cells = [row.cells[key] for key in ("truthfulqa_gen_rougeL_acc", "truthfulqa_mc1", "truthfulqa_mc2")]
    raw = [found[m.name].p for m in TRUTHFUL]
    assert [cell.p for cell in cells] == pytest.approx(holm(raw))
    assert [cell.significant for cell in cells] == [(p or 1) < 0.05 for p in holm(raw)]
    assert [cell.p for cell in cells] != raw, "the test would not see the adjustment"


def test_equal_results_differ_by_nothing(tmp_path: Path) -> None:
    truthful(tmp_path, "b", 0.30)
    truthful(tmp_path, "t", 0.30, tuned=tuned_from("b"))
    for cell in measured("truthfulness", board(tmp_path))[1].cells.values():
        assert (cell.delta, cell.significant) == (0.0, False)
        assert cell.p in (None, 1.0)


def test_a_base_without_results_is_named_and_nothing_is_compared(tmp_path: Path) -> None:
    truthful(tmp_path, "t", 0.30, tuned=tuned_from("gone"))
    (row,) = measured("truthfulness", board(tmp_path))
    assert row.name == "t (mm-ft of gone)"
    assert all(cell.delta is None and cell.p is None for cell in row.cells.values())


def test_the_base_is_found_by_weights_and_not_by_name(tmp_path: Path) -> None:
    truthful(tmp_path, "same-weights", 0.30, weights=tuned_from("b")["base"]["weights"])
    truthful(tmp_path, "b", 0.90, weights="other")
    truthful(tmp_path, "with-peft", 0.60, weights=tuned_from("b")["base"]["weights"], peft="a" * 64)
    truthful(tmp_path, "t", 0.40, tuned=tuned_from("b"))
    found = {row.model: row for row in measured("truthfulness", board(tmp_path))}
    assert found["t"].base == "same-weights"
    assert found["t"].cells["truthfulqa_mc1"].delta == pytest.approx(10.0)


def test_results_on_other_data_are_not_compared_and_say_why(tmp_path: Path) -> None:
    truthful(tmp_path, "b", 0.30)
    truthful(tmp_path, "t", 0.50, version=2, tuned=tuned_from("b"))
    made = board(tmp_path)
    row = shown("truthfulness", made)["t (mm-ft of b)"]
    assert bare(row["TruthfulQA-mc1"]) == "50.0%"
    (note,) = (key for key in marks(row["rows"]) if key.startswith("not-compared"))
    assert texts(made, "truthfulness")[note] == "No difference to the base: task version 1 against 2."


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    truthful(tmp_path, "b", 0.30, extra={"edition": "x" * 900})
    truthful(tmp_path, "t", 0.50, extra={"edition": "y" * 900}, tuned=tuned_from("b"))
    (note,) = (text for key, text in texts(board(tmp_path), "truthfulness").items() if key.startswith("not-compared"))
    assert note.startswith("No difference to the base: edition xxx")
    assert len(note) < 240


def test_protocols_never_share_a_row_and_the_published_one_comes_first(tmp_path: Path) -> None:
    truthful(tmp_path, "m", 0.30)
    truthful(tmp_path, "m", 0.60, protocol="lm_eval")
    truthful(tmp_path, "t", 0.40, protocol="lm_eval", tuned=tuned_from("m"))
    made = board(tmp_path)
    rows = measured("truthfulness", made)
    assert [(row.model, row.notes[0]) for row in rows] == [
        ("m", "protocol-paper"),
        ("m", "protocol-lm-eval"),
        ("t", "protocol-lm-eval"),
    ]
    assert rows[2].cells["truthfulqa_mc1"].delta == pytest.approx(-20.0), "to the base under the same protocol"
    notes = texts(made, "truthfulness")
    assert notes["protocol-paper"] == "Protocol paper."
    assert "not to be compared with published rows" in notes["protocol-lm-eval"]


def graded(root: Path, model: str, judge: str, prefix: str, share: float) -> None:
    metrics = [Metric(f"{prefix}total", mean_of("x"), percent, unit="percent", best=100.0)]
    write_run(root / "results", model, "mmvet", metrics, records(outcomes(share, n=60)), protocol="paper", judge=judge)


def test_judges_stand_in_rows_of_their_own_with_their_names(tmp_path: Path) -> None:
    graded(tmp_path, "m", "lexical", "lexical/", 0.3)
    graded(tmp_path, "m", "gpt-4-0613", "", 0.5)
    graded(tmp_path, "m", "gpt-4o-2024-11-20", "", 0.7)
    made = board(tmp_path)
    rows = measured("sft", made)
    assert [row.cells["total"].value for row in rows] == pytest.approx([50.0, 70.0, 30.0])
    assert [row.cells["total"].metric for row in rows] == ["total", "total", "lexical/total"]
    notes = texts(made, "sft")
    said = [notes[next(key for key in row.notes if key.startswith("judge"))] for row in rows]
    assert said[0] == "Judged by gpt-4-0613, the judge of the benchmark's own tool."
    assert [re.search(r"by (\S+), not by gpt-4-0613", words)[1] for words in said[1:]] == [  # type: ignore[index]
        "gpt-4o-2024-11-20",
        "lexical",
    ]


def captions(root: Path, model: str, clean: float, corrupted: float, **facts: Any) -> None:
    """CIDEr of clean and of corrupted images, in the tasks' own units (not times 100)."""
    cider = [Metric("CIDEr", mean_of("x"), Formula("s[0] / s[1]"), unit="points", best=None)]
    noise = RNG(0).normal(0, 0.1, N)
    noise -= noise.mean()
    write_run(root / "results", model, "coco_caption", cider, records(clean + noise), protocol="paper", **facts)
    both = [
        Metric("CIDEr", stat, Formula("s[1] / s[2]"), unit="points", best=None),
        Metric("relative_change", stat, Formula("100 * (s[1] - s[0]) / s[0]"), unit="percent", best=None),
    ]
    rows = [{**row, "clean": clean + e} for row, e in zip(records(corrupted + noise), noise, strict=True)]
    write_run(root / "results", model, "coco_c", both, rows, protocol="paper", **facts)


def stat(found: Sequence[dict[str, Any]]) -> Sequence[float]:
    return (sum(r["clean"] for r in found), sum(r["x"] for r in found), float(len(found)))


def test_captions_are_times_100_and_brackets_hold_the_relative_change(tmp_path: Path) -> None:
    captions(tmp_path, "b", 0.60, 0.48)
    captions(tmp_path, "t", 0.65, 0.52, tuned=tuned_from("b", "bpo"))
    rows = shown("robustness", board(tmp_path))
    assert bare(rows["b"]["MSCOCO-C (CIDEr)"]) == "48.0 (-20.0%)"
    assert bare(rows["t (bpo of b)"]["MSCOCO (CIDEr)"]) == "65.0 (+5.0)*"
    assert bare(rows["t (bpo of b)"]["MSCOCO-C (CIDEr)"]) == "52.0 (-20.0%) [+4.0]*"


def test_what_sets_a_number_apart_is_a_footnote(tmp_path: Path) -> None:
    seen = overlap(3, 40)
    truthful(
        tmp_path, "m", 0.30, source="miniature", limit=20, failed=("s900", "s901"), contamination=seen,
    )  # fmt: skip
    write_run(
        tmp_path / "results", "m", "ethics", [mean("mean/acc", "x")], records(outcomes(0.5), [i % 7 for i in range(N)]),
        protocol="paper", source="miniature",
    )  # fmt: skip
    made = board(tmp_path)
    (row,) = shown("truthfulness", made).values()
    notes = texts(made, "truthfulness")
    assert marks(row["rows"]) == ["protocol-paper", "miniature"], "what holds for the whole row stands once"
    said = [notes[key] for key in marks(row["TruthfulQA-mc1"])]
    assert said[0] == "Only the first 20 samples of each part."
    assert said[1] == "2 of 402 samples failed or were not answered and do not count."
    assert said[2].startswith("3 of 40 images (3 of 40 samples) were in the tuning data")
    assert [notes[key] for key in marks(row["Ethics"])] == ["Fewer than 50 clusters: interval and test are rough."]
    assert notes["miniature"] == "Miniature: toy data, no fact about real models."


def test_cells_carry_signature_interval_and_place(tmp_path: Path) -> None:
    path = truthful(tmp_path, "m", 0.30)
    made = board(tmp_path)
    cell: Cell = measured("truthfulness", made)[0].cells["truthfulqa_mc1"]
    run = made.runs["m/truthfulqa@paper"]
    assert run.path == path
    assert (cell.signature, cell.result, cell.metric, cell.n) == (
        run.result["signature"],
        "m/truthfulqa@paper",
        "mc1",
        N,
    )
    kept = run.result["metrics"]["mc1"]
    assert (cell.low, cell.high) == (pytest.approx(100 * kept["low"]), pytest.approx(100 * kept["high"]))
    text = made.files()["truthfulness.md"]
    target = re.search(r"\[30\.0%\]\(details\.md#([^)]+)\)", text)
    assert target
    assert f'<a id="{target[1]}"></a>' in made.files()["details.md"]
    assert run.result["signature"] in made.files()["details.md"]


def test_two_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    truthful(tmp_path, "m", 0.30)
    path = truthful(tmp_path / "other", "m", 0.60, weights="other")
    for file in path.parent.iterdir():
        (tmp_path / "results" / "m-9f86d081").mkdir(exist_ok=True)
        file.rename(tmp_path / "results" / "m-9f86d081" / file.name)
    names = [row.name for row in measured("truthfulness", board(tmp_path))]
    assert sorted(names) == ["m", "m [m-9f86d081]"]


def test_names_cannot_break_a_table(tmp_path: Path) -> None:
    name = "a|b [c](http://x) *d* <script>`e`\\ [^f]"
    path = truthful(tmp_path, "plain", 0.30)
    text = path.read_text(encoding="utf-8").replace('"name": "plain"', f'"name": {name!r}'.replace("'", '"'))
    path.write_text(text.replace("\\\\", "\\\\"), encoding="utf-8")
    made = board(tmp_path)
    assert made.problems == ()
    page = made.files()["truthfulness.md"]
    (row,) = (row for row in tables(page)[0] if bare(row["rows"]) == "measured")
    assert bare(row["TruthfulQA-mc1"]) == "30.0%"
    assert "<script>" not in page
    assert "](http://x)" not in page.replace("\\](http", "")


def test_damaged_results_are_one_line_each_and_the_others_are_shown(tmp_path: Path) -> None:
    truthful(tmp_path, "good", 0.30)
    truthful(tmp_path, "cut", 0.40)
    truthful(tmp_path, "future", 0.50)
    cut, future = (tmp_path / "results" / name / "truthfulqa@paper.json" for name in ("cut", "future"))
    cut.write_bytes(cut.read_bytes()[:300])
    future.write_text(future.read_text(encoding="utf-8").replace('"schema": 2', '"schema": 99'), encoding="utf-8")
    made = board(tmp_path)
    assert [row.model for row in measured("truthfulness", made)] == ["good"]
    assert len(made.problems) == 2
    assert all("\n" not in line for line in made.problems)
    assert "cut" in made.problems[0]
    assert "schema 99" in made.problems[1]


def test_unreadable_sums_leave_the_numbers_and_take_the_test(tmp_path: Path) -> None:
    truthful(tmp_path, "b", 0.30)
    path = truthful(tmp_path, "t", 0.50, tuned=tuned_from("b"))
    sums = path.with_suffix(".sums.npz")
    before = hashlib.sha256(sums.read_bytes()).hexdigest()
    sums.write_bytes(b"no zip")
    after = hashlib.sha256(b"no zip").hexdigest()
    path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    made = board(tmp_path)
    cell = measured("truthfulness", made)[1].cells["truthfulqa_mc1"]
    assert (cell.delta, cell.p, cell.significant) == (pytest.approx(20.0), None, False)
    (line,) = made.problems
    assert "its sums cannot be read" in line


def test_a_root_without_results_has_the_published_rows(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    made = board(tmp_path)
    assert made.problems == ()
    assert {row.origin for page in made.pages for table in page.tables for row in table.rows} == {"published"}


def test_undefined_values_are_dashes(tmp_path: Path) -> None:
    nothing = [mean("mc1", "x", keep=lambda record: False)]
    write_run(tmp_path / "results", "m", "truthfulqa", nothing, records([1.0, 0.0]), protocol="paper")
    (row,) = shown("truthfulness", board(tmp_path)).values()
    assert bare(row["TruthfulQA-mc1"]) == "-"


def test_results_that_no_page_shows_are_named_in_the_index(tmp_path: Path) -> None:
    truthful(tmp_path, "m", 0.30)
    write_run(tmp_path / "results", "m", "toy", [mean("accuracy", "x")], records([1.0, 0.0]))
    assert "Results of which no page has a column: m/toy.\n" in board(tmp_path).files()["README.md"]
    assert "no page has a column" not in leaderboard().files()["README.md"]
