"""`mmeval leaderboard add`: what is taken in, what is not and why, and what is left behind."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign_eval import results
from mmalign_eval.cli.main import main
from mmalign_eval.leaderboard.add import partial, without_machine
from mmalign_eval.metrics.base import mean
from mmalign_eval.results import read_result, read_sums
from mmalign_eval.stats import Sums

from ..support_results import records, write_run

ACCURACY = mean("accuracy", "x", proportion=True)
TWICE = mean("mean/x", "x")


def run_of(folder: Path, model: str = "m", task: str = "quiz", ones: int = 30, **facts: Any) -> Path:
    rows = records([1] * ones + [0] * (40 - ones), [i // 4 for i in range(40)])
    return write_run(folder, model, task, [ACCURACY, TWICE], rows, **facts)


def edit(path: Path, **changes: Any) -> None:
    result = json.loads(path.read_text())
    for where, value in changes.items():
        *parents, last = where.split("__")
        place = result
        for key in parents:
            place = place[key]
        place[last] = value
    path.write_text(json.dumps(result))


def add(root: Path, *runs: Path, force: bool = False) -> int:
    return main(["leaderboard", "add", *map(str, runs), "--root", str(root), *(["--force"] if force else [])])


def taken(root: Path) -> list[str]:
    return sorted(p.relative_to(root / "results").as_posix() for p in root.rglob("*") if p.is_file())


def test_a_run_is_copied_without_its_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_of(tmp_path / "out")
    root = tmp_path / "boards"
    assert add(root, path.parent) == 0
    assert taken(root) == ["m/quiz.json", "m/quiz.sums.npz"]
    said = capsys.readouterr().out
    assert f"new        {root / 'results' / 'm' / 'quiz.json'}" in said
    assert f"mmeval leaderboard --root {root}" in said
    kept = read_result(root / "results/m/quiz.json")
    assert kept["metrics"] == read_result(path)["metrics"]
    assert kept["signature"] == read_result(path)["signature"]
    sums = read_sums(root / "results/m/quiz.json", kept)  # its hash is the file's
    assert isinstance(sums, Sums)
    assert len(sums.samples) == 40


def test_adding_again_changes_nothing_and_a_new_result_replaces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, root = run_of(tmp_path / "out"), tmp_path / "boards"
    assert add(root, path) == 0
    kept = root / "results/m/quiz.json"
    before = kept.read_bytes(), kept.stat().st_mtime_ns
    capsys.readouterr()
    assert add(root, path) == 0
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == before
    said = capsys.readouterr().out
    assert said.startswith("unchanged")
    assert "regenerate" not in said
    run_of(tmp_path / "out", ones=20)
    assert add(root, path) == 0
    assert capsys.readouterr().out.startswith("replaced")
    assert read_result(kept)["metrics"]["accuracy"]["value"] == 0.5
    assert taken(root) == ["m/quiz.json", "m/quiz.sums.npz"]


def test_another_model_of_the_same_name_gets_its_fingerprint(tmp_path: Path) -> None:
    root = tmp_path / "boards"
    assert add(root, run_of(tmp_path / "a")) == 0
    other = run_of(tmp_path / "b", weights="e" * 64, ones=10)
    assert add(root, other) == 0
    digits = read_result(other)["model"]["fingerprint"][:8]
    assert taken(root) == sorted(
        ["m/quiz.json", "m/quiz.sums.npz", f"m-{digits}/quiz.json", f"m-{digits}/quiz.sums.npz"]
    )
    assert add(root, other, run_of(tmp_path / "a", task="riddle")) == 0  # each finds its own folder again
    assert read_result(root / "results/m/riddle.json")["model"] == read_result(root / "results/m/quiz.json")["model"]
    assert [name for name in taken(root) if name.endswith("riddle.json")] == ["m/riddle.json"]


def test_a_model_of_the_laboratory_that_was_trained_anew_takes_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or each seed would count twice, once a training."""
    root = tmp_path / "boards"

    def lab(*runs: Path) -> list[str]:
        assert main(["leaderboard", "add", *map(str, runs), "--root", str(root), "--as", "lab"]) == 0
        return taken(root)

    first = [run_of(tmp_path / "a", "m-s0"), run_of(tmp_path / "a", "m-s0", task="essay")]
    assert lab(*first) == [
        f"lab/m-s0/{name}" for name in ("essay.json", "essay.sums.npz", "quiz.json", "quiz.sums.npz")
    ]
    anew = run_of(tmp_path / "c", "m-s0", weights="d" * 64), run_of(tmp_path / "c", "m-s0", "essay", weights="d" * 64)
    capsys.readouterr()
    assert len(lab(*anew)) == 4
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[:2]] == ["replaced", "replaced"]
    again = run_of(tmp_path / "b", "m-s0", weights="e" * 64, ones=10)
    assert lab(again) == ["lab/m-s0/quiz.json", "lab/m-s0/quiz.sums.npz"]  # no essay of what is gone
    assert read_result(root / "results/lab/m-s0/quiz.json")["model"] == read_result(again)["model"]
    assert len(lab(*first, *anew)) == 4  # of two trainings at once, the last
    assert read_result(root / "results/lab/m-s0/quiz.json")["model"] == read_result(anew[0])["model"]


