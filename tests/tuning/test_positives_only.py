"""What the SFT baseline trains on: chosen answers of pairs, or the file of positives that pairs are made from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mmalign_eval.tuning.bpo_pairs import select
from mmalign_eval.tuning.config import Data, Preference
from mmalign_eval.tuning.data import Counts
from mmalign_eval.tuning.pairs import read_pairs, write_pairs
from mmalign_eval.tuning.positives import write_positives
from mmalign_eval.tuning.positives_only import conversations_of, is_preferences
from mmalign_eval.tuning.rows import Conversation, Pair, Positive

from mmalign_eval.cli.main import main
from mmalign_eval.errors import BadInput

from .conftest import draw, row, write_rows

QUICK = ("tune.max_steps=1", "tune.batch=2", "tune.micro_batch=2", "tune.max_length=200", "lora.r=4", "data.held_out=0")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images, a positive of each (the last there twice), and two pairs of each positive."""
    folder = tmp_path_factory.mktemp("positives")
    names = draw(folder / "images", 4)
    positives = [Positive(f"llava-{i}", "llava", "Describe.", f"A {'red' * i} cup.", n) for i, n in enumerate(names)]
    write_positives(folder / "positives.jsonl", [*positives, replace(positives[3], id="llava-4")])
    pairs = [
        Pair(f"{one.id}/{kind}", one.prompt, one.response, "A cow.", one.image, kind, one.source)
        for one in positives
        for kind in ("mllm-hal", "llm-hal")
    ]
    write_pairs(folder / "pairs.json", pairs, "bpo")
    write_rows(folder / "llava.json", [row("0", ("What?", "A cup."), image=names[0])])
    return folder


def read(home: Path, file: str, data: Data | None = None) -> tuple[list[Conversation], Counts]:
    counts = Counts()
    return conversations_of(home / file, home / "images", data or Data(), 0, "pad", counts), counts


def test_positives_are_the_chosen_answers_of_the_pairs_made_from_them(home: Path) -> None:
    found, counts = read(home, "positives.jsonl")
    chosen, _ = read(home, "pairs.json")
    assert [(c.turns, c.image) for c in found] == [(c.turns, c.image) for c in chosen]
    assert [c.id for c in found] == ["llava-0", "llava-1", "llava-2", "llava-3"]
    assert (counts.read, counts.used) == (5, 4)
    assert counts.dropped == {"positive of another row too": 1}
    assert [is_preferences(home / name) for name in ("positives.jsonl", "pairs.json", "llava.json")] == [1, 1, 0]


def test_they_are_drawn_and_stripped_of_images_alike(home: Path) -> None:
    for data in (Data(samples=2), Data(text_only=True)):
        found, chosen = (read(home, file, data)[0] for file in ("positives.jsonl", "pairs.json"))
        assert [(c.turns, c.image) for c in found] == [(c.turns, c.image) for c in chosen]
        assert len(found) == (data.samples or 4)
        assert all((c.image is None) == data.text_only for c in found)
    with pytest.raises(BadInput, match="5 samples asked for, 4 there"):
        read(home, "pairs.json", Data(samples=5))


def test_they_are_those_that_preference_tuning_learns_from(home: Path, tmp_path: Path) -> None:
    pairs = read_pairs(home / "pairs.json")
    pairs[0] = replace(pairs[0], rejected="w " * 9)  # the answer is in the next pair, too
    pairs[2], pairs[3] = replace(pairs[2], chosen="w " * 9), replace(pairs[3], rejected=pairs[3].chosen)
    write_pairs(tmp_path / "pairs.json", pairs, "bpo")
    for data in (Data(max_words=8), Data(held_out=0.3), Data(max_words=8, held_out=0.3)):
        counts = Counts()
        found = conversations_of(tmp_path / "pairs.json", home / "images", data, 0, "pad", counts)
        learnt = select(pairs, Preference(), data, 0).train
        names = [(c.turns[0], Path(c.image.path).name) for c in found if c.image]
        assert sorted(names) == sorted({((p.prompt, p.chosen), p.image) for p in learnt})
        assert counts.dropped.get("over 8 words", 0) == (2 if data.max_words else 0)
        assert counts.dropped["held out"] == (1 if data.held_out else 0)
        assert counts.used == len(found) < 4
    found, counts = read(home, "positives.jsonl", Data(max_words=2))
    assert (len(found), counts.dropped["over 2 words"]) == (1, 4)
    with pytest.raises(BadInput, match="no rows to train on: .* over 1 words"):
        read(home, "pairs.json", Data(max_words=1))


def test_a_row_that_is_none_is_named(home: Path, tmp_path: Path) -> None:
    lines = (home / "positives.jsonl").read_text(encoding="utf-8").splitlines()
    broken = {**json.loads(lines[1]), "response": 3}
    (tmp_path / "broken.jsonl").write_text(f"{lines[0]}\n{json.dumps(broken)}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"broken.jsonl: row 2: expected id, source, prompt, response, image"):
        conversations_of(tmp_path / "broken.jsonl", home / "images", Data(), 0, "pad", Counts())


def test_mmeval_tune_sft_takes_them(home: Path, tmp_path: Path, nano_llava: Path) -> None:
    given = ["--data", home / "positives.jsonl", "--images", home / "images", "--model", nano_llava]
    words = ["tune", "sft", "--recipe", "mini-sft", *given, "--out", tmp_path / "out"]
    assert main([*map(str, words), *(part for value in QUICK for part in ("--set", value))]) == 0
    record = json.loads((tmp_path / "out" / "mmeval.json").read_text(encoding="utf-8"))
    assert record["rows"]["tune"]["used"] == 4
    assert record["training"]["coco_ids"] == [1000, 1001, 1002, 1003]
