import json

import pytest

from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.registry import TASKS
from mmalign_eval.roles import AnswerFiles
from tests.support import shared_data
from tests.support_score import scored

SPLITS = ("random", "popular", "adversarial")
OBJECTS = ("cat", "bus", "cup", "dog", "umbrella", "car")
SHORT = "\nAnswer the question using a single word or phrase."


def pope():
    return TASKS.get("pope")()


def asked(split, n, word="image"):
    """Question n (from 0) of a split: yes-questions are the same in all, no-questions differ."""
    thing = OBJECTS[n] if n % 2 == 0 else f"{split} {OBJECTS[n]}"
    return f"Is there a{'n' if thing[0] in 'aeiou' else ''} {thing} in the {word}?"


@pytest.fixture
def data(tmp_path):
    """Three splits of six questions each; no images."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in SPLITS:
        lines = [
            f'{{"question_id": {n + 1}, "image": "COCO_val2014_{n // 2:012d}.jpg", "text": "{asked(split, n)}", '
            f'"label": "{"no" if n % 2 else "yes"}"}}\n'
            for n in range(6)
        ]
        (folder / f"coco_pope_{split}.json").write_text("".join(lines))
    return folder


# to yes, no, yes, no, yes, no: two true positives, one false negative, one false positive, two true negatives
SAID = ("Yes", "No, there is not.", "There is no cup", "There isn't one.", "yes it is.", "not at all")
VALUES = {"accuracy": 4 / 6, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "yes_ratio": 0.5,
          "TP": 2, "FP": 1, "TN": 2, "FN": 1}  # fmt: skip


def own(split, said=SAID, word="image"):
    """Lines as POPE's own evaluator reads them."""
    return [f'{{"question": "{asked(split, n, word)}", "answer": "{text}"}}' for n, text in enumerate(said)]


def llava(split, said=SAID, offset=0, word="image", **more):
    """Lines as LLaVA's model_vqa_loader writes them."""
    rows = [
        {"question_id": offset + n + 1, "prompt": asked(split, n, word) + SHORT, "text": text, "answer_id": "x", **more}
        for n, text in enumerate(said)
    ]
    return [json.dumps(row) for row in rows]


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def submitted(answers, data):
    paths = answers if isinstance(answers, dict) else {"": answers}
    return pope().submitted(AnswerFiles(paths), Source("dir", str(data), images=False))


def check(values, *splits):
    for split in splits:
        found = {name: values[f"{split}/{name}"] for name in VALUES}
        assert found == {name: pytest.approx(value) for name, value in VALUES.items()}
    for split in set(SPLITS) - set(splits):
        assert values[f"{split}/accuracy"] is None


@pytest.mark.parametrize("form", [own, llava])
def test_files_by_name(tmp_path, data, form):
    paths = {split: write(tmp_path / f"{i}.jsonl", form(split)) for i, split in enumerate(SPLITS)}
    values = scored(pope(), paths, data)
    check(values, *SPLITS)
    assert values["mean/accuracy"] == pytest.approx(4 / 6)
    assert values["mean/f1"] == pytest.approx(2 / 3)


def test_a_folder_of_files_named_after_the_splits(tmp_path, data):
    for split in SPLITS:
        write(tmp_path / "a" / f"my_{split}_answers.json", own(split))
    check(scored(pope(), tmp_path / "a", data), *SPLITS)


def test_one_split_is_enough_and_the_others_are_left_out(tmp_path, data):
    path = write(tmp_path / "answers.jsonl", own("popular"))
    found = submitted({"popular": path}, data)
    assert (len(found.samples), found.missing, found.unknown) == (6, [], [])
    assert found.notes == ["no answers to random, adversarial: left out"]
    check(scored(pope(), {"popular": path}, data), "popular")
    check(scored(pope(), path, data), "popular")  # by what its questions are


def test_a_single_file_in_llavas_numbering(tmp_path, data):
    lines = llava("adversarial") + llava("random", offset=10_000_000) + llava("popular", offset=20_000_000)
    check(scored(pope(), write(tmp_path / "a.jsonl", lines), data), *SPLITS)
    without = [json.dumps({k: v for k, v in json.loads(line).items() if k != "prompt"}) for line in lines]
    check(scored(pope(), write(tmp_path / "b.jsonl", without), data), *SPLITS)


