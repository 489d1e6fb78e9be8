"""`mmeval score RUN_DIR`: an earlier run's answers, scored anew without its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmalign_eval import read_result, read_samples
from mmalign_eval.answers import open_for_scoring, score_source
from mmalign_eval.cli.main import main
from mmalign_eval.data.source import DataChoice
from mmalign_eval.plan import limited, open_task, plan_task, rows_hash
from tests.test_score import quiz

__all__ = ["quiz"]  # the fixture

RULES = [
    {"match": "q0", "text": "YES"},
    {"match": "q1", "raise": "no answer today"},
    {"match": "", "text": "yes"},
]


@pytest.fixture
def run(quiz: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A scripted model's results: of each part one in capitals, one failed, four right."""
    (quiz / "data" / "images").mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(quiz / "data" / "images" / f"{i}.png")
    (quiz / "m.json").write_text(json.dumps(RULES))
    command = ["run", "--model", "scripted:m.json", "--include", "quiz.py", "--data", "data", "--out", "res"]
    assert main([*command, "--tasks", "quiz,judged_quiz", "--max-errors", "9"]) == 0
    capsys.readouterr()
    for image in (quiz / "data" / "images").iterdir():  # scoring needs none
        image.unlink()
    return quiz / "res"


def again(*arguments: str) -> int:
    return main(["score", "res", "--include", "quiz.py", *arguments])


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.json*") if "rescored" not in p.parts}


def test_the_same_protocol_gives_the_same_numbers_and_leaves_the_run_alone(run: Path) -> None:
    before = files(run)
    assert again("--data", "data") == 0
    assert files(run) == before
    for name in ("quiz", "judged_quiz"):
        old, new = read_result(run / "m" / f"{name}.json"), read_result(run / "rescored" / "m" / f"{name}.json")
        assert new["metrics"] == old["metrics"]
        assert new["counts"] == {**old["counts"], "n_missing": 0}
        assert new["signature"] == old["signature"]
        samples = [list(read_samples(p, read_result(p))) for p in (run / "m" / f"{name}.json", run / "rescored" / "m" / f"{name}.json")]  # fmt: skip # noqa: E501
        assert samples[0] == samples[1]
    assert again("--data", "data") == 0, "what was rescored is not taken for a run"


