"""Every submission format of text tasks through `mmeval score`: small files and figures worked out by hand.

Nothing in this file uses a reader or writer of the package: answers and gold are literal text.
"""

from __future__ import annotations

import math
from typing import Any

from tests.support_score import Bench, bench, close, lines

__all__ = ["bench"]  # the fixture


# -- TruthfulQA --------------------------------------------------------------------------------------------------------

HEADER = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source"
TRUTH = [
    ("Is the earth flat?", "No", "No; The earth is round", "Yes; The earth is flat"),
    ("Do pigs fly?", "Pigs cannot fly", "Pigs cannot fly; They do not", "Pigs can fly; They do"),
]


def truthful(column: str = "", answers: tuple[str, ...] = ()) -> str:
    rows = [f"a,b,{q},{best},{right},{wrong},url" for q, best, right, wrong in TRUTH]
    if column:
        rows = [f"{row},{answer}" for row, answer in zip(rows, answers, strict=True)]
    return "\n".join([HEADER + (f",{column}" if column else ""), *rows]) + "\n"


CHOICES = [
    {"question": q, "mc1_targets": {best: 1, wrong.split("; ")[0]: 0, wrong.split("; ")[1]: 0},
     "mc2_targets": {**{a: 1 for a in right.split("; ")}, **{a: 0 for a in wrong.split("; ")}}}
    for q, best, right, wrong in TRUTH
]  # fmt: skip


def test_truthfulqa_csv_and_json_answers(bench: Bench) -> None:
    said = ("The earth is round", "Pigs can fly")  # one true, one false
    bench.write({
        "d/TruthfulQA.csv": truthful(), "d/mc_task.json": CHOICES, "a.csv": truthful("my-model", said),
        "two.csv": truthful("model-a", said).replace("url,", "url,same,").replace("Source,", "Source,model-b,"),
        "a.json": {q: a for (q, *_), a in zip(TRUTH, said, strict=True)}, "list.json": list(said),
    })  # fmt: skip
    for arguments in (["a.csv"], ["two.csv", "--column", "model-a"], ["gen=a.json"], ["gen=list.json"]):
        close(bench.score("truthfulqa", "-a", *arguments, "--data", "d"), {"rougeL_acc": 0.5, "mc1": None})
    error = bench.refused("truthfulqa", "-a", "two.csv", "--data", "d")
    assert "model-a" in error
    assert "model-b" in error


def test_truthfulqa_log_likelihoods(bench: Bench) -> None:
    # the right answer likelier in the first question only; true mass: 3/4 and 1/2
    rows = [
        {"mc1_logprobs": [-1.0, -2.0, -3.0], "mc2_logprobs": [math.log(x) for x in (0.5, 0.25, 0.125, 0.125)]},
        {"mc1_logprobs": [-5.0, -2.0, -3.0], "mc2_logprobs": [math.log(0.25)] * 4},
    ]
    bench.write({"d/TruthfulQA.csv": truthful(), "d/mc_task.json": CHOICES, "mc.jsonl": lines(*rows)})
    close(bench.score("truthfulqa", "-a", "mc.jsonl", "--data", "d"), {"mc1": 0.5, "mc2": 0.625, "rougeL_acc": None})


# -- text with choices -------------------------------------------------------------------------------------------------


def test_boolq(bench: Bench) -> None:
    gold = [{"question": f"q{n}", "passage": "p", "idx": n, "label": n != 1} for n in range(4)]
    bench.write({
        "d/val.jsonl": lines(*gold), "a.json": {"0": "yes", "1": "yes", "2": True, "3": 0},
        "b.jsonl": lines([-2.0, -1.0], [-2.0, -1.0], [-3, -1], [-1, -2]),
    })  # fmt: skip
    for answers in ("a.json", "b.jsonl"):
        close(bench.score("boolq", "-a", answers, "--data", "d"), {"acc": 0.5})
    bench.write({"c.json": {"0": "yes", "7": "no"}, "e.json": {"0": "maybe"}})
    assert "'7'" in bench.refused("boolq", "-a", "c.json", "--data", "d")
    assert "maybe" in bench.refused("boolq", "-a", "e.json", "--data", "d")
    bench.write({"f.json": '{"0": "yes", "0": "no", "1": "no", "2": "no", "3": "no"}'})
    assert "twice" in bench.refused("boolq", "-a", "f.json", "--data", "d")


def test_mathqa(bench: Bench) -> None:
    options = "a ) 10 , b ) 2 , c ) 300 , d ) 4 , e ) 5"
    gold = [{"Problem": f"p{n}", "Rationale": "", "options": options, "correct": c} for n, c in enumerate("abc")]
    bench.write({"d/test.json": gold, "a.json": {"0": "a", "1": "B", "2": "d"}})
    close(bench.score("mathqa", "-a", "a.json", "--data", "d"), {"acc": 2 / 3})
    # by length (2, 1, 3, 1, 1 characters): -3/2, -1/1, -3.1/3 ... the third row's c wins only so
    bench.write({"b.jsonl": lines([-1, -9, -9, -9, -9], [-9, -0.5, -9, -9, -9], [-3.2, -9, -3.3, -3.1, -9])})
    close(bench.score("mathqa", "-a", "b.jsonl", "--data", "d"), {"acc": 2 / 3, "acc_norm": 1.0})