def test_a_single_file_by_category_or_by_the_order_of_its_questions(tmp_path, data):
    mixed = [line for lines in zip(*(llava(s, category=s) for s in SPLITS), strict=True) for line in lines]
    check(scored(pope(), write(tmp_path / "a.jsonl", mixed), data), *SPLITS)
    blocks = own("adversarial") + own("random") + own("popular")
    check(scored(pope(), write(tmp_path / "b.jsonl", blocks), data), *SPLITS)
    check(scored(pope(), write(tmp_path / "c.jsonl", blocks[:12]), data), "adversarial", "random")


def test_llavas_numbers_beside_categories_in_any_order(tmp_path, data):
    offsets = {"adversarial": 0, "random": 10_000_000, "popular": 20_000_000}
    lines = [line for split in SPLITS for line in llava(split, offset=offsets[split], category=split)]
    found = scored(pope(), write(tmp_path / "a.jsonl", list(reversed(lines))), data)
    assert found["random/accuracy"] == found["popular/accuracy"] == found["adversarial/accuracy"] == VALUES["accuracy"]


@pytest.mark.parametrize("field", ["response", "prediction"])
def test_a_response_beside_the_label_or_the_question_is_the_answer(tmp_path, data, field):
    for question, label in (("question", "answer"), ("text", "label")):
        lines = [
            json.dumps({question: asked("random", n), label: "no" if n % 2 else "yes", field: text})
            for n, text in enumerate(SAID)
        ]
        found = scored(pope(), {"random": write(tmp_path / "a.jsonl", lines)}, data)
        assert {name: found[f"random/{name}"] for name in VALUES} == pytest.approx(VALUES)


def test_answers_alone_go_by_the_files_name_or_the_only_split(tmp_path, data):
    lines = [json.dumps({"answer": text}) for text in SAID]
    check(scored(pope(), write(tmp_path / "llava_popular.jsonl", lines), data), "popular")
    path = write(tmp_path / "llava.jsonl", lines)
    with pytest.raises(BadInput, match=r"llava\.jsonl: cannot tell which split its 6 answers belong to .*give random="):
        scored(pope(), path, data)
    check(scored(pope(), path, data / "coco_pope_random.json"), "random")


def test_a_question_file_under_any_name(tmp_path, data):
    gold = (data / "coco_pope_popular.json").rename(tmp_path / "gold.json")
    check(scored(pope(), {"popular": write(tmp_path / "a.jsonl", own("popular"))}, gold), "popular")
    check(scored(pope(), write(tmp_path / "my_popular.jsonl", own("popular")), gold), "popular")
    with pytest.raises(BadInput, match=r"gold\.json: the name does not say which split it is"):
        scored(pope(), tmp_path / "a.jsonl", gold)


def test_both_editions_spell_image_their_way(tmp_path, data):
    old = {split: write(tmp_path / f"{split}.jsonl", llava(split, word="imange")) for split in SPLITS}
    check(scored(pope(), old, data), *SPLITS)
    for path in data.iterdir():
        path.write_text(path.read_text().replace("umbrella in the image", "umbrella in the imange"))
    check(scored(pope(), {s: write(tmp_path / f"{s}.jsonl", own(s)) for s in SPLITS}, data), *SPLITS)


def test_other_words_around_the_object_are_no_mismatch(tmp_path, data):
    rows = [f"USER: <image>\\n{asked('random', n)[:-10]}this photo? ASSISTANT:" for n in range(6)]
    lines = [f'{{"question": "{row}", "answer": "{text}"}}' for row, text in zip(rows, SAID, strict=True)]
    assert "Is there a cat in this photo?" in lines[0]
    check(scored(pope(), write(tmp_path / "a.jsonl", lines), data), "random")


def test_a_partial_file_is_matched_by_id_or_from_the_start(tmp_path, data):
    lines = llava("random")
    found = submitted({"random": write(tmp_path / "a.jsonl", [lines[0], *lines[2:]])}, data)
    assert found.missing == ["random/2"]
    assert found.responses["random/3"][0].text == SAID[2]
    found = submitted({"random": write(tmp_path / "b.jsonl", own("random")[:4])}, data)
    assert found.missing == ["random/5", "random/6"]
    shuffled = submitted({"random": write(tmp_path / "c.jsonl", lines[::-1])}, data)
    assert [shuffled.responses[f"random/{n + 1}"][0].text for n in range(6)] == list(SAID)


