"""The public Python API: what it exports, and result files as data frames."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import mmalign_eval
from mmalign_eval import load_results
from mmalign_eval.cli.main import main
from mmalign_eval.errors import BadInput
from mmalign_eval.frames import METRIC_COLUMNS, SAMPLE_COLUMNS
from mmalign_eval.results import read_result, read_samples
from mmalign_eval.scores import said

from .support_results import ACCURACY, records, write_run
from .toy import isolate_registry, make_toy

RIGHT = "- {match: '[02468] even', text: 'yes'}\n- {text: 'no'}\n"
SAYS_NO = "- {text: 'no'}\n"
FAILS = "- {match: 's? 3 even', raise: 'server gone'}\n- {text: 'yes'}\n"


class Runs:
    """Results of scripted models on the toy task."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.plugin, self.data = make_toy(root, samples=12, images=4)

    def run(self, name: str, script: str, *more: str, out: str = "out") -> Path:
        (self.root / f"{name}.yaml").write_text(script)
        command = ["run", "--model", f"scripted:{self.root / f'{name}.yaml'}", "--include", str(self.plugin)]
        main([*command, "--tasks", "toy", "--data", str(self.data), "--out", str(self.root / out), *more])
        return self.root / out / name / "toy.json"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    isolate_registry(monkeypatch)
    return Runs(tmp_path)


def python(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


class TestNames:
    def test_every_name_loads_and_is_documented(self) -> None:
        for name in mmalign_eval.__all__:
            assert getattr(mmalign_eval, name).__doc__, name
        assert set(mmalign_eval.__all__) == set(mmalign_eval._WHERE)
        assert set(mmalign_eval.__all__) <= set(dir(mmalign_eval))

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="load_result'"):
            mmalign_eval.load_result  # noqa: B018

    def test_importing_the_package_loads_nothing_of_it(self) -> None:
        code = "import sys, mmalign_eval; print([m for m in sys.modules if m.startswith('mmalign_eval.')])"
        assert python(code) == "[]"

    def test_loading_metrics_loads_no_model_code(self, runs: Runs) -> None:
        path = runs.run("right", RIGHT)
        code = (
            f"import sys, mmalign_eval; r = mmalign_eval.load_results({str(path)!r}); r.metrics, r.samples; "
            "print([m for m in ('torch', 'transformers', 'lm_eval', 'datasets') if m in sys.modules])"
        )
        assert python(code) == "[]"

    @pytest.mark.parametrize(
        ("submodule", "name"),
        [("evaluate", "RunConfig"), ("task", "Task"), ("compare", "Change"), ("leaderboard.pages", "Board")],
    )
    def test_a_submodule_of_the_same_name_does_not_hide_the_function(self, submodule: str, name: str) -> None:
        function = submodule.partition(".")[0]
        checks = f"assert callable(m.{function}) and m.{function}.__name__ == {function!r}; "
        first = f"import mmalign_eval as m; from mmalign_eval.{submodule} import {name}; {checks}"
        then = f"import mmalign_eval.{submodule}; {checks} from mmalign_eval import {function}; "
        assert python(first + then + f"assert {function} is m.{function}; print('fine')") == "fine"


class TestMetrics:
    def test_one_row_a_metric_with_the_columns_promised(self, runs: Runs) -> None:
        path = runs.run("right", RIGHT)
        metrics = load_results(path).metrics
        assert list(metrics.columns) == list(METRIC_COLUMNS)
        assert {name: str(kind) for name, kind in metrics.dtypes.items() if METRIC_COLUMNS[name] != "str"} == {
            name: kind for name, kind in METRIC_COLUMNS.items() if kind != "str"
        }
        row = metrics.iloc[0]
        result = read_result(path)
        for name in ("value", "low", "high", "stderr", "n", "clusters", "unit", "better"):
            assert row[name] == result["metrics"]["accuracy"][name], name
        assert (row.model, row.task, row.protocol, row.judge, row.metric) == (
            "right",
            "toy",
            "official",
            "",
            "accuracy",
        )
        assert bool(row.headline) is True
        assert row.signature == result["signature"]
        assert (row.base, row.path) == ("", str(path))

    def test_an_undefined_metric_is_not_a_number(self, runs: Runs) -> None:
        path = runs.run("gone", "- {raise: 'server gone'}\n")
        metrics = load_results(path).metrics
        assert metrics.value.isna().all()
        assert metrics.n.tolist() == [0]

    def test_models_of_one_name_stay_apart(self, runs: Runs) -> None:
        runs.run("same", RIGHT)
        runs.run("same", SAYS_NO, out="other")
        metrics = load_results(runs.root / "out", runs.root / "other").metrics
        assert metrics.model.nunique() == 2
        assert metrics.pivot(index="metric", columns="model", values="value").shape == (1, 2)

    def test_the_base_of_a_tuned_model_is_named(self, runs: Runs) -> None:
        path = runs.run("right", RIGHT)
        result = json.loads(path.read_text())
        result["model"]["tuned"] = {"method": "mm-ft", "base": {"name": "before", "weights": "w", "peft": ""}}
        path.write_text(json.dumps(result))
        assert load_results(path).metrics.base.unique().tolist() == ["before"]

    def test_the_samples_files_are_not_touched(self, runs: Runs) -> None:
        path = runs.run("right", RIGHT)
        (path.parent / "toy.samples.jsonl").unlink()
        assert len(load_results(path).metrics) == 1


