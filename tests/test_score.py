"""`mmeval score`: what it reads, refuses, prints and writes - on a toy task, so that nothing depends on a benchmark."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval import read_result, read_samples
from mmalign_eval.cli.main import main
from tests.support import REPO
from tests.toy import isolate_registry

PLUGIN = '''
"""Quiz: a toy with a submission format, a judge and a metric that may be undefined."""
import json
from mmalign_eval.data.answers import by_id, one_path, read_rows, said, text_of
from mmalign_eval.data.files import need, read_jsonl
from mmalign_eval.data.source import TaskData
from mmalign_eval.metrics.base import by, mean
from mmalign_eval.requests import GenParams, Generate, Prompt, Response, greedy
from mmalign_eval.roles import JudgeRole, Submission
from mmalign_eval.task import ImageTask, Protocol, Sample, task


class Files(TaskData):
    """`quiz.jsonl` and its images."""

    folder, layout, get = "quiz", "quiz.jsonl and images/", "tests make it"

    def native(self, folder):
        for line, row in read_jsonl(folder.given or folder.find("quiz.jsonl")):
            yield Sample(row["id"], row, (folder.image(row["image"]),), cluster=row["image"], part=row["part"])


class Quiz(ImageTask):
    """Right if it says the gold."""

    submission = 'jsonl with `id` and `answer`; a graded one with `grade` too'
    headline = ("a/accuracy", "b/accuracy")

    def score(self, sample, answer):
        return {"part": sample.part, "correct": float(answer == sample.data["gold"])}

    def metrics(self):
        return by("part", ("a", "b", "c"), [mean("accuracy", "correct", proportion=True)])

    def right_answer(self, sample):
        return [Response("ok", text=sample.data["gold"])]

    def submitted(self, files, source):
        pairs = []
        for where, row in read_rows(one_path(files)):
            key, text = need(row, ("id", files.options.get("column", "answer")), where)
            pairs.append((key, (text_of(text, where), row.get("grade")), where))
        samples = list(self.samples(source))
        known = {sample.id for sample in samples}
        found = Submission(samples, {}, notes=["a note of the task"])
        for key, (text, grade) in by_id(pairs).items():
            if key not in known:
                found.unknown.append(key)
                continue
            found.responses[key] = (said(text),)
            if grade is not None:
                found.verdicts[key] = [grade]
        return found


ROLE = JudgeRole(
    name="grader", official="judge-1", ask=lambda record: Generate(Prompt(record["id"]), greedy(3)), parse=float,
    offline=lambda record: 0.5, stand_in="lexical",
)
PROTOCOLS = {
    "official": Protocol("{question}", greedy(5)),
    "upper": Protocol("{question}", greedy(5), parse=lambda text: text.strip().lower()),
    "polite": Protocol("Please: {question}", greedy(5)),
}


@task("quiz", version=1, protocols=PROTOCOLS, data=Files)
class Plain(Quiz):
    """Right if it says the gold."""


@task("judged_quiz", version=1, protocols=PROTOCOLS, data=Files)
class Judged(Quiz):
    """As good as the judge says."""

    judge = ROLE
    headline = ()

    def metrics(self):
        prefix = "lexical/" if self.judged_by == "lexical" else ""
        return [mean(f"{prefix}grade", "grade")]

    def finish(self, records):
        for record in records:
            record["grade"] = float(record["verdicts"][0])
'''


@pytest.fixture
def quiz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin, data without a single image, and a working folder."""
    isolate_registry(monkeypatch)
    (tmp_path / "quiz.py").write_text(PLUGIN)
    (tmp_path / "data").mkdir()
    rows = [
        {"id": f"{part}{i}", "question": f"q{i}?", "gold": "yes", "image": f"{i % 3}.png", "part": part}
        for part in ("a", "b")
        for i in range(6)
    ]
    (tmp_path / "data" / "quiz.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(folder: Path, said: dict[str, str], name: str = "model-7b.jsonl", **more: Any) -> str:
    lines = [json.dumps({"id": key, "answer": text, **more}) for key, text in said.items()]
    (folder / name).write_text("\n".join(lines) + "\n")
    return name


def everything(text: str = "yes") -> dict[str, str]:
    return {f"{part}{i}": text for part in ("a", "b") for i in range(6)}


def score(*arguments: str, task: str = "quiz") -> int:
    return main(["score", task, "--include", "quiz.py", *arguments])


def test_table_json_and_result_say_the_same(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = answers(quiz, {**everything(), "a0": "no", "a1": "no"})
    assert score("--answers", name, "--data", "data", "--json", "s.json", "--out", "out") == 0
    printed = capsys.readouterr().out
    assert "a/accuracy" in printed
    assert "66.7" in printed
    assert "a note of the task" in printed
    values = json.loads((quiz / "s.json").read_text())
    assert values == {"a/accuracy": 4 / 6, "b/accuracy": 1.0, "c/accuracy": None}
    path = quiz / "out" / "model-7b" / "quiz.json"
    result = read_result(path)
    assert result["metrics"]["a/accuracy"]["value"] == 4 / 6
    assert result["model"]["name"] == "model-7b"
    assert result["model"]["identity"]["kind"] == "answers"
    assert (result["params"], result["prompt"]) == ({}, "")
    assert "quiz.v1" in result["signature"]
    rows = list(read_samples(path, result))
    assert [row["answers"][0]["text"] for row in rows][:3] == ["no", "no", "yes"]
    assert not list(quiz.glob("out/**/.*")), "nothing half-written is left"


def test_other_answers_are_another_model_and_the_same_answers_the_same(quiz: Path) -> None:
    def identity(said: dict[str, str], name: str) -> str:
        assert score("-a", answers(quiz, said, name), "--data", "data", "--out", "out", "--name", "m") == 0
        return str(read_result(quiz / "out" / "m" / "quiz.json")["model"]["fingerprint"])

    first = identity(everything(), "a.jsonl")
    assert identity(everything(), "b.jsonl") == first
    assert identity(everything("no"), "c.jsonl") != first


def test_json_to_stdout_is_json_alone(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score("-a", answers(quiz, everything()), "--data", "data", "--json", "-") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["b/accuracy"] == 1.0
    assert "a/accuracy" in captured.err


def test_full_precision(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score("-a", answers(quiz, {**everything(), "a0": "no"}), "--data", "data", "--json", "-") == 0
    assert math.isclose(json.loads(capsys.readouterr().out)["a/accuracy"], 5 / 6, rel_tol=0, abs_tol=1e-15)


def test_a_protocol_is_a_parser(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = answers(quiz, everything("YES"))
    for protocol, value in (("official", 0.0), ("upper", 1.0)):
        assert score("-a", name, "--data", "data", "--protocol", protocol, "--json", "-") == 0
        assert json.loads(capsys.readouterr().out)["a/accuracy"] == value
    assert score("-a", name, "--data", "data", "--protocol", "uper") == 2
    assert "did you mean 'upper'" in capsys.readouterr().err


def test_data_may_be_a_file_of_any_name_or_come_from_the_environment(
    quiz: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = answers(quiz, everything())
    (quiz / "data" / "quiz.jsonl").rename(quiz / "other.jsonl")
    assert score("-a", name, "--data", "other.jsonl") == 0
    assert score("-a", name, "--data", "quiz=other.jsonl") == 0
    assert score("-a", name) == 2
    error = capsys.readouterr().err
    assert "--data is missing: scoring quiz needs quiz.jsonl and images/" in error
    (quiz / "other.jsonl").rename(quiz / "data" / "quiz.jsonl")
    monkeypatch.setenv("MMEVAL_DATA", str(quiz / "data"))
    assert score("-a", name) == 0


def test_data_named_in_vain_are_not_called_missing(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (quiz / "empty").mkdir()
    assert score("-a", answers(quiz, everything()), "--data", "empty") == 2
    error = capsys.readouterr().err
    assert "quiz.jsonl not found in empty" in error
    assert score("-a", answers(quiz, everything()), "--data", "nowhere") == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err


def test_a_partial_file_is_reported_and_scored_only_with_leave(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = answers(quiz, {key: text for key, text in everything().items() if key not in ("a0", "b5")})
    assert score("-a", name, "--data", "data", "--json", "s.json", "--out", "out") == 2
    error = capsys.readouterr().err
    assert "no answer for 2 of 12 samples: 'a0', 'b5'; --allow-missing" in error
    assert error.count("\n") == 1
    assert not (quiz / "s.json").exists()
    assert not (quiz / "out").exists()
    assert score("-a", name, "--data", "data", "--json", "s.json", "--allow-missing", "--out", "out") == 0
    assert "2 of 12 samples are not answered and do not count" in capsys.readouterr().out
    assert json.loads((quiz / "s.json").read_text())["a/accuracy"] == 1.0
    counts = read_result(quiz / "out" / "model-7b" / "quiz.json")["counts"]
    assert (counts["n"], counts["n_missing"]) == (10, 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"id": "a0", "answer": "yes"}\n{"id": "a1", "ans', "bad.jsonl:2: not valid JSON"),
        ('{"id": "a0", "answer": "yes"}\n{"id": "a0", "answer": "no"}', "bad.jsonl:2: id 'a0' occurs twice"),
        ('{"id": "a0", "reply": "yes"}', "bad.jsonl:1: field 'answer' is missing; found id, reply"),
        ('{"id": "a0", "answer": 3}', "bad.jsonl:1: expected the answer as text, found int"),
        ("", "no answer for any of the 12 samples"),
        ('{"id": "zz", "answer": "yes"}', "1 ids are no samples of these data: 'zz'; ids are like 'a0'"),
        ('{"id": "a0", "answer": "yes"}\n{"id": "x1", "answer": "yes"}', "'x1'"),
    ],
)
def test_bad_answers_end_with_one_line_and_nothing_written(
    quiz: Path, content: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (quiz / "bad.jsonl").write_text(content)
    assert score("-a", "bad.jsonl", "--data", "data", "--allow-missing", "--json", "s.json", "--out", "out") == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (quiz / "s.json").exists()
    assert not (quiz / "out").exists()


def test_an_answer_file_that_is_not_text(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (quiz / "bad.jsonl").write_bytes(b'{"id": "a0", "answer": "\xff\xfe"}')
    assert score("-a", "bad.jsonl", "--data", "data") == 2
    assert "bad.jsonl: not UTF-8 text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--answers is missing"),
        (("-a", "nothing.jsonl"), "nothing.jsonl: no such file or folder"),
        (("-a", "model-7b.jsonl", "-a", "model-7b.jsonl"), "give one file or folder, or PART=PATH"),
        (("-a", "x=model-7b.jsonl", "-a", "x=model-7b.jsonl"), "part 'x' is given twice"),
        (("-a", "x=model-7b.jsonl", "-a", "model-7b.jsonl"), "stands beside PART=PATH"),
        (("-a", "model-7b.jsonl", "--synonyms", "none.txt"), "--synonyms none.txt: no such file"),
        (("-a", "model-7b.jsonl", "--data", "data", "--synonyms", "quiz.py"), "--synonyms: means nothing"),
        (("-a", "model-7b.jsonl", "--data", "data", "--tasks", "quiz"), "selects tasks of a run"),
        (("-a", "model-7b.jsonl", "--data", "data", "--judge", "no:such"), "no:such"),
        (("-a", "model-7b.jsonl", "--data", "data", "--json", "no/such/folder.json"), "cannot write there"),
    ],
)
def test_bad_commands(quiz: Path, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    answers(quiz, everything())
    assert score(*arguments) == 2
    assert says in capsys.readouterr().err


def test_a_column_of_its_own(quiz: Path) -> None:
    lines = [json.dumps({"id": key, "mine": text}) for key, text in everything().items()]
    (quiz / "m.jsonl").write_text("\n".join(lines))
    assert score("-a", "m.jsonl", "--data", "data", "--column", "mine") == 0


def test_tasks_without_a_submission_format_say_so(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (quiz / "plain.py").write_text(
        PLUGIN.replace("def submitted", "def _unused").replace('"quiz"', '"mute"').replace('"judged_quiz"', '"mute2"')
    )
    answers(quiz, everything())
    assert main(["score", "mute", "--include", "plain.py", "-a", "model-7b.jsonl", "--data", "data"]) == 2
    assert "mute reads no answer files" in capsys.readouterr().err


def test_the_stand_in_judges_and_is_named(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = answers(quiz, everything())
    assert score("-a", name, "--data", "data", "--json", "-", "--out", "out", task="judged_quiz") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"lexical/grade": 0.5}
    assert "@lexical" in captured.err
    assert read_result(quiz / "out" / "model-7b" / "judged_quiz.json")["task"]["judge"] == "lexical"


def test_a_model_judges_and_its_verdicts_are_kept(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (quiz / "j.json").write_text(json.dumps([{"match": "", "text": "0.75"}]))
    arguments = ["-a", answers(quiz, everything()), "--data", "data", "--judge", "scripted:j.json", "--out", "out"]
    for said in ("12 verdicts, 0 failed; 12 calls, 0 answered before", "0 calls, 12 answered before"):
        assert score(*arguments, "--json", "-", task="judged_quiz") == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out) == {"grade": 0.75}
        assert said in captured.err
    assert score("-a", "model-7b.jsonl", "--data", "data", "--judge", "scripted:j.json") == 2
    assert "nothing is judged in quiz" in capsys.readouterr().err


def test_grades_in_the_files_win(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = answers(quiz, everything(), grade=0.25)
    assert score("-a", name, "--data", "data", "--json", "-", "--out", "out", task="judged_quiz") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"grade": 0.25}
    result = read_result(quiz / "out" / "model-7b" / "judged_quiz+submitted.json")
    assert result["task"]["judge"] == "submitted"


def test_answers_without_a_grade_beside_graded_ones_are_missing(quiz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": key, "answer": "x", **({} if key == "b3" else {"grade": 1.0})} for key in everything()]
    (quiz / "g.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert score("-a", "g.jsonl", "--data", "data", task="judged_quiz") == 2
    assert "no grade for 1 of 12 samples: 'b3'" in capsys.readouterr().err
    assert score("-a", "g.jsonl", "--data", "data", "--allow-missing", task="judged_quiz") == 0


LIGHT = """
import json, sys
from mmalign_eval.cli.main import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


def test_scoring_loads_no_model_library(quiz: Path) -> None:
    command = ["score", "quiz", "--include", "quiz.py", "-a", answers(quiz, everything()), "--data", "data"]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    ran = subprocess.run(
        [sys.executable, "-c", LIGHT, *command], capture_output=True, text=True, check=False, cwd=quiz, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    last = json.loads(ran.stdout.splitlines()[-1])
    assert last["code"] == 0
    heavy = ("torch", "transformers", "lm_eval", "datasets", "pandas", "openai", "peft")
    assert [name for name in heavy if name in last["modules"]] == []
