"""Error injection without a language model that can edit: rules that follow the world's language prior.

BPO asks the model's own language backbone to rewrite the truth plausibly (section 3.3). The miniature's cannot follow
such a prompt, so the laboratory edits by rule, and says so: what is put in is what the text world would expect there,
by how likely each object is in this kind of scene and by which objects it always pairs. The image is never looked at.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..miniature.captions import article, detail_text
from ..miniature.world import COLORS, NAMES, PARTNERS, PLACES, SCENES

P_PARTNER = 0.9  # how strongly the text world expects the partner of what is there
_HEAD = re.compile(r"The image shows an? (?P<kind>[a-z ]+) scene\. There is (?P<list>.+)\.")
_THING = re.compile(rf"an? (?P<color>{'|'.join(COLORS)}) (?P<name>{'|'.join(sorted(NAMES, key=len, reverse=True))}) ")


@dataclass(frozen=True)
class Mix:
    """How often each edit is made; they sum to one.

    Attributes:
        add: A further object (longer than the truth).
        swap: One object's name for another's (as long).
        color: One object's colour for another (as long).
    """

    add: float = 0.20
    swap: float = 0.65
    color: float = 0.15


LIKE_PAPER = Mix()
LENGTH_NEUTRAL = Mix(add=0.0, swap=0.80, color=0.20)


def inject(rng: random.Random, response: str, mix: Mix = LIKE_PAPER) -> str:
    """The response with one or two errors; empty where it has nothing that the rules can change.

    Args:
        rng: Decides.
        response: A detailed description of the world, or yes or no.
        mix: Of the edits.
    """
    if response in ("Yes", "No"):
        return "No" if response == "Yes" else "Yes"
    found = _HEAD.fullmatch(response)
    if not found:
        return ""
    kind, before = found["kind"], _parts(found["list"])
    if not before:
        return ""
    parts = before
    while parts == before:  # a second error may undo the first
        for _ in range(1 + (rng.random() < 0.4 and len(before) > 2)):
            edit = rng.choices(("add", "swap", "color"), (mix.add, mix.swap, mix.color))[0]
            parts = {"add": _add, "swap": _swap, "color": _color}[edit](rng, kind, parts)
    return detail_text(kind, parts)


def _parts(listed: str) -> list[str]:
    """`a red cup on the left, a ... and a ...` as phrases: each begins with an article, a colour and a name."""
    starts = [match.start() for match in _THING.finditer(listed)]
    ends = [*starts[1:], len(listed)]
    return [re.sub(r"(,| and) ?$", "", listed[a:b]).strip() for a, b in zip(starts, ends, strict=True)]


def _named(parts: Sequence[str]) -> list[str]:
    return [match["name"] for part in parts if (match := _THING.match(part))]


def expected(rng: random.Random, kind: str, named: Sequence[str]) -> str:
    """An object not named that the text world would expect beside these, drawn by how much it does."""
    weights = {name: p for name, p in SCENES[kind].items() if name not in named}
    for name in named:
        if (partner := PARTNERS.get(name)) and partner not in named:
            weights[partner] = weights.get(partner, 0) + P_PARTNER
    if not weights:
        return rng.choice([name for name in NAMES if name not in named])
    return rng.choices(list(weights), list(weights.values()))[0]


def _add(rng: random.Random, kind: str, parts: list[str]) -> list[str]:
    free = [place for place in PLACES if not any(part.endswith(f" {place}") for part in parts)]
    if not free:
        return parts
    place = rng.choice(free)
    name = expected(rng, kind, _named(parts))
    new = f"{article(rng.choice(list(COLORS)) + ' ' + name)} {place}"
    at = sum(_place(part) < PLACES.index(place) for part in parts)  # descriptions go in reading order
    return [*parts[:at], new, *parts[at:]]


def _place(part: str) -> int:
    return next((number for number, place in enumerate(PLACES) if part.endswith(f" {place}")), len(PLACES))


def _swap(rng: random.Random, kind: str, parts: list[str]) -> list[str]:
    at = rng.randrange(len(parts))
    found = _THING.match(parts[at])
    if found is None:
        return parts
    others = [name for name in _named(parts) if name != found["name"]]
    name = expected(rng, kind, [*others, found["name"]])
    return [*parts[:at], f"{article(found['color'] + ' ' + name)} {parts[at][found.end() :]}", *parts[at + 1 :]]


def _color(rng: random.Random, kind: str, parts: list[str]) -> list[str]:
    at = rng.randrange(len(parts))
    found = _THING.match(parts[at])
    if found is None:
        return parts
    color = rng.choice([one for one in COLORS if one != found["color"]])
    return [*parts[:at], f"{article(color + ' ' + found['name'])} {parts[at][found.end() :]}", *parts[at + 1 :]]
