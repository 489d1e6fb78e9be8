"""Every submission format through `mmeval score`: small files written here by hand, figures worked out by hand.

Nothing in this file uses a reader or writer of the package: answers and gold are literal text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.cli.main import main

Values = dict[str, float | None]


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


class Bench:
    """A folder of data and answers, scored by the real command line."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def write(self, files: Mapping[str, Any]) -> None:
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    def run(self, task: str, *arguments: str) -> int:
        return main(["score", task, *arguments, "--json", "-"])

    def score(self, task: str, *arguments: str) -> Values:
        self.capsys.readouterr()
        code = self.run(task, *arguments)
        captured = self.capsys.readouterr()
        assert code == 0, captured.err
        found: Values = json.loads(captured.out)
        return found

    def refused(self, task: str, *arguments: str) -> str:
        self.capsys.readouterr()
        assert self.run(task, *arguments) == 2
        captured = self.capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1, captured.err
        return captured.err


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, capsys)


def close(found: Values, expected: Values) -> None:
    for name, value in expected.items():
        assert name in found, (name, sorted(found))
        assert found[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name


# -- POPE --------------------------------------------------------------------------------------------------------------

QUESTIONS = [("dog", "yes"), ("cat", "no"), ("car", "yes"), ("cup", "no")]


def pope_data(word: str = "image") -> str:
    return lines(
        *(
            {"question_id": n, "image": f"COCO_val2014_{n:012d}.jpg", "text": f"Is there a {thing} in the {word}?",
             "label": label}
            for n, (thing, label) in enumerate(QUESTIONS, 1)
        )
    )  # fmt: skip


# yes to dog and cat, no to car and cup: TP 1, FP 1, FN 1, TN 1; "not sure" holds "not", so it is a no
SAID = ["Yes, there is a dog.", "Yes", "No.", "I am not sure"]
POPE = {
    "random/TP": 1, "random/FP": 1, "random/TN": 1, "random/FN": 1, "random/accuracy": 0.5, "random/precision": 0.5,
    "random/recall": 0.5, "random/f1": 0.5, "random/yes_ratio": 0.5,
}  # fmt: skip


def test_pope_in_its_own_format(bench: Bench) -> None:
    rows = [
        {"question": f"Is there a {thing} in the image?", "answer": text}
        for (thing, _), text in zip(QUESTIONS, SAID, strict=True)
    ]
    bench.write({"d/coco_pope_random.json": pope_data(), "a.jsonl": lines(*rows), "dir/random.jsonl": lines(*rows)})
    for answers in ("random=a.jsonl", "dir"):
        close(bench.score("pope", "-a", answers, "--data", "d"), POPE)


def test_pope_as_llava_writes_it(bench: Bench) -> None:
    rows = [
        {"question_id": n, "prompt": f"Is there a {thing} in the image?", "text": text, "model_id": "x"}
        for n, ((thing, _), text) in enumerate(zip(QUESTIONS, SAID, strict=True), 1)
    ]
    bench.write({"d/coco_pope_random.json": pope_data(), "a.jsonl": lines(*rows)})
    close(bench.score("pope", "-a", "random=a.jsonl", "--data", "d"), POPE)


def test_pope_old_edition(bench: Bench) -> None:
    rows = [
        {"question": f"Is there a {thing} in the imange?", "answer": text}
        for (thing, _), text in zip(QUESTIONS, SAID, strict=True)
    ]
    bench.write({"d/coco_pope_random.json": pope_data("imange"), "a.jsonl": lines(*rows)})
    close(bench.score("pope", "-a", "random=a.jsonl", "--data", "d"), POPE)


def test_pope_undefined_is_null_and_three_splits_have_a_mean(bench: Bench) -> None:
    rows = lines(*({"question": f"Is there a {thing} in the image?", "answer": "no"} for thing, _ in QUESTIONS))
    splits = ("random", "popular", "adversarial")
    bench.write({f"d/coco_pope_{s}.json": pope_data() for s in splits} | {f"dir/{s}.jsonl": rows for s in splits})
    found = bench.score("pope", "-a", "dir", "--data", "d")
    close(found, {"random/precision": None, "random/f1": None, "popular/accuracy": 0.5, "adversarial/recall": 0.0})
    close(found, {"mean/accuracy": 0.5})


def test_pope_refuses_answers_to_other_questions(bench: Bench) -> None:
    rows = [{"question": f"Is there a {thing} in the image?", "answer": "no"} for thing, _ in QUESTIONS]
    rows[2]["question"] = "Is there a zebra in the image?"
    bench.write({"d/coco_pope_random.json": pope_data(), "a.jsonl": lines(*rows)})
    assert "a.jsonl:3" in bench.refused("pope", "-a", "random=a.jsonl", "--data", "d")
    bench.write({"b.jsonl": lines(*rows[:2])})
    assert "no answer for 2 of 4" in bench.refused("pope", "-a", "random=b.jsonl", "--data", "d")
    close(bench.score("pope", "-a", "random=b.jsonl", "--data", "d", "--allow-missing"), {"random/accuracy": 0.5})
    bench.write({"c.jsonl": lines(*rows[:2]) + '{"question": "Is th'})
    assert "c.jsonl:3: not valid JSON" in bench.refused("pope", "-a", "random=c.jsonl", "--data", "d")


# -- MME ---------------------------------------------------------------------------------------------------------------

ASK = "Please answer yes or no."
# existence: image 1 both right, image 2 one right ("The dog" is neither); count: both wrong
EXISTENCE = [
    ("1.jpg", f"Is there a dog? {ASK}", "Yes", "Yes, there is"), ("1.jpg", f"Is there a cat? {ASK}", "No", "no"),
    ("2.jpg", f"Is there a car? {ASK}", "Yes", "The car"), ("2.jpg", f"Is there a cup? {ASK}", "No", "Not at all"),
]  # fmt: skip
COUNT = [("3.jpg", f"Are there two? {ASK}", "Yes", "no"), ("3.jpg", f"Are there six? {ASK}", "No", "yes")]
MME = {
    "existence/acc": 75.0, "existence/acc_plus": 50.0, "existence/score": 125.0, "count/acc": 0.0, "count/score": 0.0,
    "perception/total": None,  # eight subtasks of it are not there
}  # fmt: skip


def tabbed(rows: list[tuple[str, ...]], columns: int) -> str:
    return "".join("\t".join(row[:columns]) + "\n" for row in rows)


def test_mme_results_folder_holds_its_gold(bench: Bench) -> None:
    bench.write({"r/existence.txt": tabbed(EXISTENCE, 4), "r/count.txt": tabbed(COUNT, 4)})
    close(bench.score("mme", "-a", "r"), MME)
    bench.write({"d/existence.txt": tabbed(EXISTENCE, 3), "d/count.txt": tabbed(COUNT, 3)})
    close(bench.score("mme", "-a", "r", "--data", "d"), MME)


def test_mme_as_llava_writes_it(bench: Bench) -> None:
    rows = [
        {"question_id": f"{subtask}/{image}", "prompt": question, "text": answer}
        for subtask, some in (("existence", EXISTENCE), ("count", COUNT))
        for image, question, _, answer in some
    ]
    bench.write({"a.jsonl": lines(*rows), "d/existence.txt": tabbed(EXISTENCE, 3), "d/count.txt": tabbed(COUNT, 3)})
    close(bench.score("mme", "-a", "a.jsonl", "--data", "d"), MME)
    assert "--data is missing" in bench.refused("mme", "-a", "a.jsonl")


def test_mme_refuses_a_cut_line_and_reports_a_missing_subtask(bench: Bench) -> None:
    bench.write({"r/existence.txt": tabbed(EXISTENCE, 4)[:-20], "d/existence.txt": tabbed(EXISTENCE, 3)})
    assert "existence.txt:4" in bench.refused("mme", "-a", "r", "--data", "d")
    bench.write({"r/existence.txt": tabbed(EXISTENCE, 4), "d/count.txt": tabbed(COUNT, 3)})
    assert "no answer for 2 of 6" in bench.refused("mme", "-a", "r", "--data", "d")


# -- VQA ---------------------------------------------------------------------------------------------------------------


def vqa(answers: list[str], number: int, answer_type: str, question_type: str) -> dict[str, Any]:
    return {
        "question_id": number, "image_id": number // 10, "answer_type": answer_type, "question_type": question_type,
        "multiple_choice_answer": answers[0], "answers": [{"answer": a, "answer_id": i} for i, a in enumerate(answers)],
    }  # fmt: skip


def test_vqa(bench: Bench) -> None:
    # two of ten say "2": leaving one of them out gives 1/3, one of the others 2/3: (2 x 1/3 + 8 x 2/3) / 10 = 60 %
    annotations = [
        vqa(["2", "2", *["3"] * 8], 10, "number", "how many"),
        vqa(["yes"] * 10, 20, "yes/no", "is the"),  # all agree: nothing is normalised, and "Yes" is not "yes"
        vqa(["yes"] * 10, 30, "yes/no", "is the"),
        vqa(["a red car", *["red car"] * 9], 40, "other", "what"),
    ]
    said = [(10, "two"), (20, "Yes"), (30, "yes"), (40, "The Red car.")]
    rows = [{"question_id": q, "answer": a} for q, a in said]
    bench.write({"d/v2_mscoco_val2014_annotations.json": {"annotations": annotations}, "a.json": rows})
    expected = {
        "overall": 65.0, "answer_type/number": 60.0, "answer_type/yes/no": 50.0, "answer_type/other": 100.0,
        "question_type/is the": 50.0,
    }  # fmt: skip
    close(bench.score("vqav2", "-a", "a.json", "--data", "d"), expected)
    bench.write({"b.json": [*rows, {"question_id": 99, "answer": "x"}], "c.json": [*rows, rows[0]]})
    assert "99" in bench.refused("vqav2", "-a", "b.json", "--data", "d")
    assert "twice" in bench.refused("vqav2", "-a", "c.json", "--data", "d")
    bench.write({"e.json": json.dumps(rows)[:-10], "f.json": [{"id": 10, "answer": "x"}]})
    assert "e.json:1: not valid JSON" in bench.refused("vqav2", "-a", "e.json", "--data", "d")
    assert "question_id" in bench.refused("vqav2", "-a", "f.json", "--data", "d")


# -- captions ----------------------------------------------------------------------------------------------------------


def test_captions_against_any_coco_layout(bench: Bench) -> None:
    references = ["a brown dog runs on the green grass", "two people ride a red bus in town"]
    gold = {
        "images": [{"id": n, "file_name": f"{n}.jpg"} for n in (7, 8)],
        "annotations": [{"id": n, "image_id": 7 + n % 2, "caption": references[n % 2]} for n in range(6)],
    }
    rows = [{"image_id": 7 + n, "caption": reference} for n, reference in enumerate(references)]
    bench.write({"mine.json": gold, "a.json": rows, "b.json": rows[:1]})
    found = bench.score("coco_caption", "-a", "a.json", "--data", "mine.json")
    # a caption that is its reference has every n-gram; two images, each n-gram in one of them: CIDEr-D is 10
    close(found, {"Bleu_1": 1.0, "Bleu_4": 1.0, "ROUGE_L": 1.0})
    assert found["CIDEr"] == pytest.approx(10.0, abs=1e-6)
    assert found["METEOR"] == pytest.approx(1.0, abs=1e-6)
    assert "no answer for 1 of 2" in bench.refused("coco_caption", "-a", "b.json", "--data", "mine.json")


# -- MM-Vet ------------------------------------------------------------------------------------------------------------


def mmvet() -> dict[str, Any]:
    return {
        f"v1_{n}": {"imagename": f"v1_{n}.png", "question": f"q{n}?", "answer": "dog", "capability": capability}
        for n, capability in enumerate((["rec"], ["rec", "ocr"], ["math", "ocr"]))
    }


def test_mmvet_graded_once_and_several_times(bench: Bench) -> None:
    def graded(*scores: list[float]) -> dict[str, Any]:
        return {
            f"v1_{n}": {"model": ["gpt-4-0613"] * len(s), "content": [str(x) for x in s], "score": s}
            for n, s in enumerate(scores)
        }

    bench.write({"d/mm-vet.json": mmvet(), "one.json": graded([1.0], [0.5], [0.0]),
                 "two.json": graded([1.0, 0.8], [0.5, 0.5], [0.0, 0.2])})  # fmt: skip
    one = bench.score("mmvet", "-a", "one.json", "--data", "d")
    close(one, {"rec": 75.0, "ocr": 25.0, "math": 0.0, "total": 50.0, "gen": None})
    two = bench.score("mmvet", "-a", "two.json", "--data", "d")
    close(two, {"rec": 70.0, "total": 50.0, "std": 0.0})


def test_mmvet_answers_go_to_the_stand_in(bench: Bench) -> None:
    bench.write({"d/mm-vet.json": mmvet(), "a.json": {f"v1_{n}": "dog" for n in range(3)}})
    found = bench.score("mmvet", "-a", "a.json", "--data", "d")
    assert found["lexical/total"] == 100.0
    assert "total" not in found, "a stand-in never fills the judge's column"


# -- LLaVA-Bench -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tuple", "content"])
def test_llava_bench_reviews(bench: Bench, form: str) -> None:
    scores = [(8, 6), (9, 9), (7, 7)]
    rows = [
        {"question_id": n, "category": f"llava_bench_{category}", "content": f"{a} {b}\nBecause.",
         **({"tuple": [a, b]} if form == "tuple" else {})}
        for n, (category, (a, b)) in enumerate(zip(("conv", "detail", "complex"), scores, strict=True))
    ]  # fmt: skip
    bench.write({"reviews.jsonl": lines(*rows)})
    found = bench.score("llava_bench", "-a", "reviews.jsonl")
    close(found, {"all/reference": 80.0, "all/model": 22 / 3 * 10, "all/relative": 22 / 24 * 100,
                  "conv/relative": 75.0, "detail/model": 90.0})  # fmt: skip


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
    import math

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


# -- objects named in descriptions ------------------------------------------------------------------------------------

SYNONYMS = "person, man, woman\ndog, puppy\ncat, kitten\n"
OBJECTS = {"7": ["person", "dog"], "8": ["cat", "person"], "9": []}
DESCRIPTIONS = {7: "A man with a puppy and a kitten.", 8: "A cat and a cat.", 9: "Nothing is here."}
ROWS = [{"image_id": n, "caption": text} for n, text in DESCRIPTIONS.items()]
# person, dog and cat in the first (no cat there), cat twice in the second: 1 of 5 mentions, 1 of 3 descriptions; of the
# four objects that are there three are named
CHAIR = {"CHAIRs": 100 / 3, "CHAIRi": 20.0, "recall": 75.0}
INSTANCES = {
    "images": [{"id": n, "file_name": f"COCO_val2014_{n:012d}.jpg"} for n in DESCRIPTIONS],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [{"image_id": image, "category_id": category} for image, category in ((7, 1), (7, 1), (8, 3))],
}  # fmt: skip
# the captions add what the instances lack: a dog to the first, a person to the second
HUMAN = {"annotations": [
    {"id": 1, "image_id": 7, "caption": "A dog walks."}, {"id": 2, "image_id": 8, "caption": "A woman and her kitten."},
    {"id": 3, "image_id": 9, "caption": "An empty room."},
]}  # fmt: skip


def test_chair_with_prepared_objects_and_with_annotation_files(bench: Bench) -> None:
    bench.write({
        "objects.json": OBJECTS, "synonyms.txt": SYNONYMS, "a.jsonl": lines(*ROWS), "a.json": ROWS,
        "d/annotations/instances_val2014.json": INSTANCES,
        "d/annotations/captions_val2014.json": {**HUMAN, "images": INSTANCES["images"]},
    })  # fmt: skip
    for answers in ("a.jsonl", "a.json"):
        for data in ("objects.json", "d"):
            close(bench.score("chair", "-a", answers, "--data", data, "--synonyms", "synonyms.txt"), CHAIR)
    bench.write(
        {"b.jsonl": lines(*ROWS, ROWS[0]), "c.jsonl": lines(*ROWS) + '{"image_id": 7', "e.jsonl": lines({"x": 1})}
    )
    assert "b.jsonl:4" in bench.refused("chair", "-a", "b.jsonl", "--data", "objects.json")
    assert "c.jsonl:4: not valid JSON" in bench.refused("chair", "-a", "c.jsonl", "--data", "objects.json")
    assert "e.jsonl:1" in bench.refused("chair", "-a", "e.jsonl", "--data", "objects.json")


def test_object_halbench(bench: Bench) -> None:
    # as CHAIR, beside it of answers only those that name an object
    expected = {"CHAIRs_refine": 50.0, **CHAIR}
    official = [{"question": "Describe.", "answer": text, "image_id": n} for n, text in DESCRIPTIONS.items()]
    bench.write(
        {"objects.json": OBJECTS, "synonyms.txt": SYNONYMS, "a.jsonl": lines(*ROWS), "b.jsonl": lines(*official)}
    )
    for answers in ("a.jsonl", "b.jsonl"):
        found = bench.score("object_halbench", "-a", answers, "--data", "objects.json", "--synonyms", "synonyms.txt")
        close(found, expected)