class TestSamples:
    def test_one_row_a_sample_with_the_columns_promised(self, runs: Runs) -> None:
        path = runs.run("no", SAYS_NO)
        samples = load_results(path).samples
        assert list(samples.columns) == list(SAMPLE_COLUMNS)
        assert samples.id.tolist() == [f"s{i}" for i in range(12)]
        first = samples.iloc[0]
        assert (first.prompt, first.answer, first.reference) == ("Is 0 even?", "no", "yes")
        assert (first.cluster, first.status, first.error) == ("0.png", "ok", "")
        assert first.image == str((runs.data / "images" / "0.png").resolve())
        assert samples.score.tolist() == [0.0, 1.0] * 6
        assert samples.scored_by.unique().tolist() == ["accuracy"]

    def test_their_scores_give_the_metric(self, runs: Runs) -> None:
        results = load_results(runs.run("no", SAYS_NO))
        assert results.samples.score.mean() == results.metrics.value[0]

    def test_a_failed_sample_has_no_score(self, runs: Runs) -> None:
        samples = load_results(runs.run("fails", FAILS)).samples.set_index("id")
        assert samples.loc["s3", "status"] == "error"
        assert "server gone" in samples.loc["s3", "error"]
        assert pd.isna(samples.loc["s3", "score"])
        assert samples.loc["s3", "scored_by"] == ""
        assert samples.score.isna().sum() == 1

    def test_fields_of_the_record_on_request(self, runs: Runs) -> None:
        path = runs.run("no", SAYS_NO)
        samples = load_results(path, fields=["correct", "cluster"]).samples
        assert list(samples.columns) == [*SAMPLE_COLUMNS, "record.correct", "record.cluster"]
        assert (samples["record.correct"] == samples.score).all()

    def test_fields_that_are_none(self, runs: Runs) -> None:
        path = runs.run("no", SAYS_NO)
        with pytest.raises(BadInput, match="no record has 'corect' - did you mean 'correct'"):
            _ = load_results(path, fields=["corect"]).samples
        with pytest.raises(BadInput, match="give a list"):
            load_results(path, fields="correct")

    def test_half_a_character_in_an_answer(self, tmp_path: Path) -> None:
        said_half = [{**record, "answer": "yes \ud83d.", "odd": "\udc00"} for record in records([1.0])]
        samples = load_results(write_run(tmp_path, "m", "toy", [ACCURACY], said_half), fields=["odd"]).samples
        assert samples.answer.tolist() == ["yes \ufffd."]
        assert samples["record.odd"].tolist() == ["\ufffd"]

    def test_what_a_model_said(self) -> None:
        choice = {"options": [" no", " yes"], "logprobs": [-2.0, -0.1]}
        assert said({"answers": [choice]}) == "yes"
        assert said({"answers": [choice, {"text": " a cup \n"}, choice]}) == "yes\na cup"
        assert said({"answers": [{"options": ["a", "b"], "logprobs": [None, -1.0]}]}) == "b"  # None: minus infinity
        assert said({"answers": [{"logprobs": [-2.0, -1.0]}]}) == "option 2"
        assert said({"answers": [{"options": ["a", "b"], "logprobs": [None, None]}]}) == ""
        assert said({"answers": []}) == ""

    def test_answers_and_references_speak_alike(self, runs: Runs) -> None:
        path = runs.run("right", RIGHT)
        assert all(said(row) == row["reference"] for row in read_samples(path, read_result(path)))


