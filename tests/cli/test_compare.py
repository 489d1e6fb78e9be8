"""`mmeval compare` through its real command line."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.cli.main import main

from ..support_results import ACCURACY, overlap, records, tuned_from, write_run

Capture = pytest.CaptureFixture[str]


def write(folder: Path, model: str, values: list[float], task: str = "toy", **facts: Any) -> Path:
    rows = [{**row, "answer": f"{model} says {row['x']:g}", "reference": "1"} for row in records(values)]
    return write_run(folder, model, task, [ACCURACY], rows, **{"rows": "r", **facts}).parent


class Pair:
    """Folders of a base and of another model, and the command on them."""

    def __init__(self, folder: Path, capsys: Capture) -> None:
        self.folder, self.capsys = folder, capsys
        self.base, self.other = folder / "base", folder / "other"

    def write(self, base: list[float], other: list[float], **facts: Any) -> None:
        write(self.folder, "base", base, **facts)
        write(self.folder, "other", other, **facts)

    def run(self, *more: str, rc: int = 0) -> tuple[str, str]:
        """Output and error lines of `mmeval compare base other`."""
        code = main(["compare", str(self.base), str(self.other), *more])
        said = self.capsys.readouterr()
        assert code == rc, said
        assert "Traceback" not in said.err
        return said.out, said.err

    def refused(self, *more: str, rc: int = 2) -> str:
        out, err = self.run(*more, rc=rc)
        assert out == ""
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("mmeval: ")
        return lines[0]


@pytest.fixture
def pair(tmp_path: Path, capsys: Capture) -> Pair:
    found = Pair(tmp_path, capsys)
    # 100 samples: 30 right in both, 16 lost, 4 won: exact McNemar of 16:4 is .0118
    found.write([1.0] * 46 + [0.0] * 54, [1.0] * 30 + [0.0] * 16 + [1.0] * 4 + [0.0] * 50)
    return found


def test_the_table_says_what_changed(pair: Pair) -> None:
    out, err = pair.run()
    assert err == ""
    head, names, row, *notes = out.strip().splitlines()
    assert head == "other against base"
    assert names.split() == [
        *("task", "metric", "base", "other", "change", "95%", "CI", "p", "verdict"),
        *("won/lost/tied", "n", "(clusters)", "detectable"),
    ]
    cells = row.split()
    assert cells[:5] == ["toy", "accuracy", "46.0", "34.0", "-12.0"]
    assert cells[8:12] == [".012", "*", "worse", "4/16/80"]
    assert cells[12] == "100"
    assert 8 < float(cells[13]) < 16  # 2.8 standard errors of about 4.3
    assert notes[0] == "fractions are in percent"
    assert "p: adjusted for 1 test (Holm); * below 5 %" in notes


def test_identical_runs(tmp_path: Path, capsys: Capture) -> None:
    pair = Pair(tmp_path, capsys)
    values = [float(random.Random(1).random() < 0.5) for _ in range(60)]
    pair.write(values, values)
    out, _ = pair.run("--flips", "--fail-if-worse", "accuracy")
    cells = out.splitlines()[3].split()
    assert cells[4:9] == ["+0.0", "+0.0", "..", "+0.0", "1.00"]
    assert "*" not in out.splitlines()[3]
    assert "toy: no sample changed" in out
    assert "ok         toy/accuracy: other +0.0 against base" in out


def test_a_model_against_itself(pair: Pair) -> None:
    assert main(["compare", str(pair.base), str(pair.base), "--all", "--flips"]) == 0


def test_flips_show_both_answers(pair: Pair) -> None:
    out, _ = pair.run("--flips", "--flips-limit", "2")
    rows = [line.split("  ") for line in out.splitlines() if " -> " in line]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["s030", "right -> wrong", "base says 1", "other says 0", "1", "accuracy"],
        ["s031", "right -> wrong", "base says 1", "other says 0", "1", "accuracy"],
        ["s046", "wrong -> right", "base says 0", "other says 1", "1", "accuracy"],
        ["s047", "wrong -> right", "base says 0", "other says 1", "1", "accuracy"],
    ]
    assert "16 samples worse, 2 of them here; 4 samples better, 2 of them here" in out
    whole, _ = pair.run("--flips", "--flips-limit", "0")
    assert whole.count(" -> ") == 20


def test_json_has_everything(pair: Pair) -> None:
    out, _ = pair.run("--flips", "--fail-if-worse", "accuracy:40", "--json", "-")
    found = json.loads(out)
    assert set(found) == {"comparisons", "fail_if_worse", "problems"}
    (one,) = found["comparisons"]
    (change,) = one["changes"]
    assert (change["base"], change["other"], change["unit"]) == (0.46, 0.34, "fraction")
    assert change["p"] == pytest.approx(0.01181793212890625)  # binomial: 2 P(X <= 4), 20 fair coins
    assert (change["wins"], change["losses"], change["ties"], change["verdict"]) == (4, 16, 80, "worse")
    assert len(one["flips"]) == 20
    assert one["flips"][0]["base_answer"] == "base says 1"
    (gate,) = found["fail_if_worse"]
    assert (gate["metric"], gate["margin"], gate["other"], gate["code"]) == ("accuracy", 40.0, "other", 0)
    file = pair.folder / "found.json"
    table, _ = pair.run("--json", str(file))
    assert "accuracy" in table
    assert json.loads(file.read_text())["comparisons"][0]["changes"] == one["changes"]


def test_markdown_is_a_table_again(pair: Pair) -> None:
    out, _ = pair.run("--markdown", "--flips")
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert lines[0].startswith("| task | metric | base | other | change |")
    assert lines[1].startswith("| :--- | :--- | ---: |")
    assert "| toy | accuracy | 46.0 | 34.0 | -12.0 |" in lines[2]
    assert out.count("\n### ") == 2
    assert "| s030 | right -&gt; wrong | base says 1 | other says 0 | 1 | accuracy |" in lines


def test_names_break_no_table(tmp_path: Path, capsys: Capture) -> None:
    name = "a|b [red]<i>*x*\x1b[31m\u202e"
    for model in ("base", name):
        write_run(tmp_path / model.split("|")[0], model, "toy", [ACCURACY], records([0, 1, 1]), rows="r")
    places = [str(tmp_path / "base"), str(tmp_path / "a")]
    assert main(["compare", *places]) == 0
    out = capsys.readouterr().out
    assert "a|b [red]<i>*x* [31m against base" in out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert main(["compare", *places, "--markdown"]) == 0
    assert r"| a\|b \[red\]&lt;i&gt;\*x\* \[31m |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("gate", "code", "word"),
    [
        ("accuracy", 1, "worse "),
        ("toy/accuracy", 1, "worse "),
        ("accuracy:1", 1, "worse "),
        ("accuracy:12", 3, "undecided "),
        ("accuracy:40", 0, "ok "),
    ],
)
def test_gates_set_the_exit_code(pair: Pair, gate: str, code: int, word: str) -> None:
    out, _ = pair.run("--fail-if-worse", gate, rc=code)
    assert out.strip().splitlines()[-1].startswith(word)


def test_worse_wins_over_undecided_and_better_is_fine(pair: Pair) -> None:
    out, _ = pair.run("--fail-if-worse", "accuracy:12", "--fail-if-worse", "accuracy", rc=1)
    assert [line.split()[0] for line in out.strip().splitlines()[-2:]] == ["undecided", "worse"]
    assert main(["compare", str(pair.other), str(pair.base), "--fail-if-worse", "accuracy"]) == 0


def test_lower_is_better_gates(tmp_path: Path, capsys: Capture) -> None:
    from mmalign_eval.metrics.base import mean

    metric = mean("rate", "x", proportion=True, better="lower")
    for model, values in (("base", [1.0] * 10 + [0.0] * 90), ("other", [1.0] * 40 + [0.0] * 60)):
        write_run(tmp_path, model, "toy", [metric], records(values), rows="r")
    pair = Pair(tmp_path, capsys)
    out, _ = pair.run("--fail-if-worse", "rate", rc=1)
    assert "rate (lower=better)" in out
    assert main(["compare", str(pair.other), str(pair.base), "--fail-if-worse", "rate"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fail-if-worse", "accuracy:-1"], "the margin 0 or more"),
        (["--fail-if-worse", "acuracy"], "no metric 'acuracy' that both have - did you mean 'accuracy'?"),
        (["--tasks", "tot"], "--tasks tot: "),
        (["--metrics", "nothing"], "no metric 'nothing' that both have"),
        (["--tuned", "x"], "--tuned x: finds its base itself"),
        (["--flips", "3"], "3: no such file or folder - for a number of flips: --flips-limit 3"),
        (["--seeds"], "--seeds: give at least two OTHER"),
    ],
)
def test_bad_usage_is_one_line(pair: Pair, arguments: list[str], words: str) -> None:
    assert words in pair.refused(*arguments)


def test_sides_that_are_missing(pair: Pair, capsys: Capture) -> None:
    assert main(["compare", str(pair.base)]) == 2
    assert "expected BASE and at least one OTHER" in capsys.readouterr().err
    assert main(["compare", str(pair.base), str(pair.folder / "nowhere")]) == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err
    (pair.folder / "empty").mkdir()
    assert main(["compare", str(pair.base), str(pair.folder / "empty")]) == 2
    assert "empty: no result file of mmeval there" in capsys.readouterr().err
    assert main(["compare", str(pair.base), str(pair.folder)]) == 2
    assert "results of 2 models, give the folder of one" in capsys.readouterr().err
    assert main(["compare", str(pair.base), str(pair.other), "--draws", "10"]) == 2


def test_unlike_results_are_refused_or_marked(pair: Pair) -> None:
    write(pair.folder, "other", [1.0] * 100, version=2)
    line = pair.refused()
    assert "base and other were not asked or scored alike: toy: task version 1 against 2 - leave out" in line
    out, _ = pair.run("--force")
    assert "*!" in out
    assert "! not asked, decoded or scored alike" in out
    assert "toy: task version 1 against 2" in out


def test_a_damaged_file_is_told_and_the_rest_compared(pair: Pair) -> None:
    for folder in (pair.base, pair.other):
        write(pair.folder, folder.name, [0, 1], task="cut")
        write(pair.folder, folder.name, [0, 1], task="future")
        write(pair.folder, folder.name, [0, 1], task="nosums")
    cut = pair.other / "cut.json"
    cut.write_bytes(cut.read_bytes()[:200])
    future = json.loads((pair.other / "future.json").read_text())
    (pair.other / "future.json").write_text(json.dumps({**future, "schema": 99}))
    (pair.base / "nosums.sums.npz").write_bytes(b"PK")
    out, err = pair.run("--fail-if-worse", "toy/accuracy:40", rc=1)
    assert "46.0" in out
    assert "ok         toy/accuracy" in out
    lines = err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("mmeval: ") for line in lines)
    for words in ("cut.json: damaged", "schema 99, this version reads", "nosums.sums.npz: changed or truncated"):
        assert sum(words in line for line in lines) == 1
    out, _ = pair.run("--json", "-", rc=1)
    assert len(json.loads(out)["problems"]) == 3


def test_nothing_but_damage_is_damage_too(pair: Pair) -> None:
    (pair.other / "toy.json").write_text("{")
    out, err = pair.run(rc=1)
    assert out == ""
    assert [("damaged" in line, "no result there" in line) for line in err.splitlines()] == [
        (True, False),
        (False, True),
    ]


def test_missing_samples_matter_to_flips_alone(pair: Pair) -> None:
    (pair.other / "toy.samples.jsonl").unlink()
    pair.run()
    out, err = pair.run("--flips", rc=1)
    assert "46.0" in out
    assert "toy.samples.jsonl: missing" in err


def test_tuned_finds_its_base(pair: Pair, capsys: Capture) -> None:
    ft = write(pair.folder, "ft", [1.0] * 100, tuned=tuned_from("base"))
    assert main(["compare", "--tuned", str(ft)]) == 0
    assert "ft against base" in capsys.readouterr().out
    assert main(["compare", "--tuned", str(ft / "toy.json"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["comparisons"][0]["base"] == "base"
    assert main(["compare", "--tuned", str(pair.other)]) == 2
    assert "no base is on record for other" in capsys.readouterr().err


def test_seeds_of_one_recipe(pair: Pair, capsys: Capture) -> None:
    rng = random.Random(0)
    for seed in range(3):
        values = [1.0 if rng.random() < 0.3 else float(i < 46) for i in range(100)]
        write(pair.folder, f"s{seed}", values, tuned=tuned_from("base", seed=seed))
    tuned = [option for seed in range(3) for option in ("--tuned", str(pair.folder / f"s{seed}"))]
    assert main(["compare", *tuned, "--seeds", "--fail-if-worse", "accuracy"]) == 0
    out = capsys.readouterr().out
    assert "3 seeds against base" in out
    assert "mean of 3" in out
    assert "ok         toy/accuracy: mean of 3 seeds +" in out
    places = [str(pair.folder / name) for name in ("base", "s0", "s1", "s2")]
    assert main(["compare", *places, "--seeds", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seeds"][0]["over_seeds"]["seeds"] == 3
    assert len(found["comparisons"]) == 3


def test_several_others_are_one_block_each(pair: Pair, capsys: Capture) -> None:
    write(pair.folder, "third", [1.0] * 100)
    assert main(["compare", *(str(pair.folder / name) for name in ("base", "other", "third"))]) == 0
    out = capsys.readouterr().out
    assert out.index("other against base") < out.index("third against base")


def test_images_trained_on_are_a_footnote(tmp_path: Path, capsys: Capture) -> None:
    pair = Pair(tmp_path, capsys)
    pair.write([1, 0, 1], [1, 1, 1], contamination=overlap(3, 500))
    out, _ = pair.run()
    assert "toy: of the task's images, 3 of 500 were in the tuning of base; 3 of 500 were in the tuning of other" in out


def test_neither_locale_nor_hash_seed_nor_encoding_changes_a_byte(pair: Pair) -> None:
    for task in ("zeta", "Alpha", "beta"):
        write(pair.folder, "base", [0, 1, 1, 0], task=task)
        write(pair.folder, "other", [1, 1, 0, 0], task=task)
    outputs = set()
    for settings in ({"LC_ALL": "C", "PYTHONHASHSEED": "1"}, {"LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "2"},
                     {"PYTHONIOENCODING": "ascii", "COLUMNS": "40"}):  # fmt: skip
        command = [sys.executable, "-m", "mmalign_eval", "compare", str(pair.base), str(pair.other), "--flips"]
        done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, **settings})
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_help_tells_what_the_gate_means(capsys: Capture) -> None:
    assert main(["compare", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "Exit 1 if METRIC" in words
    assert "3 if undecided" in words
