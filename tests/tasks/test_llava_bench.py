"""LLaVA-Bench: files of both splits, the judge's prompt and parser, ratio of means, reviews.

Expected figures come from a straight re-implementation of haotian-liu/LLaVA llava/eval/summarize_gpt_review.py below
(means over rows of (reference, model), then their ratio), and for hand-made rows from arithmetic on paper.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.answers import score_submission
from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.images import open_image
from mmalign_eval.registry import TASKS
from mmalign_eval.requests import Response
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.scoring import aggregate, row
from tests.data.hub_files import picture, write_parquet
from tests.support import shared_data
from tests.support_score import scored

CATEGORIES = ("conv", "detail", "complex")
FEATURES = {"question_id": "int64", "question": "string", "image": "image", "caption": "string",
            "gpt_answer": "string", "category": "string", "image_id": "string"}  # fmt: skip
BOXES = [{"category": "donut", "bbox": [0.37, 0.584, 0.504, 0.709]}, {"category": "cup", "bbox": [0.1, 0.2, 0.3, 1.0]}]


def bench(protocol=""):
    return TASKS.get("llava_bench")(protocol)


def jsonl(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def write_wild(folder: Path, n=6, extras=True) -> Path:
    jsonl(folder / "questions.jsonl", [
        {"question_id": i, "image": f"00{i // 3 + 1}.jpg", "category": CATEGORIES[i % 3], "text": f"What is {i}?"}
        for i in range(n)
    ])  # fmt: skip
    if extras:
        names = sorted({f"00{i // 3 + 1}" for i in range(n)})
        jsonl(folder / "context.jsonl", [{"id": m, "image": f"{m}.jpg", "caption": f"Seen: {m}."} for m in names])
        answers = [{"question_id": i, "answer_id": f"x{i}", "text": f"It is number {i}"} for i in reversed(range(n))]
        jsonl(folder / "answers_gpt4.jsonl", answers)
        (folder / "images").mkdir()
        for number, m in enumerate(names):
            (folder / "images" / f"{m}.jpg").write_bytes(picture((number, 0, 0), "JPEG"))
    return folder


def write_coco(folder: Path, n=3) -> Path:
    jsonl(folder / "qa90_questions.jsonl", [
        {"question_id": i, "image": "000000441147.jpg", "text": f"Coco {i}?", "category": CATEGORIES[i % 3]}
        for i in range(n)
    ])  # fmt: skip
    answers = [{"question_id": i, "text": f"Answer {i}", "category": CATEGORIES[i % 3]} for i in range(n)]
    jsonl(folder / "qa90_gpt4_answer.jsonl", answers)
    context = {"id": "000000441147", "image": "000000441147.jpg", "captions": ["One.", "Two."], "instances": BOXES}
    jsonl(folder / "caps_boxes_coco2014_val_80.jsonl", [context])
    (folder / "val2014").mkdir()
    (folder / "val2014" / "COCO_val2014_000000441147.jpg").write_bytes(picture((1, 2, 3), "JPEG"))
    return folder


def samples(folder):
    return list(bench().samples(Source("dir", str(folder))))


def official(reviews):
    """Category to (relative, reference, model), as summarize_gpt_review.py has them before it rounds."""
    scores = {}
    for review in reviews:
        for name in (review["category"].removeprefix("llava_bench_"), "all"):
            scores.setdefault(name, []).append(review["tuple"])
    means = {name: np.asarray(v).mean(0) for name, v in scores.items()}
    return {name: (m[1] / m[0] * 100, m[0] * 10, m[1] * 10) for name, m in means.items()}


def reviews_of(pairs, prefix="llava_bench_"):
    return [
        {"id": i + 1, "question_id": i, "answer1_id": f"x{i}", "answer2_id": f"y{i}",
         "category": prefix + CATEGORIES[i % 3], "content": f"{a} {b}\nBecause.", "tuple": [a, b]}
        for i, (a, b) in enumerate(pairs)
    ]  # fmt: skip


def judged(verdicts, split="wild", judged_by="gpt-4-0314"):
    task = bench()
    records = [
        {"question": "q", "context": "c", "reference": "r", "prediction": "p", "category": CATEGORIES[i % 3],
         "split": split, "id": str(i), "cluster": str(i // 3), "verdicts": given}
        for i, given in enumerate(verdicts)
    ]  # fmt: skip
    task.judged_by = judged_by
    return {e.name: e.value for e in aggregate(task, records)}


def test_relative_is_a_ratio_of_means():
    found = judged([[[10.0, 5.0]], [[2.0, 2.0]], [[8.0, 9.0]]])
    assert found["all/relative"] == pytest.approx(80.0)  # not the mean of 50, 100 and 112.5
    assert (found["all/reference"], found["all/model"]) == (pytest.approx(200 / 3), pytest.approx(160 / 3))
    assert (found["conv/relative"], found["complex/relative"]) == (50.0, 112.5)
    assert found["std"] == 0.0


def test_failures_stay_in_the_means_and_are_counted():
    found = judged([[[8.0, 6.0]], [None], [[7.0, 7.0]]])
    assert found["all/relative"] == pytest.approx(100 * (6 - 1 + 7) / (8 - 1 + 7))
    assert found["all/reference"] == pytest.approx(10 * 14 / 3)
    assert found["n_failed"] == 1
    assert found["all/relative_answered"] == pytest.approx(100 * 13 / 15)
    assert found["detail/relative"] == pytest.approx(100.0)  # -1 over -1, as the official tool has it


def test_several_runs_have_a_spread():
    found = judged([[[8.0, 6.0], [8.0, 8.0]], [[8.0, 4.0], [8.0, 4.0]]])
    runs = [100 * 10 / 16, 100 * 12 / 16]
    assert found["std"] == pytest.approx(np.std(runs))
    assert found["all/relative"] == pytest.approx(100 * 22 / 32)


def test_the_stand_in_shares_no_name_with_a_judge():
    pairs = [[[10.0, 5.0]], [[10.0, 2.0]], [[10.0, 9.0]]]
    offline, model = judged(pairs, judged_by="lexical"), judged(pairs)
    assert not set(offline) & set(model)
    assert offline["lexical/all/relative"] == model["all/relative"]
    task = bench()
    assert set(task.headline) <= set(offline)
    task.judged_by = "gpt-4-0314"
    assert set(task.headline) <= set(model)


@pytest.mark.parametrize(
    ("reply", "scores"),
    [("8 7", [8, 7]), ("8.5 7\nwhy", [8.5, 7]), ("8,7", [8, 7]), ("9 10\n\n1 2", [9, 10]), ("8, 7", None),
     ("8  7", None), ("8 7 ", None), (" 8 7", None), ("8", None), ("8 7 6", None), ("Assistant 1: 8", None),
     ("", None), ("\n8 7", None), ("nan 7", None), ("-1 -1", [-1, -1])],
)  # fmt: skip
def test_replies_are_read_as_the_official_tool_reads_them(reply, scores):
    assert bench().judge.parse(reply) == scores


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("0123456789., \n-einfa")) | st.text())
def test_the_parser_never_raises_and_agrees_with_the_official_one(reply):
    def official_parse(review):
        try:
            sp = review.split("\n")[0].replace(",", " ").split(" ")
            return [float(sp[0]), float(sp[1])] if len(sp) == 2 else [-1, -1]
        except ValueError:
            return [-1, -1]

    expected = official_parse(reply)
    if all(np.isfinite(expected)):
        assert (bench().judge.parse(reply) or [-1, -1]) == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10)), min_size=3, max_size=12))
def test_metrics_are_the_official_ones_on_any_scores(pairs):
    found = judged([[[float(a), float(b)]] for a, b in pairs])
    for name, values in official(reviews_of(pairs)).items():
        for metric, value in zip(("relative", "reference", "model"), values, strict=True):
            assert found[f"{name}/{metric}"] == pytest.approx(value), f"{name}/{metric}"


def test_the_wild_files_become_samples_and_the_judge_is_asked_as_officially(tmp_path):
    found = samples(write_wild(tmp_path / "llavabench").parent)
    assert [s.id for s in found] == [f"wild/{i}" for i in range(6)]
    assert found[4].data == {
        "question": "What is 4?", "context": "Seen: 002.", "reference": "It is number 4", "category": "detail",
        "split": "wild",
    }  # fmt: skip
    assert found[3].cluster == found[4].cluster == "wild/002"
    assert open_image(found[0].images[0]).size == (16, 12)
    task = bench()
    record = row(task, found[4], [Response("ok", text=" Four. ")])["record"]
    request = task.judge.ask(record)
    assert request.prompt.text.startswith(
        "[Context]\nSeen: 002.\n\n[Question]\nWhat is 4?\n\n[Assistant 1]\nIt is number 4\n\n[End of Assistant 1]\n\n"
        "[Assistant 2]\nFour.\n\n[End of Assistant 2]\n\n[System]\nWe would like to request your feedback"
    )
    assert request.prompt.text.endswith("does not affect your judgment.\n\n")
    rule = request.prompt.text.split("[System]\n")[1].removesuffix("\n\n")
    assert hashlib.sha256(rule.encode()).hexdigest().startswith("2ce22b562d600886")  # rule.json, llava_bench_conv
    assert request.prompt.system == "You are a helpful and precise assistant for checking the quality of the answer."
    assert (request.params.temperature, request.params.max_new_tokens) == (0.2, 1024)
    assert task.judge.official == "gpt-4-0314"


def test_the_coco_files_have_captions_and_boxes(tmp_path):
    found = samples(write_coco(tmp_path))
    assert [s.id for s in found] == ["coco/0", "coco/1", "coco/2"]
    context = "One.\nTwo.\n\ndonut: [0.37, 0.584, 0.504, 0.709]\ncup: [0.1, 0.2, 0.3, 1.0]"
    assert found[0].data["context"] == context
    assert found[0].data["reference"] == "Answer 0"
    request = bench().judge.ask({**found[0].data, "prediction": "", "id": "coco/0"})
    rule = request.prompt.text.split("[System]\n")[1].removesuffix("\n\n")
    assert hashlib.sha256(rule.encode()).hexdigest().startswith("a73b4b7bb781472c")  # rule.json, conv


def test_both_splits_in_one_folder_are_told_apart(tmp_path):
    write_coco(write_wild(tmp_path))
    found = samples(tmp_path)
    assert [s.part for s in found] == ["wild"] * 6 + ["coco"] * 3
    task = bench()
    records = [{**row(task, s, task.right_answer(s))["record"], "verdicts": [[10.0, 8.0 if s.part == "wild" else 4.0]]}
               for s in found]  # fmt: skip
    task.judged_by = "gpt-4-0314"
    values = {e.name: e.value for e in aggregate(task, records)}
    assert (values["all/relative"], values["coco/all/relative"], values["coco/conv/model"]) == (80.0, 40.0, 40.0)
    assert task.signature_extra() == {"split": "wild+coco"}


def test_hub_rows_are_the_same_questions(tmp_path):
    native = samples(write_wild(tmp_path / "native"))
    rows = [
        {"question_id": i, "question": s.data["question"], "image": {"bytes": picture((i, 0, 0)), "path": None},
         "caption": s.data["context"], "gpt_answer": s.data["reference"], "category": s.data["category"],
         "image_id": s.cluster.removeprefix("wild/") + ".jpg"}
        for i, s in enumerate(native)
    ]  # fmt: skip
    write_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet", FEATURES, rows)
    hub = samples(tmp_path / "hub")
    assert [(s.id, s.data, s.cluster) for s in hub] == [(s.id, s.data, s.cluster) for s in native]


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("questions.jsonl", '{"question_id": 0, "image": "001.jpg", "text": "a"}', "questions.jsonl:1: field 'cat"),
        ("questions.jsonl", '{"question_id": 0, "image": "001.jpg", "category": "chat", "text": "a"}', "'chat' is"),
        ("questions.jsonl", '{"question_id": 0, "image": "9.jpg", "category": "conv", "text": "a"}', "1 of 1 images"),
        ("questions.jsonl", '{"question_id": 9, "image": "001.jpg", "category": "conv", "text": "a"}',
         "answers_gpt4.jsonl has nothing for question 9"),
        ("context.jsonl", '{"image": "001.jpg"}', "context.jsonl:1: field 'caption' is missing"),
        ("context.jsonl", '{"image": "001.j', "context.jsonl:1: not valid JSON"),
        ("answers_gpt4.jsonl", '{"question_id": 0, "text": 3}', "answers_gpt4.jsonl:1: text must be text"),
        ("answers_gpt4.jsonl", '{"question_id": 0, "text": "a"}\n{"question_id": 0, "text": "b"}', "jsonl:2: id"),
        ("answers_gpt4.jsonl", None, "answers_gpt4.jsonl not found"),
    ],
)  # fmt: skip
def test_bad_files_are_told_in_a_line(tmp_path, file, content, says):
    write_wild(tmp_path)
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_text(content + "\n")
    with pytest.raises(BadInput, match=says):
        samples(tmp_path)


PAIRS = [(8, 6), (9, 7), (10, 3), (7, 7), (8, 9), (9, 2)]


def test_reviews_are_scored_with_the_questions_alone(tmp_path):
    data = write_wild(tmp_path / "data", extras=False)
    reviews = reviews_of(PAIRS)
    reviews[1]["tuple"] = [-1, -1]
    reviews[1]["content"] = "As an AI"
    found = scored(bench(), jsonl(tmp_path / "r.jsonl", reviews), data)
    for name, values in official(reviews).items():
        for metric, value in zip(("relative", "reference", "model"), values, strict=True):
            assert found[f"{name}/{metric}"] == pytest.approx(value), f"{name}/{metric}"
    assert found["n_failed"] == 1
    assert round(found["all/relative"], 1) == 63.4  # (6 - 1 + 3 + 7 + 9 + 2) / (8 - 1 + 10 + 7 + 8 + 9)


def test_reviews_without_tuple_category_or_order(tmp_path):
    data = write_wild(tmp_path / "data", extras=False)
    reviews = reviews_of(PAIRS)
    expected = scored(bench(), jsonl(tmp_path / "whole.jsonl", reviews), data)
    texts = [{"question_id": r["question_id"], "content": r["content"]} for r in reversed(reviews)]
    assert scored(bench(), jsonl(tmp_path / "texts.jsonl", texts), data) == expected
    bare = [{"question_id": r["question_id"], "tuple": r["tuple"]} for r in reviews]
    assert scored(bench(), jsonl(tmp_path / "bare.jsonl", bare), data) == expected


def test_the_reviewers_words_stand_with_the_samples(tmp_path):
    data = write_wild(tmp_path / "data", extras=False)
    reviews = reviews_of(PAIRS)
    for rows, words in ((reviews, "Because."), ([{k: r[k] for k in ("question_id", "tuple")} for r in reviews], "")):
        files = AnswerFiles({"": jsonl(tmp_path / "r.jsonl", rows)})
        found = score_submission(bench(), files, Source("dir", str(data), images=False))
        verdicts = [row["record"]["verdicts"] for row in found.rows]
        assert [[said["verdict"] for said in row["judged"]] for row in found.rows] == (verdicts if words else [[]] * 6)
        assert all(said["text"].endswith(words) for row in found.rows for said in row["judged"])


def test_reviews_stand_for_themselves_where_no_questions_are(tmp_path):
    (tmp_path / "empty").mkdir()
    for prefix in ("llava_bench_", ""):
        reviews = jsonl(tmp_path / f"r{prefix}.jsonl", reviews_of(PAIRS, prefix))
        found = scored(bench(), reviews, tmp_path / "empty")
        assert found["all/relative"] == pytest.approx(100 * 34 / 51)
        coco = scored(bench(), reviews, write_coco(tmp_path / f"coco{prefix}", n=6))
        assert coco["all/relative"] == found["all/relative"]


def test_several_files_of_reviews_are_runs(tmp_path):
    data = write_wild(tmp_path / "data", extras=False)
    jsonl(tmp_path / "runs" / "llava-v1.5-7b-eval1.jsonl", reviews_of(PAIRS))
    other = jsonl(tmp_path / "runs" / "llava-v1.5-7b-eval2.jsonl", reviews_of([(a, a) for a, _ in PAIRS]))
    found = scored(bench(), tmp_path / "runs", data)
    assert found["std"] == pytest.approx(np.std([100 * 34 / 51, 100]))
    assert found["all/relative"] == pytest.approx(100 * (34 + 51) / 102)
    other.rename(tmp_path / "runs" / "llava-v1.5-13b-eval1.jsonl")
    with pytest.raises(BadInput, match=r"13b-eval1.jsonl and .*7b-eval1.jsonl seem to be of several models; name the"):
        scored(bench(), tmp_path / "runs", data)


def test_plain_answers_are_compared_by_words(tmp_path):
    data = write_wild(tmp_path / "data")
    rows = [{"question_id": i, "prompt": "p", "text": f"it is NUMBER {i}!", "model_id": "m"} for i in range(6)]
    found = scored(bench(), jsonl(tmp_path / "a.jsonl", rows), data)
    assert found == dict.fromkeys([f"lexical/{n}/relative" for n in ("all", *CATEGORIES)], 100.0)
    rows[0]["text"] = ""
    found = scored(bench(), jsonl(tmp_path / "b.jsonl", rows), data)
    assert found["lexical/conv/relative"] == 50.0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"question_id": 0, "tuple": [8]}', "r.jsonl:1: expected two scores"),
        ('{"question_id": 0, "tuple": ["8", 7]}', "r.jsonl:1: expected two scores"),
        ('{"tuple": [8, 7]}', "r.jsonl:1: field 'question_id' is missing"),
        ('{"question_id": 0, "tuple": [8, 7], "category": "llava_bench_x"}', "category 'x' is none of"),
        ('{"question_id": 0, "tuple": [8, 7]}\n{"question_id": 0, "tuple": [8, 7]}', "r.jsonl:2: id '0' occurs twice"),
        ('{"question_id": 77, "tuple": [8, 7]}', "1 ids are no samples of these data: 'wild/77'"),
        ('{"question_id": 0, "tuple": [8, 7], "category": "conv"}\n'
         '{"question_id": 1, "tuple": [8, 7], "category": "llava_bench_conv"}', "categories of both splits"),
        ('{"question_id": 0, "text": "a"}\n{"question_id": 1, "te', "r.jsonl:2: not valid JSON"),
        ('{"question_id": 0, "text": "a"}', "wild/0 has no reference"),
        ("", "no answers in it"),
    ],
)  # fmt: skip
def test_bad_submissions_are_told_in_a_line(tmp_path, content, says):
    data = write_wild(tmp_path / "data", extras=False)
    (tmp_path / "r.jsonl").write_text(content)
    with pytest.raises(BadInput, match=says) as error:
        scored(bench(), tmp_path / "r.jsonl", data)
    assert "\n" not in str(error.value)


def test_the_released_coco_split():
    folder = shared_data("llavabench")
    task = bench()
    found = list(task.samples(Source("dir", str(folder), images=False)))
    assert len(found) == 90
    assert [sum(s.data["category"] == c for s in found) for c in CATEGORIES] == [30, 30, 30]
    rules = json.loads((folder / "rule.json").read_text())
    for sample in found:
        record = row(task, sample, task.right_answer(sample))["record"]
        text = task.judge.ask(record).prompt.text
        assert text.endswith(f"[System]\n{rules[sample.data['category']]['prompt']}\n\n")
        assert task.judge.offline(record) == [10.0, 10.0]
    wild = task.judge.ask({**found[0].data, "split": "wild", "prediction": "", "id": "0"}).prompt.text
    assert all(wild.endswith(f"[System]\n{rules[f'llava_bench_{c}']['prompt']}\n\n") for c in CATEGORIES)
