"""The table at the end of a run says what `mmeval compare` says of the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.cli.table import print_results
from mmalign_eval.compare import compare
from mmalign_eval.result_tables import Line, results_table, shown_metrics
from mmalign_eval.results import read_result

from ..support_results import ACCURACY, overlap, records, write_run
from ..toy import isolate_registry, make_toy

Capture = pytest.CaptureFixture[str]


def toy_run(folder: Path, script: str, name: str, *more: str) -> int:
    (folder / f"{name}.yaml").write_text(script)
    plugin = folder / "toy_task.py"
    if not plugin.exists():
        make_toy(folder)
    arguments = [
        "--include",
        str(plugin),
        "--tasks",
        "toy",
        "--data",
        str(folder / "toy"),
        "--out",
        str(folder / "out"),
    ]
    return main(["run", "--model", f"scripted:{folder / f'{name}.yaml'}", *arguments, *more])


RIGHT = "- {match: '[02468] even', text: 'yes'}\n- {text: 'no'}\n"
WRONG = "- {text: 'no'}\n"


def test_a_run_against_other_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    isolate_registry(monkeypatch)
    assert toy_run(tmp_path, RIGHT, "good") == 0
    out = capsys.readouterr().out
    assert "vs " not in out
    good, bad = tmp_path / "out" / "good", tmp_path / "out" / "bad"
    assert f"results  {good}   report  mmeval report {good}   compare  mmeval compare BASE {good}" in out
    assert toy_run(tmp_path, WRONG, "bad", "--base", str(good)) == 0
    out = capsys.readouterr().out
    assert "vs good" in out
    (change,) = compare(good, bad)[0].changes
    assert change.paired.delta == -0.5
    assert change.p_holm == 0.125  # 4 of 8 images changed: 2 of 16 ways to swap them are as large
    assert "-50.0 p=.12" in out
    assert f"compare  mmeval compare {good} {bad}" in out
    assert main(["compare", str(good), str(bad)]) == 0
    cells = capsys.readouterr().out.splitlines()[3].split()
    assert (cells[4], cells[8]) == ("-50.0", ".12")


def test_a_base_that_is_not_there_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    isolate_registry(monkeypatch)
    assert toy_run(tmp_path, RIGHT, "good", "--base", str(tmp_path / "nowhere")) == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_result_of_the_base_is_told_and_the_rest_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    isolate_registry(monkeypatch)
    assert toy_run(tmp_path, RIGHT, "good") == 0
    good = tmp_path / "out" / "good"
    (good / "later.json").write_text('{"kind": "mmeval-result", "schema": 99}')
    capsys.readouterr()
    assert toy_run(tmp_path, WRONG, "bad", "--base", str(good)) == 1
    said = capsys.readouterr()
    assert "-50.0 p=.12" in said.out
    assert (
        said.err.splitlines()[-1]
        == f"mmeval: {good}/later.json: result schema 99, this version reads 2: use a newer mmeval"
    )


def test_a_tuned_model_finds_its_base_in_the_same_run(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    arguments = ["--model", "mini:lm", "--model", "mini", "--tasks", "boolq", "--limit", "24", "--out", str(out)]
    assert main(["run", *arguments]) == 0
    said = capsys.readouterr()
    assert "model   mini  LlamaForCausalLM" in said.err
    assert "· tuned by mm-ft from mini-lm (" in said.err
    lines = said.out.splitlines()
    assert "vs mini-lm" in lines[0]
    (change,) = compare(out / "mini-lm", out / "mini")[0].changes
    row = next(line for line in lines if line.startswith("mini "))
    assert f"{100 * (change.paired.delta or 0):+.1f} p=" in row
    assert f"mmeval compare {out}/mini-lm {out}/mini" in said.out


def line(folder: Path, model: str, **facts: object) -> Line:
    path = write_run(folder, model, "toy", [ACCURACY], records([1, 0, 1]), rows="r", **facts)
    result = read_result(path)
    return Line(model, result, shown_metrics(result))


def test_rows_and_notes_of_results(tmp_path: Path) -> None:
    table = results_table(
        [
            line(tmp_path, "one", judge="gpt-4", limit=3, failed=["x"], source="miniature"),
            line(tmp_path, "two", contamination=overlap(2, 9)),
        ]
    )
    assert table.columns == ("model", "task", "metric", "value", "95% CI", "n", "protocol", "data")
    assert table.rows[0][:4] == ("one", "toy", "accuracy", "66.7")
    assert table.rows[0][4].startswith("~")
    assert table.rows[0][5:] == ("3 (1 failed)", "official @gpt-4", "miniature, first 3")
    assert table.rows[1][5:] == ("3", "official", "dir")
    assert table.notes[:3] == (
        "fractions are in percent",
        "~ fewer than 50 clusters: the interval is rough",
        "miniature data: shows that the machinery works, says nothing about real models",
    )
    assert any(note.startswith("toy: judged by gpt-4: 1 verdicts") for note in table.notes)
    assert any(note.startswith("two, toy: 2 of 9 images") for note in table.notes)
    single = results_table([line(tmp_path, "one")])
    assert single.columns[0] == "task"


def test_ways_on_are_commands_that_a_shell_takes(tmp_path: Path, capsys: Capture) -> None:
    path = write_run(tmp_path / "my results", "a", "toy", [ACCURACY], records([1, 0, 1]), rows="r")
    print_results([read_result(path)], [path])
    assert f"mmeval report '{tmp_path}/my results/a'" in capsys.readouterr().out


def test_a_run_says_why_it_is_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    isolate_registry(monkeypatch)
    assert toy_run(tmp_path, RIGHT, "good", "--limit", "2") == 0
    good = tmp_path / "out" / "good"
    capsys.readouterr()
    assert toy_run(tmp_path, WRONG, "bad", "--base", str(good)) == 0
    out = capsys.readouterr().out
    assert "vs good" not in out
    assert "bad against good: toy is not compared: samples the first 2 against all" in out
