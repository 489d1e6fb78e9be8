"""Judges through the real command line: a server that fails, refuses, talks nonsense; budgets, runs, agreement."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.results import find_results, read_result, read_samples
from tests.models.fault_server import FaultServer, Reply, Seen, error, ok

Capsys = pytest.CaptureFixture[str]
GRADED = "mmvet"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-judge-0123456789")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "m.yaml").write_text("- match: place\n  text: street\n- text: the cat\n")
    return f"scripted:{tmp_path / 'm.yaml'}"


def run(out: Path, model: str, *more: str, task: str = GRADED, limit: int = 6) -> int:
    words = ["run", "--model", model, "--tasks", task, "--data", "mini", "--limit", str(limit), "--out", str(out)]
    return main([*words, *more])


def judge(server: FaultServer, name: str = "gpt-4", **options: Any) -> list[str]:
    given = {"max_retries": 0, **options}
    return ["--judge", ",".join([f"openai:{name}", f"base_url={server.url}", *(f"{k}={v}" for k, v in given.items())])]


def result(out: Path, pattern: str = "+") -> dict[str, Any]:
    (path,) = [p for p in find_results(out) if pattern in p.name]
    return read_result(path)


def values(found: dict[str, Any]) -> dict[str, float | None]:
    return {name: metric["value"] for name, metric in found["metrics"].items()}


def test_grades_are_given_once_and_named_after_the_snapshot(tmp_path: Path, model: str, capsys: Capsys) -> None:
    with FaultServer(lambda seen: ok("0.5")) as server:
        assert run(tmp_path / "out", model, *judge(server)) == 0
        printed = capsys.readouterr().out
        assert "@served-1" in printed
        assert "n_failed" in printed
        first = result(tmp_path / "out", "mmvet+served-1.json")
        assert values(first)["total"] == 50.0
        assert "|judge:served-1|" in first["signature"]
        assert first["task"]["judge"] == "served-1"
        spent = {key: first["judge"][key] for key in ("n_verdicts", "n_failed", "calls", "cached", "prompt_tokens")}
        assert spent == {"n_verdicts": 6, "n_failed": 0, "calls": 6, "cached": 0, "prompt_tokens": 66}
        body = server.seen[0].body
        assert (body["model"], body["max_tokens"], body["temperature"]) == ("gpt-4", 3, 0.0)
        assert [message["role"] for message in body["messages"]] == ["user"]

        assert run(tmp_path / "out", model, *judge(server)) == 0
        assert len(server.seen) == 6
        again = result(tmp_path / "out", "mmvet+served-1.json")
        assert again["judge"]["cached"] == 6
        assert again["signature"] == first["signature"]
        assert again["metrics"] == first["metrics"]
        assert "sk-test" not in json.dumps(again)

        assert run(tmp_path / "out", model) == 0  # the stand-in's result lies beside it
        assert "lexical/total" in result(tmp_path / "out", "mmvet.json")["metrics"]
        assert values(result(tmp_path / "out", "mmvet+served-1.json")) == values(first)


def test_faults_are_retried_counted_and_never_hidden(tmp_path: Path, model: str) -> None:
    """500 then an answer; 429 then an answer; a refusal until asked otherwise; nonsense for ever."""
    seen_before: dict[str, int] = {}

    def behave(seen: Seen) -> Reply:
        text = seen.body["messages"][-1]["content"]
        line = text.removesuffix("\nPredict the correctness of the answer (digit): ").split("\n")[-1]
        seen_before[line] = count = seen_before.get(line, 0) + 1
        number = list(seen_before).index(line)
        if number == 0 and count < 3:
            return error(500)
        if number == 1 and count == 1:
            return error(429, Retry_After="0")
        if number == 2 and "(digit)" not in text:
            return ok(None, refusal="I would rather not")
        if number == 3:
            return ok("As an AI model")
        return ok("1.0")

    with FaultServer(behave) as server:
        assert run(tmp_path / "out", model, *judge(server, concurrency=1)) == 0
    found = result(tmp_path / "out")
    n = len(seen_before)
    assert n == 6
    assert values(found)["n_failed"] == 1
    assert values(found)["total"] == pytest.approx(100 * 5 / 6)
    assert values(found)["total_answered"] == 100.0
    assert (found["judge"]["n_failed"], found["judge"]["retries"]) == (1, 2 + 1 + 1 + 5)
    digits = [seen for seen in server.seen if "(digit)" in seen.body["messages"][-1]["content"]]
    nonsense = [seen.body["temperature"] for seen in digits][-5:]
    assert nonsense == sorted(nonsense)
    assert nonsense[-1] == 2.0
    (path,) = [p for p in find_results(tmp_path / "out") if "+" in p.name]
    rows = list(read_samples(path, found))
    assert sorted(str(row["judged"][0]) for row in rows)[0] == "{'text': '1.0', 'verdict': 1.0}"
    verdicts = [row["record"]["verdicts"] for row in rows]
    assert sorted(map(str, verdicts)) == ["[1.0]"] * 5 + ["[None]"]


def test_a_wrong_key_ends_the_run_in_a_line_and_writes_no_result(tmp_path: Path, model: str, capsys: Capsys) -> None:
    with FaultServer(lambda seen: error(401)) as server:
        assert run(tmp_path / "out", model, *judge(server)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "OPENAI_API_KEY was not accepted" in said
    assert not find_results(tmp_path / "out")


def test_the_budget_stops_and_the_same_command_goes_on(tmp_path: Path, model: str, capsys: Capsys) -> None:
    with FaultServer(lambda seen: ok("0.5")) as server:
        assert run(tmp_path / "out", model, *judge(server), "--judge-budget", "4calls") == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said == (
            "mmeval: --judge-budget 4calls is spent (4 calls): 2 of 6 verdicts of gpt-4 as grader remain; all given so "
            "far are kept - run the same command again, or with a larger budget, to go on"
        )
        assert not find_results(tmp_path / "out")
        assert run(tmp_path / "out", model, *judge(server), "--judge-budget", "5calls") == 0
        assert len(server.seen) == 6
    assert values(result(tmp_path / "out"))["total"] == 50.0


def test_a_budget_in_dollars(tmp_path: Path, model: str, capsys: Capsys) -> None:
    with FaultServer(lambda seen: ok("0.5")) as server:
        assert run(tmp_path / "out", model, *judge(server), "--judge-budget", "5") == 2
        assert "what gpt-4 costs is not known; give its price" in capsys.readouterr().err
        assert not server.seen
        price = judge(server, price_in=1000000, price_out=0)  # a dollar a token: 11 a call, as the server counts
        assert run(tmp_path / "out", model, *price, "--judge-budget", "800") == 2
        assert re.search(r"spent \(\d+ calls, \d+\.00 US dollars\)", capsys.readouterr().err)
        assert 0 < len(server.seen) * 11 <= 800
        known = judge(server, "gpt-4-0613")
        assert run(tmp_path / "other", model, *known, "--judge-budget", "5") == 0
    spent = result(tmp_path / "other")["judge"]
    assert spent["dollars"] == pytest.approx(6 * (11 * 30 + 3 * 60) / 1e6)


def test_several_runs_have_their_spread(tmp_path: Path, model: str) -> None:
    count: dict[str, int] = {}
    lock = threading.Lock()

    def behave(seen: Seen) -> Reply:
        text = seen.body["messages"][-1]["content"]
        with lock:
            count[text] = count.get(text, 0) + 1
        return ok("1.0" if count[text] == 1 else "0.5")

    with FaultServer(behave) as server:
        more = [*judge(server, concurrency=1), "--judge-runs", "2"]
        assert run(tmp_path / "out", model, *more) == 0
        assert len(server.seen) == 12
    found = values(result(tmp_path / "out"))
    assert found["total"] == 75.0
    assert 0 <= found["std"] <= 25.0
    assert "|judge:served-1 x2|" in result(tmp_path / "out")["signature"]
    (path,) = [p for p in find_results(tmp_path / "out") if "+" in p.name]
    assert all(sorted(r["record"]["verdicts"]) == [0.5, 1.0] for r in read_samples(path, read_result(path)))


def test_concurrency_is_bounded(tmp_path: Path, model: str) -> None:
    with FaultServer(lambda seen: ok("0.5", delay=0.02)) as server:
        assert run(tmp_path / "out", model, *judge(server, concurrency=3), limit=18) == 0
        assert 1 < server.peak <= 3


def test_reviews_keep_their_failures_in_the_means(tmp_path: Path, model: str) -> None:
    def behave(seen: Seen) -> Reply:
        text = seen.body["messages"][-1]["content"]
        return ok("no scores" if "How many objects" in text else "8 6\nBecause.")

    with FaultServer(behave) as server:
        assert run(tmp_path / "out", model, *judge(server, "gpt-4-0314"), task="llava_bench", limit=9) == 0
        assert server.seen[0].body["messages"][0]["role"] == "system"
    found = result(tmp_path / "out")
    failed, n = int(values(found)["n_failed"] or 0), found["counts"]["n"]
    assert 0 < failed < n
    expected = 100 * (6 * (n - failed) - failed) / (8 * (n - failed) - failed)
    assert values(found)["all/relative"] == pytest.approx(expected)
    assert values(found)["all/relative_answered"] == pytest.approx(75.0)
    assert found["judge"]["retries"] == 2 * failed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--judge", "gpt-4"], "--judge gpt-4: unknown model kind 'gpt-4'"),
        (["--judge", "openai:"], "--judge openai:: openai: needs the model's name"),
        (["--judge-runs", "3"], "--judge-runs is for a model as judge"),
        (["--judge-budget", "3calls"], "--judge-budget is for a model as judge"),
        (["--judge", "openai:x", "--judge-budget", "much"], "--judge-budget much: expected dollars"),
        (["--judge", "openai:x,price_in=3"], "give price_in= and price_out="),
    ],
)
def test_what_makes_no_judge_is_told_before_anything_is_asked(
    tmp_path: Path, model: str, capsys: Capsys, words: list[str], says: str
) -> None:
    for more in ([], ["--dry-run"]):
        assert run(tmp_path / "out", model, *words, *more) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1


def test_a_dry_run_counts_the_calls(tmp_path: Path, model: str, capsys: Capsys) -> None:
    assert run(tmp_path / "out", model, "--judge", "openai:gpt-4-0613", "--judge-runs", "5", "--dry-run") == 0
    assert " 30 judge calls " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_config_file_names_a_judge(tmp_path: Path, model: str) -> None:
    with FaultServer(lambda seen: ok("0.5")) as server:
        spec = judge(server)[1]
        (tmp_path / "c.yaml").write_text(f"judge: {spec}\njudge_runs: 2\njudge_budget: 12calls\n")
        assert run(tmp_path / "out", model, "--config", str(tmp_path / "c.yaml")) == 0
        assert len(server.seen) == 12


def grade_by(rule: Callable[[str], str]) -> Callable[[Seen], Reply]:
    return lambda seen: ok(rule(seen.body["messages"][-1]["content"].split("\n")[-1]))


def test_two_judges_agree_or_not(tmp_path: Path, model: str, capsys: Capsys) -> None:
    (tmp_path / "other.yaml").write_text("- text: bedroom\n")
    models = ["--model", f"scripted:{tmp_path / 'other.yaml'}"]
    out = tmp_path / "out"
    with FaultServer(grade_by(lambda line: "1.0" if "street" in line.split(" | ")[2] else "0.0")) as one:
        assert run(out, model, *models, *judge(one, "likes-streets")) == 0

    def other(seen: Seen) -> Reply:
        reply = grade_by(lambda line: "1.0" if "bedroom" in line.split(" | ")[2] else "0.0")(seen)
        return replace(reply, body=reply.body.replace(b"served-1", b"served-2"))

    capsys.readouterr()
    with FaultServer(other) as two:
        assert (
            main(["judge", "agree", str(out), *judge(two, "likes-bedrooms"), "--json", str(tmp_path / "a.json")]) == 0
        )
        calls = len(two.seen)
        printed = capsys.readouterr().out
        assert "judges  A served-1  B served-2" in printed
        assert "mmvet: the ranking changes: A m > other; B other > m" in printed
        assert main(["judge", "agree", str(out), *judge(two, "likes-bedrooms"), "--json", "-"]) == 0
        assert len(two.seen) == calls  # kept
        assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "a.json").read_text())
        assert run(out, model, *models, *judge(two, "likes-bedrooms")) == 0  # now the run has both
    capsys.readouterr()
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["judges"] == ["served-1", "served-2"]
    assert [(row["model"], row["n"]) for row in found["agreement"]] == [("m", 6), ("other", 6), ("", 12)]
    whole = found["agreement"][-1]
    assert whole["exact"] == pytest.approx((6 - 2 + 0) / 12)
    assert whole["spearman"] < 0
    assert found["rankings"][0]["changes"]
    assert main(["judge", "agree", str(out), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["agreement"] == found["agreement"]
    assert main(["judge", "agree", str(out), "--judge", "rule", "--judge", "served-1"]) == 0
    assert "judges  A lexical  B served-1" in capsys.readouterr().out


def test_agreement_on_a_task_that_scores_what_the_judge_found(tmp_path: Path, capsys: Capsys) -> None:
    """The judge extracts, the task counts; the data are not at hand, and the rules' number is not the extractor's."""
    judge_file, out = tmp_path / "extractor.yaml", tmp_path / "out"
    judge_file.write_text("- text: '[\"cup\"]'\n")
    (tmp_path / "m.yaml").write_text("- text: A dog and a cup.\n")
    assert run(out, f"scripted:{tmp_path / 'm.yaml'}", task="object_halbench,mmvet") == 0
    capsys.readouterr()
    words = ["judge", "agree", str(out), "--judge", "rule", "--judge", f"scripted:{judge_file}", "--json", "-"]
    assert main(words) == 0
    found = {row["task"]: row for row in json.loads(capsys.readouterr().out)["agreement"]}
    assert set(found) == {"object_halbench", "mmvet"}, "rule is the stand-in of every task, whatever it is called"
    rules, extractor = found["object_halbench"]["totals"]
    assert rules is not None
    assert extractor is not None
    assert rules != extractor


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "--judge: name two judges; the results have lexical"),
        (["--judge", "lexicle"], "--judge lexicle: the results have lexical - did you mean 'lexical'?"),
        (["--judge", "a:b", "--judge", "c:d", "--judge", "e:f"], "two judges are compared, not 3"),
    ],
)
def test_agreement_needs_two_judges(
    tmp_path: Path, model: str, capsys: Capsys, words: list[str], says: str
) -> None:  # fmt: skip
    assert run(tmp_path / "out", model) == 0
    capsys.readouterr()
    assert main(["judge", "agree", str(tmp_path / "out"), *words]) == 2
    assert says in capsys.readouterr().err


def test_agreement_needs_something_judged(tmp_path: Path, model: str, capsys: Capsys) -> None:
    assert main(["judge", "agree", str(tmp_path / "none")]) == 2
    assert "no such folder or file" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["judge", "agree", str(tmp_path / "empty")]) == 2
    assert "no result there in which something was judged" in capsys.readouterr().err
