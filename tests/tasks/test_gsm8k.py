"""GSM8K: both readings equal lm-eval's own, prompts of both harnesses, and submissions of the forms around."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmalign_eval.tasks.gsm8k import Gsm8k, flexible, old_strict, plain, strict

from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.lmeval import bind
from mmalign_eval.requests import Generate, GenParams, Response
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.stats import estimates
from mmalign_eval.task import Sample

from ..lmeval_support import flattened, run, simple_evaluate, their_pairs, write_local
from ..support import shared_data
from ..support_score import scored

SUMS = [
    {"question": f"Ann has {a} pears and buys {b}.\nHow many now?",
     "answer": f"{a}+{b}=<<{a}+{b}={a + b}>>{a + b}.\n#### {a + b:,}"}
    for a, b in ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (2, 10), (20, 21), (600, 634))
]  # fmt: skip
ANSWERS = [
    "2 + 10 = 12.\n#### 12", "#### 12.", "#### 1,234", "It is $1,234.", "so 12. #### 13 #### 12", "A: 18", "",
    "#### -5", "####12", "#### $12", "-3 or 12,", "twelve", "12 pears, 3 left .", "x #### 12 y ### 3", "1.50", "$",
    "..", "#### ,", "####  12",
]  # fmt: skip


def write(folder: Path, name: str, rows: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "gsm8k", "train.jsonl", SUMS[:8])
    write(tmp_path / "gsm8k", "test.jsonl", SUMS[8:])
    return tmp_path


def opened(folder: Path, protocol: str = "", few_shot: int | None = None) -> tuple[Gsm8k, list[Sample]]:
    task = Gsm8k(protocol, few_shot)
    source = Source("dir", str(folder))
    bind(task, source)
    return task, list(task.samples(source))


def test_prompts_and_metrics_equal_lm_evals_own(data: Path, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    write_local(local, "local_gsm8k", "gsm8k/gsm8k.yaml", {"train": SUMS[:8], "test": SUMS[8:]})
    theirs = simple_evaluate(local, ["local_gsm8k"])
    values, asked = run(opened(data)[0])
    for sample in theirs["samples"]["local_gsm8k"]:
        assert flattened(asked[str(sample["doc_id"])]) == their_pairs(sample)
    expected = theirs["results"]["local_gsm8k"]
    assert values == {
        "strict": expected["exact_match,strict-match"],
        "flexible": expected["exact_match,flexible-extract"],
    }
    assert 0 < values["strict"] < 1  # type: ignore[operator]


@pytest.mark.parametrize("text", ANSWERS)
@pytest.mark.parametrize("reference", ["1+1 #### 12", "x\n#### 1,234", "#### -5", "a #### 18"])
def test_both_readings_equal_lm_evals_filters_and_metric(text: str, reference: str) -> None:
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    from mmalign_eval.lmeval.parts import load_config

    config = load_config("gsm8k/gsm8k.yaml")
    ignored = config["metric_list"][0]["regexes_to_ignore"]
    for given_filter, ours in zip(config["filter_list"], (strict, flexible), strict=True):
        arguments = {k: v for k, v in given_filter["filter"][0].items() if k != "function"}
        ((theirs,),) = RegexFilter(**arguments).apply([[text]], [{}])
        assert ours(text) == theirs
        match = exact_match_hf_evaluate([theirs], [reference], regexes_to_ignore=ignored, ignore_case=True)
        assert (plain(ours(text)) == plain(reference)) == bool(match["exact_match"])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.text(alphabet="0123456789.,$-# \nA:")))
def test_readings_of_any_text_equal_lm_evals_filters(text: str) -> None:
    from lm_eval.filters.extraction import RegexFilter

    ((first,),) = RegexFilter(r"#### (\-?[0-9\.\,]+)").apply([[text]], [{}])
    ((last,),) = RegexFilter(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select=-1).apply([[text]], [{}])
    assert (strict(text), flexible(text)) == (first, last)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("#### 1234", True),
        ("#### 1,234", True),
        ("#### 1,234.", False),  # the full stop makes it another number
        ("#### 7 #### 1234", False),  # the first counts
        ("1234", False),
        ("####1234", False),
        ("#### $1234", False),
    ],
)
def test_the_papers_reading(data: Path, text: str, right: bool) -> None:
    task, found = opened(data, "paper")
    record = task.record(found[2], [Response("ok", text=text)])  # the reference ends '#### 1,234'
    assert (record["strict"], record["gold"]) == (int(right), "1234")
    assert [m.name for m in task.metrics()] == ["strict"]
    assert old_strict("none") == "[invalid]"


def test_the_papers_prompts(data: Path) -> None:
    task, found = opened(data, "paper")
    (request,) = task.requests(found[0])
    assert isinstance(request, Generate)
    assert request.params == GenParams(max_new_tokens=256, stop=(":", "Question:", "Question"))
    assert request.prompt.special_tokens is False
    rng = random.Random(42)
    order = [0, 1, 2]
    rng.shuffle(order)
    shots = {number: rng.sample(SUMS[:8], 8) for number in order}  # the same generator moves on
    text = "".join(f"Question: {s['question']}\nAnswer: {s['answer']}\n\n" for s in shots[0])
    assert request.prompt.text == f"{text}Question: {SUMS[8]['question']}\nAnswer:"


@pytest.mark.parametrize("protocol", ["lm_eval", "paper"])
def test_the_right_answer_scores_full_marks(data: Path, protocol: str) -> None:
    task, found = opened(data, protocol)
    records = [{**task.record(s, task.right_answer(s)), "cluster": s.id} for s in found]
    assert [e.value for e in estimates(task.metrics(), records)] == [1.0] * len(task.metrics())


def test_hub_rows_and_native_files_give_equal_requests(data: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path / "hub" / "main"
    folder.mkdir(parents=True)
    for split, rows in (("train", SUMS[:8]), ("test", SUMS[8:])):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")
    (ours, found), (theirs, given_samples) = opened(data), opened(tmp_path / "hub")
    assert [s.id for s in found] == [s.id for s in given_samples] == ["0", "1", "2"]
    assert [ours.requests(s) for s in found] == [theirs.requests(s) for s in given_samples]


TEXTS = ["2+10. #### 12.", "It is 41", "A: 1,234"]  # strict alone right, flexible alone, flexible alone
SUBMISSIONS: dict[str, tuple[str, str]] = {
    "strings in order": ("a.jsonl", "".join(f"{json.dumps(t)}\n" for t in TEXTS)),
    "a list": ("a.json", json.dumps(TEXTS)),
    "ids": ("a.json", json.dumps({str(i): TEXTS[i] for i in (2, 0, 1)})),
    "questions in any order": ("a.jsonl", "".join(
        json.dumps({"question": SUMS[8 + i]["question"], "answer": TEXTS[i]}) + "\n" for i in (1, 2, 0))),
    "responses beside the reference": ("a.jsonl", "".join(
        json.dumps({"id": i, "answer": "#### 0", "response": TEXTS[i]}) + "\n" for i in (1, 2, 0))),
    "lm-eval's samples": ("samples_gsm8k.jsonl", "".join(
        json.dumps({"doc_id": i, "resps": [[TEXTS[i]]], "filtered_resps": ["x"], "filter": f}) + "\n"
        for f in ("strict-match", "flexible-extract") for i in range(3))),
}  # fmt: skip


@pytest.mark.parametrize("form", SUBMISSIONS)
def test_submissions_need_no_training_file(data: Path, tmp_path: Path, form: str) -> None:
    (data / "gsm8k" / "train.jsonl").unlink()
    name, text = SUBMISSIONS[form]
    (tmp_path / name).write_text(text)
    assert scored(Gsm8k(), tmp_path / name, data) == pytest.approx({"strict": 1 / 3, "flexible": 1.0})
    assert scored(Gsm8k("paper"), tmp_path / name, data / "gsm8k" / "test.jsonl") == {"strict": 0.0}


def test_openais_file_of_model_solutions(data: Path, tmp_path: Path) -> None:
    rows = [
        {"question": s["question"], "ground_truth": s["answer"], "6b": {"solution": "A: 0", "is_correct": False},
         "175b": {"solution": f"so\nA: {s['answer'].split()[-1]}", "is_correct": True}} for s in SUMS[8:]
    ]  # fmt: skip
    path = write(tmp_path, "example_model_solutions.jsonl", rows)
    big = AnswerFiles({"": path}, {"column": "175b"})
    assert scored(Gsm8k(), big, data) == {"strict": 0.0, "flexible": 1.0}
    assert scored(Gsm8k(), AnswerFiles({"": path}, {"column": "6b"}), data)["flexible"] == 0.0
    task, source = Gsm8k(), Source("dir", str(data), images=False)
    bind(task, source)
    (note,) = task.submitted(big, source).notes
    assert note.startswith("3 answers end 'A: number'")
    with pytest.raises(BadInput, match=r"jsonl:1: none of response, .*among question, ground_truth.*--column names"):
        task.submitted(AnswerFiles({"": path}), source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"x"\n"y"\n"z"\n"w"\n', r"a\.jsonl:4: more answers than the data have samples \(3\)"),
        ('{"id": 1, "text": "x"}\n{"id": 1, "text": "y"}\n', r"a\.jsonl:2: '1' is answered twice"),
        ('{"id": 1, "text": "x"}\n{"id": 2, "te', r"a\.jsonl:2: not valid JSON"),
        ('{"id": 1, "text": 12}\n', r"a\.jsonl:1: text: expected the answer as text, found int"),
        ('{"question": "What?", "text": "12"}\n', r"1 ids are no samples of these data: 'What\?'"),
    ],
)
def test_bad_submissions_are_one_line(data: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        scored(Gsm8k(), tmp_path / "a.jsonl", data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "?"}], r"test\.jsonl:1: field 'answer' is missing"),
        ([SUMS[0], {"question": "?", "answer": "12"}], r"test\.jsonl:2: the reference answer does not end"),
        ([], "no samples in"),
    ],
)
def test_damaged_data_are_named(tmp_path: Path, rows: list[Any], message: str) -> None:
    write(tmp_path, "test.jsonl", rows)
    with pytest.raises(BadInput, match=message):
        opened(tmp_path, few_shot=0)


def test_a_run_with_shots_needs_the_training_file(tmp_path: Path) -> None:
    write(tmp_path, "test.jsonl", SUMS[8:])
    with pytest.raises(BadInput, match="no documents of split 'train'"):
        opened(tmp_path)
    with pytest.raises(BadInput, match="8 shots asked for, 0 training documents"):
        opened(tmp_path, "paper")
    assert len(opened(tmp_path, few_shot=0)[1]) == 3


def test_the_real_questions_with_made_answers(tmp_path: Path) -> None:
    gold = [json.loads(line) for line in (shared_data("gsm8k") / "test.jsonl").open()]
    assert len(gold) == 1319
    rng = random.Random(3)
    numbers = [row["answer"].rpartition("#### ")[2].strip() for row in gold]
    endings = [
        rng.choice(["#### {}", "#### {}.", "A: {}", "The answer is ${}.", "#### 99999999", "none"]) for _ in gold
    ]
    path = write(tmp_path, "a.jsonl", [{"text": e.format(n)} for e, n in zip(endings, numbers, strict=True)])
    found = scored(Gsm8k(), path, shared_data("gsm8k"))
    right = sum(e in ("#### {}", "#### {}.") for e in endings)
    anywhere = sum("{}" in e for e in endings)
    assert found == pytest.approx({"strict": right / 1319, "flexible": anywhere / 1319})
    assert scored(Gsm8k("paper"), path, shared_data("gsm8k"))["strict"] == endings.count("#### {}") / 1319
