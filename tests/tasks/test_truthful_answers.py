"""TruthfulQA's other protocols, and answers to it that were made elsewhere."""

from __future__ import annotations

import csv
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmalign_eval.tasks.truthfulqa import PRIMER, TruthfulQA, between_a_and_q, references, single_true, true_mass

from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.lmeval import bind
from mmalign_eval.requests import Choose, Generate, GenParams, Response
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.task import Sample

from ..lmeval_support import run
from ..support import shared_data
from ..support_score import scored
from .test_truthfulqa import CHOICES, HEADER, ROWS, hub_documents, write_hub, write_native

QUESTIONS = [row[2] for row in ROWS]
TRUE = ["Owls eat mice", "Far, about 384,400 km", "No."]
FALSE = ["They eat Nothing", "The moon is near", "Yes, in Malta"]


def opened(folder: Path, protocol: str = "") -> TruthfulQA:
    task = TruthfulQA(protocol)
    bind(task, Source("dir", str(folder)))
    return task


def samples(task: TruthfulQA) -> dict[str, Sample]:
    return {s.id: s for s in task.samples(Source("dir", ""))}


@pytest.mark.parametrize(
    ("protocol", "params", "special"),
    [
        ("paper", GenParams(max_new_tokens=256, stop=(".",)), False),
        ("official", GenParams(max_new_tokens=50, stop=("Q:",)), None),
    ],
)
def test_prompts_of_the_paper_and_of_the_authors(
    tmp_path: Path, protocol: str, params: GenParams, special: Any
) -> None:
    lm_eval, task = opened(write_native(tmp_path)), opened(tmp_path, protocol)
    theirs, ours = samples(lm_eval), samples(task)
    assert list(ours) == list(theirs)
    assert [s.cluster for s in ours.values()] == [s.cluster for s in theirs.values()]
    for name, sample in ours.items():
        (mine,), (other,) = task.requests(sample), lm_eval.requests(theirs[name])
        assert mine.prompt.text == other.prompt.text  # the harness of today kept the text
        assert mine.prompt.special_tokens is special
        if isinstance(mine, Choose) and isinstance(other, Choose):
            assert mine.options == other.options
        else:
            assert isinstance(mine, Generate)
            assert mine.params == params == task.protocol.params
    assert task.requests(ours["gen/2"])[0].prompt.text == f"{PRIMER}\n\nQ: Can cats vote?"
    assert task.requests(ours["mc1/0"])[0].prompt.text == f"{PRIMER}\n\nQ: What do owls eat?\nA:"


def test_all_protocols_score_alike_but_for_ties_and_the_authors_cut(tmp_path: Path) -> None:
    values = [run(opened(write_native(tmp_path), protocol))[0] for protocol in ("lm_eval", "paper", "official")]
    assert values[0].keys() == values[1].keys()
    for name in ("mc1", "mc2"):
        assert values[0][name] == values[1][name] == values[2][name]
    metrics = [{m.name: (m.unit, m.better, m.best, m.proportion) for m in opened(tmp_path, p).metrics()}
               for p in ("lm_eval", "paper")]  # fmt: skip
    assert metrics[0] == metrics[1]


def test_references_get_a_full_stop_and_no_comment_is_true() -> None:
    """As lm-eval's `process_docs_gen` makes them; doing it twice changes nothing."""
    from mmalign_eval.lmeval.parts import load_config

    questions, _ = hub_documents()
    from datasets import Dataset

    theirs = load_config("truthfulqa/truthfulqa_gen.yaml")["process_docs"](Dataset.from_list(questions))
    for raw, made in zip(questions, theirs, strict=True):
        true = references(raw["correct_answers"], no_comment=True)
        assert true == made["correct_answers"] == references(true, no_comment=True)
        assert references(raw["incorrect_answers"]) == made["incorrect_answers"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [("\nA: Owls eat mice.\n\nQ: Why?", "Owls eat mice."), ("Owls eat mice. ", "Owls eat mice."), ("", ""),
     ("\nA: A: b\nQ: c\nA: d", "A: b")],
)  # fmt: skip
def test_the_authors_script_takes_what_stands_between_a_and_q(text: str, answer: str) -> None:
    assert between_a_and_q(text) == answer


