"""MathQA: options as both harnesses read them, scores equal to lm-eval's, submissions, damaged rows."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from mmalign_eval.tasks.mathqa import MathQA, options_of

from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.lmeval import bind
from mmalign_eval.requests import Choose, Response
from mmalign_eval.stats import estimates
from mmalign_eval.task import Sample

from ..lmeval_support import flattened, run, simple_evaluate, their_pairs, write_local
from ..support import shared_data
from ..support_score import scored

PROBLEMS = [
    {"Problem": f"what is {i} times {i} ?", "Rationale": "", "correct": "abcde"[i % 5], "category": "general",
     "options": f"a ) {i} , b ) {i * i} , c ) none of these numbers , d ) {i + 1:,} , e ) {7 * i}"} for i in range(14)
]  # fmt: skip
FOUR = {"Problem": "which ?", "options": "a ) 1 , b ) 2 , c ) 3 , d ) 4", "correct": "b"}
NONE = {"Problem": "what ?", "options": "one, two", "correct": "a"}


def write(folder: Path, name: str, value: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value))
    return folder / name


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "mathqa", "train.json", PROBLEMS[:6])
    write(tmp_path / "mathqa", "test.json", PROBLEMS[6:])
    return tmp_path


def opened(folder: Path, protocol: str = "", few_shot: int | None = None) -> tuple[MathQA, list[Sample]]:
    task = MathQA(protocol, few_shot)
    source = Source("dir", str(folder))
    bind(task, source)
    return task, list(task.samples(source))


def chosen(task: MathQA, sample: Sample, *logprobs: float) -> dict[str, Any]:
    return task.record(sample, [Response("ok", logprobs=logprobs)])


@pytest.mark.parametrize("shots", [0, 4])
def test_prompts_and_metrics_equal_lm_evals_own(data: Path, tmp_path: Path, shots: int) -> None:
    local = tmp_path / "local"
    local.mkdir()
    splits = {"train": PROBLEMS[:6], "validation": PROBLEMS[:1], "test": PROBLEMS[6:]}
    write_local(local, "local_mathqa", "mathqa/mathqa.yaml", splits, num_fewshot=shots)
    theirs = simple_evaluate(local, ["local_mathqa"])
    values, asked = run(opened(data, few_shot=shots)[0])
    for sample in theirs["samples"]["local_mathqa"]:
        assert flattened(asked[str(sample["doc_id"])]) == their_pairs(sample)
    expected = theirs["results"]["local_mathqa"]
    assert values == pytest.approx({"acc": expected["acc,none"], "acc_norm": expected["acc_norm,none"]})
    assert shots or values["acc"] != values["acc_norm"], "equal values could not tell the two apart"


def test_acc_norm_divides_by_the_characters_of_the_option(data: Path) -> None:
    task, found = opened(data)  # row 0: 6, 36, none of these numbers, 7, 42; gold b
    assert options_of(found[0].data["doc"]) == ["6", "36", "none of these numbers", "7", "42"]
    record = chosen(task, found[0], -4.0, -6.0, -30.0, -4.5, -9.0)  # by length: -4, -3, -1.43, -4.5, -4.5
    assert record == {"acc": 0, "gold": 1, "choice": 0, "acc_norm": 0}
    record = chosen(task, found[0], -4.0, -6.0, -100.0, -4.5, -9.0)
    assert (record["acc"], record["acc_norm"]) == (0, 1)
    record = chosen(task, found[0], -2.0, -2.0, -100.0, -2.0, -2.0)  # a tie goes to the first option
    assert (record["acc"], record["choice"]) == (0, 0)


def test_the_papers_prompt(data: Path) -> None:
    task, found = opened(data, "paper")
    (request,) = task.requests(found[3])
    assert isinstance(request, Choose)
    assert request.prompt.special_tokens is False
    assert request.prompt.text.count("Question: ") == 5
    assert request.prompt.text.endswith("\n\nQuestion: what is 9 times 9 ?\nAnswer:")
    assert request.options == (" 9", " 81", " none of these numbers", " 10", " 63")
    shot = request.prompt.text.split("\n\n")[0]
    assert shot in {f"Question: {p['Problem']}\nAnswer: {options_of(p)['abcde'.index(p['correct'])]}"
                    for p in PROBLEMS[:6]}  # fmt: skip


@pytest.mark.parametrize("protocol", ["lm_eval", "paper"])
def test_the_right_answer_scores_full_marks(data: Path, protocol: str) -> None:
    task, found = opened(data, protocol)
    records = [{**task.record(s, task.right_answer(s)), "cluster": s.id} for s in found]
    assert [e.value for e in estimates(task.metrics(), records)] == [1.0, 1.0]


@pytest.mark.parametrize("protocol", ["lm_eval", "paper"])
def test_rows_without_five_options_are_wrong_and_logged(
    tmp_path: Path, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "test.json", [FOUR, NONE, PROBLEMS[0]])
    write(tmp_path, "train.json", PROBLEMS[:6])
    task, found = opened(tmp_path, protocol)
    asked = [task.requests(s)[0] for s in found]
    assert [len(r.options) for r in asked if isinstance(r, Choose)] == [3, 1, 5]
    with caplog.at_level(logging.WARNING):
        records = [task.record(s, task.right_answer(s)) for s in found]
    assert [r["acc"] for r in records] == [r["acc_norm"] for r in records] == [0, 0, 1]
    assert "row 0 has 3 options, not 5: counted as wrong" in caplog.text
    assert "row 1 has 0 options" in caplog.text
    answers = tmp_path / "a.jsonl"
    answers.write_text("[-1.0, -2.0, -3.0]\n[]\n[-1, -9, -99, -9, -9]\n")
    assert scored(MathQA(protocol), answers, tmp_path) == pytest.approx({"acc": 1 / 3, "acc_norm": 1 / 3})
    answers = write(tmp_path, "a.json", {"0": "e", "1": "a", "2": "a"})
    assert scored(MathQA(protocol), answers, tmp_path) == {"acc": pytest.approx(1 / 3), "acc_norm": None}


def test_hub_rows_and_native_files_give_equal_requests(data: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path / "hub" / "mathqa" / "data"
    folder.mkdir(parents=True)
    for split, rows in (("train", PROBLEMS[:6]), ("test", PROBLEMS[6:])):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")
    (ours, found), (theirs, given) = opened(data, "paper"), opened(tmp_path / "hub", "paper")
    assert [s.id for s in found] == [s.id for s in given] == [str(i) for i in range(8)]
    assert [ours.requests(s) for s in found] == [theirs.requests(s) for s in given]


def test_submissions(data: Path, tmp_path: Path) -> None:
    (data / "mathqa" / "train.json").unlink()
    gold = [p["correct"] for p in PROBLEMS[6:]]
    wrong = ["e" if letter == "a" else "a" for letter in gold]
    half = [*gold[:4], *wrong[4:]]
    by_id = write(tmp_path, "a.json", {str(i): letter.upper() for i, letter in reversed(list(enumerate(half)))})
    numbers = write(tmp_path, "n.json", {str(i): "abcde".index(letter) for i, letter in enumerate(half)})
    for path in (by_id, numbers):
        assert scored(MathQA(), path, data) == {"acc": 0.5, "acc_norm": None}  # a choice says nothing of lengths
    lines = [[-1.0 if letter == c else -60.0 for c in "abcde"] for letter in half]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert scored(MathQA("paper"), tmp_path / "a.jsonl", data / "mathqa" / "test.json")["acc"] == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"0": "f"}', r"a\.json: '0': 'f' is none of the 5 options"),
        ('{"0": "a", "0": "b"}', "id '0' occurs twice"),
        ('{"99": "a"}', "1 ids are no samples"),
        ('[[-1, -2]]', r"a\.json: \[0\]: 2 log-likelihoods for 5 options"),
        ('["a", "b"', r"a\.json:1: not valid JSON"),
    ],
)  # fmt: skip
def test_bad_submissions_are_one_line(data: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BadInput, match=message):
        scored(MathQA(), tmp_path / "a.json", data)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1}, r"test\.json: expected a list of problems, found dict"),
        ([PROBLEMS[0], 3], r"test\.json: \[1\]: expected a JSON object"),
        ([{"Problem": "?", "options": ""}], r"\[0\]: field 'correct' is missing"),
        ([{**FOUR, "correct": "ab"}], r"correct must be one of a, b, c, d, e; found 'ab'"),
        ([], "no samples in"),
    ],
)
def test_damaged_data_are_named(tmp_path: Path, value: Any, message: str) -> None:
    write(tmp_path, "test.json", value)
    with pytest.raises(BadInput, match=message):
        opened(tmp_path)


def test_the_real_problems_with_made_choices(tmp_path: Path) -> None:
    folder = shared_data("mathqa")
    rows = json.loads((folder / "test_first300.json").read_text())
    assert {len(options_of(row)) for row in rows} == {5}
    rng = random.Random(5)
    picked = [rng.choice("abcde") for _ in rows]
    path = write(tmp_path, "a.json", {str(i): letter for i, letter in enumerate(picked)})
    right = sum(letter == row["correct"] for letter, row in zip(picked, rows, strict=True))
    assert scored(MathQA(), path, folder)["acc"] == pytest.approx(right / 300)
    likely = [[rng.uniform(-30, -20) for _ in range(5)] for _ in rows]  # near enough for lengths to decide
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in likely))
    found = scored(MathQA(), tmp_path / "a.jsonl", folder / "test_first300.json")
    # the rules once more: options cut at their letters, without the last blank and comma
    best, by_length = 0, 0
    for row, line in zip(rows, likely, strict=True):
        body = row["options"]
        at = [body.index(f"{c} ) ") for c in "abcde"] + [len(body)]
        texts = [body[at[i] + 4 : at[i + 1]].rstrip(" ,") for i in range(5)]
        gold = "abcde".index(row["correct"])
        best += max(range(5), key=lambda i: line[i]) == gold
        by_length += max(range(5), key=lambda i: line[i] / len(texts[i])) == gold
    assert found == pytest.approx({"acc": best / 300, "acc_norm": by_length / 300})
    assert best != by_length