class TestCompare:
    def test_it_compares_each_with_the_first_and_prints_nothing(
        self, runs: Runs, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name, script in (("no", SAYS_NO), ("right", RIGHT), ("fails", FAILS)):
            runs.run(name, script)
        capsys.readouterr()
        out = runs.root / "out"
        found = mmalign_eval.compare(out / "no", out / "right", str(out / "fails"))
        assert capsys.readouterr() == ("", "")
        assert [(one.base, one.other) for one in found] == [("no", "right"), ("no", "fails")]
        change = found[0].frame().iloc[0]
        assert (change.metric, change.base, change.other, change.delta) == ("accuracy", 0.5, 1.0, 0.5)
        assert (change.wins, change.losses, change.ties, change.n) == (6, 0, 6, 12)
        assert found[1].changes[0].paired.left_out == 1

    def test_a_model_with_itself_changes_nothing(self, runs: Runs) -> None:
        path = runs.run("no", SAYS_NO)
        (found,) = mmalign_eval.compare(path, path)
        row = found.frame().iloc[0]
        assert (row.delta, row.low, row.high, row.p, row.p_holm, row.significant) == (0, 0, 0, 1, 1, False)

    def test_a_place_that_is_not_there(self, runs: Runs) -> None:
        path = runs.run("no", SAYS_NO)
        with pytest.raises(BadInput, match="nowhere"):
            mmalign_eval.compare(path, runs.root / "nowhere")


class TestLeaderboard:
    def test_the_published_rows_without_a_folder(self, capsys: pytest.CaptureFixture[str]) -> None:
        board = mmalign_eval.leaderboard()
        cells = board.frame()
        assert capsys.readouterr() == ("", "")
        assert (board.problems, dict(board.runs)) == ((), {})
        assert cells.origin.unique().tolist() == ["published"]
        assert set(cells.page) == {page.name for page in board.pages if page.tables}
        assert len(cells) == sum(1 for page in board.pages for _ in page.cells())

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="no such folder"):
            mmalign_eval.leaderboard(tmp_path / "nowhere")


class TestPlaces:
    def test_folders_globs_and_files_each_file_once(self, runs: Runs) -> None:
        first = runs.run("a", RIGHT)
        runs.run("b", SAYS_NO)
        out = runs.root / "out"
        everything = load_results(out)
        assert everything.metrics.model.tolist() == ["a", "b"]
        assert repr(everything) == "<Results of a, b: 2>"
        assert load_results(f"{out}/*/toy.json").metrics.equals(everything.metrics)
        assert load_results(out, first, f"{out}/*").metrics.equals(everything.metrics)
        assert load_results(first).metrics.model.tolist() == ["a"]
        assert load_results(f"{out}/**/toy.json").metrics.equals(everything.metrics)

    def test_a_folder_whose_name_looks_like_a_glob(self, runs: Runs) -> None:
        runs.run("a", RIGHT, out="run[1]")
        assert len(load_results(runs.root / "run[1]").metrics) == 1

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="no such file or folder"):
            load_results(tmp_path / "nowhere")
        with pytest.raises(BadInput, match="no result file"):
            load_results(tmp_path)
        with pytest.raises(BadInput, match="no file or folder fits"):
            load_results(tmp_path / "*.json")


class TestDamage:
    @pytest.mark.parametrize(
        ("text", "line"), [("{", "damaged result file"), ('{"kind": "mmeval-result", "schema": 99}', "newer mmeval")]
    )
    def test_a_damaged_file_is_a_line_and_the_others_are_read(self, runs: Runs, text: str, line: str) -> None:
        runs.run("a", RIGHT)
        bad = runs.run("b", RIGHT)
        bad.write_text(text)
        with pytest.warns(UserWarning, match=line) as caught:
            results = load_results(runs.root / "out")
        assert [warning.filename for warning in caught] == [__file__]
        assert results.metrics.model.tolist() == ["a"]
        assert len(results.problems) == 1
        assert line in results.problems[0]
        assert repr(results) == "<Results of a: 1; not read: 1>"

    def test_only_damaged_files_give_empty_frames(self, runs: Runs) -> None:
        runs.run("a", RIGHT).write_text("{")
        with pytest.warns(UserWarning, match="damaged"):
            results = load_results(runs.root / "out")
        assert list(results.metrics.columns) == list(METRIC_COLUMNS)
        assert list(results.samples.columns) == list(SAMPLE_COLUMNS)
        assert len(results.metrics) == len(results.samples) == 0

    @pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-3])])
    def test_samples_that_are_missing_or_damaged_are_a_line(self, runs: Runs, harm: Callable[[Path], object]) -> None:
        runs.run("a", RIGHT)
        harm(runs.run("b", RIGHT).parent / "toy.samples.jsonl")
        results = load_results(runs.root / "out", fields=["correct"])
        with pytest.warns(UserWarning, match="toy.samples.jsonl") as caught:
            samples = results.samples
        assert [warning.filename for warning in caught] == [__file__]
        assert samples.model.unique().tolist() == ["a"]
        assert len(results.problems) == 1
        assert len(results.metrics) == 2
