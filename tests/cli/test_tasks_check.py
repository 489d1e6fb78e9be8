"""`mmeval tasks check`: a sound task passes, and each way of being wrong is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mmalign_eval.check import Report, check_task
from mmalign_eval.cli.main import main
from mmalign_eval.conducts import CONDUCTS, EMPTY, FAILING, nasty_texts
from mmalign_eval.data.source import DataChoice
from mmalign_eval.registry import TASKS

from ..toy import isolate_registry, make_toy

Capsys = pytest.CaptureFixture[str]
Check = Callable[..., Report]

SCORE = 'return {"correct": float(answer == sample.data["gold"])}'
METRICS = 'return [mean("accuracy", "correct", proportion=True)]'
RIGHT = 'return [Response("ok", text=sample.data["gold"])]'
CHOOSE = """
    def requests(self, sample):
        from mmalign_eval.requests import Choose, Prompt
        return [Choose(Prompt(sample.data["question"], sample.images), (" yes", " no"))]

    def record(self, sample, responses):
        values = responses[0].logprobs
        return {"correct": float((" yes", " no")[values.index(max(values))] == " " + sample.data["gold"])}

    def score(self, sample, answer):
        raise NotImplementedError
"""


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_registry(monkeypatch)


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Checks the toy task after replacing pieces of its code and changing its rows."""
    plugin, data = make_toy(tmp_path)

    def run(*changes: tuple[str, str], rows: Callable[[list[dict[str, str]]], object] | None = None) -> Report:
        text = plugin.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        plugin.write_text(text)
        if rows:
            found = [json.loads(line) for line in (data / "toy.jsonl").read_text().splitlines()]
            rows(found)
            (data / "toy.jsonl").write_text("\n".join(map(json.dumps, found)))
        TASKS.include(str(plugin))
        return check_task("toy", "", DataChoice.parse([str(data)], only_mini=True))

    return run


def failed(report: Report) -> dict[str, str]:
    return {finding.what: finding.cause for finding in report.findings if not finding.passed}


def choosing(answer: str) -> tuple[tuple[str, str], ...]:
    """Changes that make the toy a multiple-choice task whose right answer gives these log-likelihoods."""
    score = f"""    def score(self, sample, answer):
        {SCORE}
"""
    return ((score, CHOOSE), (RIGHT, f'return [Response("ok", logprobs={answer})]'))


GOLD = '(-1.0, -9.0) if sample.data["gold"] == "yes" else (-9.0, -1.0)'


def test_a_sound_task_passes(check: Check) -> None:
    report = check()
    assert report.passed, failed(report)
    assert (report.n, report.data, report.protocol, report.notes) == (20, "native files", "official", [])
    assert list(report.values) == [conduct.name for conduct in CONDUCTS]
    values = {name: found["accuracy"].value for name, found in report.values.items()}
    assert values["right"] == 1.0
    assert values["failing"] is None
    assert values["half right"] is not None
    assert 0 < values["half right"] < 1
    assert {values[name] for name in ("wrong case", "empty", "refusing", "10,000-character", "odd characters")} == {0.0}
    assert any(finding.what.startswith(f"{len(nasty_texts())} nasty texts") for finding in report.findings)


def test_a_sound_multiple_choice_task_passes(check: Check) -> None:
    report = check(*choosing(GOLD))
    assert report.passed, failed(report)
    assert report.values["refusing"]["accuracy"].value == 0.0  # the preferences reversed
    assert report.values["empty"]["accuracy"].value == 0.5  # no preference: the first option, right in half


