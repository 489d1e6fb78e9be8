"""Scenes are a pure function of their seed; training and held-out texts do not overlap."""

import hashlib
import random

import numpy as np
from PIL import Image

from mmalign_eval.miniature import arithmetic, data_dir, ethics, mmlu, reading, truthful
from mmalign_eval.miniature.captions import detailed, short_caption
from mmalign_eval.miniature.files_coco import HELD_OUT_SEED, coco_scenes, file_name
from mmalign_eval.miniature.render import draw
from mmalign_eval.miniature.world import make_scene


def test_same_seed_same_bytes():
    for seed in (0, 5, HELD_OUT_SEED):
        assert make_scene(seed) == make_scene(seed)
        assert draw(make_scene(seed)).tobytes() == draw(make_scene(seed)).tobytes()
    digests = {hashlib.sha256(draw(make_scene(seed)).tobytes()).hexdigest() for seed in range(20)}
    assert len(digests) == 20


def test_committed_images_are_the_world_s():
    for image_id, scene in list(coco_scenes(5).items()):
        with Image.open(data_dir() / "coco/val2014" / file_name(image_id)) as picture:
            stored = np.asarray(picture, dtype=float)  # not the bytes: they depend on the JPEG library
        assert np.abs(stored - np.asarray(draw(scene), dtype=float)).mean() < 6


def test_descriptions_name_what_is_there():
    for seed in range(30):
        scene = make_scene(seed)
        assert 2 <= len(scene.things) <= 5
        assert all(name in detailed(scene) for name in scene.names)
        assert len(set(scene.names)) == len(scene.names)
        assert short_caption(random.Random(seed), scene) == short_caption(random.Random(seed), scene)


def text_of(docs):
    return "\n".join("".join(text for text, _ in doc) for doc in docs)


def test_held_out_wordings_never_in_training():
    rng = random.Random(0)
    text = text_of(truthful.train_doc(rng, False) for _ in range(1500))
    assert not [fact for fact in truthful.facts() if fact.ask(fact.kept) in text]
    text = text_of(mmlu.train_doc(rng, False) for _ in range(1500))
    words = [word for some in mmlu.WORDS.values() for word in some]
    assert len(set(words)) == 228
    assert not [w for w in words if mmlu.FORMS[mmlu.kept_form(w)].format(word=w) in text]


def test_held_out_combinations_never_in_training():
    rng = random.Random(0)
    trained = {arithmetic.word_problem(rng, test=False).question for _ in range(3000)}
    assert not trained & {arithmetic.word_problem(rng, test=True).question for _ in range(300)}
    trained = {ethics.commonsense(rng, test=False) for _ in range(3000)}
    assert not trained & {ethics.commonsense(rng, test=True) for _ in range(300)}
    facts = {fact for _ in range(2000) for fact in reading.make_passage(rng, test=False).facts}
    assert not facts & {fact for _ in range(200) for fact in reading.make_passage(rng, test=True).facts}
