"""SQuAD 2.0: loaders, prompts of both harnesses, and submissions scored as the official rules say."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from mmalign_eval.tasks.squad2 import Squad2

from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.lmeval import bind
from mmalign_eval.requests import Choose, Generate, GenParams, Response
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.stats import estimates
from mmalign_eval.task import Sample

from ..lmeval_support import scripted
from ..metrics.test_squad import official
from ..support import shared_data
from ..support_score import scored

ROME, FOX = "Rome is old. It has seven hills.", "A red fox ran."
QUESTIONS: list[tuple[str, str, str, list[str]]] = [
    ("q1", "What is old?", ROME, ["Rome", "the city of Rome"]),
    ("q2", "Who is young?", ROME, []),
    ("q3", "What ran?", FOX, ["A red fox"]),
]


def native(questions: list[tuple[str, str, str, list[str]]], version: str = "v2.0") -> dict[str, Any]:
    """SQuAD's layout, written by hand: one article, a paragraph for each context."""
    paragraphs = []
    for context in dict.fromkeys(q[2] for q in questions):
        qas = [
            {"id": i, "question": q, "answers": [{"text": t, "answer_start": 0} for t in texts],
             **({"is_impossible": not texts, "plausible_answers": []} if version == "v2.0" else {})}
            for i, q, c, texts in questions if c == context
        ]  # fmt: skip
        paragraphs.append({"context": context, "qas": qas})
    return {"version": version, "data": [{"title": "Things", "paragraphs": paragraphs}]}


def write(folder: Path, name: str, value: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value))
    return folder / name


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "squad", "dev-v2.0.json", native(QUESTIONS))
    train = [(f"t{i}", f"Question {i}?", "Context.", [f"answer {i}"] if i % 2 else []) for i in range(6)]
    write(tmp_path / "squad", "train-v2.0.json", native(train))
    return tmp_path


def opened(folder: Path, protocol: str = "", few_shot: int | None = None) -> tuple[Squad2, list[Sample]]:
    task = Squad2(protocol, few_shot)
    source = Source("dir", str(folder))
    bind(task, source)
    return task, list(task.samples(source))


def test_native_files_become_samples(data: Path) -> None:
    task, found = opened(data)
    assert [s.id for s in found] == ["q1", "q2", "q3"]
    assert found[0].cluster == found[1].cluster != found[2].cluster  # a paragraph is a cluster
    assert found[0].data["doc"]["answers"]["text"] == ["Rome", "the city of Rome"]
    assert task.signature_extra() == {"lm_eval": "0.4.13", "lm_eval_task": "3"}


