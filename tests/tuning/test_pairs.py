"""Preference files: both forms, what is read from each, round trips, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmalign_eval.tuning.pairs import FORMS, Form, read_pairs, write_pairs
from mmalign_eval.tuning.rows import Pair

from mmalign_eval.errors import BadInput
from tests.support import shared_data

# as the authors' README shows an item
ITEM: dict[str, Any] = {
    "id": "coco-17",
    "prompt": "What do you see happening in this image?\n<image>",
    "image": "coco/train2017/000000000009.jpg",
    "completions": [
        {"score": 1, "response": "A meal in boxes.", "type": "gt"},
        {"score": 0, "response": "A meal and a dog.", "type": "mllm-hal"},
        {"score": 0, "response": "A meal in a bag.", "type": "llm-hal"},
    ],
}


def written(folder: Path, content: Any) -> Path:
    file = folder / "pairs.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_an_item_with_two_negatives_is_two_pairs(tmp_path: Path) -> None:
    image = "coco/train2017/000000000009.jpg"
    prompt, good = "What do you see happening in this image?", "A meal in boxes."
    assert read_pairs(written(tmp_path, [ITEM])) == [
        Pair("coco-17/mllm-hal", prompt, good, "A meal and a dog.", image, "mllm-hal", "coco"),
        Pair("coco-17/llm-hal", prompt, good, "A meal in a bag.", image, "llm-hal", "coco"),
    ]


def test_all_pairs_of_different_scores_and_the_higher_is_chosen(tmp_path: Path) -> None:
    said = [(0, "d"), (2, "a"), (1, "b"), (1, "c"), (0, "e")]
    item = {**ITEM, "completions": [{"score": s, "response": r, "type": f"t{r}"} for s, r in said]}
    pairs = {(pair.chosen, pair.rejected) for pair in read_pairs(written(tmp_path, [item]))}
    assert pairs == {*(("a", r) for r in "bcde"), *((c, r) for c in "bc" for r in "de")}


@pytest.mark.parametrize("form", FORMS)
def test_three_scores_come_back_from_both_forms(tmp_path: Path, form: Form) -> None:
    said = [(2, "a", "gt"), (1, "b", "gt-rephrased"), (0, "c", "llm-hal")]
    item = {**ITEM, "completions": [{"score": s, "response": r, "type": t} for s, r, t in said]}
    pairs = read_pairs(written(tmp_path, [item]))
    assert len({pair.id for pair in pairs}) == len(pairs) == 3
    write_pairs(tmp_path / "again", pairs, form)
    assert read_pairs(tmp_path / "again") == pairs


def test_items_without_id_or_type_are_read(tmp_path: Path) -> None:
    item = {k: v for k, v in ITEM.items() if k != "id"}
    item["completions"] = [{"score": 0, "response": "bad"}, {"score": 0.5, "response": "good"}]
    (pair,) = read_pairs(written(tmp_path, [item]))
    assert (pair.id, pair.chosen, pair.kind, pair.source) == ("1/rejected", "good", "", "")


def test_ids_are_unique_though_the_file_repeats_one(tmp_path: Path) -> None:
    ids = [pair.id for pair in read_pairs(written(tmp_path, [ITEM, ITEM]))]
    assert ids == ["coco-17/mllm-hal", "coco-17/llm-hal", "coco-17/mllm-hal~2", "coco-17/llm-hal~2"]


# Answers hold whatever models say: other line separators, NUL, quotes.
TEXT = st.text(min_size=1, max_size=20).map(str.strip).filter(lambda t: t and "<image>" not in t)
PAIRS = st.lists(
    st.tuples(TEXT, TEXT, st.lists(st.tuples(TEXT, st.sampled_from(["mllm-hal", "llm-hal", "self"])), min_size=1)),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(content=PAIRS, form=st.sampled_from(FORMS))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, content: Any, form: Form) -> None:
    file = tmp_path_factory.mktemp("pairs") / "file"
    pairs = []
    for n, (prompt, chosen, rejected) in enumerate(content):
        taken: dict[str, int] = {}
        for text, kind in rejected:
            taken[kind] = taken.get(kind, 0) + 1
            name = f"coco-{n}/{kind}" + (f"~{taken[kind]}" if taken[kind] > 1 else "")
            pairs.append(Pair(name, prompt, chosen, text, f"{n}.png", kind, "coco"))
    write_pairs(file, pairs, form)
    assert read_pairs(file) == pairs


def test_the_flat_form(tmp_path: Path) -> None:
    row = {
        "image": "a.jpg",
        "question": "<image>\nWhat is it?",
        "chosen": "A cat.",
        "rejected": "A dog.\u2028",
        "idx": 0,
    }
    file = tmp_path / "flat.jsonl"
    file.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_pairs(file) == [Pair("1/rejected", "What is it?", "A cat.", "A dog.\u2028", "a.jpg")]


def test_messages_in_parts(tmp_path: Path) -> None:
    asked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}
    said = [[{"role": "assistant", "content": [{"type": "text", "text": t}]}] for t in ("good", "bad")]
    row = {"prompt": [asked], "chosen": said[0], "rejected": said[1], "images": ["a.jpg"]}
    (pair,) = read_pairs(written(tmp_path, [row]))
    assert (pair.prompt, pair.chosen, pair.rejected, pair.image) == ("What?", "good", "bad", "a.jpg")


def test_real_pairs_are_read() -> None:
    pairs = read_pairs(shared_data("instruct") / "preference_style_sample.jsonl")
    assert len(pairs) == 80
    assert len({pair.id for pair in pairs}) == 80
    assert pairs[1].chosen.endswith("\x00")  # as the file has it


def changed(**change: Any) -> list[dict[str, Any]]:
    return [ITEM, {k: v for k, v in {**ITEM, **change}.items() if v is not None}]


USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
TRL = {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [{**ASSISTANT, "content": "b"}], "images": ["x.png"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no rows"),
        (["text"], "row 1: expected an object, found str"),
        (changed(completions=None), "row 2: neither `completions` nor `chosen` and `rejected`"),
        (changed(image=None), "row 2: `image` .*: expected a file name"),
        (changed(prompt="<image>\n"), "row 2: prompt: expected text"),
        (changed(completions=[{"score": "high", "response": "x"}]), "row 2: completion 1: expected an object with"),
        (changed(completions=[{"score": 1, "response": " "}]), "row 2: completion 1: expected text"),
        (changed(completions=[{"score": 1, "response": "an <image>"}]), "row 2: completion 1: an answer holds <image>"),
        ([{**ITEM, "completions": ITEM["completions"][1:]}], "no preference pair in it"),
        ([{**TRL, "images": ["a", "b"]}], "row 1: 2 images; a preference is about one"),
        ([{**TRL, "prompt": [USER, ASSISTANT, USER]}], "row 1: prompt: expected one message of role user"),
        ([{**TRL, "rejected": [USER]}], "row 1: rejected: expected one message of role assistant"),
    ],
)
def test_what_is_no_preference_is_refused_by_row(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_pairs(written(tmp_path, content))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.json: cannot be read: No such file"):
        read_pairs(tmp_path / "none.json")
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{"a": ')
    with pytest.raises(BadInput, match="neither a JSON list nor JSON lines: line 2"):
        read_pairs(tmp_path / "bad.jsonl")
    (tmp_path / "empty.json").write_text("\n")
    with pytest.raises(BadInput, match="empty"):
        read_pairs(tmp_path / "empty.json")


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    pair = Pair("a-1/self", "p", "c", "r", "i.png", "self", "a")
    with pytest.raises(BadInput, match="cannot be written: No such file or directory"):
        write_pairs(tmp_path / "no" / "folder.json", [pair], "bpo")
    with pytest.raises(BadInput, match="cannot be written: No space left on device"):
        write_pairs(Path("/dev/full"), [pair] * 1000, "trl")
