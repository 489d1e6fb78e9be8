"""Pages for other tools, read back with readers that know nothing of ours."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

from mmalign_eval.errors import BadInput
from mmalign_eval.leaderboard.formats import CSV_COLUMNS, as_csv, as_json, as_latex, as_model_index, escape_latex
from mmalign_eval.leaderboard.model import MEASURED, PUBLISHED, Cell, Column, Footnote, Page, Row, Table
from mmalign_eval.metrics.base import mean
from mmalign_eval.runs import Run, open_runs

from ..support_results import records, write_run

NASTY = 'a|b_{1}\\ 100% & $x^2$ ~#<b>"q",\r\nnew'
THIRD = 100 / 3

COLUMNS = (
    Column("acc", "Acc", "quiz", "accuracy", "percent", "higher", "%"),
    Column("size", "Size, all", "riddle", "size", "points", "lower", small_decimals=2),
    Column("change", "change", unit="percent", better="neither", suffix="%", inside="size"),
)


def published() -> Row:
    cells = {
        "acc": Cell(46.0, PUBLISHED, delta=7.1, notes=("slip",)),
        "size": Cell(8.25, PUBLISHED),
        "change": Cell(-17.9, PUBLISHED),
    }
    return Row("LLaMA", "MM-ft", "LLaMA", PUBLISHED, cells)


def measured(model: str = "mine") -> Row:
    cells = {
        "acc": Cell(
            THIRD,
            MEASURED,
            1 / 3,
            True,
            ("toy",),
            "task:quiz.v1|n:3",
            "mine/quiz",
            metric="accuracy",
            low=20.0,
            high=50.0,
            p=0.004,
            n=3,
        ),
        "size": Cell(None, MEASURED, signature="task:riddle.v1|n:3", result="mine/riddle", metric="size", n=3),
    }
    return Row(model, "bpo", "LLaMA", MEASURED, cells, ("judge",))


def page(model: str = "mine", name: str = "one") -> Page:
    table = Table("table1", "Table 1", "Some paper, page 3", COLUMNS, (published(), measured(model)), ("head",))
    notes = tuple(Footnote(key, f"about {key}: {NASTY}") for key in ("head", "slip", "toy", "judge"))
    return Page(name, "First & best", "Said before.", (table,), notes)


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Run]:
    for task, source in (("quiz", "dir"), ("riddle", "miniature")):
        write_run(tmp_path, "mine", task, [mean("accuracy", "x")], records([1, 0, 0]), source=source, judge="judge-1")
    return {f"mine/{run.task}": run for run in open_runs(tmp_path)[0]}


def test_csv_has_a_line_for_each_number_and_every_digit() -> None:
    text = as_csv([page(NASTY), page(name="two")])
    assert not re.search(r"(?<!\r)\n", text)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(rows[0]) == list(CSV_COLUMNS)
    assert [(r["page"], r["origin"], r["column"]) for r in rows[:5]] == [
        ("one", "published", "Acc"),
        ("one", "published", "Size, all"),
        ("one", "published", "change"),
        ("one", "measured", "Acc"),
        ("one", "measured", "Size, all"),
    ]
    assert rows[3]["model"] == NASTY
    assert float(rows[3]["value"]) == THIRD
    assert float(rows[3]["delta"]) == 1 / 3
    assert (rows[3]["p"], rows[3]["significant"], rows[3]["n"]) == ("0.004", "yes", "3")
    assert (rows[3]["low"], rows[3]["high"]) == ("20.0", "50.0")
    assert rows[3]["signature"] == "task:quiz.v1|n:3"
    assert rows[3]["notes"] == f"about head: {NASTY}; about judge: {NASTY}; about toy: {NASTY}"
    assert (rows[4]["value"], rows[4]["low"], rows[4]["delta"], rows[4]["significant"]) == ("", "", "", "no")
    assert (rows[0]["tuning"], rows[0]["base"], rows[0]["metric"]) == ("MM-ft", "LLaMA", "accuracy")


def test_csv_of_nothing_is_its_header() -> None:
    assert as_csv([]) == ",".join(CSV_COLUMNS) + "\r\n"


def test_json_keeps_everything() -> None:
    found = json.loads(as_json([page(NASTY)]))
    assert (found["kind"], found["schema"]) == ("mmeval-leaderboard", 1)
    (one,) = found["pages"]
    row = one["tables"][0]["rows"][1]
    assert row["model"] == NASTY
    assert row["cells"]["acc"]["value"] == THIRD
    assert row["cells"]["acc"]["signature"] == "task:quiz.v1|n:3"
    assert row["cells"]["size"]["value"] is None
    assert one["tables"][0]["columns"][1]["better"] == "lower"
    assert one["figure"] is None


# A few rules of LaTeX, enough to tell that no character of a name is a command.
ESCAPED = re.compile(r"\\text\w+\{\}|\\[{}&%$#_]|[^\\{}&%$#_~^<>|\"]")


@pytest.mark.parametrize("text", [NASTY, "\\input{/etc/passwd}", "%", "ü—漢字", "\\\\", "a_b^c"])
def test_latex_has_no_commands_in_text(text: str) -> None:
    made = escape_latex(text)
    assert ESCAPED.sub("", made) == ""
    back = re.sub(r"\\([{}&%$#_])", r"\1", made)
    for command, character in (
        ("backslash", "\\"),
        ("asciitilde", "~"),
        ("asciicircum", "^"),
        ("less", "<"),
        ("greater", ">"),
        ("bar", "|"),
        ("quotedbl", '"'),
    ):
        back = back.replace(f"\\text{command}{{}}", character)
    assert back == " ".join(text.split())


def test_latex_tables_are_whole() -> None:
    text = as_latex([page(NASTY), page(name="two")])
    begun = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    assert begun == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")] * 2
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.count("$") % 2 == text.count(r"\$") % 2
    (spec,) = set(re.findall(r"\\begin\{tabular\}\{(\w+)\}", text))
    assert spec == "lrr"  # the bracketed column has none of its own
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) == 2 * 3
    for row in rows:
        assert len(re.split(r"(?<!\\)&", row)) == len(spec)
    assert len(set(re.findall(r"\\label\{([\w:-]+)\}", text))) == 2


def test_latex_says_what_the_pages_say() -> None:
    text = as_latex([page()])
    above, below = text.split(r"\emph{measured}")
    assert r"LLaMA + MM-ft & 46.0\% (+7.1\%)$^{2}$ & 8.25 (-17.9\%) \\" in above
    assert r"\emph{published}" in above
    assert r"mine (bpo of LLaMA)$^{3}$ & 33.3\% (+0.3\%)$^{*,4}$ & - \\" in below
    for mark, key in enumerate(("head", "slip", "judge", "toy"), 1):
        assert rf"$^{{{mark}}}$ about {key}: " in below
    assert r"\caption{Table 1. Some paper, page 3$^{1}$}" in above
    assert "$^{*}$ differs from its base" in below


def test_model_index_is_what_the_hub_reads(runs: dict[str, Run]) -> None:
    text = as_model_index([page(), page(name="two")], runs, "mine")
    card = yaml.safe_load(text)
    assert list(card) == ["model-index"]
    name, found = model_index_to_eval_results(card["model-index"])
    assert name == "mine"
    (one,) = found  # once, though two pages have it; no undefined, and no published number
    assert (one.task_type, one.dataset_type, one.dataset_name) == ("image-text-to-text", "quiz", "quiz")
    assert one.dataset_args == {"protocol": "official", "shots": 0, "judge": "judge-1"}
    assert (one.metric_type, one.metric_name, one.metric_value) == ("accuracy", "Acc", THIRD)
    assert one.metric_args is not None
    assert one.metric_args["low"] == 20.0
    assert one.metric_args["signature"] == "task:quiz.v1|n:3"


def test_model_index_by_the_row_s_name_and_with_the_toy_data_marked(runs: dict[str, Run]) -> None:
    runs["mine/quiz"] = runs["mine/riddle"]
    card = yaml.safe_load(as_model_index([page()], runs, "mine (bpo of LLaMA)"))
    (result,) = card["model-index"][0]["results"]
    assert "miniature" in result["dataset"]["name"]


def test_model_index_of_an_unknown_model(runs: dict[str, Run]) -> None:
    with pytest.raises(BadInput, match=r"--model mime: no measured row of that name - did you mean 'mine'\?"):
        as_model_index([page()], runs, "mime")
    with pytest.raises(BadInput, match="mmeval leaderboard add RUN"):
        as_model_index([], {}, "LLaMA")
    with pytest.raises(BadInput, match="measured are mine"):  # published rows are nobody's card
        as_model_index([page()], runs, "LLaMA + MM-ft")