def test_unknown_ids_are_told(tmp_path, data):
    lines = [*llava("random"), json.dumps({"question_id": 77, "prompt": "Is there a cow?", "text": "no"})]
    assert submitted({"random": write(tmp_path / "a.jsonl", lines)}, data).unknown == ["random/77"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            own("popular"),
            r"a\.jsonl:2: answers 'Is there a popular bus.*', but question 2 of random is 'Is there a random",
        ),
        ([*own("random"), own("random")[0]], r"a\.jsonl:7: 7 answers, but random has 6 questions"),
        ([*llava("random"), llava("random")[3]], r"a\.jsonl:7: id '4' occurs twice in the answers"),
        ([*own("random")[:2], '{"question": "Is th'], r"a\.jsonl:3: not valid JSON"),
        (['{"question": "Is there a cat in the image?"}'], r"a\.jsonl:1: expected an object with question and answer"),
        (['{"question": "Is there a cat in the image?", "answer": 1}'], r"a\.jsonl:1: .*as text, found int"),
        (["[]"], r"a\.jsonl:1: expected an object"),
        (
            ['{"question_id": 1, "text": "Is there a cat in the image?", "label": "yes"}'],
            r"a\.jsonl:1: a question with its",
        ),
    ],
)
def test_bad_answers_are_one_line(tmp_path, data, lines, message):
    with pytest.raises(BadInput, match=message) as caught:
        scored(pope(), {"random": write(tmp_path / "a.jsonl", lines)}, data)
    assert "\n" not in str(caught.value)


def test_answers_to_a_split_without_questions(tmp_path, data):
    (data / "coco_pope_random.json").unlink()
    with pytest.raises(BadInput, match="no random questions in the data, only popular, adversarial"):
        scored(pope(), {"random": write(tmp_path / "a.jsonl", own("random"))}, data)


def straight(answers, labels):
    """The official evaluate.py step by step, on lists."""
    said = []
    for text in answers:
        if text.find(".") != -1:
            text = text.split(".")[0]
        words = text.replace(",", "").split(" ")
        said.append(0 if "No" in words or "not" in words or "no" in words else 1)
    gold = [0 if label == "no" else 1 for label in labels]
    cells = [(p, t) for p, t in zip(said, gold, strict=True)]
    tp, fp, tn, fn = (cells.count(cell) for cell in ((1, 1), (1, 0), (0, 0), (0, 1)))
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    f1 = 2 * precision * recall / (precision + recall)
    return {"TP": tp, "FP": fp, "TN": tn, "FN": fn, "accuracy": (tp + tn) / len(gold), "precision": precision,
            "recall": recall, "f1": f1, "yes_ratio": said.count(1) / len(said)}  # fmt: skip


def test_real_question_files_against_a_straight_computation(tmp_path):
    folder = shared_data("pope")
    replies = ("Yes", "No", "no.", "Yes, there is.", "There isn't.", "NO", "It is not. Yes", "no\n", "Yes. no", "")
    lines, expected = [], {}
    for place, split in enumerate(("adversarial", "random", "popular")):
        rows = [json.loads(line) for line in (folder / f"coco_pope_{split}.json").open()]
        said = [replies[(7 * n + n // 11 + place) % len(replies)] for n in range(len(rows))]
        expected[split] = straight(said, [row["label"] for row in rows])
        lines += [json.dumps({"question_id": place * 10_000_000 + n, "prompt": row["text"] + SHORT, "text": text})
                  for n, (row, text) in enumerate(zip(rows, said, strict=True), start=1)]  # fmt: skip
    values = scored(pope(), write(tmp_path / "a.jsonl", lines), folder)
    for split in SPLITS:
        assert {name: values[f"{split}/{name}"] for name in expected[split]} == pytest.approx(expected[split])
    plain = [json.dumps({"question": json.loads(x)["prompt"], "answer": json.loads(x)["text"]}) for x in lines]
    again = scored(pope(), write(tmp_path / "b.jsonl", plain), folder)
    assert again == values
