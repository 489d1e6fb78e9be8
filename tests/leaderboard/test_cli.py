"""`mmeval leaderboard` through its command line: pages written, checked, exported; what is wrong in one line each."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import random
import shutil
import socket
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from mmalign_eval import results
from mmalign_eval.cli.main import main
from mmalign_eval.metrics.base import mean

from ..support_results import records, tuned_from, write_run

ACC = mean("acc", "x", proportion=True)


def board(folder: Path) -> Path:
    """A leaderboard with a base, what was tuned from it, and a third model."""
    runs, root = folder / "runs", folder / "boards"
    facts = {"protocol": "paper", "default_protocol": "lm_eval", "modality": "text"}
    write_run(runs, "base", "boolq", [ACC], records([1] * 60 + [0] * 60), **facts)
    write_run(runs, "tuned", "boolq", [ACC], records([1] * 110 + [0] * 10), **facts, tuned=tuned_from("base"))
    write_run(runs, "other", "mathqa", [ACC], records([1, 0] * 60), **facts, source="miniature")
    assert main(["leaderboard", "add", str(runs), "--root", str(root)]) == 0
    return root


def pages(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if path.suffix in (".md", ".svg")}


def call(root: Path, *words: str) -> int:
    return main(["leaderboard", "--root", str(root), *words])


def test_pages_are_written_once_and_then_fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = board(tmp_path)
    assert call(root, "--check") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) > 8
    assert all("missing; run mmeval leaderboard --root" in line for line in said)
    assert call(root) == 0
    written = pages(root)
    assert {"README.md", "nlp.md", "details.md", "claims.md", "truthfulness.svg"} <= set(written)
    assert f"new        {root / 'nlp.md'}" in capsys.readouterr().out
    assert b"[91.7% (+41.7%)\\*](details.md#tuned:boolq@paper)" in written["nlp.md"]
    times = {path: path.stat().st_mtime_ns for path in root.glob("*.md")}
    assert call(root) == 0
    assert {path: path.stat().st_mtime_ns for path in root.glob("*.md")} == times
    assert capsys.readouterr().out == f"unchanged  {len(written)} files\n"
    assert call(root, "--check") == 0
    assert pages(root) == written


def test_check_names_what_is_stale_missing_or_left_over_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = board(tmp_path)
    assert call(root) == 0
    good = pages(root)
    (root / "nlp.md").write_bytes(good["nlp.md"].replace(b"\n", b"\r\n"))
    (root / "claims.md").unlink()
    (root / "old.md").write_bytes(good["sft.md"])
    (root / "own.md").write_text("# mine\n")
    before = pages(root)
    capsys.readouterr()
    assert call(root, "--check") == 1
    said = capsys.readouterr().err
    assert sorted(line.split(";")[0].split("/")[-1] for line in said.splitlines()) == [
        "claims.md: missing",
        "nlp.md: not up to date",
        "old.md: no page any more",
    ]
    assert pages(root) == before
    assert call(root) == 0
    assert pages(root) == {**good, "own.md": b"# mine\n"}


def test_a_new_result_makes_its_pages_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = board(tmp_path)
    assert call(root) == 0
    shutil.rmtree(root / "results" / "other")
    capsys.readouterr()
    assert call(root, "--check") == 1
    said = capsys.readouterr().err
    assert "nlp.md" in said
    assert "sft.md" not in said


def test_published_rows_alone(tmp_path: Path) -> None:
    root = tmp_path / "boards"
    root.mkdir()
    assert call(root) == 0
    assert "LLaMA2 + MM-lora" in (root / "nlp.md").read_text()
    assert "Nothing is measured yet" in (root / "details.md").read_text()
    assert call(root, "--check") == 0


def test_neither_order_nor_place_nor_time_of_files_matters(tmp_path: Path) -> None:
    root = board(tmp_path)
    assert call(root) == 0
    files = [path for path in (root / "results").rglob("*") if path.is_file()]
    random.Random(1).shuffle(files)
    other = tmp_path / "elsewhere" / "of another name"
    for i, path in enumerate(files):
        copy = other / "results" / path.relative_to(root / "results")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        os.utime(copy, (i, i))
    assert call(other) == 0
    assert pages(other) == pages(root)


@pytest.mark.parametrize("damage", ["cut", "sums", "future"])
def test_damaged_results_are_one_line_each_and_the_rest_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    root = board(tmp_path)
    bad = root / "results/tuned/boolq@paper.json"
    if damage == "cut":
        bad.write_bytes(bad.read_bytes()[:500])
    elif damage == "sums":
        bad.with_name("boolq@paper.sums.npz").write_bytes(b"no zip")
    else:
        bad.write_text(json.dumps({**json.loads(bad.read_text()), "schema": 99}))
    capsys.readouterr()
    assert call(root) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, said
    assert str(bad.parent / "boolq@paper.") in said[0]
    again = f"take it in again with mmeval leaderboard add --root {root}"  # no run wrote it there
    assert ("use a newer mmeval" if damage == "future" else again) in said[0]
    text = (root / "nlp.md").read_text()
    assert "[50.0%](details.md#base:boolq@paper)" in text
    assert "[50.0%](details.md#other:mathqa@paper)" in text
    assert call(root, "--check") == 1  # the pages are as good as they get, but not whole
    assert "not up to date" not in capsys.readouterr().err


def test_a_root_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path / "nowhere") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nowhere: no such folder" in said


def test_the_default_root_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = board(tmp_path)
    root.rename(tmp_path / "leaderboards")
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard"]) == 0
    assert main(["leaderboard", "--check"]) == 0
    assert (tmp_path / "leaderboards" / "nlp.md").is_file()


def test_a_full_disk_is_one_line_and_leaves_no_half_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = board(tmp_path)
    capsys.readouterr()

    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(results.os, "fsync", full)
    assert call(root) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "No space left on device" in said
    assert pages(root) == {}
    assert [path.name for path in root.iterdir()] == ["results"]


def test_a_page_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = board(tmp_path)
    (root / "nlp.md").mkdir()
    assert call(root) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(root / "nlp.md") in said


def test_no_network_and_no_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = board(tmp_path)

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("no socket is needed here")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert call(root) == 0
    before = pages(root)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert call(root, "--check") == 0
    assert pages(root) == before


def test_csv_of_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = board(tmp_path)
    capsys.readouterr()
    assert call(root, "--format", "csv", "--page", "nlp") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))
    assert {row["page"] for row in rows} == {"nlp"}
    (tuned,) = [row for row in rows if row["model"] == "tuned"]
    assert (float(tuned["value"]), float(tuned["delta"])) == (pytest.approx(1100 / 12), pytest.approx(500 / 12))
    assert (tuned["origin"], tuned["significant"], tuned["n"]) == ("measured", "yes", "120")
    assert tuned["signature"].startswith("task:boolq.v1|protocol:paper|")
    (llama,) = [r for r in rows if (r["model"], r["tuning"], r["task"]) == ("LLaMA2", "MM-lora", "gsm8k")]
    assert (llama["value"], llama["origin"], llama["signature"]) == ("15.0", "published", "")
    assert not [path for path in root.iterdir() if path.name != "results"]  # nothing is written


def test_json_of_all_pages_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, file = board(tmp_path), tmp_path / "all.json"
    capsys.readouterr()
    assert call(root, "--format", "json", "-o", str(file)) == 0
    assert capsys.readouterr().out == ""
    found = json.loads(file.read_text())
    assert [page["name"] for page in found["pages"]][:2] == ["truthfulness", "nlp"]
    cells = [c for p in found["pages"] for t in p["tables"] for r in t["rows"] for c in r["cells"].values()]
    (best,) = [cell for cell in cells if cell["result"] == "tuned/boolq@paper"]
    assert best["value"] == pytest.approx(1100 / 12, rel=1e-15)
    assert best["p"] < 1e-9


def test_latex_of_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = board(tmp_path)
    capsys.readouterr()
    assert call(root, "--format", "latex", "--page", "nlp") == 0
    text = capsys.readouterr().out
    assert text.count(r"\begin{tabular}") == 1
    assert r"tuned (mm-ft of base)" in text
    assert r"91.7\% (+41.7\%)$^{*" in text


def test_model_index_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = board(tmp_path)
    capsys.readouterr()
    assert call(root, "--format", "model-index", "--model", "tuned") == 0
    (index,) = yaml.safe_load(capsys.readouterr().out)["model-index"]
    assert index["name"] == "tuned"
    (result,) = index["results"]
    assert result["task"]["type"] == "text-generation"
    assert result["dataset"]["type"] == "boolq"
    (metric,) = result["metrics"]
    assert (metric["type"], metric["value"]) == ("acc", pytest.approx(1100 / 12))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--format", "cvs"], "--format cvs: unknown - did you mean 'csv'?"),
        (["--format", "csv", "--page", "npl"], "no page 'npl' - did you mean 'nlp'?"),
        (["--format", "model-index"], "--model NAME goes with --format model-index"),
        (["--format", "csv", "--model", "tuned"], "--model NAME goes with --format model-index"),
        (["--format", "model-index", "--model", "tunde"], "did you mean 'tuned'?"),
        (["--format", "csv", "--check"], "--format csv: does not go with --check"),
        (["--format", "csv", "--page", "claims"], "--page claims: has no table of models; --format json"),
        (["--page", "nlp"], "--page: goes with --format"),
        (["-o", "x"], "--out: goes with --format"),
        (["--format", "csv", "-o", "no/such/folder/x.csv"], "cannot write no/such/folder/x.csv"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str) -> None:
    root = board(tmp_path)
    capsys.readouterr()
    assert call(root, *words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert why in said


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("--check", "--update", "--format", "--page", "--model", "--root", "add"):
        assert word in text