def test_the_language_model_of_a_model_lies_with_it(tmp_path: Path) -> None:
    """A run asks the backbone on text tasks, under a fingerprint of its own."""
    root, whole, text = tmp_path / "boards", run_of(tmp_path / "a"), run_of(tmp_path / "a", task="essay")
    edit(text, model__fingerprint="f" * 64, model__identity__part="backbone")
    assert add(root, whole) == 0
    assert add(root, text) == 0
    assert {name.split("/")[0] for name in taken(root)} == {"m"}


def test_answers_to_several_tasks_under_one_name_lie_together(tmp_path: Path) -> None:
    root = tmp_path / "boards"
    for task, mark in (("quiz", "1"), ("riddle", "2")):
        path = run_of(tmp_path / "a", task=task)
        edit(path, model__fingerprint=mark * 64, model__identity={"kind": "answers", "sha256": mark * 64})
        text = json.loads(path.read_text())
        edit(path, signature=results.signature(text))
        assert add(root, path) == 0
    assert {name.split("/")[0] for name in taken(root)} == {"m"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"metrics__accuracy__value": 0.76}, "accuracy is 0.76, its sums give 0.75"),
        ({"metrics__accuracy__value": None}, "accuracy is None, its sums give 0.75"),
        ({"metrics__accuracy__n": 41}, "accuracy says n=41, its sums are of 40"),
        ({"metrics__accuracy__formula": "s[0]"}, "its sums give 30.0"),
        ({"metrics__accuracy__formula": "s[7] / s[1]"}, "needs 8 sums, its group has 2"),
        ({"metrics__accuracy__formula": "print(s)"}, "not a formula"),
        ({"counts__n_ok": 39}, "sums of 40 samples, 39 were scored"),
        ({"task__version": 2}, "changed by hand: its signature is task:quiz.v1"),
        ({"schema": 99}, "use a newer mmeval"),
        ({"task": []}, "damaged result file"),
        ({"counts": {}}, "damaged result file (no 'n' in counts)"),
    ],
)
def test_what_does_not_hold_together_is_left_out_and_the_rest_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], why: str
) -> None:
    bad, good = run_of(tmp_path / "out"), run_of(tmp_path / "out", task="riddle")
    edit(bad, **changes)
    root = tmp_path / "boards"
    assert add(root, bad.parent) == 1
    assert taken(root) == ["m/riddle.json", "m/riddle.sums.npz"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, said
    assert str(bad) in said[0]
    assert why in said[0]
    assert good.exists()


def test_values_may_differ_in_the_last_digits_only(tmp_path: Path) -> None:
    path = run_of(tmp_path / "out")
    edit(path, metrics__accuracy__value=0.75 + 9e-10)
    assert add(tmp_path / "boards", path) == 0
    edit(path, metrics__accuracy__value=0.75 + 2e-9)
    assert add(tmp_path / "boards", path) == 1


@pytest.mark.parametrize("damage", ["no sums", "other sums", "cut sums", "cut result"])
def test_damaged_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    path = run_of(tmp_path / "out")
    sums = path.with_name("quiz.sums.npz")
    if damage == "no sums":
        sums.unlink()
    elif damage == "other sums":
        shutil.copy(run_of(tmp_path / "other", ones=3).with_name("quiz.sums.npz"), sums)
    elif damage == "cut sums":
        sums.write_bytes(sums.read_bytes()[:-20])
    else:
        path.write_bytes(path.read_bytes()[:-200])
    assert add(tmp_path / "boards", path) == 1
    assert not (tmp_path / "boards").exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(path.parent / "quiz.") in said


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"limit": 40}, "the first 40 samples of each part only"),
        ({"failed": ["s98", "s99"]}, "2 samples failed"),
        ({"missing": 3}, "3 samples not answered"),
    ],
)
def test_partial_results_are_taken_on_demand_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], facts: dict[str, Any], why: str
) -> None:
    path, root = run_of(tmp_path / "out", **facts), tmp_path / "boards"
    assert partial(read_result(path)) == why
    assert add(root, path) == 1
    assert f"partial: {why}; run it whole, or take it as it is with --force" in capsys.readouterr().err
    assert not root.exists()
    assert add(root, path, force=True) == 0
    assert taken(root) == ["m/quiz.json", "m/quiz.sums.npz"]