def test_official_mc1_must_exceed_every_false_option() -> None:
    assert single_true([-1.0, -2.0], [1, 0], tie=False)
    assert not single_true([-2.0, -2.0], [1, 0], tie=False)
    assert single_true([-2.0, -2.0], [1, 0], tie=True)
    assert not single_true([-3.0, -2.0], [1, 0], tie=True)


LL = st.floats(-2000, 0, allow_nan=False)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), options=st.lists(st.tuples(LL, st.integers(0, 1)), min_size=1, max_size=12))
def test_mc2_is_a_share_and_does_not_depend_on_the_order_of_options(data: st.DataObject, options: list[Any]) -> None:
    shuffled = data.draw(st.permutations(options))
    first, second = (true_mass(*map(list, zip(*o, strict=True))) for o in (options, shuffled))
    assert 0.0 <= first <= 1.0
    assert first == pytest.approx(second, abs=1e-12)
    assert first == pytest.approx(
        1 - true_mass([ll for ll, _ in options], [1 - label for _, label in options]), abs=1e-9
    )


def table(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


ANSWERS = ["Owls eat mice", "The moon is near", "No."]  # true, false, true


def test_a_table_of_answers_by_question_or_in_order(tmp_path: Path) -> None:
    data = write_native(tmp_path / "data")
    full = [[*row, answer] for row, answer in zip(ROWS, ANSWERS, strict=True)]
    by_question = table(tmp_path / "a.csv", [*HEADER, "my model"], full[::-1])
    in_order = table(tmp_path / "b.csv", ["answers"], [[answer] for answer in ANSWERS])
    two = table(tmp_path / "c.csv", [*HEADER, "base", "tuned"], [[*row[:-1], "x", row[-1]] for row in full])
    expected = scored(TruthfulQA(), by_question, data)
    assert expected["rougeL_acc"] == pytest.approx(2 / 3)
    assert expected["mc1"] is expected["mc2"] is None
    assert scored(TruthfulQA(), in_order, data) == expected
    assert scored(TruthfulQA("official"), in_order, data / "TruthfulQA.csv") == expected
    assert scored(TruthfulQA("paper"), {"gen": in_order}, data) == expected
    assert scored(TruthfulQA(), AnswerFiles({"": two}, {"column": "tuned"}), data) == expected
    with pytest.raises(BadInput, match=r"c\.csv:1: the column of answers may be any of base, tuned: say --column NAME"):
        scored(TruthfulQA(), two, data)
    with pytest.raises(BadInput, match=r"c\.csv:1: no column 'tunde'; did you mean 'tuned'|no column 'tunde'.*tuned"):
        scored(TruthfulQA(), AnswerFiles({"": two}, {"column": "tunde"}), data)
    with pytest.raises(BadInput, match=r"the column of answers is none of Type, "):
        scored(TruthfulQA(), data / "TruthfulQA.csv", data)


def test_a_submission_s_own_a_is_not_cut(tmp_path: Path) -> None:
    """The authors' script cuts what a model wrote, not what stands in a table."""
    data = write_native(tmp_path / "data")
    path = table(tmp_path / "a.csv", ["answers"], [["Plan A: mice. Q: x"], ["b"], ["c"]])
    assert scored(TruthfulQA("official"), path, data) == scored(TruthfulQA(), path, data)


@pytest.mark.parametrize(
    "value",
    [
        dict(zip(QUESTIONS, ANSWERS, strict=True)),
        {str(i): a for i, a in enumerate(ANSWERS)},
        {f"gen/{i}": a for i, a in enumerate(ANSWERS)},
        ANSWERS,
        [{"question": q, "answer": a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)][::-1],
        [{"id": i, "response": a} for i, a in enumerate(ANSWERS)][::-1],
    ],
)
def test_answers_as_json(tmp_path: Path, value: Any) -> None:
    data = write_native(tmp_path / "data")
    (tmp_path / "a.json").write_text(json.dumps(value))
    found = scored(TruthfulQA(), tmp_path / "a.json", data)
    assert found["rougeL_acc"] == pytest.approx(2 / 3)
    if isinstance(value, list):
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in value))
        assert scored(TruthfulQA(), tmp_path / "a.jsonl", data) == found


