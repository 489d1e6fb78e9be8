"""Every submission format about images through `mmeval score`: small files and figures worked out by hand.

Nothing in this file uses a reader or writer of the package: answers and gold are literal text.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support_score import Bench, bench, close, lines

__all__ = ["bench"]  # the fixture


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
