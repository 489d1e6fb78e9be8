"""`mmeval tasks list` and `show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.registry import TASKS

from ..toy import isolate_registry, make_toy

Capsys = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate_registry(monkeypatch)


def test_the_list_tells_built_in_tasks_from_others_and_hides_no_failure(tmp_path: Path, capsys: Capsys) -> None:
    plugin, _ = make_toy(tmp_path)
    TASKS.failures["some.module=dusk"] = "ImportError: no light (dusk.py:3)"
    assert main(["tasks", "list", "--include", str(plugin)]) == 0
    lines = capsys.readouterr().out.splitlines()
    columns = {line.split()[0]: line for line in lines}
    assert columns["toy"].split() == ["toy", "image", "official,", "sampled", "Yes", "if", "even.", f"[{plugin}]"]
    assert columns["pope"].split()[:5] == ["pope", "image", "official,", "paper,", "lmms"]
    assert "[" not in columns["pope"]
    assert "did not load: some.module=dusk: ImportError: no light (dusk.py:3)" in lines
    groups = {line.split(":")[0]: line.split(": ")[1].split() for line in lines if line.startswith("group ")}
    assert "toy" in groups["group image"]
    assert "toy" not in groups["group all"]
    assert "pope" in groups["group all"]


def test_the_list_as_json(tmp_path: Path, capsys: Capsys) -> None:
    plugin, _ = make_toy(tmp_path)
    assert main(["tasks", "list", "--json", "--include", str(plugin)]) == 0
    found = json.loads(capsys.readouterr().out)
    toy = next(row for row in found["tasks"] if row["name"] == "toy")
    assert toy == {
        "name": "toy",
        "version": 1,
        "modality": "image",
        "protocols": ["official", "sampled"],
        "default_protocol": "official",
        "groups": [],
        "about": "Yes if even.",
        "origin": str(plugin),
        "built_in": False,
    }
    assert found["failures"] == {}


def test_a_task_without_a_docstring_is_described_by_its_file(tmp_path: Path, capsys: Capsys) -> None:
    plugin, _ = make_toy(tmp_path)
    plugin.write_text(plugin.read_text().replace('"""Yes if even."""', "").lstrip())
    assert main(["tasks", "list", "--include", str(plugin)]) == 0
    assert "Toy: is the number even?" in capsys.readouterr().out


def test_show_renders_a_sample_under_the_protocol(tmp_path: Path, capsys: Capsys) -> None:
    plugin, data = make_toy(tmp_path)
    text = plugin.read_text()
    text = text.replace('Protocol("{question}", greedy(5))', 'Protocol("{question} Say.", greedy(5), source="page 7")')
    text = text.replace("temperature=1.0)", 'temperature=1.0), template="vicuna_v1", note="random"')
    plugin.write_text(text)
    words = ["tasks", "show", "toy", "--include", str(plugin), "--data", str(data)]
    assert main(words) == 0
    said = capsys.readouterr().out
    for line in (
        "task      toy v1  image  Yes if even.",
        "protocol  official (default, shown)",
        "            source    page 7",
        "data      toy.jsonl and images",
        "          get it: tests make it",
        "             accuracy  fraction  higher",
        "sample    s0, from native files",
        "prompt    each model puts it into its own chat template, 1 images, 0 demonstrations",
        "          | <image>\n          | Is 0 even? Say.",
        "decoding  greedy, at most 5 tokens",
        "right     'yes'",
    ):
        assert f"{line}\n" in said
    assert main([*words, "--protocol", "sampled"]) == 0
    said = capsys.readouterr().out
    assert "          sampled (shown)\n" in said
    assert "            note      random\n" in said
    assert "USER: <image>\n          | Is 0 even? ASSISTANT:\n" in said
    assert "decoding  sampled, at most 5 tokens, temperature=1.0\n" in said


def test_show_tells_the_rest_where_there_is_no_data(tmp_path: Path, capsys: Capsys) -> None:
    plugin, _ = make_toy(tmp_path)
    assert main(["tasks", "show", "toy", "--include", str(plugin)]) == 0
    said = capsys.readouterr().out
    assert "accuracy  fraction  higher" in said
    assert "prompt    not shown: toy: the miniature holds no data for it; give --data toy=DIR with toy.jsonl" in said


def test_show_of_an_lm_eval_task_of_ours_needs_no_data(tmp_path: Path, capsys: Capsys) -> None:
    assert main(["tasks", "show", "truthfulqa", "--data", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "prompt    not shown: truthfulqa: " in said
    assert "  mc1 " in said
    assert "  mc2 " in said
    assert "https://arxiv.org/abs/2109.07958" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["show", "pop"], "unknown task 'pop' - did you mean 'pope'?"),
        (["show", "pope", "--protocol", "offical"], "did you mean 'official'"),
        (["show", "pope", "--data", "pop=x"], "--data pop=: task 'pop' is not selected - did you mean 'pope'?"),
        (["list", "--include", "no_such.py"], "--include no_such.py: no such file"),
    ],
)
def test_bad_input(words: list[str], says: str, capsys: Capsys) -> None:
    assert main(["tasks", *words]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.slow  # lm-eval's index of all its tasks takes ten seconds
def test_show_and_check_any_task_of_lm_eval(tmp_path: Path, capsys: Capsys) -> None:
    rows = [{"passage": f"Fact {i}.", "question": f"is {i} even", "idx": i, "label": int(i % 2 == 0)} for i in range(6)]
    (tmp_path / "validation.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["tasks", "show", "lm_eval:boolq", "--data", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "          | Fact 0.\n          | Question: is 0 even?\n          | Answer:\n" in said
    assert "right     ' yes'" in said
    assert main(["tasks", "check", "lm_eval:boolq", "--data", str(tmp_path)]) == 0
    assert main(["tasks", "show", "lm_eval:bolq"]) == 2
    assert "did you mean 'boolq'" in capsys.readouterr().err


@pytest.mark.parametrize("piece", ['return [Response("ok", text=sample.data["gold"])]', "return [mean("])
def test_show_names_the_line_that_fails(tmp_path: Path, capsys: Capsys, piece: str) -> None:
    plugin, data = make_toy(tmp_path)
    text = plugin.read_text().replace(piece, f"1 / 0; {piece}")
    plugin.write_text(text)
    assert main(["tasks", "show", "toy", "--include", str(plugin), "--data", str(data)]) == 2
    line = text[: text.index("1 / 0")].count("\n") + 1
    assert f"task toy cannot be shown: ZeroDivisionError: division by zero ({plugin}:{line})" in capsys.readouterr().err