def test_multiple_choice_where_the_first_option_is_always_right_passes(check: Check) -> None:
    def first(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["gold"] = "yes"

    assert check(*choosing(GOLD), rows=first).passed


@pytest.mark.parametrize(
    ("changes", "what", "cause"),
    [
        pytest.param(
            [(RIGHT, 'return [Response("ok", text="yes")]')],
            "right answers score full marks",
            "accuracy is 0.5, best is 1",
            id="a wrong right answer",
        ),
        pytest.param(
            [(METRICS, 'return [mean("accuracy", "correct", unit="percent", best=100.0)]')],
            "right answers score full marks",
            "accuracy is 1, best is 100",
            id="a wrong unit",
        ),
        pytest.param(
            [(METRICS, 'return [mean("accuracy", "correct", best=None, better="lower")]')],
            "right answers score full marks",
            "accuracy is 1 for right answers, 0 for empty ones",
            id="an unbounded metric that does not rise",
        ),
        pytest.param(
            [(METRICS, 'return [mean("accuracy", "correct", best=1.0, better="lower")]')],
            "empty answers never beat right ones",
            "accuracy is 0, 1 for right answers",
            id="a wrong direction",
        ),
        pytest.param(
            [(SCORE, 'return {"correct": 1.0}')],
            "metrics tell refusing answers from right ones",
            "every metric is as for right answers (20 samples)",
            id="a generous score",
        ),
        pytest.param(
            [(SCORE, 'return {"correct": float(answer in ("", sample.data["gold"]))}')],
            "metrics tell empty answers from right ones",
            "every metric is as for right answers (20 samples)",
            id="a parser that takes nothing for right",
        ),
        pytest.param(
            [(METRICS, 'return [mean("a", "correct"), mean("a", "correct")]')],
            "metrics have unique names, the headline's among them",
            "'a' occurs twice",
            id="two metrics of one name",
        ),
        pytest.param(
            [('"""Yes if even."""', 'headline = ("acuracy",)')],
            "metrics have unique names, the headline's among them",
            "headline names 'acuracy', which is none of accuracy",
            id="an unknown headline",
        ),
        pytest.param(
            [(RIGHT, "return []")],
            "right_answer() gives one response for each request",
            "sample s0: 1 requests, 0 right responses",
            id="too few right answers",
        ),
        pytest.param(
            [(RIGHT, 'return [Response("error", error="no")]')],
            "right_answer() gives one response for each request",
            "is not an answered Response",
            id="an error as right answer",
        ),
        pytest.param(
            [(SCORE, 'return {"correct": float(answer == sample.data["gold"]), "seen": {answer}}')],
            "records survive being written and read",
            "Object of type set is not JSON serializable",
            id="a set in a record",
        ),
        pytest.param(
            [
                (SCORE, 'return {"hit": {1: float(answer == sample.data["gold"])}}'),
                (METRICS, 'return [Metric("a", lambda rs: [sum(r["hit"].get(1, 0) for r in rs), len(rs)], ratio)]'),
                ("import mean", "import Metric, mean, ratio"),
            ],
            "records survive being written and read",
            "and then 0",
            id="keys that become strings",
        ),
        pytest.param(
            [
                (METRICS, 'return [Metric("a", lambda rs: [rs[-1]["correct"], 1.0], ratio)]'),
                ("import mean", "import Metric, mean, ratio"),
            ],
            "metrics do not depend on the order of records",
            "and then",
            id="the last record counts",
        ),
        pytest.param(
            [(SCORE, f"assert answer.isascii(); {SCORE}")],
            "scripted models can be scored",
            "conduct 'odd characters': task toy cannot score sample",
            id="a score that raises in the pipeline",
        ),
        pytest.param(
            [(SCORE, f"assert len(answer) < 100_000; {SCORE}")],
            "nasty texts",
            "toy_task.py:",
            id="a score that raises on a million characters",
        ),
        pytest.param(
            [(METRICS, "return [1 / 0]")],
            "scripted models can be scored",
            "ZeroDivisionError",
            id="metrics that raise",
        ),
    ],
)
def test_what_is_wrong_is_found(check: Check, changes: list[tuple[str, str]], what: str, cause: str) -> None:
    report = check(*changes)
    found = failed(report)
    name = next((key for key in found if what in key), "")
    assert name, found
    assert cause in found[name]


def test_every_failure_says_what_to_do(check: Check) -> None:
    report = check((RIGHT, 'return [Response("ok", text="yes")]'))
    assert [finding.cure for finding in report.findings if not finding.passed]
    assert all(bool(finding.cure) != finding.passed for finding in report.findings)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("return [Choose(Prompt(sample.data['question']), [' a', ' b'])]", "sample s0: unhashable type: 'list'"),
        ("return ['Is it even?']", "sample s0: requests() gave a str, not Generate or Choose"),
        ("return [Generate(Prompt(str(next(COUNT))), greedy(5))]", "sample s19: asked again, requests() gives others"),
        ("return [Generate(Prompt(sample.data['question']), greedy(5))]", "none does in an image task"),
        ("return [Choose(Prompt('a', sample.images), ())]", "sample s0: Choose without options"),
        ("return []", "asks nothing for sample s0"),
        ("return [1 / 0]", "task toy cannot make requests for sample s0: ZeroDivisionError: division by zero ("),
    ],
)
def test_requests_that_cannot_be(check: Check, body: str, cause: str) -> None:
    imports = "import itertools\nfrom mmalign_eval.requests import Choose, Generate, Prompt\n"
    before = f"{imports}COUNT = itertools.count()\n\n\nclass Files"
    new = f"    def requests(self, sample):\n        {body}\n\n    def score("
    report = check(("class Files", before), ("    def score(", new))
    assert len(failed(report)) == 1, report.findings
    assert cause in next(iter(failed(report).values()))
    assert not report.values  # nothing is asked of a model


def test_samples_that_raise_are_shown_with_their_line(check: Check) -> None:
    report = check(("for _, row in", 'raise KeyError("no such field")\n        for _, row in'))
    (cause,) = failed(report).values()
    assert "task toy cannot read its data: KeyError: 'no such field' (" in cause
    assert "toy_task.py:" in cause


