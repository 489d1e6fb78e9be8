"""Positives: which turns become pairs, uniform seeded draws, counts, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mmalign_eval.tuning.positives import (
    Counts,
    Source,
    collect,
    in_folders,
    load_positives,
    parse_source,
    read_positives,
    write_positives,
)
from mmalign_eval.tuning.rows import Positive

from mmalign_eval.errors import BadInput
from tests.support import shared_data


def talk(*turns: str, image: str | None = "a.jpg", first: str = "human") -> dict[str, Any]:
    roles = ("human", "gpt") if first == "human" else ("gpt", "human")
    row = {"id": "x", "conversations": [{"from": roles[i % 2], "value": t} for i, t in enumerate(turns)]}
    return row if image is None else {**row, "image": image}


def written(folder: Path, rows: list[Any], name: str = "rows.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def test_every_answered_turn_is_one_positive_without_the_image_mark(tmp_path: Path) -> None:
    rows = [
        talk("What is it?\n<image>", " A cat. ", "Its colour?", "Black.", "And"),  # the last one was never answered
        talk("no image", "none", image=None),
        talk("<image>\nWhere?", "At home.", image="sam/b.jpg"),
    ]
    found, counts = read_positives(written(tmp_path, rows), "llava")
    assert found == [
        Positive("llava-0", "llava", "What is it?", "A cat.", "a.jpg"),
        Positive("llava-1", "llava", "Its colour?", "Black.", "a.jpg"),
        Positive("llava-2", "llava", "Where?", "At home.", "sam/b.jpg"),
    ]
    changed = {"last question without an answer dropped": 1}
    assert counts == Counts(rows=3, without_image=1, turns=3, rows_changed=changed)


def test_a_first_turn_of_the_assistant_is_dropped_and_unusable_turns_are_counted(tmp_path: Path) -> None:
    rows = [
        talk("Hello!", "<image>\nWhat?", "A dog.", first="gpt"),
        talk("<image>", "no question", "Why?", "  ", "And?", "Because."),  # nothing is learnt after an empty answer
        talk("<image>\nWhat?", "A dog."),
        talk("<image>\nWhat?", ""),
    ]
    found, counts = read_positives(written(tmp_path, rows), "s")
    assert [(p.prompt, p.response) for p in found] == [("What?", "A dog.")]
    assert (counts.rows, counts.turns, counts.without_question, counts.repeated) == (4, 3, 1, 1)
    assert counts.rows_dropped == {"no answered question": 1}
    assert counts.rows_changed == {
        "began with the assistant: its first turn dropped": 1,
        "cut at an empty answer": 2,
    }


def test_a_folder_goes_in_front_of_image_names(tmp_path: Path) -> None:
    file = written(tmp_path, [talk("<image>\nWhat?", "A dog.", image="000000000009.jpg")])
    sources = in_folders([Source("llava", file), Source("share", file)], {"llava": "coco/train2017/"})
    found, _ = collect(sources, seed=0)
    assert [p.image for p in found] == ["coco/train2017/000000000009.jpg", "000000000009.jpg"]
    with pytest.raises(BadInput, match="--folder lava=x: no such source - did you mean 'llava'"):
        in_folders(sources, {"lava": "x"})


def test_preferred_completions_are_positives(tmp_path: Path) -> None:
    said = [(1, "right", "gt"), (0, "wrong", "mllm-hal"), (0, "bad", "llm-hal")]
    item = {"id": "coco-1", "prompt": "Q\n<image>", "image": "c.jpg"}
    item["completions"] = [{"score": s, "response": r, "type": t} for s, r, t in said]  # type: ignore[assignment]
    found, counts = read_positives(written(tmp_path, [item]), "bpo")
    assert found == [Positive("bpo-0", "bpo", "Q", "right", "c.jpg")]
    assert counts.repeated == 1  # of its two pairs


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return written(
        tmp_path, [talk("<image>\nQ", str(i), "R", str(-i), image=f"{i}.jpg") for i in range(20)], "many.json"
    )


def test_a_draw_depends_on_seed_and_name_alone_and_keeps_ids(many: Path, tmp_path: Path) -> None:
    everything, _ = collect([Source("a", many)], seed=0)
    assert len(everything) == 40
    drawn, counts = collect([Source("a", many, 15)], seed=0)
    assert len(drawn) == counts["a"].drawn == 15
    by_id = {p.id: p for p in everything}
    assert drawn == [by_id[p.id] for p in drawn]
    assert drawn == sorted(drawn, key=lambda p: int(p.id.partition("-")[2]))
    other = written(tmp_path, [talk("<image>\nQ", "x")], "other.json")
    together, counts = collect([Source("b", other), Source("a", many, 15)], seed=0)
    assert together[1:] == drawn
    assert {name: c.drawn for name, c in counts.items()} == {"b": 1, "a": 15}
    assert collect([Source("a", many, 15)], seed=1)[0] != drawn


def test_draws_are_uniform(many: Path) -> None:
    hits = Counter(p.id for seed in range(400) for p in collect([Source("a", many, 10)], seed)[0])
    assert len(hits) == 40
    # 400 draws of 1 in 4: mean 100, sd 8.7
    assert 60 < min(hits.values()) <= max(hits.values()) < 140


def test_more_than_there_are_is_refused_with_all_counts(many: Path) -> None:
    with pytest.raises(BadInput, match=r"a has 40 of 41 asked \(.*many\.json\); b has 40 of 99 asked"):
        collect([Source("a", many, 41), Source("ok", many, 40), Source("b", many, 99)], seed=0)
    with pytest.raises(BadInput, match="--source a=: given twice"):
        collect([Source("a", many), Source("a", many)], seed=0)


def test_written_positives_come_back(many: Path, tmp_path: Path) -> None:
    positives, _ = collect([Source("a", many, 7)], seed=3)
    file = tmp_path / "positives.jsonl"
    write_positives(file, positives)
    assert load_positives(file) == positives
    with pytest.raises(BadInput, match=r"make one with mmeval tune positives --source NAME=.*many\.json"):
        load_positives(many)
    file.write_text(file.read_text() * 2)
    with pytest.raises(BadInput, match=r"row 8: id a-\d+ is there twice"):
        load_positives(file)
    file.write_text('{"id": "a-1"}\n')
    with pytest.raises(BadInput, match="row 1: expected id, source, prompt, response, image"):
        load_positives(file)
    with pytest.raises(BadInput, match="cannot be written: No space left on device"):
        write_positives(Path("/dev/full"), positives * 500)


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ("llava=a/b.json:54359", Source("llava", Path("a/b.json"), 54359)),
        ("ShareGPT4V=x.json", Source("ShareGPT4V", Path("x.json"))),
        ("w=C:/x:y.json:3", Source("w", Path("C:/x:y.json"), 3)),
    ],
)
def test_sources(given: str, source: Source) -> None:
    assert parse_source(given) == source


@pytest.mark.parametrize(
    ("given", "message"),
    [("file.json", "expected NAME=FILE"), ("a-b=x", "the name 'a-b'"), ("a=x:0", "0 positives"), ("=x", "expected")],
)
def test_sources_that_are_none(given: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_source(given)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "a.jpg"}, "row 1: neither"),
        ({"image": "a.jpg", "conversations": "x"}, "row 1: conversations: expected a list of objects"),
        (
            {"image": "a.jpg", "conversations": [{"from": "system", "value": "x"}]},
            "row 1: turn from 'system'; expected human or gpt",
        ),
        ({"image": ["a.jpg"], "conversations": []}, "row 1: image: expected one file name"),
        ({"image": "a.jpg", "conversations": [{"from": "human", "value": "x"}] * 2}, "two turns from 'human' in a row"),
        (talk("q", "here: <image>"), "row 1: <image> stands in an answer"),
        (talk("<image> q <image>", "a"), "row 1: <image> stands in it 2 times"),
        (talk("q", "a", image=None), "no answered turn about an image"),
    ],
)
def test_rows_that_are_no_conversation_are_named(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_positives(written(tmp_path, [row]), "a")


def test_real_conversations_are_read() -> None:
    found, counts = read_positives(shared_data("instruct") / "llava_style_sample.json", "llava")
    assert (counts.rows, counts.turns, len(found)) == (90, 90, 90)
    assert not any("<image>" in p.prompt or not p.image.startswith("COCO_") for p in found)