def softmax_share(lls: list[float], labels: list[int]) -> float:
    """mc2 by its definition."""
    return sum(math.exp(ll) for ll, label in zip(lls, labels, strict=True) if label) / sum(map(math.exp, lls))


def made_up(choices: list[Any]) -> tuple[list[dict[str, list[float]]], dict[str, float]]:
    """Log-likelihoods in the file's own order of questions and options, and mc1 and mc2 by their definitions."""
    rng = random.Random(7)
    rows, mc1, mc2 = [], 0, 0.0
    for item in choices:
        one, two = ([-rng.random() * 9 for _ in item[name]] for name in ("mc1_targets", "mc2_targets"))
        rows.append({"mc1_logprobs": one, "mc2_logprobs": two})
        mc1 += list(item["mc1_targets"].values())[one.index(max(one))]
        mc2 += softmax_share(two, list(item["mc2_targets"].values()))
    return rows, {"mc1": mc1 / len(choices), "mc2": mc2 / len(choices)}


def test_log_likelihoods_in_the_order_of_the_file_of_choices(tmp_path: Path) -> None:
    """In the fixture neither questions nor options are in the order in which they are asked."""
    data = write_native(tmp_path / "data")
    rows, expected = made_up(CHOICES)
    both, one, two = tmp_path / "both.jsonl", tmp_path / "one.jsonl", tmp_path / "mc2.json"
    both.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one.write_text("".join(json.dumps(row["mc1_logprobs"]) + "\n" for row in rows))
    two.write_text(json.dumps([row["mc2_logprobs"] for row in rows]))
    for protocol in ("lm_eval", "paper", "official"):
        found = scored(TruthfulQA(protocol), both, data)
        assert {name: found[name] for name in expected} == pytest.approx(expected)
        assert found["rougeL_acc"] is None
    assert scored(TruthfulQA(), both, data / "mc_task.json")["mc2"] == pytest.approx(expected["mc2"])
    found = scored(TruthfulQA(), {"mc1": one, "mc2": two}, data)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    found = scored(TruthfulQA(), one, data)  # told by the numbers of options
    assert (found["mc1"], found["mc2"]) == (pytest.approx(expected["mc1"]), None)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mc.jsonl").write_text(both.read_text())
    table(folder / "gen.csv", ["answers"], [[a] for a in ANSWERS])
    found = scored(TruthfulQA(), folder, data)
    assert found["rougeL_acc"] == pytest.approx(2 / 3)
    assert found["mc1"] == pytest.approx(expected["mc1"])


def test_log_likelihoods_in_the_other_forms_around(tmp_path: Path) -> None:
    """One object of two lists of lists; rows with questions or ids in any order; lm-eval's own samples file."""
    data = write_native(tmp_path / "data")
    rows, expected = made_up(CHOICES)
    asked = [{"id": i, "question": c["question"], **row} for i, (c, row) in enumerate(zip(CHOICES, rows, strict=True))]
    names = ("mc1_logprobs", "mc2_logprobs")
    for name, text in {
        "flat.json": json.dumps({name: [row[name] for row in rows] for name in names}),
        "flat.jsonl": json.dumps({name: [row[name] for row in rows] for name in names}) + "\n",
        "asked.jsonl": "\ufeff" + "".join(json.dumps(row) + "\r\n" for row in asked[::-1]) + "\r\n",
        "asked.json": "".join(json.dumps(row) + "\n" for row in asked),
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        found = scored(TruthfulQA(), tmp_path / name, data)
        assert {key: found[key] for key in expected} == pytest.approx(expected), name
    for part in ("mc1", "mc2"):
        theirs = [{"doc_id": 9 - i, "doc": {"question": c["question"]}, "target": 0,
                   "filtered_resps": [[str(ll), "False"] for ll in row[f"{part}_logprobs"]]}
                  for i, (c, row) in enumerate(zip(CHOICES, rows, strict=True))]  # fmt: skip
        for name in (f"samples_truthfulqa_{part}_2024.jsonl", "samples.jsonl"):  # told by its name, or by its lists
            (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in theirs[::-1]))
            found = scored(TruthfulQA(), tmp_path / name, data)
            assert found[part] == pytest.approx(expected[part])