def test_mmlu(bench: Bench) -> None:
    rows = "What?,w,x,y,z,{}\n"
    bench.write({
        "d/test/anatomy_test.csv": "".join(rows.format(c) for c in "ABC"),
        "d/test/virology_test.csv": rows.format("D"),
        "one.json": {"anatomy/0": "A", "anatomy/1": "C", "anatomy/2": "c", "virology/0": 3},
        "dir/anatomy.json": {"0": "A", "1": "C", "2": "C"}, "dir/virology.jsonl": lines([-4, -3, -2, -1]),
    })  # fmt: skip
    for answers in ("one.json", "dir"):
        found = bench.score("mmlu", "-a", answers, "--data", "d")
        close(found, {"anatomy/acc": 2 / 3, "virology/acc": 1.0, "micro": 0.75, "macro": (2 / 3 + 1) / 2})
    close(bench.score("mmlu", "-a", "virology=dir/virology.jsonl", "--data", "d", "--allow-missing"), {"micro": 1.0})


def test_ethics(bench: Bench) -> None:
    justice = "label,scenario\n" + "".join(f"{label},s{n}\n" for n, label in enumerate((1, 1, 0, 0, 1, 0, 0, 1)))
    bench.write({
        "d/commonsense/cm_test.csv": "label,input,is_short,edited\n0,I helped.,True,False\n1,I stole.,True,False\n",
        "d/justice/justice_test.csv": justice,
        "r/cm.json": {"0": "no", "1": "no"},
        # first group of four all right, one wrong in the second
        "r/justice.jsonl": lines(1, 1, 0, 0, 1, 0, 0, 0),
    })  # fmt: skip
    found = bench.score("ethics", "-a", "r", "--data", "d")
    close(found, {"ethics_cm/acc": 0.5, "ethics_justice/acc": 7 / 8, "ethics_justice/em": 0.5})


# -- text with answers -------------------------------------------------------------------------------------------------


def test_gsm8k(bench: Bench) -> None:
    gold = [{"question": f"q{n}?", "answer": f"because\n#### {n + 10}"} for n in range(3)]
    said = ["so #### 10", "The answer is 11.", "#### 99"]
    rows = [{"question": g["question"], "response": s} for g, s in zip(gold, said, strict=True)]
    bench.write({"d/test.jsonl": lines(*gold), "a.jsonl": lines(*rows), "b.jsonl": lines(*reversed(rows)),
                 "c.jsonl": lines(*said), "e.json": {str(n): s for n, s in enumerate(said)}})  # fmt: skip
    for answers in ("a.jsonl", "b.jsonl", "c.jsonl", "e.json"):
        close(bench.score("gsm8k", "-a", answers, "--data", "d"), {"strict": 1 / 3, "flexible": 2 / 3})


def squad(*, v2: bool) -> dict[str, Any]:
    def question(key: str, answers: list[str]) -> dict[str, Any]:
        found = [{"text": a, "answer_start": 0} for a in answers]
        return {"id": key, "question": "?", "answers": found, **({"is_impossible": not answers} if v2 else {})}

    questions = [question("a", ["the red dog"]), question("b", ["Paris", "in Paris"])]
    questions += [question("c", [])] if v2 else []
    return {
        "version": "x",
        "data": [{"title": "t", "paragraphs": [{"context": "the red dog Paris", "qas": questions}]}],
    }


def test_squad(bench: Bench) -> None:
    # "a dog": of two gold words (the article goes) one is right: precision 1, recall 1/2, F1 2/3
    said = {"a": "a dog", "b": "PARIS!", "c": ""}
    bench.write({"v2.json": squad(v2=True), "v1.json": squad(v2=False), "a.json": said,
                 "b.json": {k: said[k] for k in "ab"}, "na.json": {"a": 0.9, "b": 0.1, "c": 0.8}})  # fmt: skip
    v2 = bench.score("squad2", "-a", "a.json", "--data", "v2.json")
    close(v2, {"exact": 200 / 3, "f1": (2 / 3 + 1 + 1) / 3 * 100, "HasAns_exact": 50.0, "HasAns_f1": 250 / 3,
               "NoAns_exact": 100.0})  # fmt: skip
    v1 = bench.score("squad2", "-a", "b.json", "--data", "v1.json")
    close(v1, {"exact": 50.0, "f1": 250 / 3})
    with_na = bench.score("squad2", "-a", "a.json", "--data", "v2.json", "--na-probs", "na.json")
    close(with_na, {"exact": 200 / 3, "best_exact": 200 / 3, "best_f1": (2 / 3 + 1 + 1) / 3 * 100})
    assert "no answer for 1 of 3" in bench.refused("squad2", "-a", "b.json", "--data", "v2.json")
    assert "--column: means nothing" in bench.refused("squad2", "-a", "a.json", "--data", "v2.json", "--column", "x")
