"""The details page: a section for each measured result, with what its signature says in full."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.leaderboard.details import anchor, details_text
from mmalign_eval.leaderboard.model import MEASURED, PUBLISHED, Cell, Column, Page, Row, Table
from mmalign_eval.metrics.base import mean
from mmalign_eval.runs import Run, open_runs

from ..support_results import records, tuned_from, write_run

ACC = mean("acc", "x", proportion=True)
COLUMN = Column("acc", "Acc | all", "quiz", "accuracy", "percent", "higher", "%")


def cell(result: str, **facts: Any) -> Cell:
    return Cell(46.0, MEASURED, signature="s", result=result, metric="acc", low=40.0, high=52.0, n=4, **facts)


def page(*rows: Row, name: str = "one") -> Page:
    return Page(name, "Page <1>", "", (Table("t", "T", "", (COLUMN,), rows),))


def row(model: str, found: Cell) -> Row:
    return Row(model, "", "", found.origin, {"acc": found})


def run_of(folder: Path, model: str, task: str, **facts: Any) -> Run:
    values = [1, 0, 1, 0]
    (run,), _ = open_runs(write_run(folder, model, task, [ACC], records(values), **facts))
    return run


def sections(text: str) -> dict[str, str]:
    parts = re.split(r'^### <a id="([^"]+)"></a>', text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(
    ("result", "name"),
    [
        ("mini/boolq", "mini:boolq"),
        ("a-b_c/mmvet@paper+gpt-4.1", "a-b_c:mmvet@paper+gpt-4.1"),
        ("two words/x(y)", "two-words:x-y-"),
    ],
)
def test_anchors(result: str, name: str) -> None:
    assert anchor(result) == name
    assert not re.search(r"[\s\"<>()\[\]]", anchor(result))  # fit for an attribute and for a link


def test_a_section_says_all_that_a_comparable_number_shares(tmp_path: Path) -> None:
    run = run_of(
        tmp_path, "m", "quiz", protocol="paper", judge="gpt-4-0613", judge_runs=5, shots=3, limit=2,
        tuned=tuned_from("base"), failed=["s99"], version=7, params={"temperature": 0.2, "stop": ["###"]},
    )  # fmt: skip
    found = cell("m/quiz", delta=-7.1, significant=True, p=0.004)
    text = sections(details_text([page(row("m", found))], {"m/quiz": run}))["m:quiz"]
    result = run.result
    assert f"`{result['signature']}`" in text
    for words in (
        "quiz@paper+gpt-4-0613",
        "- task: quiz, version 7, 3 shots",
        "- protocol: paper",
        "- judge: gpt-4-0613, 5 verdicts each, 0 of 1 failed",
        '- decoding: stop=\\["###"\\], temperature=0.2',
        f"- prompts: {result['prompt_hash']}",
        f"- template: {result['model']['identity']['template']}",
        result["data"]["hash"],
        "- samples: 5, 1 failed, first 2 of each part only",
        f"fingerprint {result['model']['fingerprint']}",
        "tuned by mm-ft from base",
    ):
        assert words in text, words
    line = text.strip().splitlines()[-1]
    assert line == (
        "| [Page &lt;1&gt;](one.md) | Acc \\| all | acc | 46.0% | \\~40.0% .. 52.0% | 4 | 4 | -7.1%\\* | p=.0040 |"
    )


def test_only_measured_cells_have_sections_each_once_in_a_fixed_order(tmp_path: Path) -> None:
    runs = {f"{model}/quiz": run_of(tmp_path, model, "quiz") for model in ("b", "a")}
    rows = [row("b", cell("b/quiz")), row("p", Cell(1.0, PUBLISHED)), row("a", cell("a/quiz"))]
    text = details_text([page(*rows), page(rows[0], name="two")], runs)
    assert list(sections(text)) == ["a:quiz", "b:quiz"]
    assert sections(text)["b:quiz"].count("](one.md)") == sections(text)["b:quiz"].count("](two.md)") == 1
    assert text == details_text([page(*rows), page(rows[0], name="two")], dict(reversed(runs.items())))


def test_names_cannot_break_out(tmp_path: Path) -> None:
    run = run_of(tmp_path, "m", "quiz")
    run.result["model"]["name"] = "<script>|x`"
    run.result["task"]["note"] = "line\nbreak | <b>"
    run.result["signature"] = "a`<i>`"
    text = details_text([page(row("m", cell("m/quiz")))], {"m/quiz": run})
    assert "<script>" not in text
    assert "<b>" not in text
    assert "`a<i>`" in text  # code: shown as it is
    assert "line break" in text


def test_the_miniature_is_called_what_it_is(tmp_path: Path) -> None:
    run = run_of(tmp_path, "m", "quiz", source="miniature")
    text = sections(details_text([page(row("m", cell("m/quiz")))], {"m/quiz": run}))["m:quiz"]
    assert "toy data, says nothing about real models" in text


def test_nothing_measured() -> None:
    assert "Nothing is measured yet" in details_text([page(row("p", Cell(1.0, PUBLISHED)))], {})


def test_every_link_of_a_page_leads_to_a_section(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"protocol": "paper", "modality": "text"}
    write_run(tmp_path, "one model", "boolq", [ACC], records([1, 0, 1]), **facts)
    write_run(tmp_path, "two", "mathqa", [ACC], records([1, 0, 1]), **facts)
    root = tmp_path / "boards"
    assert main(["leaderboard", "add", str(tmp_path / "one model"), str(tmp_path / "two"), "--root", str(root)]) == 0
    assert main(["leaderboard", "--root", str(root)]) == 0
    links = [
        link
        for file in root.glob("*.md")
        for link in re.findall(r"\]\(details\.md#([^)]+)\)", file.read_text(encoding="utf-8"))
    ]
    assert sorted(links) == ["one-model:boolq@paper", "two:mathqa@paper"]
    assert sorted(sections((root / "details.md").read_text(encoding="utf-8"))) == sorted(links)
