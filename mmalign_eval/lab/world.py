"""The laboratory's data: training files in LLaVA's JSON layout, and benchmark folders of scenes held out from them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..miniature.captions import (
    DETAIL_PROMPTS,
    NUMBERS,
    SHORT_PROMPTS,
    article,
    detailed,
    enumerate_words,
    open_question,
    short_caption,
    yes_no,
)
from ..miniature.files_coco import FIRST_IMAGE_ID, file_name, save_image, write_coco, write_pope
from ..miniature.files_image import write_object_halbench
from ..miniature.files_text import write_json
from ..miniature.world import PARTNERS, SCENES, Scene, make_scene
from .scenes import Block

Turn = tuple[str, str]
Row = dict[str, Any]
KINDS = ("conversation", "detail", "reasoning")
ENDINGS = {"conversation": "conv", "detail": "detail", "reasoning": "complex"}  # of ids, as llava_instruct's tell kinds
TURNS = 5  # questions of a conversation
P_TYPICAL = 0.5  # of the absent objects that questions ask for: those that such scenes often have
TEXT_ONLY = 0.1  # rows without an image, of all


def conversation(rng: random.Random, scene: Scene) -> list[Turn]:
    """Short questions with short answers: presence, colour, number, side, place."""
    turns = []
    for _ in range(TURNS):
        if rng.random() < 0.4:
            turns.append(open_question(rng, scene))
        else:
            kind = "exist" if rng.random() < 0.75 else rng.choice(["color", "count", "scene", "side"])
            yes = rng.random() < 0.5
            turns.append((yes_no(rng, scene, kind, yes, P_TYPICAL), "Yes" if yes else "No"))
    return turns


def detail(rng: random.Random, scene: Scene) -> list[Turn]:
    """One description of everything."""
    return [(rng.choice(DETAIL_PROMPTS), detailed(scene))]


def reasoning(rng: random.Random, scene: Scene) -> list[Turn]:
    """Questions whose answer says why: what tells the place, what is out of place, what belongs together."""
    typical = [name for name in scene.names if name in SCENES[scene.kind]]
    odd = [name for name in scene.names if name not in SCENES[scene.kind]]
    pairs = [(name, PARTNERS[name]) for name in scene.names if PARTNERS.get(name) in scene.names]
    known = enumerate_words([f"the {name}" for name in typical or scene.names])
    place = article(scene.kind)
    verb = "tell" if len(typical or scene.names) > 1 else "tells"
    asked = [
        ("What place is shown, and what objects tell you so?", f"It is {place}. T{known[1:]} {verb} so."),
        ("Is anything out of place?", f"{f'The {odd[0]} is not' if odd else 'All of it is'} usual in {place}."),
        ("What belongs together here, and why?", _together(pairs, scene)),
    ]
    return rng.sample(asked, 2)


def _together(pairs: Sequence[tuple[str, str]], scene: Scene) -> str:
    if not pairs:
        return f"No two of the {NUMBERS[len(scene.things)]} objects, because their partners are not there."
    one, other = pairs[0]
    return f"The {one} and the {other}, because they are often used together."


def text_only(rng: random.Random, scene: Scene) -> list[Turn]:
    """The language prior asked for without an image; none of what the text benchmarks ask."""
    told = make_scene(10**9 + scene.seed, p_partner=1.0, p_odd=0.0)
    return [(f"Describe {article(told.kind)} as one imagines it.", detailed(told))]


MAKERS = {"conversation": conversation, "detail": detail, "reasoning": reasoning}


def image_name(scene: Scene) -> str:
    """COCO 2014's name of a training image, numbered by the scene's seed."""
    return f"COCO_train2014_{scene.seed:012d}.jpg"


def row(name: str, turns: Iterable[Turn], image: str = "") -> Row:
    """A row of LLaVA's instruction files (haotian-liu/LLaVA, docs/Finetune_Custom_Data.md)."""
    said: list[dict[str, str]] = []
    for number, (question, answer) in enumerate(turns):
        asked = f"<image>\n{question}" if image and number == 0 else question
        said += [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return {"id": name, **({"image": image} if image else {}), "conversations": said}


def write_instruct(folder: Path, block: Block, count: int) -> None:
    """Stage 1's captions (`pretrain.json`), stage 2's rows of each kind and their mix, and the images.

    A scene has one row of each kind; the mix has a third of each, and text-only rows beside them.
    """
    scenes = block.scenes(count)
    pretrain: list[Row] = []
    kinds: dict[str, list[Row]] = {kind: [] for kind in KINDS}
    words: list[Row] = []
    for scene in scenes:
        rng = random.Random(f"instruct {scene.seed}")
        name = image_name(scene)
        save_image(scene, folder / "images" / name)
        pretrain.append(row(f"{scene.seed}", [(rng.choice(SHORT_PROMPTS), short_caption(rng, scene))], name))
        for kind in KINDS:
            kinds[kind].append(row(f"{scene.seed}_{ENDINGS[kind]}", MAKERS[kind](rng, scene), name))
        if rng.random() < TEXT_ONLY / (1 - TEXT_ONLY):
            words.append(row(f"{scene.seed}-text", text_only(rng, scene)))
    write_json(folder / "pretrain.json", pretrain)
    for kind in KINDS:
        write_json(folder / f"{kind}.json", kinds[kind])
    mix = [kinds[KINDS[number % len(KINDS)]][number] for number in range(count)]
    random.Random("mix").shuffle(rows := [*mix, *words])
    write_json(folder / "mix.json", rows)


def write_prefer(folder: Path, block: Block, count: int) -> None:
    """Rows that positives are drawn from: descriptions (`descriptions.json`) and questions (`questions.json`).

    Questions ask for one object that is there and one that is not, half of the absent ones typical of such scenes.
    """
    descriptions, questions = [], []
    for scene in block.scenes(count):
        rng = random.Random(f"prefer {scene.seed}")
        name = image_name(scene)
        save_image(scene, folder / "images" / name)
        descriptions.append(row(f"{scene.seed}-d", detail(rng, scene), name))
        asked = [(yes_no(rng, scene, "exist", yes, P_TYPICAL), "Yes" if yes else "No") for yes in (True, False)]
        rng.shuffle(asked)
        questions.append(row(f"{scene.seed}-q", asked, name))
    write_json(folder / "descriptions.json", descriptions)
    write_json(folder / "questions.json", questions)


def write_benchmarks(folder: Path, block: Block, count: int, questions: int = 0) -> None:
    """COCO's files with POPE's questions and Object HalBench's prompts, one prompt and six questions a split an image.

    Three objects at least, as POPE's builder asks.

    Args:
        folder: Where to.
        block: Of the scenes.
        count: Scenes.
        questions: Of them, how many have questions; 0: all.
    """
    scenes = dict(enumerate(block.scenes(count, at_least=3), start=FIRST_IMAGE_ID))
    write_coco(folder / "coco", scenes)
    write_pope(folder / "pope", dict(list(scenes.items())[: questions or count]))
    write_object_halbench(folder / "object_halbench", scenes)


__all__ = ["KINDS", "file_name", "image_name", "write_benchmarks", "write_instruct", "write_prefer"]
