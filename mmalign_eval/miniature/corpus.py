"""The base language model's corpus: what is mixed, and how it is packed into windows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerFast

from mmalign_eval.miniature import arithmetic, ethics, mmlu, reading, truthful
from mmalign_eval.miniature.captions import detailed, short_caption
from mmalign_eval.miniature.docs import ANSWER, QUESTION, TEXT, Doc, pick
from mmalign_eval.miniature.tokenizer import BOS_ID, EOS_ID, train_tokenizer
from mmalign_eval.miniature.world import COLORS, NAMES, make_scene


def train_scene(rng: random.Random, full: bool) -> Doc:
    """A scene told without an image: partners always together, nothing out of place - the language prior."""
    texts = []
    for _ in range(rng.randint(1, 3)):
        scene = make_scene(rng.randrange(10**9, 2 * 10**9), p_partner=1.0, p_odd=0.0)
        texts.append(detailed(scene) if pick(rng, 0.6) else short_caption(rng, scene))
    return [(" ".join(texts), TEXT)]


def _words() -> list[str]:
    values = [v for *_, pool in truthful.RELATIONS.values() for v in pool]
    values += [v for *_, pool in reading.RELATIONS.values() for v in pool]
    values += [word for words in mmlu.WORDS.values() for word in words]
    return sorted({*values, *truthful.ANIMALS, *reading.PEOPLE, *arithmetic.ITEMS, *ethics.NAMES, *NAMES, *COLORS})


WORDS = _words()


def train_copy(rng: random.Random) -> Doc:
    """Random words, twice: the quickest way for a small model to learn to copy from its context."""
    words = rng.sample(WORDS, rng.randint(4, 14))
    once = " " + " ".join(words)
    return [(once, 0.0), (once, TEXT)]


Maker = Callable[[random.Random, bool], Doc]
Mix = Literal["broad", "reading"]

# Shares of the documents; long documents weigh more than their share. "reading" goes on where "broad" leaves questions
# on passages near chance.
_MAKERS: tuple[Maker, ...] = (
    train_scene,
    truthful.train_doc,
    ethics.train_doc,
    mmlu.train_doc,
    arithmetic.train_steps,
    arithmetic.train_direct,
    reading.train_span,
    reading.train_yes_no,
)
_SHARES: dict[Mix, tuple[float, ...]] = {
    "broad": (0.06, 0.08, 0.12, 0.24, 0.06, 0.04, 0.20, 0.20),
    "reading": (0.05, 0.06, 0.10, 0.08, 0.06, 0.03, 0.30, 0.32),
}


def documents(seed: int, full: bool, copies: float = 0.0, mix: Mix = "broad") -> Iterator[Doc]:
    """Endless training documents; `full` ones have the shots and primers that the tasks send."""
    rng = random.Random(seed)
    while True:
        if copies and pick(rng, copies):
            yield train_copy(rng)
        else:
            yield rng.choices(_MAKERS, _SHARES[mix])[0](rng, full)


def text_tokenizer(vocab_size: int, count: int = 12_000) -> PreTrainedTokenizerFast:
    """Tokenizer of the corpus. The prompts of the image tasks are in too, so that they are short."""
    from mmalign_eval.miniature.captions import DETAIL_PROMPTS, ONE_WORD, SHORT_PROMPTS, YES_NO

    stream = documents(1, full=False)
    texts = ["".join(text for text, _ in next(stream)) for _ in range(count)]
    prompts = [*DETAIL_PROMPTS, *SHORT_PROMPTS, ONE_WORD, YES_NO, truthful.PRIMER, "USER: ASSISTANT: Yes No"]
    return train_tokenizer(texts + prompts * (count // 200 + 1), vocab_size)


def _stress(weight: float, tokens: int) -> float:
    """Loss weight when answers count: one is worth 10 however short, its question next to nothing."""
    if weight >= ANSWER:
        return max(1.5, 10 / max(1, tokens))
    return 0.3 * weight if weight > QUESTION else 0.15 * weight


def encode(tokenizer: PreTrainedTokenizerFast, doc: Doc, stress: bool = False) -> tuple[list[int], list[float]]:
    """Token ids and loss weights of a document (no BOS, no EOS)."""
    ids: list[int] = []
    weights: list[float] = []
    parts = tokenizer([text for text, _ in doc], add_special_tokens=False)["input_ids"]
    for part, (_, weight) in zip(parts, doc, strict=True):
        ids += part
        weights += [_stress(weight, len(part)) if stress else weight] * len(part)
    return ids, weights


def pack(
    tokenizer: PreTrainedTokenizerFast, windows: int, length: int, stream: Iterator[Doc], path: Path,
    stress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Windows of `length` tokens, each starting with a document's start; cached on disk.

    Seven documents in ten begin with BOS, as harnesses differ in adding one to a completion prompt.
    """
    if not path.exists():
        rng = random.Random(path.stem)
        ids = np.full((windows, length), EOS_ID, np.uint16)
        weights = np.zeros((windows, length), np.float16)
        for row in range(windows):
            filled = 0
            while filled < length:
                more, worth = encode(tokenizer, next(stream), stress)
                if pick(rng, 0.7):
                    more, worth = [BOS_ID, *more], [0.0, *worth]
                more, worth = [*more, EOS_ID][: length - filled], [*worth, 0.5][: length - filled]
                ids[row, filled : filled + len(more)] = more
                weights[row, filled : filled + len(more)] = worth
                filled += len(more)
        np.savez(path, ids=ids, weights=weights)
    with np.load(path) as stored:
        return stored["ids"], stored["weights"]
