"""The laboratory's data: blocks of scenes that never meet, files in the benchmarks' layouts, errors put in by rule."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from mmalign_eval.tuning.config import Data
from mmalign_eval.tuning.data import read_conversations

from mmalign_eval.lab import inject as injecting
from mmalign_eval.lab import scenes, world
from mmalign_eval.metrics.chair.objects import default_table
from mmalign_eval.miniature.captions import detailed
from mmalign_eval.miniature.files_coco import HELD_OUT_SEED
from mmalign_eval.miniature.recipe import FULL


def test_blocks_of_seeds_never_meet() -> None:
    spans = sorted((block.first, block.first + block.size) for block in scenes.BLOCKS)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert spans[0][0] > HELD_OUT_SEED + 100_000 > FULL.train_images  # the miniature's own files and training
    assert spans[-1][1] < 10**9  # the text corpus's scenes


def test_a_block_that_is_too_small_says_so() -> None:
    with pytest.raises(ValueError, match="has only 1 of 2"):
        scenes.Block("tiny", 7, 1).scenes(2)


def test_training_files_are_read_as_llavas(tmp_path: Path) -> None:
    world.write_instruct(tmp_path, scenes.INSTRUCT, 12)
    mix = read_conversations(tmp_path / "mix.json", tmp_path / "images", Data(), 0, "square")
    assert len(mix) >= 12
    assert sum(row.image is not None for row in mix) == 12
    told = [row for row in mix if row.image is None]
    assert all("scene" in row.turns[0][1] for row in told)
    for kind in world.KINDS:
        rows = read_conversations(tmp_path / f"{kind}.json", tmp_path / "images", Data(kinds=(kind,)), 0, "square")
        assert len(rows) == 12
        assert {row.kind for row in rows} == {kind}
    seen = {Path(row.image.path).name for row in mix if row.image is not None and row.image.path}
    assert len(seen) == 12


def test_text_only_rows_ask_nothing_that_text_benchmarks_ask() -> None:
    (turn,) = world.text_only(random.Random(0), scenes.INSTRUCT.scenes(1)[0])
    assert turn[0].startswith("Describe a")
    assert turn[1].startswith("The image shows a")


def test_reasoning_is_true_of_the_scene() -> None:
    for scene in scenes.INSTRUCT.scenes(40):
        for question, answer in world.reasoning(random.Random(scene.seed), scene):
            named = {name for _, name in default_table("rlhfv").mentions(answer)}
            assert named <= {*scene.names, "bed" if scene.kind == "bedroom" else ""}, (question, answer)


def test_benchmark_folders_have_six_questions_an_image_a_split(tmp_path: Path) -> None:
    world.write_benchmarks(tmp_path, scenes.CHOOSE, 5, questions=3)
    for split in ("random", "popular", "adversarial"):
        lines = (tmp_path / f"pope/coco_pope_{split}.json").read_text(encoding="utf-8").splitlines()
        assert list(Counter(json.loads(line)["image"] for line in lines).values()) == [6, 6, 6]
    assert len((tmp_path / "object_halbench/prompts_300.jsonl").read_text(encoding="utf-8").splitlines()) == 5


def test_descriptions_are_taken_apart_and_put_together_again() -> None:
    for scene in scenes.PREFER.scenes(200):
        text = detailed(scene)
        found = injecting._HEAD.fullmatch(text)
        assert found is not None
        assert injecting._named(injecting._parts(found["list"])) == scene.names


@pytest.mark.parametrize("text", ["A dog in a street.", "", "maybe"])
def test_what_the_rules_cannot_change_stays_without_a_negative(text: str) -> None:
    assert injecting.inject(random.Random(0), text) == ""


def test_yes_and_no_are_turned_round() -> None:
    assert [injecting.inject(random.Random(0), said) for said in ("Yes", "No")] == ["No", "Yes"]


def test_length_neutral_errors_leave_the_number_of_objects() -> None:
    table = default_table("rlhfv")
    wrong = longer = 0
    for scene in scenes.PREFER.scenes(200):
        text = detailed(scene)
        neutral = injecting.inject(random.Random(scene.seed), text, injecting.LENGTH_NEUTRAL)
        assert len(table.mentions(neutral)) == len(table.mentions(text))
        wrong += any(name not in scene.names for _, name in table.mentions(neutral))
        longer += len(table.mentions(injecting.inject(random.Random(scene.seed), text))) > len(table.mentions(text))
    assert wrong > 120  # most have an object that is not there
    assert longer > 20  # and the paper-like mix does add


def test_what_is_put_in_is_what_the_text_world_expects() -> None:
    drawn = Counter(injecting.expected(random.Random(n), "kitchen", ["fork"]) for n in range(400))
    assert drawn["knife"] > max(count for name, count in drawn.items() if name != "knife")
    assert "fork" not in drawn
    assert "cow" not in drawn
