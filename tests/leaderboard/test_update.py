"""Regions of other markdown files: filled between their marks, untouched outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmalign_eval.cli.main import main
from mmalign_eval.errors import BadInput
from mmalign_eval.leaderboard.update import filled
from mmalign_eval.metrics.base import mean

from ..support_results import records, tuned_from, write_run

ACCURACY = mean("accuracy", "x", proportion=True)
FILLS = {"say": lambda words, folder: " ".join(words), "where": lambda words, folder: folder.name}


def write(folder: Path, text: str, name: str = "README.md") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def update(root: Path, *files: Path, check: bool = False) -> int:
    words = [word for file in files for word in ("--update", str(file))]
    return main(["leaderboard", "--root", str(root), *words, *(["--check"] if check else [])])


def test_only_what_is_between_the_marks_changes(tmp_path: Path) -> None:
    text = "# A\r\n\r\n  <!-- mmeval:say one two -->\r\nold\r\n\r\nolder\r\n<!-- /mmeval -->\r\ntail without end"
    before, after = filled(write(tmp_path, text), FILLS)
    assert before == text
    assert after == (
        "# A\r\n\r\n  <!-- mmeval:say one two -->\r\n\r\none two\r\n\r\n<!-- /mmeval -->\r\ntail without end"
    )
    assert filled(write(tmp_path, after), FILLS) == (after, after)


def test_words_may_be_quoted_and_places_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    text = '<!--mmeval:say "a b"  c-->\n<!-- /mmeval -->\n<!-- mmeval:where -->\n<!--/mmeval-->\n'
    _, after = filled(write(tmp_path / "docs", text), FILLS)
    assert "\na b c\n" in after
    assert "\ndocs\n" in after


def test_marks_in_code_and_other_comments_are_text(tmp_path: Path) -> None:
    code = "```\n<!-- mmeval:nothing -->\n```\n~~~~ md\n~~~\n<!-- /mmeval -->\n~~~~\n<!-- not a mark: mmeval -->\n"
    text = f"{code}<!-- mmeval:say hi -->\n```\nan open fence in a region\n<!-- /mmeval -->\n{code}"
    _, after = filled(write(tmp_path, text), FILLS)
    assert after == f"{code}<!-- mmeval:say hi -->\n\nhi\n\n<!-- /mmeval -->\n{code}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<!-- mmeval:say x -->\n", "README.md:1: not closed"),
        (
            "a\n<!-- mmeval:say x -->\n<!-- mmeval:say y -->\n<!-- /mmeval -->\n",
            "README.md:2: not closed before line 3",
        ),
        ("\n<!-- /mmeval -->\n", "README.md:2: closes a region that is not open"),
        (
            "<!-- mmeval:sya x -->\n<!-- /mmeval -->",
            r"README.md:1: unknown mark mmeval:sya - did you mean 'say'\?; known: say",
        ),
        ("<!-- mmeval -->\n<!-- /mmeval -->", "README.md:1: not a mark"),
        ("<!-- mmeval:say x\n-->\n<!-- /mmeval -->", "README.md:1: not a mark"),
        ("<!-- mmeval:say 'x -->\n<!-- /mmeval -->", "README.md:1: No closing quotation"),
        ("nothing here\n", "nothing to fill"),
    ],
)
def test_wrong_marks_are_named_with_their_line(tmp_path: Path, text: str, why: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(BadInput, match=why):
        filled(file, FILLS)
    assert main(["leaderboard", "--root", str(tmp_path), "--update", str(file)]) == 2
    assert file.read_bytes() == text.encode()


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read it"):
        filled(tmp_path / "missing.md", FILLS)
    (tmp_path / "x.md").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8"):
        filled(tmp_path / "x.md", FILLS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = [1] * 60 + [0] * 60
    better = [1] * 110 + [0] * 10
    write_run(
        tmp_path / "runs", "base", "boolq", [mean("acc", "x", proportion=True)], records(base), source="miniature"
    )
    facts = {"tuned": tuned_from("base"), "source": "miniature"}
    write_run(tmp_path / "runs", "tuned", "boolq", [mean("acc", "x", proportion=True)], records(better), **facts)
    place = tmp_path / "boards"
    assert main(["leaderboard", "add", str(tmp_path / "runs"), "--root", str(place)]) == 0
    return place


def test_a_page_and_a_table_in_a_readme(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        tmp_path,
        "# Mine\n<!-- mmeval:page nlp -->\n<!-- /mmeval -->\nand\n<!-- mmeval:table sft -->\n<!-- /mmeval -->\n",
    )
    assert update(root, file, check=True) == 1
    said = capsys.readouterr().err
    assert f"README.md: a region is not up to date; run mmeval leaderboard --root {root} --update {file}" in said
    assert update(root, file) == 0
    text = file.read_text()
    assert "| LLaMA2 + MM-lora | published | 46.6% (+0.7%) |" in text
    assert "[91.7% (+41.7%)\\*](boards/details.md#tuned:boolq)" in text
    assert "[^nlp-miniature]: Miniature" in text
    used = {part.split("]")[0] for part in text.split("[^")[1:]}
    assert all(f"[^{key}]: " in text for key in used)  # every footnote comes along
    assert "LLaVA1.5-7B-SFT" in text
    assert [path.name for path in root.glob("*.md")] == []  # no page is written
    assert update(root, file, check=True) == 0
    stamp = file.stat().st_mtime_ns
    assert update(root, file) == 0
    assert file.stat().st_mtime_ns == stamp
    assert capsys.readouterr().out.splitlines()[-1] == f"unchanged  {file}"


def test_a_comparison_in_a_readme(root: Path, tmp_path: Path) -> None:
    text = "<!-- mmeval:compare ../runs/base ../runs/tuned -->\n<!-- /mmeval -->\n"
    (tmp_path / "docs").mkdir()
    file = write(tmp_path / "docs", text, "analysis.md")
    assert update(root, file) == 0
    assert "| boolq | acc | 50.0 | 91.7 | +41.7 |" in file.read_text()
    assert "miniature" in file.read_text()
    assert update(root, file, check=True) == 0


def test_a_run_in_a_readme_against_its_base(root: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "<!-- mmeval:run runs/tuned -->\n<!-- /mmeval -->\n")
    assert update(root, file) == 0
    lines = file.read_text().splitlines()
    assert lines[2].startswith("| task | metric | value | 95% CI | vs base | n |")
    assert lines[4].startswith("| boolq | acc | 91.7 | ")
    assert "| +41.7 p&lt;.0001 \\* |" in lines[4]
    assert any("miniature" in line for line in lines[5:])
    file = write(tmp_path, "<!-- mmeval:run runs/base -->\n<!-- /mmeval -->\n")
    assert update(root, file) == 0
    assert "vs" not in file.read_text()


def test_a_comparison_needs_no_leaderboard(tmp_path: Path, root: Path) -> None:
    file = write(tmp_path, "<!-- mmeval:compare runs/base runs/tuned -->\n<!-- /mmeval -->\n")
    assert update(tmp_path / "nowhere", file) == 0


def test_nothing_is_written_if_one_file_is_wrong(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path, "<!-- mmeval:page nlp -->\n<!-- /mmeval -->\n", "good.md")
    bad = write(tmp_path, "<!-- mmeval:page npl -->\n<!-- /mmeval -->\n", "bad.md")
    assert update(root, good, bad) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("bad.md:1: no page 'npl' - did you mean 'nlp'?; there are " + ", ".join(PAGES))
    )
    assert good.read_text() == "<!-- mmeval:page nlp -->\n<!-- /mmeval -->\n"


PAGES = ("truthfulness", "nlp", "multimodal", "robustness", "helpfulness", "sft", "negatives", "claims")


@pytest.mark.parametrize(
    ("mark", "why"),
    [
        ("page", "expected the name of a page"),
        ("page nlp sft", "expected the name of a page"),
        ("table nlp tabel9", "page nlp has no table 'tabel9'"),
        ("table claims", "page claims has no table"),
        ("run", "expected the results of one model"),
        ("run runs", "results of 2 models"),
        ("compare runs/base", "expected the results of a base and of one or more others"),
        ("compare runs/base runs/nowhere", "no such file or folder"),
    ],
)
def test_wrong_words(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mark: str, why: str) -> None:
    file = write(tmp_path, f"<!-- mmeval:{mark} -->\n<!-- /mmeval -->\n")
    assert update(root, file) == 2
    said = capsys.readouterr().err
    assert f"{file}:1: " in said
    assert why in said


def test_damaged_results_are_named_and_the_rest_is_filled(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "results/base/boolq.json").write_text("{")
    file = write(tmp_path, "<!-- mmeval:page nlp -->\n<!-- /mmeval -->\n")
    assert update(root, file) == 1
    assert "tuned" in file.read_text()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "damaged result file" in said[0]