def test_force_takes_nothing_that_is_damaged(tmp_path: Path) -> None:
    path = run_of(tmp_path / "out", limit=40)
    edit(path, metrics__accuracy__value=0.9)
    assert add(tmp_path / "boards", path, force=True) == 1


def test_what_tells_of_the_machine_is_left_behind(tmp_path: Path) -> None:
    path = run_of(tmp_path / "out", model="served", failed=["s99"])
    server = "10.0.0.7:8000/v1"
    edit(
        path,
        model__identity={"kind": "openai", "server": server, "model": "served", "api": "chat"},
        model__tuned={"method": "bpo", "base": {"name": "/home/ann/models/base", "weights": "w", "peft": ""}},
        errors=[f"s99: cannot reach http://{server}/chat (see /home/ann/log.txt, C:\\Users\\ann\\x)"],
        provenance={
            "date": "2026-01-01T00:00:00+00:00",
            "python": "3.11.7",
            "versions": {"numpy": "2.4.6"},
            "hardware": {"machine": "x86_64", "cpus": 2, "host": "ann-laptop"},
            "model": {"class": "Served", "device": server},
            "command": ["mmeval", "run", "--out", "/home/ann/results"],
            "user": "ann",
        },
    )
    edit(path, signature=results.signature(json.loads(path.read_text())))
    assert add(tmp_path / "boards", path, force=True) == 0
    kept = tmp_path / "boards/results/served/quiz.json"
    text = kept.read_text()
    assert not [word for word in ("/ann", "ann-", '"ann"', "10.0.0.7", "8000", "command") if word in text]
    found = read_result(kept)
    assert found["model"]["tuned"]["base"]["name"] == "base"
    assert found["errors"] == ["s99: cannot reach server (see log.txt, x)"]
    assert found["provenance"] == {
        "date": "2026-01-01T00:00:00+00:00",
        "versions": {"numpy": "2.4.6"},
        "python": "3.11.7",
        "hardware": {"machine": "x86_64"},
        "model": {"class": "Served", "device": "server"},
    }
    assert found["metrics"] == read_result(path)["metrics"]
    assert without_machine(found) == found


def test_metrics_that_no_formula_gives_are_taken_as_they_are(tmp_path: Path) -> None:
    from mmalign_eval.metrics.base import whole

    median = whole("median", lambda rows: float(np.median([r["x"] for r in rows])))
    path = write_run(tmp_path / "out", "m", "quiz", [ACCURACY, median], records([1, 1, 0, 1]))
    assert add(tmp_path / "boards", path) == 0
    assert read_result(tmp_path / "boards/results/m/quiz.json")["metrics"]["median"]["value"] == 1.0


def test_a_place_without_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(tmp_path / "boards", tmp_path / "nowhere") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["leaderboard", "add"]) == 2


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_of(tmp_path / "out")
    (tmp_path / "boards").write_text("a file")
    assert add(tmp_path / "boards", path) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"cannot write {tmp_path / 'boards' / 'results' / 'm' / 'quiz.json'}" in said


def test_a_full_disk_leaves_no_half_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, root = run_of(tmp_path / "out"), tmp_path / "boards"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(results.os, "fsync", full)
    assert add(root, path) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [p for p in root.rglob("*") if p.is_file()] == []


def test_root_may_stand_before_the_verb(tmp_path: Path) -> None:
    path = run_of(tmp_path / "out")
    assert main(["leaderboard", "--root", str(tmp_path / "boards"), "add", str(path)]) == 0
    assert taken(tmp_path / "boards") == ["m/quiz.json", "m/quiz.sums.npz"]
    assert main(["leaderboard", "--check", "add", str(path)]) == 2
