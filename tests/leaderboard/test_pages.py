"""Published pages: every printed number in its cell, every difference recomputed, the known misprints and no others."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmalign_eval.errors import BadInput
from mmalign_eval.leaderboard.pages import leaderboard
from mmalign_eval.leaderboard.published import data_of, read_papers, rounded
from mmalign_eval.lmeval import bind
from mmalign_eval.plan import open_task
from mmalign_eval.task import LmEvalTask
from tests.support import REPO

from . import printed
from .reading import bare, footnotes, marks, tables

FILES = leaderboard().files()
PAGES = {
    "truthfulness": printed.TRUTHFULNESS,
    "nlp": printed.NLP,
    "multimodal": printed.MULTIMODAL,
    "robustness": printed.ROBUSTNESS,
    "helpfulness": printed.HELPFULNESS,
    "sft": printed.SFT,
    "negatives": printed.NEGATIVES,
}
# (page, model, column): (printed, from the rows). The first is a slip, the others come from rounded values.
MISPRINTS = {
    ("nlp", "LLaMA2-chat + MM-ft", "sQuAD (F1)"): ("-9.3%", "-9.9%"),
    ("nlp", "LLaMA + MM-ft", "MMLU (Acc.)"): ("-9.0%", "-9.1%"),
    ("nlp", "LLaMA-3B + MM-ft", "GSM8K (Acc.)"): ("-0.6%", "-0.7%"),
    ("nlp", "Alpaca-3B + MM-lora", "sQuAD (F1)"): ("-4.1%", "-4.0%"),
    ("nlp", "LLaMA2-chat + MM-lora", "MMLU (Acc.)"): ("+0.2%", "+0.1%"),
    ("truthfulness", "LLaMA + MM-ft", "TruthfulQA-gen"): ("+1.8%", "+1.9%"),
    ("truthfulness", "Vicuna + MM-ft", "TruthfulQA-mc1"): ("-8.1%", "-8.2%"),
    ("truthfulness", "LLaMA2 + MM-ft", "TruthfulQA-gen"): ("-0.9%", "-0.8%"),
    ("truthfulness", "LLaMA2-chat + MM-lora", "TruthfulQA-gen"): ("+1.2%", "+1.3%"),
}


def printed_rows(text: str) -> list[tuple[str, list[str]]]:
    """Name and cells of printed rows; a tuned one is named with what it was tuned from; `a / b / c` are three cells."""
    found, base = [], ""
    for line in text.strip().split("\n"):
        name, *cells = line.split(" | ")
        base = base if name.startswith("MM-ft") or name == "MM-lora" else name
        cells = [part for cell in cells for part in cell.split(" / ")]
        found.append((name if name == base else f"{base} + {name}", cells))
    return found


def shown_rows(page: str) -> list[dict[str, str]]:
    (table,) = tables(FILES[f"{page}.md"])
    return table


def split(cell: str) -> tuple[str, str]:
    value, _, bracket = cell.partition(" (")
    return value, bracket.rstrip(")")


@pytest.mark.parametrize("page", PAGES)
def test_every_printed_number_stands_in_its_cell_and_its_row(page: str) -> None:
    wanted, shown = printed_rows(PAGES[page]), shown_rows(page)
    assert [name for name, _ in wanted] == [row["model"] for row in shown]
    for (name, cells), row in zip(wanted, shown, strict=True):
        assert row["rows"] == "published"
        found = [bare(cell) for cell in list(row.values())[2:]]
        assert [split(cell)[0] for cell in found] == [split(cell)[0] for cell in cells], name


def test_brackets_are_the_printed_ones_but_for_the_known_misprints() -> None:
    wrong = {}
    for page in ("truthfulness", "nlp", "robustness"):
        for (name, cells), row in zip(printed_rows(PAGES[page]), shown_rows(page), strict=True):
            for (column, cell), known in zip(list(row.items())[2:], cells, strict=True):
                if split(bare(cell))[1] != split(known)[1]:
                    wrong[page, name, column] = (split(known)[1], split(bare(cell))[1])
    assert wrong == MISPRINTS


def test_brackets_are_differences_of_the_numbers_beside_them() -> None:
    seen = 0
    for page in ("truthfulness", "nlp"):
        base: dict[str, str] = {}
        for row in shown_rows(page):
            base = base if " + " in row["model"] else row
            for column, cell in list(row.items())[2:]:
                value, bracket = split(bare(cell))
                assert bool(bracket) == (base is not row)
                if bracket:
                    difference = Decimal(value.rstrip("%")) - Decimal(bare(base[column]).rstrip("%"))
                    assert bracket == f"{difference:+}%", (row["model"], column)
                    seen += 1
    assert seen == 90


def test_each_misprint_has_a_footnote_that_says_both() -> None:
    found = {}
    for page in PAGES:
        notes = footnotes(FILES[f"{page}.md"])
        for row in shown_rows(page):
            for column, cell in row.items():
                for mark in marks(cell):
                    assert mark in notes
                    if "misprint" in mark:
                        said = re.findall(r"[+-]\d+\.\d%", notes[mark])
                        found[page, row["model"], column] = (said[0], said[-1])
                        assert notes[mark].startswith(f"{row['model']}, {column}: printed as ")
    assert found == MISPRINTS


def test_every_footnote_is_referred_to_and_defined_once() -> None:
    for name, text in FILES.items():
        if name.endswith(".md"):
            defined = re.findall(r"^\[\^([^\]]*)\]:", text, re.MULTILINE)
            used = re.findall(r"\[\^([^\]]*)\](?!:)", text)
            assert sorted(defined) == sorted(set(used)), name


def test_slips_of_headings_and_references_are_told() -> None:
    notes = footnotes(FILES["nlp.md"])
    assert notes["mmlu-title"] == "The paper prints the heading MLLU; it is MMLU."
    slips = FILES["claims.md"]
    for words in ("MLLU; it is MMLU", '"in Table 2"; they are in Fig. 2', '"in table 7"; it is in Fig. 7'):
        assert words in slips


def claims() -> Iterator[dict[str, str]]:
    for table in tables(FILES["claims.md"]):
        yield from table


def test_claims_agree_but_for_the_known_ones() -> None:
    wrong = {(bare(c["claim"]), c["printed"], c["recomputed"]) for c in claims() if c["agrees"] == "**no**"}
    deltas = {(f"{model}, {column}", said, found) for (_, model, column), (said, found) in MISPRINTS.items()}
    text = {
        ("Ethics of LLaMA-3B with MM-ft over Alpaca-3B", "+11.3%", "+14.1%"),
        (
            "MME, text-aligned over vanilla language models (cognition + perception), average of two pairs",
            "+164.9",
            "+163.9",
        ),
        (
            "that drop less the largest one of MM-LLaMA-ft and MM-LLaMA2-ft, said to be smaller",
            "more than +0.0%",
            "-0.7%",
        ),
    }
    assert wrong == deltas | text


@pytest.mark.parametrize(
    ("begins", "printed", "recomputed"),
    [
        ("average change of MM-lora", "-0.17%", "-0.17%"),
        ("the same from the rows", "-0.17%", "-0.17%"),
        ("POPE, text-aligned", "+7.5%", "+7.5%"),
        ("captions, text-aligned", "-4.2", "-4.2"),
        ("Ethics of LLaMA2 with MM-ft over LLaMA2-chat", "+6.9%", "+6.9%"),
        ("columns on which LLaVA1.5-7B-BPO is better than LLaVA1.5-13B", "more than 5", "8"),
        ("equal cells of the four rows", "28", "28"),
        ("relative change of hallucinated responses (Resp) by BPO, 7B", "-", "-30.5%"),
    ],
)
def test_derived_figures_of_the_texts(begins: str, printed: str, recomputed: str) -> None:
    (claim,) = (claim for claim in claims() if bare(claim["claim"]).startswith(begins))
    assert (claim["printed"], claim["recomputed"]) == (printed, recomputed)
    assert claim["agrees"] == ("-" if printed == "-" else "yes")


def test_every_printed_difference_and_relative_change_is_a_claim() -> None:
    found = [claim for claim in claims() if claim["where"].startswith("Table ") and "page" in claim["where"]]
    assert len(found) == 90 + 6
    for claim in found:
        value = eval(bare(claim["formula"]))  # the formula as it stands on the page
        assert f"{rounded(value, 1):+.1f}%".replace("-0.0", "+0.0") == claim["recomputed"]


def test_halves_are_rounded_away_from_zero_as_people_do() -> None:
    assert [rounded(v, 1) for v in (163.85, -163.85, 7.45, 0.25, -0.04)] == [163.9, -163.9, 7.5, 0.3, 0.0]
    assert f"{round(163.85, 1)}" == "163.8"  # what binary fractions would give


def test_pages_name_paper_table_and_page() -> None:
    where = {page: re.search(r"Table (\d), page (\d+)", FILES[f"{page}.md"]) for page in PAGES}
    assert {page: match and match.groups() for page, match in where.items()} == {
        **{"truthfulness": ("1", "3"), "nlp": ("2", "5"), "multimodal": ("3", "6"), "robustness": ("4", "6")},
        **{"helpfulness": ("3", "12"), "sft": ("4", "13"), "negatives": ("5", "14")},
    }


def test_the_index_links_every_page_and_links_lead_somewhere() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", FILES["README.md"]))
    assert linked == {name for name in FILES if name.endswith(".md")} - {"README.md"}
    for name, text in FILES.items():
        if name.endswith(".md"):
            for target in re.findall(r"\]\(([^)#]+)", text):
                assert target in FILES, (name, target)


def test_the_figure_is_drawn_from_table_1_and_told_in_words() -> None:
    drawn = " ".join(ET.fromstring(FILES["truthfulness.svg"]).itertext())
    told = re.search(r"!\[(.*)\]\(truthfulness\.svg\)", FILES["truthfulness.md"])
    assert told
    for row, ethics, mc2 in (
        ("LLaMA2", "45.8%", "38.9%"),
        ("LLaMA2-chat", "58.5%", "44.6%"),
        ("LLaMA2 + MM-ft", "65.4%", "40.2%"),
        ("LLaMA2 + MM-lora", "46.1%", "46.0%"),
    ):
        assert f"{row} {ethics}" in told[1]
        assert f"{row} {mc2}" in told[1]
        assert all(words in drawn for words in (row, ethics, mc2))


def test_a_folder_of_its_own_papers_is_read_instead(tmp_path: Path) -> None:
    own(tmp_path)
    board = leaderboard(tmp_path)
    assert [page.name for page in board.pages] == ["only", "claims"]
    (row, tuned) = tables(board.files()["only.md"])[0]
    assert (row["model"], row["Score"], tuned["Score"]) == ("a", "1.0", "3.5 (+2.5)")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tables": [{"paper": "nowhere", "table": "table1"}]}, "no paper 'nowhere'"),
        ({"tables": [{"paper": "one", "table": "table7"}]}, "no table 'table7' - did you mean 'table1'?"),
        ({"tables": [{"paper": "one", "table": "table1", "notes": ["missing"]}]}, "no footnote 'missing'"),
        ({"tables": [{}]}, "not in the format of pages"),
    ],
)
def test_a_page_that_asks_for_what_is_not_there(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    own(tmp_path, page=change)
    with pytest.raises(BadInput, match=re.escape(said)) as caught:
        leaderboard(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": [{"model": "a", "values": [1.0, 2.0]}]}, "row a has 2 values for 1 columns"),
        ({"rows": [{"model": "b", "base": "c", "values": [1.0]}]}, "b has base 'c', which is no row"),
        ({"rows": [{"model": "b", "values": ["x"]}]}, "not in the format of published tables"),
        ({"keys": ["other"]}, "not in the format of published tables"),
        ({"rows": [{"model": "a", "values": [1.0]}] * 2}, "two rows of one name"),
    ],
)
def test_a_table_that_is_not_in_the_format(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    own(tmp_path, table=change)
    with pytest.raises(BadInput, match=re.escape(said)):
        leaderboard(tmp_path)


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"formula": "s[0"}, "not a formula"),
        ({"formula": "s[3]"}, "claim 'it'"),
        ({"inputs": [{"table": "table1", "rows": ["x"]}]}, "no row 'x'"),
        ({"inputs": [{"table": "table1", "keys": ["x"]}]}, "no column 'x'"),
        ({"relation": "less"}, "'less' is not"),
    ],
)
def test_a_claim_that_cannot_be_computed(tmp_path: Path, claim: dict[str, Any], said: str) -> None:
    own(tmp_path, claim=claim)
    with pytest.raises(BadInput, match=re.escape(said)):
        leaderboard(tmp_path)


def test_yaml_that_is_none(tmp_path: Path) -> None:
    own(tmp_path)
    (tmp_path / "published" / "one.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(BadInput, match="not valid YAML"):
        leaderboard(tmp_path)
    shutil.rmtree(tmp_path / "published")
    with pytest.raises(BadInput, match="published"):
        leaderboard(tmp_path)
    with pytest.raises(BadInput, match="no such folder"):
        leaderboard(tmp_path / "nothing")


def own(
    folder: Path,
    *,
    page: dict[str, Any] | None = None,
    table: dict[str, Any] | None = None,
    claim: dict[str, Any] | None = None,
) -> None:
    """A leaderboard with a paper of its own."""
    rows = [{"model": "a", "values": [1.0]}, {"model": "b", "base": "a", "values": [3.5]}]
    shape = {"title": "Table 1, scores", "table": 1, "page": 2, "note": "points", "keys": ["score"], "rows": rows}
    asked = {"name": "it", "where": "here", "formula": "s[1] - s[0]", "inputs": [{"table": "table1"}], "printed": 2.5}
    paper = {
        "about": {"cite": "One (2024)", "short": "One", "url": "https://example.org"},
        "metrics": {"score": {"task": "toy", "metric": "accuracy", "title": "Score"}},
        "table1": {**shape, **(table or {})},
        "claims": [{**asked, **(claim or {})}],
    }
    only = {"name": "only", "title": "Only", "intro": "One.", "tables": [{"paper": "one", "table": "table1"}]}
    spec = {
        "index": {"title": "Index", "intro": "All."},
        "pages": [{**only, **(page or {})}],
        "claims": {"name": "claims", "title": "Claims", "intro": "Again."},
    }
    (folder / "published").mkdir()
    (folder / "published" / "one.yaml").write_text(yaml.safe_dump(paper), encoding="utf-8")
    (folder / "pages.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")


def test_committed_pages_are_what_the_committed_files_give() -> None:
    root = REPO / "leaderboards"
    made = leaderboard(root).files()
    there = {path.name: path.read_text(encoding="utf-8") for path in (*root.glob("*.md"), *root.glob("*.svg"))}
    assert sorted(there) == sorted(made)
    stale = [name for name, text in made.items() if there[name] != text]
    assert stale == [], "run: mmeval leaderboard"


def test_papers_are_those_of_the_package() -> None:
    assert sorted(read_papers(data_of(None))) == ["bpo", "sight_beyond_text"]


@pytest.mark.parametrize("judged", [True, False])
def test_columns_are_in_their_metric_s_unit_direction_and_judge(judged: bool) -> None:
    """By the official judge and by the stand-in: a fraction is shown in percent, CIDEr times 100, the rest as it is."""
    seen = set()
    for paper in read_papers(data_of(None)).values():
        for table in paper.tables.values():
            for column in table.columns:
                source = paper.sources[column.key]
                task = open_task(source.task, "paper")
                if isinstance(task, LmEvalTask):
                    bind(task)
                assert source.judge == (task.judge.official if task.judge else "")
                assert bool(source.stand_in) == bool(task.judge)
                if task.judge:
                    task.judged_by = task.judge.official if judged else task.judge.stand_in
                name = source.metric if judged or not task.judge else source.stand_in
                (metric,) = (metric for metric in task.metrics() if metric.name == name)
                assert column.better == metric.better, column.key
                times_100 = metric.unit == "fraction" or metric.name == "CIDEr"
                assert source.scale == (100 if times_100 else 1), column.key
                assert column.unit == ("percent" if metric.unit in ("fraction", "percent") else "points"), column.key
                seen.add(column.key)
    assert len(seen) == 29