def test_a_corrupt_image_is_named(check: Check, tmp_path: Path) -> None:
    (tmp_path / "toy" / "images" / "3.png").write_bytes(b"not an image")
    report = check()
    (cause,) = (c for w, c in failed(report).items() if "scored on every sample" in w)
    assert "conduct 'right', sample s3: image " in cause
    assert "cannot be decoded" in cause


def test_samples_that_ask_the_same_with_another_answer_are_left_out(check: Check) -> None:
    def twins(rows: list[dict[str, str]]) -> None:
        rows[1].update(question=rows[0]["question"], image=rows[0]["image"])  # s0: yes, s1: no
        rows[3].update(question=rows[2]["question"], image=rows[2]["image"], gold="yes")  # the same answer: harmless

    report = check(rows=twins)
    assert report.passed, failed(report)
    assert report.notes == ["1 samples left out: they ask what another asks, with another right answer"]


def test_values_that_are_no_formulas_are_remarked_on_and_pass(check: Check) -> None:
    plain = 'return [mean("accuracy", "correct"), Metric("root", mean_of("correct"), lambda s: ratio(s) ** 0.5)]'
    report = check((METRICS, plain), ("import mean", "import Metric, mean, mean_of, ratio"))
    assert report.passed, failed(report)
    assert report.notes == ["no Formula, so no paired test in comparisons: root"]


def test_the_command_checks_every_protocol_and_prints_what_it_found(tmp_path: Path, capsys: Capsys) -> None:
    plugin, data = make_toy(tmp_path)
    words = ["tasks", "check", "toy", "--include", str(plugin), "--data", f"toy={data}", "--limit", "6"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "toy  official  6 samples  native files  passed\n" in said
    assert "toy  sampled  6 samples  native files  passed\n" in said
    assert "right             100.0\n" in said
    assert "failing           -\n" in said
    assert "FAIL" not in said
    assert main([*words, "--protocol", "sampled"]) == 0
    assert "official" not in capsys.readouterr().out


def test_the_command_tells_cause_and_cure_and_exits_with_1(tmp_path: Path, capsys: Capsys) -> None:
    plugin, data = make_toy(tmp_path)
    plugin.write_text(plugin.read_text().replace(RIGHT, 'return [Response("ok", text="yes")]'))
    assert main(["tasks", "check", "to*", "--include", str(plugin), "--data", f"toy={data}"]) == 1
    said = capsys.readouterr().out
    assert "found wanting" in said
    assert "FAIL  right answers score full marks: accuracy is 0.5, best is 1\n      -> correct right_answer()" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["toy"], "toy: the miniature holds no data for it; give --data toy=DIR with toy.jsonl and images"),
        (["toy", "--protocol", "offical"], "did you mean 'official'"),
        (["toi"], "did you mean 'toy'"),
        (["toy", "--data", "toi=x"], "task 'toi' is not selected - did you mean 'toy'"),
        (["toy", "--data", "EMPTY"], "toy.jsonl not found in"),
    ],
)
def test_what_cannot_be_checked_exits_with_2(tmp_path: Path, capsys: Capsys, words: list[str], says: str) -> None:
    plugin, _ = make_toy(tmp_path)
    (tmp_path / "empty").mkdir()
    words = [str(tmp_path / "empty") if word == "EMPTY" else word for word in words]
    assert main(["tasks", "check", *words, "--include", str(plugin)]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert not captured.out


def test_one_task_without_data_does_not_hide_the_others(tmp_path: Path, capsys: Capsys) -> None:
    plugin, data = make_toy(tmp_path)
    other = tmp_path / "other.py"
    other.write_text(plugin.read_text().replace('"toy"', '"twin"'))
    include = ["--include", str(plugin), "--include", str(other)]
    assert main(["tasks", "check", "t?[yi]*", *include, "--data", f"toy={data}", "--protocol", "official"]) == 2
    said = capsys.readouterr().out
    assert "toy  official  20 samples  native files  passed" in said
    assert "twin  official  not checked: twin: the miniature holds no data for it" in said


def test_nasty_texts_are_the_same_every_time_and_have_what_they_promise() -> None:
    texts = nasty_texts()
    assert texts == nasty_texts()
    assert max(map(len, texts)) >= 1_000_000
    assert {"", "\0"} <= set(texts)
    assert any("\u2028" in text for text in texts)


def test_a_failing_model_that_gets_a_score_is_found(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = replace(FAILING, act=EMPTY.act)
    monkeypatch.setattr("mmalign_eval.check.CONDUCTS", (*CONDUCTS[:-1], answering))
    assert failed(check()) == {
        "a failing model counts as errors and is never scored": "accuracy has a value although nothing was answered"
    }
