"""`mmeval run` through its real command line, on a toy task."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.results import read_result, read_samples

from .toy import isolate_registry, make_toy

RIGHT = "- {match: '[02468] even', text: 'yes'}\n- {text: 'no'}\n"


class Toy:
    """A folder with plugin, data and script; `run` adds them to the arguments."""

    def __init__(self, tmp_path: Path, script: str = RIGHT, samples: int = 40) -> None:
        self.root = tmp_path
        self.plugin, self.data = make_toy(tmp_path, samples=samples)
        self.script(script)

    def script(self, text: str) -> None:
        (self.root / "script.yaml").write_text(text)

    def arguments(self, *more: str, out: str = "out", data: bool = True) -> list[str]:
        base = ["run", "--model", f"scripted:{self.root / 'script.yaml'}", "--include", str(self.plugin)]
        base += ["--tasks", "toy", "--out", str(self.root / out), "-M", f"log={self.root / 'calls'}"]
        return [*base, *(["--data", str(self.data)] if data else []), *more]

    def run(self, *more: str, out: str = "out", data: bool = True) -> int:
        return main(self.arguments(*more, out=out, data=data))

    def calls(self) -> int:
        log = self.root / "calls"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def result(self, out: str = "out", stem: str = "toy") -> dict[str, object]:
        return read_result(self.root / out / "script" / f"{stem}.json")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    isolate_registry(monkeypatch)
    return Toy(tmp_path)


def one_line(captured: str) -> str:
    """The error line: one, from mmeval, without a traceback."""
    lines = [line for line in captured.splitlines() if line.startswith("mmeval: ")]
    assert len(lines) == 1, captured
    assert "Traceback" not in captured
    return lines[0]


def test_a_run_prints_a_table_with_intervals_and_leaves_files(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy.run() == 0
    out = capsys.readouterr().out
    assert "accuracy" in out
    assert "100.0" in out
    assert ".." in out
    result = toy.result()
    assert result["metrics"]["accuracy"]["value"] == 1.0  # type: ignore[index]
    assert result["counts"] == {"n": 40, "n_ok": 40, "n_truncated": 0, "n_error": 0, "n_refused": 0}
    samples = list(read_samples(toy.root / "out" / "script" / "toy.json", result))
    assert [s["id"] for s in samples] == [f"s{i}" for i in range(40)]
    assert samples[3]["answers"] == [{"text": "no", "finish": "stop", "new_tokens": 1}]


def test_provenance_is_complete(toy: Toy) -> None:
    toy.run()
    result = toy.result()
    provenance = result["provenance"]
    assert isinstance(provenance, dict)
    assert provenance["versions"]["mmalign-eval"]
    assert provenance["hardware"]["cpus"] >= 1
    assert provenance["run"]["asked"] == 40
    assert provenance["run"]["requests_per_second"] > 0
    assert result["prompt"] == "<image>\nIs 0 even?"
    assert result["params"]["max_new_tokens"] == 5  # type: ignore[index]
    assert len(str(result["data"]["hash"])) == 64  # type: ignore[index]
    assert str(result["signature"]).startswith("task:toy.v1|protocol:official")
    assert str(toy.root) not in json.dumps({k: v for k, v in result.items() if k != "provenance"})


def test_the_same_command_again_asks_nothing_and_gives_the_same_files(toy: Toy) -> None:
    toy.run()
    first, calls = toy.result(), toy.calls()
    toy.run()
    second = toy.result()
    assert toy.calls() == calls == 40
    cost, later = first.pop("provenance"), second.pop("provenance")
    assert first == second
    # what the answers cost stays on record, however often the command is repeated
    assert later["earlier_runs"] == [cost["run"]]  # type: ignore[index]
    toy.run()
    assert toy.result()["provenance"]["earlier_runs"] == [cost["run"]]  # type: ignore[index]


def test_limit_then_all_asks_only_the_rest(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    toy.run("--limit", "10")
    assert "first 10" in capsys.readouterr().out
    assert toy.calls() == 10
    toy.run()
    assert toy.calls() == 40


def test_a_shared_store_serves_another_output_folder(toy: Toy) -> None:
    store = str(toy.root / "shared.sqlite")
    toy.run("--store", store, out="a")
    toy.run("--store", store, out="b")
    assert toy.calls() == 40
    assert toy.result("a")["metrics"] == toy.result("b")["metrics"]


def test_batch_size_changes_no_score_greedy_or_sampled(toy: Toy) -> None:
    for protocol in ("official", "sampled"):
        found = []
        for rows in ("1", "8"):
            toy.run("-M", f"batch_rows={rows}", "--protocol", protocol, out=f"{protocol}{rows}")
            stem = "toy" if protocol == "official" else "toy@sampled"
            result = toy.result(f"{protocol}{rows}", stem)
            del result["provenance"]
            found.append(result)
        assert found[0] == found[1]


def test_failing_samples_are_counted_not_scored_and_exit_4(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    toy.script("- {match: 'Is 3 ', raise: boom}\n" + RIGHT)
    assert toy.run() == 4
    captured = capsys.readouterr()
    assert "39 (1 failed)" in captured.out
    assert "s3: RuntimeError: boom" in captured.err
    result = toy.result()
    assert result["counts"]["n_error"] == 1  # type: ignore[index]
    assert result["metrics"]["accuracy"] | {"stderr": 0} == {  # type: ignore[index]
        **result["metrics"]["accuracy"], "value": 1.0, "n": 39, "stderr": 0,  # type: ignore[index, dict-item]
    }  # fmt: skip
    assert toy.run("--max-errors", "1") == 0


def test_a_model_that_fails_everything_leaves_no_number(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    toy.script("- {raise: broken}\n")
    assert toy.run() == 4
    metric = toy.result()["metrics"]["accuracy"]  # type: ignore[index]
    assert (metric["value"], metric["low"], metric["n"]) == (None, None, 0)
    assert "0 (40 failed)" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["nothing: true", "refuse: declined"])
def test_nothing_and_refusals_count_as_failed(toy: Toy, fault: str) -> None:
    toy.script(f"- {{match: 'Is 3 ', {fault}}}\n{RIGHT}")
    assert toy.run() == 4
    assert toy.result()["counts"]["n_ok"] == 39  # type: ignore[index]


def test_out_of_memory_costs_no_answer(toy: Toy) -> None:
    toy.script("- {oom: 3}\n" + RIGHT)
    assert toy.run() == 0
    assert toy.result()["provenance"]["run"]["halvings"] > 0  # type: ignore[index]
    assert toy.calls() == 40


def test_a_corrupt_image_fails_its_samples_and_the_rest_is_kept(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    (toy.data / "images" / "3.png").write_bytes(b"not an image")
    assert toy.run() == 4
    assert toy.result()["counts"]["n_error"] == 5  # type: ignore[index]
    assert "3.png cannot be decoded" in capsys.readouterr().err


def test_dry_run_asks_nothing_and_writes_nothing(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy.run("--dry-run") == 0
    assert "40 requests" in capsys.readouterr().err
    assert toy.calls() == 0
    assert not (toy.root / "out").exists()


def test_two_models_in_one_call_with_their_own_options(toy: Toy) -> None:
    (toy.root / "other.yaml").write_text("- {text: 'yes'}\n")
    extra = ["--model", f"scripted:{toy.root / 'other.yaml'},batch_rows=2"]
    assert toy.run(*extra) == 0
    other = read_result(toy.root / "out" / "other" / "toy.json")
    assert other["metrics"]["accuracy"]["value"] == 0.5


def test_another_model_of_the_same_name_does_not_overwrite_results(toy: Toy) -> None:
    toy.run()
    toy.script("- {text: 'yes'}\n")
    toy.run()
    assert toy.result()["metrics"]["accuracy"]["value"] == 1.0  # type: ignore[index]
    assert len(list((toy.root / "out").glob("script*/toy.json"))) == 2


class TestBadInput:
    @pytest.mark.parametrize(
        ("more", "expected"),
        [
            (["--tasks", "toi"], r"did you mean 'toy'"),
            (["--protocol", "offical"], r"did you mean 'official'"),
            (["--protocol", "tox=official"], r"'tox' is not selected - did you mean 'toy'"),
            (["--few-shot", "3"], r"takes no shots"),
            (["--model", "scipted:x"], r"did you mean 'scripted'"),
            (["--model", "scripted:nowhere.yaml"], r"no such file"),
            (["-M", "bacth_rows=3"], r"did you mean 'batch_rows'"),
            (["-M", "batch_rows=none"], r"whole number"),
            (["-M", "batch_rows"], r"KEY=VALUE"),
            (["-M", "delay=soon"], r"expected seconds"),
            (["--data", "toi=x"], r"'toi' is not selected - did you mean 'toy'"),
            (["--data", "another"], r"one default"),
            (["--include", "gone.py"], r"no such file"),
            (["--config", "gone.yaml"], r"no such file"),
        ],
    )
    def test_one_line_with_the_cure_and_exit_2(
        self, toy: Toy, capsys: pytest.CaptureFixture[str], more: list[str], expected: str
    ) -> None:
        import re

        assert toy.run(*more) == 2
        assert re.search(expected, one_line(capsys.readouterr().err))
        assert toy.calls() == 0

    def test_unknown_option_and_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "--modle", "mini"]) == 2
        assert "--modle" in capsys.readouterr().err
        assert main(["rnu"]) == 2
        assert "rnu" in capsys.readouterr().err

    def test_no_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run"]) == 2
        assert "--model mini" in one_line(capsys.readouterr().err)

    def test_a_folder_with_another_layout_names_what_was_expected(
        self, toy: Toy, capsys: pytest.CaptureFixture[str]
    ) -> None:
        empty = toy.root / "empty"
        empty.mkdir()
        assert toy.run("--data", str(empty), data=False) == 2
        line = one_line(capsys.readouterr().err)
        assert "toy.jsonl not found" in line
        assert "expected toy.jsonl and images" in line

    def test_a_truncated_data_file_names_file_and_line(self, toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
        file = toy.data / "toy.jsonl"
        file.write_text(file.read_text()[:-20])
        assert toy.run() == 2
        assert "toy.jsonl:40: not valid JSON" in one_line(capsys.readouterr().err)

    def test_a_missing_image_is_named_before_anything_is_asked(
        self, toy: Toy, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (toy.data / "images" / "5.png").unlink()
        assert toy.run() == 2
        assert "5.png" in one_line(capsys.readouterr().err)
        assert toy.calls() == 0

    def test_duplicate_ids(self, toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
        file = toy.data / "toy.jsonl"
        file.write_text(file.read_text() + file.read_text().splitlines()[0])
        assert toy.run() == 2
        assert "'s0' occurs twice" in one_line(capsys.readouterr().err)

    def test_a_broken_plugin_shows_its_cause_and_line(self, toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
        toy.plugin.write_text("import os\nimport not_there\n")
        assert toy.run() == 2
        line = one_line(capsys.readouterr().err)
        assert "ModuleNotFoundError: No module named 'not_there'" in line
        assert "toy_task.py:2" in line

    def test_damaged_and_foreign_stores(self, toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
        store = toy.root / "bad.sqlite"
        store.write_bytes(b"garbage" * 1000)
        assert toy.run("--store", str(store)) == 1
        assert "damaged" in one_line(capsys.readouterr().err)
        assert store.read_bytes() == b"garbage" * 1000

    def test_image_tasks_are_refused_for_text_models(self, toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
        assert toy.run("-M", "images=false") == 2
        assert "takes text only" in one_line(capsys.readouterr().err)


class TestConfig:
    def test_the_same_keys_and_the_command_line_wins(self, toy: Toy) -> None:
        file = toy.root / "run.yaml"
        file.write_text(
            f"models: scripted:{toy.root / 'script.yaml'}\ntasks: [toy]\nlimit: 5\ninclude: {toy.plugin}\n"
            f"data: {toy.data}\nout: {toy.root / 'out'}\nmodel_options: {{images: true, batch_rows: 2}}\n"
        )
        assert main(["run", "--config", str(file)]) == 0
        assert toy.result()["counts"]["n"] == 5  # type: ignore[index]
        assert main(["run", "--config", str(file), "--limit", "7"]) == 0
        assert toy.result()["counts"]["n"] == 7  # type: ignore[index]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("modls: mini", "did you mean 'models'"),
            ("limit: many", "whole number"),
            ("- a", "keys and values"),
            ("a: [", "not valid YAML"),
        ],
    )
    def test_unknown_keys_and_wrong_kinds_are_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str
    ) -> None:
        (tmp_path / "c.yaml").write_text(text)
        assert main(["run", "--config", str(tmp_path / "c.yaml")]) == 2
        assert expected in one_line(capsys.readouterr().err)


def test_two_runs_of_one_model_in_one_output_folder_at_once(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    code = f"from mmalign_eval.cli.main import main; main({toy.arguments('-M', 'delay=0.1')!r})"
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not toy.calls() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert toy.run() == 2
        line = one_line(capsys.readouterr().err)
        assert f"process {first.pid}" in line
        assert "another --out" in line
        (toy.root / "other.yaml").write_text("- {text: 'yes'}\n")  # another model is let in, to the same store
        assert main([word.replace("script.yaml", "other.yaml") for word in toy.arguments()]) == 0
        assert first.poll() is None
        assert read_result(toy.root / "out" / "other" / "toy.json")["counts"]["n_error"] == 0
    finally:
        first.kill()
        first.wait()
    assert toy.run() == 0  # the lock went with the process


def test_interrupting_is_resumable_and_exits_130(toy: Toy) -> None:
    import signal

    for sent in (signal.SIGINT, signal.SIGTERM):
        arguments = toy.arguments("-M", "delay=0.05")
        code = f"import sys; from mmalign_eval.cli.main import main; sys.exit(main({arguments!r}))"
        before = toy.calls()
        run = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 30
        while toy.calls() < before + 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(sent)
        _, err = run.communicate(timeout=30)
        assert run.returncode == 130, err
        assert "run the same command again" in one_line(err)
    calls = toy.calls()
    assert toy.run() == 0
    assert toy.calls() - calls <= 40 - (calls - 2)


def test_a_full_disk_while_writing_a_result_loses_no_answer(
    toy: Toy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert toy.run() == 2
    line = one_line(capsys.readouterr().err)
    assert "No space left on device" in line
    assert "run the same command again" in line
    assert not list((toy.root / "out" / "script").iterdir())
    assert toy.run() == 0
    assert toy.calls() == 40


def test_damaged_results_are_told_apart(toy: Toy) -> None:
    from mmalign_eval.errors import BadInput, Damaged

    toy.run()
    file = toy.root / "out" / "script" / "toy.json"
    result = read_result(file)
    (file.parent / "toy.samples.jsonl").write_text("{}\n")
    with pytest.raises(Damaged, match="changed or truncated"):
        list(read_samples(file, result))
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    with pytest.raises(Damaged, match="damaged result file"):
        read_result(file)
    file.write_text(json.dumps({"kind": "mmeval-result", "schema": 99}))
    with pytest.raises(Damaged, match="schema 99"):
        read_result(file)
    with pytest.raises(BadInput, match="no such"):
        read_result(file.parent / "none.json")
    assert toy.run() == 0
