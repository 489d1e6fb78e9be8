"""BoolQ: native files and hub rows give the same samples; both harnesses' numbers; submissions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mmalign_eval.tasks.boolq import BoolQ

from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.lmeval import bind
from mmalign_eval.requests import Choose, Response
from mmalign_eval.task import Sample

from ..lmeval_support import flattened, run, simple_evaluate, their_pairs, write_local
from ..support import shared_data
from ..support_score import scored

ROWS = [
    {"question": "do moths fly", "passage": "Moths have wings.", "idx": 0, "label": True},
    {"question": "is lead light", "passage": "Lead is a metal.\nA heavy one.", "idx": 1, "label": False},
    {"question": "do owls eat mice", "passage": "Owls hunt.", "idx": 2, "label": True},
    {"question": "is ice warm", "passage": "Ice melts.", "idx": 3, "label": False},
]
TRAINING = [{"question": f"is {i} even", "passage": f"A number: {i}.", "idx": i, "label": i % 2 == 0} for i in range(6)]


def lines(path: Path, rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def native(folder: Path, name: str = "val.jsonl", rows: Any = ROWS) -> Path:
    lines(folder / name, rows)
    lines(folder / "train.jsonl", TRAINING)
    return folder


def opened(folder: Path, protocol: str = "", few_shot: int | None = None) -> BoolQ:
    task = BoolQ(protocol, few_shot)
    bind(task, Source("dir", str(folder)))
    return task


def samples(task: BoolQ) -> list[Sample]:
    return list(task.samples(Source("dir", "")))


def test_prompt_and_options(tmp_path: Path) -> None:
    for protocol, special in (("lm_eval", None), ("paper", False)):
        task = opened(native(tmp_path), protocol)
        (asked,) = task.requests(samples(task)[1])
        assert isinstance(asked, Choose)
        assert asked.prompt.text == "Lead is a metal.\nA heavy one.\nQuestion: is lead light?\nAnswer:"
        assert asked.prompt.special_tokens is special
        assert asked.options == (" no", " yes")


def test_all_layouts_give_equal_samples(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    original = [{"question": r["question"], "title": "t", "answer": r["label"], "passage": r["passage"]} for r in ROWS]
    hub = tmp_path / "hub" / "boolq"
    hub.mkdir(parents=True)
    for split, rows in (("validation", ROWS), ("train", TRAINING)):
        table = pyarrow.Table.from_pylist([{**row, "label": int(row["label"])} for row in rows])  # type: ignore[call-overload]
        pyarrow.parquet.write_table(table, hub / f"{split}-00000-of-00001.parquet")
    folders = [
        native(tmp_path / "superglue"),
        native(tmp_path / "original", "dev.jsonl", original),
        hub.parent,
        lines(tmp_path / "part" / "dev_some.jsonl", ROWS).parent,
    ]
    found = [samples(opened(folder)) for folder in folders]
    assert [s.id for s in found[0]] == [f"validation/{i}" for i in range(4)]
    for other in found[1:]:
        assert other == found[0]
    shots = [opened(folder, "paper", 2).requests(found[0][3]) for folder in folders[:3]]
    assert shots[0] == shots[1] == shots[2]
    assert shots[0][0].prompt.text.count("Question:") == 3


def test_every_number_equals_lm_evals_own(tmp_path: Path) -> None:
    docs = {"validation": [{**row, "label": int(row["label"])} for row in ROWS]}  # type: ignore[call-overload]
    write_local(tmp_path, "local_boolq", "super_glue/boolq/default.yaml", docs, training_split=None)
    theirs = simple_evaluate(tmp_path, ["local_boolq"])
    ours, asked = run(opened(native(tmp_path / "native")))
    assert ours["acc"] == theirs["results"]["local_boolq"]["acc,none"]
    for sample in theirs["samples"]["local_boolq"]:
        assert flattened(asked[f"validation/{sample['doc_id']}"]) == their_pairs(sample)


@pytest.mark.parametrize("protocol", ["lm_eval", "paper"])
def test_a_tie_is_a_no(tmp_path: Path, protocol: str) -> None:
    task = opened(native(tmp_path), protocol)
    tie = Response("ok", logprobs=(-3.0, -3.0))
    assert [task.record(s, [tie])["correct"] for s in samples(task)] == [0, 1, 0, 1]


CHOICES = [True, "yes", "TRUE", "b"]  # right, wrong, right, wrong


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({str(i): c for i, c in enumerate(CHOICES)})),
        ("a.json", json.dumps({f"validation/{i}": c for i, c in enumerate(CHOICES)})),
        ("a.json", json.dumps(CHOICES)),
        ("a.jsonl", '{"idx": 3, "label": "true"}\n{"idx": 0, "label": "true"}\n{"idx": 1, "label": "true"}\n'
                    '{"idx": 2, "label": "true"}\n'),
        ("a.jsonl", "[-2.5, -1.0]\n[-7, -6.5]\n[-0.5, -0.25]\n[-30, -20]\n"),
        ("a.json", "[-2.5, -1.0]\n[-7, -6.5]\n[-0.5, -0.25]\n[-30, -20]\n"),
        ("a.txt", "1\r\n1\r\n1\r\n1\r\n\r\n"),
        ("a.txt", "yes\nTrue\ntrue\nYES"),
        ("a.csv", "idx,label,prediction\n3,0,yes\n0,0,1\n1,0,true\n2,0,b\n"),
        # rows that keep the data's own answer beside the prediction
        ("a.jsonl", "".join(json.dumps({"question": "q", "answer": i % 2 == 0, "label": 0, "prediction": True}) + "\n"
                            for i in range(4))),
        ("a.jsonl", '{"answer": false, "prediction": "no", "logprobs": [-2, -1]}\n' * 4),
        ("a.json", '{"boolq": [1, "yes", true, "B"]}'),
    ],
)  # fmt: skip
def test_submissions_in_all_their_forms(tmp_path: Path, name: str, text: str) -> None:
    data = native(tmp_path / "data")
    (tmp_path / name).write_text(text)
    assert scored(BoolQ(), tmp_path / name, data) == {"acc": 0.5, "yes_ratio": 1.0}
    assert scored(BoolQ("paper"), tmp_path / name, data / "val.jsonl") == {"acc": 0.5, "yes_ratio": 1.0}


def test_entries_that_repeat_their_question_need_no_order(tmp_path: Path) -> None:
    data = native(tmp_path / "data")
    rows = [json.loads(line) for line in (data / "val.jsonl").read_text().splitlines()]
    path = tmp_path / "a.jsonl"
    right = [{"question": r["question"], "pred": float(r["label"])} for r in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in right[::-1]))
    assert scored(BoolQ(), path, data)["acc"] == 1.0
    path.write_text("".join(json.dumps({**row, "idx": i}) + "\n" for i, row in enumerate(right[::-1])))
    assert scored(BoolQ(), path, data)["acc"] == 0.0  # an id goes before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"0": "maybe"}', r"a\.json: '0': 'maybe' is none of the 2 options \(no, yes\)"),
        ("a.json", '{"0": 1, "0": 0}', r"id '0' occurs twice"),
        ("a.json", '{"7": 1}', r"7"),
        ("a.jsonl", "[-1, -2]\n[-1]\n", r"a\.jsonl:2: 1 log-likelihoods for 2 options"),
        ("a.jsonl", "[-1, -2]\n[-1,", r"a\.jsonl:2: not valid JSON"),
        ("a.jsonl", "[-1, -2]\n" * 5, r"a\.jsonl:5: more answers than the data have samples \(4\)"),
    ],
)
def test_bad_submissions_are_named_with_their_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    data = native(tmp_path / "data")
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=message):
        scored(BoolQ(), tmp_path / name, data)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "q", "label": True}], r"val\.jsonl:1: field 'passage' is missing"),
        ([ROWS[0], {"question": "q", "passage": "p", "idx": 1}], r"val\.jsonl:2: field 'answer' is missing"),
        ([{**ROWS[0], "label": -1}], r"val\.jsonl:1: the label must be true or false, found -1"),
        ([], "no samples in"),
    ],
)
def test_damaged_data_are_named_with_their_line(tmp_path: Path, rows: Any, message: str) -> None:
    folder = lines(tmp_path / "val.jsonl", rows).parent
    with pytest.raises(BadInput, match=message):
        opened(folder)


def test_the_real_sample() -> None:
    task = opened(shared_data("boolq"))
    found = samples(task)
    assert len(found) == 200
    assert all(s.data["doc"]["label"] in (0, 1) for s in found)
    assert all(task.record(s, task.right_answer(s))["correct"] for s in found)
