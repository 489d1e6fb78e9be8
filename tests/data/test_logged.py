import json

import pytest

from mmalign_eval.data.logged import llava_rows
from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.registry import TASKS
from tests.support_score import scored


def line(doc, reply, **more):
    """A line as lmms-eval 0.7.3 logs it: lists of one element are taken away, `resps` where it is the same."""
    return json.dumps({"doc_id": 0, "doc": doc, "target": "x", "filtered_resps": reply, "doc_hash": "h", **more}) + "\n"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"filtered_resps": "No"}, "No"),
        ({"filtered_resps": ["No"], "resps": [["No."]]}, "No"),
        ({"resps": [["No"]]}, "No"),
        ({"filtered_resps": ["a", "b"]}, ["a", "b"]),
        ({}, None),
    ],
)
def test_lines_of_lmms_eval_become_llavas(tmp_path, fields, text):
    row = {"doc_id": 3, "doc": {"question_id": "7", "question": "Why?", "answer": "gold"}, **fields}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    expected = {"question_id": "7", "prompt": "Why?", "text": text}
    assert llava_rows(tmp_path / "a.jsonl") == [(f"{tmp_path / 'a.jsonl'}:1", expected)]


def test_other_lines_stay(tmp_path):
    rows = [{"question_id": 1, "text": "a"}, {"doc": "a text"}, {"doc": {"question": "no number"}}, [1], None]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row for _, row in llava_rows(tmp_path / "a.jsonl")] == rows


def test_a_logged_run_of_pope_is_scored(tmp_path):
    rows = [{"question_id": i, "image": "a.jpg", "text": f"Is there a dog{i} in the image?",
             "label": "no" if i % 2 else "yes"} for i in range(1, 5)]  # fmt: skip
    for split in ("popular", "adversarial"):
        (tmp_path / f"coco_pope_{split}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = tmp_path / "answers" / "20240101_000000_samples_pope.jsonl"
    answers.parent.mkdir()
    answers.write_text("".join(
        line({"question_id": str(r["question_id"]), "question": r["text"], "answer": r["label"], "category": split},
             "No" if split == "popular" else r["label"])
        for split in ("adversarial", "popular") for r in reversed(rows)))  # fmt: skip
    found = scored(TASKS.get("pope")(), answers, tmp_path)
    assert (found["adversarial/accuracy"], found["popular/accuracy"]) == (1, 0.5)
    assert (found["popular/TN"], found["popular/FN"]) == (2, 2)


@pytest.mark.parametrize("task", ["mme", "vqav2", "mmvet", "llava_bench"])
def test_logged_runs_of_the_miniatures_questions_are_scored_as_their_answers(task, tmp_path):
    from mmalign_eval.miniature import data_dir

    source = Source("mini", str(data_dir()), images=False)
    opened = TASKS.get(task)()
    lines = []
    for sample in opened.samples(source):
        number = sample.id.rpartition("/")[2] if task == "llava_bench" else sample.id
        if task == "mme":
            number = f"{sample.data['subtask']}/{sample.data['image']}.png"
        doc = {"question_id": number, "question": sample.data["question"], "answer": "gold"}
        lines.append(line(doc, opened.right_answer(sample)[0].text))
    (tmp_path / "samples.jsonl").write_text("".join(lines))
    found = scored(opened, tmp_path / "samples.jsonl", source)
    best = {"mme": ("perception/total", 2000), "mmvet": ("lexical/total", 100),
            "llava_bench": ("lexical/all/relative", 100), "vqav2": ("overall", 99)}[task]  # fmt: skip
    assert found[best[0]] >= best[1] - 10


def test_a_reply_that_is_no_text_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(line({"question_id": 1, "question": "?"}, ["a", "b"]))
    (tmp_path / "coco_pope_random.json").write_text('{"question_id": 1, "image": "a", "text": "?", "label": "yes"}')
    with pytest.raises(BadInput, match=r"a\.jsonl:1: expected the answer as text, found list"):
        scored(TASKS.get("pope")(), tmp_path / "a.jsonl", tmp_path)
