"""SQuAD's and BoolQ's miniatures: short passages about people of a village, and questions the passage answers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from mmalign_eval.miniature.docs import QUESTION, TEXT, Doc, held_out, pick

PEOPLE = [
    "baker", "farmer", "nurse", "miller", "tailor", "teacher", "painter", "singer", "sailor", "doctor", "judge",
    "guard", "barber", "smith", "cook", "poet", "mayor", "pilot",
]  # fmt: skip
TITLES = ["The village", "The old town", "The harbor", "The valley", "The island"]

# relation -> (sentence, question, yes/no question in BoolQ's bare lower case, values)
RELATIONS: dict[str, tuple[str, str, str, list[str]]] = {
    "home": ("The {s} lives near the {v}.", "What does the {s} live near?", "does the {s} live near the {v}",
             ["bridge", "church", "forest", "mill", "lake", "tower", "gate", "well", "square", "school"]),
    "likes": ("The {s} likes {v}.", "What does the {s} like?", "does the {s} like {v}",
              ["soup", "cheese", "music", "rain", "chess", "cake", "tea", "roses", "snow", "plums"]),
    "owns": ("The {s} owns a {v}.", "What does the {s} own?", "does the {s} own a {v}",
             ["red cart", "old piano", "small shop", "green coat", "new lamp", "gold ring", "blue door", "big drum"]),
    "fears": ("The {s} fears {v}.", "What does the {s} fear?", "does the {s} fear {v}",
              ["wolves", "fire", "ghosts", "storms", "spiders", "thieves", "floods", "the dark"]),
}  # fmt: skip


@dataclass(frozen=True)
class Passage:
    """Facts about some people, one sentence each, and the text made of them."""

    title: str
    facts: tuple[tuple[str, str, str], ...]  # person, relation, value
    text: str


@cache
def _allowed(person: str, test: bool) -> tuple[tuple[str, str], ...]:
    pairs = ((relation, value) for relation, (*_, values) in RELATIONS.items() for value in values)
    return tuple((r, v) for r, v in pairs if held_out(person, r, v) == test)


def make_passage(rng: random.Random, test: bool) -> Passage:
    """Two to four people, one fact each; no test fact (person, relation, value) occurs in training."""
    facts: list[tuple[str, str, str]] = []
    for person in rng.sample(PEOPLE, rng.randint(2, 4)):
        free = [(r, v) for r, v in _allowed(person, test) if all(v != other for *_, other in facts)]
        if free:
            facts.append((person, *rng.choice(free)))
    text = " ".join(RELATIONS[r][0].format(s=s, v=v) for s, r, v in facts)
    return Passage(rng.choice(TITLES), tuple(facts), text)


def span_question(rng: random.Random, passage: Passage, answerable: bool) -> tuple[str, str]:
    """A question and its answer in the passage; "" where the passage does not say."""
    person, relation, value = rng.choice(passage.facts)
    if not answerable:
        said = {s for s, *_ in passage.facts}
        person = rng.choice([p for p in PEOPLE if p not in said])
        value = ""
    return RELATIONS[relation][1].format(s=person), value


def yes_no_question(rng: random.Random, passage: Passage, yes: bool) -> str:
    """A yes/no question; a "no" asks for a value that is another person's here (now and then) or nobody's."""
    person, relation, value = rng.choice(passage.facts)
    if not yes:
        others = [v for s, r, v in passage.facts if r == relation and s != person]
        absent = [v for v in RELATIONS[relation][3] if v not in {x for *_, x in passage.facts}]
        value = rng.choice(others if others and pick(rng, 0.15) else absent)
    return RELATIONS[relation][2].format(s=person, v=value)


def train_span(rng: random.Random, full: bool) -> Doc:
    """A SQuAD prompt with its answer, then more questions on the same passage (denser than one a passage)."""
    passage = make_passage(rng, test=False)
    out: Doc = [(f"Title: {passage.title}\n\nBackground: {passage.text}", QUESTION)]
    for _ in range(rng.randint(1, 4)):
        question, answer = span_question(rng, passage, answerable=pick(rng, 0.75))
        out += [("\n\nQuestion:", TEXT), (f" {question}\n\nAnswer:", QUESTION), (f" {answer or 'unanswerable'}", 4.0)]
    return [*out, ("\n", TEXT)]


def train_yes_no(rng: random.Random, full: bool) -> Doc:
    """A BoolQ prompt with its answer, then more questions on the same passage."""
    passage = make_passage(rng, test=False)
    out: Doc = [(passage.text, QUESTION)]
    for _ in range(rng.randint(1, 4)):
        yes = pick(rng, 0.5)
        question = yes_no_question(rng, passage, yes)
        out += [(f"\nQuestion: {question}?\nAnswer:", QUESTION), (" yes" if yes else " no", 4.0)]
    return out