def test_another_protocol_s_parser(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert again("--data", "data", "--tasks", "quiz", "--protocol", "upper", "--json", "-") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["a/accuracy"] == 1.0
    assert "given under protocol official and are scored as upper, which asks the same" in captured.err
    old = read_result(run / "m" / "quiz.json")
    new = read_result(run / "rescored" / "m" / "quiz@upper.json")
    assert old["metrics"]["a/accuracy"]["value"] == 0.8  # five of six were answered, one of these in capitals
    assert new["metrics"]["a/accuracy"]["n"] == 5
    assert new["counts"]["n_error"] == old["counts"]["n_error"] == 2
    assert new["model"] == old["model"]
    assert new["rescored"]["protocol"] == "official"


def test_a_protocol_that_asks_otherwise_is_noted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert again("--data", "data", "--tasks", "quiz", "--protocol", "polite") == 0
    assert "would have asked otherwise" in capsys.readouterr().out


def test_another_judge(run: Path, quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (quiz / "judge.json").write_text(json.dumps([{"match": "", "text": "0.75"}]))
    assert again("--data", "data", "-t", "judged_quiz", "--judge", "scripted:judge.json", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out) == {"grade": 0.75}
    assert read_result(run / "m" / "judged_quiz.json")["metrics"]["lexical/grade"]["value"] == 0.5
    [made] = (run / "rescored" / "m").glob("judged_quiz+*.json")
    assert read_result(made)["task"]["judge"]
    assert again("--data", "data", "-t", "quiz", "--judge", "scripted:judge.json") == 2
    assert "nothing is judged" in capsys.readouterr().err


def test_several_results_keep_their_names_apart_in_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert again("--data", "data", "--json", "-", "--out", "new") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["m/quiz/a/accuracy"] == 0.8
    assert found["m/judged_quiz/lexical/grade"] == 0.5
    assert not (run / "rescored").exists()
    assert (run.parent / "new" / "m" / "quiz.json").exists()


def edit(path: Path, change: Any) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps(row) for row in change(rows)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: rows[:-1], "1 answers of the run are no samples of these data: 'b5'"),
        (lambda rows: [*rows, {**rows[0], "id": "new"}], "has no answer for 1 of 13 samples: 'new'"),
    ],
)
def test_other_data_are_refused(
    run: Path, quiz: Path, change: Any, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(quiz / "data" / "quiz.jsonl", change)
    assert again("--data", "data", "--tasks", "quiz") == 2
    assert says in capsys.readouterr().err
    assert not (run / "rescored").exists()


def test_changed_gold_is_noted(run: Path, quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(quiz / "data" / "quiz.jsonl", lambda rows: [{**rows[0], "gold": "no"}, *rows[1:]])
    assert again("--data", "data", "--tasks", "quiz") == 0
    assert "these data are not those of the run: same ids, other rows" in capsys.readouterr().out


def test_bad_runs(run: Path, quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (quiz / "empty").mkdir()
    for arguments, code, says in (
        (["score", "empty"], 2, "no result file of mmeval there"),
        (["score", "res"], 2, "--data is missing"),
        (["score", "res", "--data", "data", "--tasks", "qiz"], 2, "did you mean 'quiz'"),
        (["score", "res", "--data", "data", "--column", "x"], 2, "is for answers made elsewhere"),
        (["score", "res", "--data", "data", "-t", "quiz", "--protocol", "uper"], 2, "did you mean 'upper'"),
    ):
        assert main([*arguments, "--include", "quiz.py"]) == code
        assert says in capsys.readouterr().err
    samples = run / "m" / "quiz.samples.jsonl"
    samples.write_text(samples.read_text()[:-40])
    assert again("--data", "data", "-t", "quiz") == 1
    assert "changed or truncated" in capsys.readouterr().err


def test_a_limited_run_of_the_miniature_and_a_derived_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.json").write_text(json.dumps([{"match": "dog|cat", "text": "Yes"}, {"match": "", "text": "no"}]))
    command = ["run", "--model", f"scripted:{tmp_path}/m.json", "--data", "mini", "--limit", "4"]
    assert main([*command, "--tasks", "pope,blank(pope)", "--out", str(tmp_path / "res")]) == 0
    assert main(["score", str(tmp_path / "res")]) == 0
    for path in sorted((tmp_path / "res" / "m").glob("*pope*.json")):
        new = read_result(tmp_path / "res" / "rescored" / "m" / path.name)
        assert new["metrics"] == read_result(path)["metrics"]
        assert new["data"]["limit"] == 4
    assert len(list((tmp_path / "res" / "rescored" / "m").glob("*.samples.jsonl"))) == 2


def test_a_derived_task_is_scored_without_its_images(quiz: Path) -> None:
    (quiz / "data" / "images").mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(quiz / "data" / "images" / f"{i}.png")
    (quiz / "m.json").write_text(json.dumps(RULES[2:]))
    command = ["run", "--model", "scripted:m.json", "--include", "quiz.py", "--data", "data", "--out", "res"]
    assert main([*command, "--tasks", "shuffle(quiz)"]) == 0
    for image in (quiz / "data" / "images").iterdir():
        image.unlink()
    assert again("--data", "data") == 0
    [made] = (quiz / "res" / "rescored" / "m").glob("*quiz*.json")
    assert read_result(made)["task"]["name"] == "shuffle(quiz)"


def test_log_likelihoods_come_back_from_the_file(tmp_path: Path) -> None:
    """A text task of lm-eval: its answers are log-likelihoods and greedy flags."""
    (tmp_path / "m.json").write_text(json.dumps([{"match": "", "choose": 1, "text": "no comment"}]))
    command = ["run", "--model", f"scripted:{tmp_path}/m.json", "--data", "mini", "--limit", "3"]
    assert main([*command, "--tasks", "truthfulqa", "--out", str(tmp_path / "res")]) == 0
    assert main(["score", str(tmp_path / "res")]) == 0
    old = read_result(tmp_path / "res" / "m" / "truthfulqa.json")
    new = read_result(tmp_path / "res" / "rescored" / "m" / "truthfulqa.json")
    assert new["metrics"] == old["metrics"]


@pytest.mark.parametrize("name", ["gsm8k", "mathqa", "mmlu", "squad2", "boolq"])
def test_what_stands_in_for_lm_eval_to_score_says_the_same_of_rows_and_versions(name: str) -> None:
    """Else every run of these would be told that its data had changed, and be signed as another harness's."""
    asked, scored = open_task(name), open_task(name)
    plan = plan_task(asked, DataChoice("mini"), 3, 0)
    source, _ = score_source(scored, "mini")
    open_for_scoring(scored, source)
    assert rows_hash(limited(scored.samples(source), 3)) == rows_hash(plan.samples)
    assert scored.signature_extra() == asked.signature_extra()
    assert "lm_eval_task" in scored.signature_extra()


def test_another_protocol_for_one_task_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert again("--data", "data", "--protocol", "nope=official") == 2
    assert "--protocol nope=official: task 'nope' is not selected" in capsys.readouterr().err
    assert not (run / "rescored").exists()
    assert again("--data", "data", "--protocol", "quiz=upper") == 0
    made = sorted(p.name for p in (run / "rescored" / "m").glob("*.json"))
    assert made == ["judged_quiz.json", "quiz@upper.json"]


def test_a_derived_task_is_selected_by_its_name(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (quiz / "data" / "images").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 40), (60 * i, 0, 0)).save(quiz / "data" / "images" / f"{i}.png")
    (quiz / "m.json").write_text(json.dumps(RULES[2:]))
    task = "corrupt(quiz,contrast,3)"
    command = ["run", "--model", "scripted:m.json", "--include", "quiz.py", "--data", "data", "--out", "res"]
    assert main([*command, "--tasks", f"{task},quiz"]) == 0
    assert again("--data", "data", "--tasks", task) == 0
    assert [p.name for p in (quiz / "res" / "rescored").rglob("*.json")] == ["corrupt-quiz-contrast-3.json"]
