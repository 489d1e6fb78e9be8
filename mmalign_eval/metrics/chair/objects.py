"""The COCO objects that a text names, found as the official tools find them: by a table of synonyms.

Steps (LisaAnne/Hallucination utils/chair.py; RLHF-V eval/eval_gpt_obj_halbench.py without its GPT path): words,
singular, two-word names put together from left to right, the seat of a toilet dropped, words of the table looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import dropwhile
from typing import Literal

from .default_table import DEFAULT_TABLE
from .singular import SINGULARISERS
from .tokens import tokenise

Flavour = Literal["chair", "rlhfv"]
Mention = tuple[str, str]  # the word as the table has it, its category

# CHAIR's fixed two-word names (with its repeats, and one of three words, which only pairs can never match).
_CHAIR_PAIRS = (
    "motor bike, motor cycle, air plane, traffic light, street light, traffic signal, stop light, fire hydrant, "
    "stop sign, parking meter, suit case, sports ball, baseball bat, baseball glove, tennis racket, wine glass, "
    "hot dog, cell phone, mobile phone, teddy bear, hair drier, potted plant, bow tie, laptop computer, "
    "stove top oven, home plate, train track"
)
_RLHFV_PAIRS = "home plate, train track"  # beside every entry of two and more words
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
_VEHICLES = ("jet", "train")
_SPECIAL = {"bow tie": "tie", "toilet seat": "toilet", "wine glas": "wine glass"}
# What stands before a noun and is none: articles, numbers, sizes, ages, colours, stuffs.
_NO_NOUNS = frozenset(
    re.findall(
        r"\w+",
        "a an the this that some several many few various other another one two three four five six seven eight nine "
        "ten large big small little tiny huge tall short long young old elderly new empty full open closed wooden "
        "metallic white black red blue green yellow brown gray grey pink purple colorful bright dark beautiful modern",
    )
)


@dataclass(frozen=True)
class ObjectTable:
    """A table of synonyms, used as one of the two tools uses it.

    Attributes:
        lines: The entries of each line as read (blanks kept); a line's first entry is its category.
        flavour: `chair` (pattern.en's singular, fixed two-word names, entries with their blanks, so that " cheesecake"
            never matches) or `rlhfv` (WordNet lemmas, two-word names from the table, entries stripped).
    """

    lines: tuple[tuple[str, ...], ...]
    flavour: Flavour

    @cached_property
    def category(self) -> dict[str, str]:
        """Entry to category; a later line wins over an earlier one."""
        clean = str.strip if self.flavour == "rlhfv" else str
        return {clean(entry): clean(line[0]) for line in self.lines for entry in line}

    @cached_property
    def pairs(self) -> dict[str, str]:
        """Two singular words to what stands in their place."""
        own = [entry for entry in self.category if len(entry.split(" ")) >= 2]
        names = [*own, *_RLHFV_PAIRS.split(", ")] if self.flavour == "rlhfv" else _CHAIR_PAIRS.split(", ")
        return {
            **{name: name for name in names},
            **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in _ANIMALS},
            **{f"passenger {vehicle}": vehicle for vehicle in _VEHICLES},
            **_SPECIAL,
        }

    def words(self, text: str) -> list[str]:
        """Singular words of a text, two-word names in one (steps 1 to 3)."""
        return self.merged(self.singular(text))

    def singular(self, text: str) -> list[str]:
        """Singular words of a text (steps 1 and 2)."""
        return [SINGULARISERS[self.flavour](word) for word in tokenise(text)]

    def merged(self, words: Sequence[str]) -> list[str]:
        """Pairs replaced from left to right; what came of a pair is not looked at again (step 3)."""
        found, at = [], 0
        while at < len(words):
            pair = self.pairs.get(" ".join(words[at : at + 2]))
            found.append(words[at] if pair is None else pair)
            at += 1 if pair is None else 2
        return found

    def known(self, words: Iterable[str]) -> list[Mention]:
        """Those words that are entries, repeats included (steps 4 and 5)."""
        words = list(words)
        if "toilet" in words and "seat" in words:
            words = [word for word in words if word != "seat"]
        return [(word, self.category[word]) for word in words if word in self.category]

    def mentions(self, text: str) -> list[Mention]:
        """The objects that a text names, in its order, repeats included."""
        return self.known(self.words(text))

    def phrases(self, names: Iterable[str]) -> list[Mention]:
        """The objects among names that a model extracted from a text, each different word once.

        RLHF-V tags "a NAME" with spaCy and takes its two-word names, else its runs of nouns, as lemmas: "wooden chair"
        gives chair, and "office chair", one run that is no entry, nothing. Without a tagger a name is taken as a whole,
        less the articles, numbers and commonest adjectives before it.
        """
        found: dict[str, None] = {}
        for name in names:
            found.update(dict.fromkeys(self._phrase(name)))
        return self.known(found)

    def _phrase(self, name: str) -> list[str]:
        words = self.singular(name)
        pairs, at = [], 0
        while at < len(words):
            pair = self.pairs.get(" ".join(words[at : at + 2]))
            pairs += [] if pair is None else [pair]
            at += 1 if pair is None else 2
        if pairs:
            return pairs
        return [" ".join(dropwhile(_NO_NOUNS.__contains__, words))]


def parse_table(text: str, flavour: Flavour) -> ObjectTable:
    """A table in the official layout: a category a line, entries separated by comma and blank, first the category.

    Only the ends of each line are stripped, as in both tools; lines without an entry are left out.
    """
    lines = (tuple(line.strip().split(", ")) for line in text.split("\n") if line.strip())
    return ObjectTable(tuple(lines), flavour)


def default_table(flavour: Flavour) -> ObjectTable:
    """Our own table."""
    return parse_table(DEFAULT_TABLE, flavour)