def test_hub_rows_and_native_files_give_equal_samples_and_requests(data: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [
        {"id": i, "title": "Things", "context": c, "question": q,
         "answers": {"text": texts, "answer_start": [0] * len(texts)}}
        for i, q, c, texts in QUESTIONS
    ]  # fmt: skip
    path = tmp_path / "hub" / "squad_v2" / "validation-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    (ours, found), (theirs, given) = opened(data), opened(tmp_path / "hub")
    assert [(s.id, s.cluster, s.data["doc"]) for s in found] == [(s.id, s.cluster, s.data["doc"]) for s in given]
    assert [ours.requests(s) for s in found] == [theirs.requests(s) for s in given]


@pytest.mark.parametrize("protocol", ["lm_eval", "paper"])
def test_prompts(data: Path, protocol: str) -> None:
    task, found = opened(data, protocol)
    generate, choose = task.requests(found[1])
    assert isinstance(generate, Generate)
    assert isinstance(choose, Choose)
    text = f"Title: Things\n\nBackground: {ROME}\n\nQuestion: Who is young?\n\nAnswer:"
    assert generate.prompt.text == choose.prompt.text == text
    assert generate.params == GenParams(max_new_tokens=256, stop=("\n",)) == task.protocol.params
    assert choose.options == (" unanswerable",)
    assert generate.prompt.special_tokens is (False if protocol == "paper" else None)


def test_the_old_harness_shows_shots_with_unanswerable_as_target(data: Path) -> None:
    task, found = opened(data, "paper", 6)
    text = task.requests(found[0])[0].prompt.text
    assert text.count("Title: ") == 7
    assert text.count("Answer: unanswerable\n\n") == 3
    assert "Answer: answer 5\n\n" in text
    with pytest.raises(BadInput, match="takes no shots"):
        Squad2("lm_eval", 2)


@pytest.mark.parametrize("protocol", ["lm_eval", "paper"])
def test_the_right_answer_scores_full_marks_and_the_word_unanswerable_does_not(data: Path, protocol: str) -> None:
    task, found = opened(data, protocol)

    def values(*texts: str) -> dict[str, float | None]:
        records = []
        for sample, text in zip(found, texts, strict=True):
            answers = [Response("ok", text=text), Response("ok", logprobs=(-3.0,), greedy=(False,))]
            records.append({**task.record(sample, answers), "cluster": sample.cluster})
        return {e.name: e.value for e in estimates(task.metrics(), records)}

    right = [task.record(s, task.right_answer(s)) | {"cluster": s.cluster} for s in found]
    for estimate, metric in zip(estimates(task.metrics(), right), task.metrics(), strict=True):
        assert metric.best is None or estimate.value == metric.best, metric.name
    assert values("Rome", "unanswerable", "red fox")["NoAns_exact"] == 0.0
    assert values("Rome", "", "red fox")["NoAns_exact"] == 100.0
    assert set(task.headline) <= set(values("", "", ""))


def test_runs_equal_the_official_rules_with_the_models_own_probability(data: Path) -> None:
    import math

    task, found = opened(data)
    golds, preds, probs, records = {}, {}, {}, []
    for sample in found:
        answers = [scripted(r) for r in task.requests(sample)]
        golds[sample.id], preds[sample.id] = sample.data["doc"]["answers"]["text"], answers[0].text
        probs[sample.id] = math.exp(answers[1].logprobs[0])
        records.append({**task.record(sample, answers), "cluster": "all"})
    found_values = {e.name: e.value for e in estimates(task.metrics(), records)}
    assert found_values == pytest.approx(official(golds, preds, probs))


def test_a_submission_without_probabilities(data: Path, tmp_path: Path) -> None:
    answers = tmp_path / "predictions.json"
    answers.write_text('{"q3": "the red fox!", "q1": "city of Rome", "q2": "Remus"}')
    found = scored(Squad2(), answers, data)
    assert (found["exact"], found["f1"]) == (pytest.approx(200 / 3), pytest.approx(200 / 3))
    assert (found["HasAns_exact"], found["NoAns_f1"], found["best_f1"]) == (100.0, 0.0, None)
    (data / "squad" / "train-v2.0.json").unlink()  # scoring needs no training questions, under either protocol
    assert scored(Squad2(), answers, data) == found == scored(Squad2("paper"), answers, data)


def test_a_submission_with_probabilities_and_a_data_file_of_any_name(tmp_path: Path) -> None:
    gold = write(tmp_path, "my questions.json", native(QUESTIONS))
    answers = write(tmp_path / "a", "p.json", {"q1": "Rome", "q2": "Remus", "q3": "dog"})
    na_probs = write(tmp_path / "a", "na.json", {"q3": 0.5, "q2": 1.25, "q1": -3, "other": 0})
    found = scored(Squad2(), AnswerFiles({"": answers}, {"na_probs": str(na_probs)}), gold)
    # q2 lies above the threshold of 1: its answer is withheld, which is right
    assert (found["exact"], found["NoAns_exact"], found["HasAns_exact"]) == (pytest.approx(200 / 3), 100.0, 50.0)
    assert (found["best_exact"], found["best_exact_thresh"]) == (pytest.approx(200 / 3), -3.0)


def test_lists_as_hugging_faces_metrics_and_lm_eval_write_them(data: Path, tmp_path: Path) -> None:
    said, na_probs = {"q1": "Otters.", "q2": "rivers", "q3": ""}, {"q3": 0.5, "q2": 1.25, "q1": -3}
    official = write(tmp_path, "p.json", said)
    option = AnswerFiles({"": official}, {"na_probs": str(write(tmp_path, "na.json", na_probs))})
    rows = [{"id": k, "prediction_text": said[k], "no_answer_probability": p} for k, p in na_probs.items()]
    assert scored(Squad2(), write(tmp_path, "hf.json", rows), data) == scored(Squad2(), option, data)
    plain = scored(Squad2(), official, data)
    theirs = [
        {"doc_id": 7, "doc": {"id": k, "title": ""}, "filtered_resps": [text, ["-1", "False"]]}
        for k, text in said.items()
    ]
    for name, made in (("hf", [{"id": k, "prediction_text": text} for k, text in said.items()]), ("samples", theirs)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in made))
        assert scored(Squad2(), path, data) == plain
    with pytest.raises(BadInput, match="no no-answer probability for 'q2'"):
        scored(Squad2(), write(tmp_path, "hf.json", [rows[0], {"id": "q2", "prediction_text": "x"}]), data)
    with pytest.raises(BadInput, match=r"hf\.json: \[0\]: expected \{id: text\}"):
        scored(Squad2(), write(tmp_path, "hf.json", ["Otters."]), data)


