"""Input of `mmeval run` that is wrong in ways the options' own types do not catch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.engine import Engine
from mmalign_eval.errors import BadInput, Damaged
from mmalign_eval.models import hf_options
from mmalign_eval.plan import limited
from mmalign_eval.requests import Request, Response
from mmalign_eval.results import SCHEMA, read_result
from mmalign_eval.store import Store

from ..toy import CountingModel, isolate_registry, make_toy, text_requests


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"models: mini\nlimit: 0\n", "limit: expected 1 or more, found 0"),
        (b"models: mini\nmax_errors: -1\n", "max_errors: expected 0 or more, found -1"),
        (b"models: mini\nfew_shot: -2\n", "few_shot: expected 0 or more, found -2"),
        (b"\xff\xfe", "not valid YAML"),
        (b"models: null\n", "no model given"),
    ],
)
def test_config_values_out_of_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    assert main(["run", "--config", str(tmp_path / "c.yaml")]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_null_in_the_config_is_a_key_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("models: nokind\ntasks: null\nmodel_options: null\nout: null\nlimit: null\n")
    assert main(["run", "--config", str(tmp_path / "c.yaml")]) == 2
    assert "unknown model kind 'nokind'" in capsys.readouterr().err


def test_a_limit_that_leaves_nothing_is_refused_from_python_too() -> None:
    with pytest.raises(BadInput, match="--limit 0"):
        limited([], 0)


def test_an_empty_model_is_not_taken_for_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--model", "", "--tasks", "pope"]) == 2
    assert "did you mean hf:" not in capsys.readouterr().err


def test_an_empty_adapter_is_refused_not_ignored() -> None:
    with pytest.raises(BadInput, match="-M adapter=: expected the folder"):
        hf_options.parse({"adapter": ""}, local=True)


def test_a_folder_as_store_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a folder; give a file in it, such as .*store\.sqlite"):
        Store(tmp_path)


def test_a_result_file_without_its_parts_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"kind": "mmeval-result", "schema": SCHEMA}))
    with pytest.raises(Damaged, match="no 'task'"):
        read_result(file)


class _RaisesAfterAnswering(CountingModel):
    def answer(self, requests: Sequence[Request], images: object) -> Iterator[tuple[int, Response]]:  # type: ignore[override]
        yield 0, Response("ok", text="kept")
        raise RuntimeError("too late")


def test_an_answer_given_before_the_model_raised_is_kept(tmp_path: Path) -> None:
    model = _RaisesAfterAnswering(batch_rows=1)
    responses, _ = Engine(model, Store(tmp_path / "s.sqlite")).run(text_requests(1))
    assert [r.status for r in responses] == ["ok"]


@pytest.mark.parametrize("words", [["tasks", "show", "pope"], ["tasks", "list"]])
def test_a_reader_that_went_away_is_no_error(words: list[str]) -> None:
    """The pipe's other end is closed before anything is written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mmalign_eval", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    error = process.stderr.read().decode()
    assert (process.wait(timeout=120), error) == (0, "")


def test_models_of_one_name_are_told_apart_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    isolate_registry(monkeypatch)
    plugin, data = make_toy(tmp_path, samples=4)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "script.yaml").write_text(f"- match: '.*'\n  text: '{folder}'\n")
    models = [word for folder in ("a", "b") for word in ("--model", f"scripted:{tmp_path / folder / 'script.yaml'}")]
    words = ["--tasks", "toy", "--include", str(plugin), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(["run", *models, *words, "-M", "images=true"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    named = {row[0] for row in rows if len(row) > 1 and row[1] == "toy"}
    assert len(named) == 2
    assert all(name.startswith("script") for name in named)


def test_a_dry_run_finds_what_a_run_would_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate_registry(monkeypatch)
    plugin, data = make_toy(tmp_path)
    arguments = ["run", "--model", "openai:none", "-M", "base_url=http://127.0.0.1:9", "-M", "api=completions"]
    arguments += ["--include", str(plugin), "--tasks", "toy", "--data", str(data), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--dry-run"]) == 2
    assert "image" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