def test_lists_in_the_order_of_the_table_are_told_by_their_sizes(tmp_path: Path) -> None:
    data = write_native(tmp_path / "data")
    rows, expected = made_up(CHOICES)
    order = [[c["question"].strip() for c in CHOICES].index(q.strip()) for q in QUESTIONS]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(rows[i]) + "\n" for i in order))
    found = scored(TruthfulQA(), path, data)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    path.write_text("".join(json.dumps(rows[i]["mc2_logprobs"]) + "\n" for i in order))
    assert scored(TruthfulQA(), path, data)["mc2"] == pytest.approx(expected["mc2"])


def test_the_authors_own_columns_and_a_right_answer_beside_it_are_no_answers(tmp_path: Path) -> None:
    data = write_native(tmp_path / "data")
    expected = scored(TruthfulQA(), table(tmp_path / "a.csv", ["m"], [[a] for a in ANSWERS]), data)
    filled = ["m", "m bleu max", "m rougeL acc", "m MC1", "m lprob scores-true", "m GPT-judge acc", "m BLEURT diff"]
    path = table(
        tmp_path / "b.csv", ["Question", *filled], [[q, a, *"123456"] for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
    )
    assert scored(TruthfulQA(), path, data) == expected
    rows = [{"question": q, "answer": "Owls eat mice", "response": a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
    (tmp_path / "c.json").write_text(json.dumps(rows))
    assert scored(TruthfulQA(), tmp_path / "c.json", data) == expected


def test_an_answer_of_one_letter_is_an_answer(tmp_path: Path) -> None:
    data = write_native(tmp_path / "data")
    (tmp_path / "a.json").write_text(json.dumps([*ANSWERS[:2], "B"]))
    assert scored(TruthfulQA(), tmp_path / "a.json", data)["rougeL_acc"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("choices", [[1, 0, 0], ["B", "a", "A"], [True, False, False]])
def test_choices_are_numbered_as_in_the_file_of_choices(tmp_path: Path, choices: list[Any]) -> None:
    """Right, right, right: in the fixture the first question's right answer stands second."""
    data = write_native(tmp_path / "data")
    path = tmp_path / "a.json"
    path.write_text(json.dumps({str(i): c for i, c in enumerate(choices)}))
    assert scored(TruthfulQA(), path, data)["mc1"] == 1.0
    path.write_text(json.dumps({c["question"]: "Owls eat cheese" if "owls" in c["question"] else k
                                for c, k in zip(CHOICES, choices, strict=True)}))  # fmt: skip
    assert scored(TruthfulQA(), {"mc": path}, data)["mc1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"Why?": "Because."}', r"Why\?"),
        ("a.json", '{"0": "a", "0": "b"}', r"id '0' occurs twice"),
        ("a.json", '{"0": "a word", "gen/0": "b"}', r"'gen/0' is answered twice"),
        ("a.json", '["a word", "b", "c", "d"]', r"\[3\]: more answers than the data have questions \(3\)"),
        ("a.json", '{"0": ["x"]}', r"'0': expected a list of log-likelihoods"),
        ("a.jsonl", '{"mc1_logprobs": [-1, -2, -3]}\n{"mc1_logprobs": [-1]}\n', r"a\.jsonl:2: 1 log-likelihoods for 2"),
        ("a.jsonl", '{"mc1_logprobs": [-1, -2, -3]}\n{"mc1_log', r"a\.jsonl:2: not valid JSON"),
        ("a.jsonl", '{"mc2_logprobs": [-Infinity, -Infinity, -Infinity, -Infinity]}\n', "no option has a finite"),
        ("a.jsonl", "[-1]\n[-1]\n", "have the sizes of neither"),
        ("mc2.json", '{"0": 1}', "mc2 needs the log-likelihoods of all options"),
        ("a.csv", "Question,m\nWhat do owls eat?,a\nWhat do owls eat?,b\n", r"a\.csv:3: .* is answered twice"),
        ("a.csv", "Question,m\nWhat do owls eat?\n", r"a\.csv:2: the row does not have 2 cells"),
    ],
)  # fmt: skip
def test_bad_submissions_are_named_with_their_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    data = write_native(tmp_path / "data")
    (tmp_path / name).write_text(text)
    files = {"mc2": tmp_path / name} if name == "mc2.json" else tmp_path / name
    with pytest.raises(BadInput, match=message):
        scored(TruthfulQA(), files, data)


def test_answers_without_their_part_of_the_data_are_refused(tmp_path: Path) -> None:
    data = write_native(tmp_path / "data")
    (tmp_path / "a.json").write_text('{"0": 1}')
    with pytest.raises(BadInput, match="answers for mc1, but --data holds no mc_task.json"):
        scored(TruthfulQA("paper"), tmp_path / "a.json", data / "TruthfulQA.csv")


def test_hub_rows_can_be_scored_as_well(tmp_path: Path) -> None:
    data = write_hub(tmp_path / "hub", *hub_documents())
    rows, expected = made_up(CHOICES)
    rows[0]["mc1_logprobs"] = [rows[0]["mc1_logprobs"][i] for i in (1, 0, 2)]  # the hub has the right one first
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = scored(TruthfulQA(), tmp_path / "a.jsonl", data)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_the_real_files(tmp_path: Path) -> None:
    """817 questions: log-likelihoods in the file's order, and answers that are the best answers themselves."""
    data = shared_data("truthfulqa")
    choices = json.loads((data / "mc_task.json").read_text(encoding="utf-8-sig"))
    rows, expected = made_up(choices)
    (tmp_path / "mc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = scored(TruthfulQA(), tmp_path / "mc.jsonl", data)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    with (data / "TruthfulQA.csv").open(encoding="utf-8-sig", newline="") as file:
        best = [row["Best Answer"] for row in csv.DictReader(file)]
    assert len(best) == 817
    (tmp_path / "gen.json").write_text(json.dumps(best))
    assert scored(TruthfulQA("paper"), tmp_path / "gen.json", data)["rougeL_acc"] > 0.95  # type: ignore[operator]


def test_empty_answers_score_nothing_and_are_told(tmp_path: Path) -> None:
    task = TruthfulQA("paper")
    source = Source("dir", str(write_native(tmp_path / "data")), images=False)
    bind(task, source)
    path = table(tmp_path / "a.csv", ["Question", "m"], [[q, ""] for q in QUESTIONS])
    found = task.submitted(AnswerFiles({"": path}), source)
    assert found.notes == ["3 answers are empty: they score 0 (the official protocol leaves them out)"]
    assert task.record(found.samples[0], [Response("ok")])["rougeL_acc"] == 0


def test_the_authors_script_leaves_empty_answers_out_of_its_means(tmp_path: Path) -> None:
    """metrics.py, `run_bleu_and_rouge`: no number for them, and means over the numbers; a blank is an answer."""
    data = write_native(tmp_path / "data")
    path = table(tmp_path / "a.csv", ["m"], [["Owls eat mice."], [""], [" "]])
    found = {protocol: scored(TruthfulQA(protocol), path, data) for protocol in ("lm_eval", "official")}
    assert found["lm_eval"]["rougeL_acc"] == pytest.approx(1 / 3)
    assert found["official"]["rougeL_acc"] == pytest.approx(1 / 2)
    assert found["official"]["rougeL_max"] == pytest.approx(found["lm_eval"]["rougeL_max"] * 3 / 2)  # type: ignore[operator]