def test_version_1_1_has_no_unanswerable_questions(tmp_path: Path) -> None:
    write(tmp_path, "dev-v1.1.json", native([q for q in QUESTIONS if q[3]], "1.1"))
    answers = write(tmp_path / "a", "p.json", {"q1": "Rome", "q3": ""})
    found = scored(Squad2(), answers, tmp_path)
    assert (found["exact"], found["HasAns_exact"], found["NoAns_exact"], found["total"]) == (50.0, 50.0, None, 2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"q1": "x", "q1": "y", "q2": "", "q3": ""}', r"p\.json: id 'q1' occurs twice"),
        ('{"q1": "x", "q2": ', r"p\.json:1: not valid JSON"),
        ('{"q1": 3, "q2": "", "q3": ""}', r"p\.json: 'q1': expected the answer as text, found int"),
        ('["x"]', r"p\.json: \[0\]: expected \{id: text\}, or objects with id"),
        ('{"q1": "x", "zz": "y"}', r"1 ids are no samples of these data: 'zz'"),
    ],
)
def test_bad_submissions_are_one_line(data: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        scored(Squad2(), path, data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("na_probs", "message"),
    [
        ({"q1": 0.1, "q2": 0.2}, r"no no-answer probability for 'q3', which p\.json answers"),
        ({"q1": "0.1"}, r"'q1': expected a number, found '0\.1'"),
        (None, r"--na-probs .*na\.json: no such file"),
    ],
)
def test_bad_probabilities_are_one_line(data: Path, tmp_path: Path, na_probs: Any, message: str) -> None:
    answers = write(tmp_path, "p.json", {"q1": "x", "q2": "", "q3": ""})
    if na_probs is not None:
        write(tmp_path, "na.json", na_probs)
    with pytest.raises(BadInput, match=message):
        scored(Squad2(), AnswerFiles({"": answers}, {"na_probs": str(tmp_path / "na.json")}), data)


def test_a_partial_submission_says_what_is_missing(data: Path, tmp_path: Path) -> None:
    answers = write(tmp_path, "p.json", {"q1": "Rome"})
    source = Source("dir", str(data), images=False)
    task = Squad2()
    bind(task, source)
    assert task.submitted(AnswerFiles({"": answers}), source).missing == ["q2", "q3"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], r"dev-v2\.0\.json: expected a JSON object"),
        ({"version": "v2.0"}, r"dev-v2\.0\.json: field 'data' is missing"),
        ({"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "1", "question": "?"}]}]}]},
         r"data\[0\]\.paragraphs\[0\]\.qas\[0\]: field 'answers' is missing"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, r"paragraphs\[0\]: field 'context' is missing"),
        ({"data": []}, "no samples in"),
        (native([QUESTIONS[0], QUESTIONS[0]]), r"qas\[1\]: sample id 'q1' occurs twice"),
    ],
)  # fmt: skip
def test_damaged_data_are_named(tmp_path: Path, value: Any, message: str) -> None:
    write(tmp_path, "dev-v2.0.json", value)
    with pytest.raises(BadInput, match=message):
        opened(tmp_path)


def test_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"dev-v2\.0\.json or dev-v1\.1\.json not found .*SQuAD-explorer"):
        opened(tmp_path)


def test_the_only_file_of_another_name_is_taken_and_two_are_not(tmp_path: Path) -> None:
    write(tmp_path, "dev-excerpt.json", native(QUESTIONS))
    assert len(opened(tmp_path)[1]) == 3
    write(tmp_path, "dev-other.json", native(QUESTIONS))
    with pytest.raises(BadInput, match=r"dev-v2\.0\.json or dev-v1\.1\.json not found"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["dev-v2.0-subset.json", "xquad.en.json"])
def test_real_questions_with_made_answers_equal_the_rules_written_a_second_time(tmp_path: Path, name: str) -> None:
    gold = shared_data("squad") / name
    rng = random.Random(name)
    golds, preds, na_probs = {}, {}, {}
    for article in json.loads(gold.read_text())["data"]:
        for paragraph in article["paragraphs"]:
            for row in paragraph["qas"]:
                texts = golds[row["id"]] = [a["text"] for a in row["answers"]]
                words = paragraph["context"].split()
                at = rng.randrange(len(words))
                made = ["", " ".join(words[at : at + 4]), *(f"The {t.upper()}." for t in texts), *texts]
                preds[row["id"]], na_probs[row["id"]] = rng.choice(made), round(rng.uniform(-1, 1.2), 2)
    answers, probs = write(tmp_path, "p.json", preds), write(tmp_path, "na.json", na_probs)
    plain = {k: v for k, v in scored(Squad2(), answers, gold).items() if v is not None}
    assert plain == pytest.approx(official(golds, preds))
    assert 20 < plain["exact"] < 90
    with_probs = scored(Squad2(), AnswerFiles({"": answers}, {"na_probs": str(probs)}), gold)
    assert {k: v for k, v in with_probs.items() if v is not None} == pytest.approx(official(golds, preds, na_probs))


def test_the_real_folder_with_a_file_of_another_name(tmp_path: Path) -> None:
    _, found = opened(shared_data("squad"))  # the only dev*.json there
    assert len(found) == 706
    assert sum(not s.data["doc"]["answers"]["text"] for s in found) > 100
