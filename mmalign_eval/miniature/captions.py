"""Words about scenes: reference captions, detailed descriptions and questions with answers."""

from __future__ import annotations

import random
from collections.abc import Sequence

from mmalign_eval.miniature.world import COLORS, NAMES, PARTNERS, SCENES, Scene, Thing

# RLHF-V's eight prompts for Object HalBench (Yu et al., 2024, Table 6).
DETAIL_PROMPTS = (
    "Provide a thorough description of the given image.",
    "What is this photo about? Please answer in great detail.",
    "Provide a thorough description of the given picture.",
    "Explain the narrative or story that the image seems to convey, detailing each part that contributes to it.",
    "Please provide a detailed description of the image. Describe the visual elements, colors, shapes, textures, and "
    "any objects or people present along with the overall mood or atmosphere portrayed in the image.",
    "Please provide a detailed description of the image, including its visual elements, such as colors, shapes, "
    "textures, objects, and people.",
    "Provide an intricate description of the image, capturing its visual elements, including colors, shapes, textures, "
    "objects, and any people present.",
    "Compose a detailed account of the image, encompassing its visual characteristics, like colors, shapes, textures, "
    "objects, and any human subjects, by paying careful attention to the specifics.",
)
# Open-Flamingo's and lmms-eval's caption prompts.
SHORT_PROMPTS = (
    "Please provide a description of the picture.",
    "Provide a one-sentence caption for the provided image.",
    "Describe the image briefly.",
)
ONE_WORD = "\nAnswer the question using a single word or phrase."  # LLaVA-1.5's suffix
YES_NO = " Please answer yes or no."  # MME's suffix


def article(words: str) -> str:
    """The words with "a" or "an" in front."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def enumerate_words(parts: Sequence[str]) -> str:
    """a, b and c."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def colored(thing: Thing) -> str:
    """The object with its colour and article."""
    return article(f"{thing.color} {thing.name}")


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def short_caption(rng: random.Random, scene: Scene) -> str:
    """One sentence as a person would write it: up to four objects, now and then a colour."""
    things = list(scene.things)
    kept = things if len(things) <= 4 else sorted(rng.sample(things, 4), key=things.index)
    words = [colored(t) if rng.random() < 0.15 else article(t.name) for t in kept]
    listed = enumerate_words(words)
    form = rng.choice(
        ["{X} in {ak}.", "{X} in the {k}.", "{AK} with {x}.", "{AK} scene with {x}.", "There is {x} in the {k}."]
    )
    place = article(scene.kind)
    return form.format(x=listed, X=_capital(listed), k=scene.kind, ak=place, AK=_capital(place))


def detailed(scene: Scene) -> str:
    """Every object with colour and place, in reading order."""
    return detail_text(scene.kind, [f"{colored(t)} {t.place}" for t in scene.things])


def detail_text(kind: str, parts: Sequence[str]) -> str:
    """The detailed form around given object phrases."""
    return f"The image shows {article(kind)} scene. There is {enumerate_words(parts)}."


def absent(rng: random.Random, scene: Scene, typical: float = 0.35) -> str:
    """An object that is not there; with probability `typical` one that scenes of this kind often have."""
    usual = [n for n in SCENES[scene.kind] if n not in scene.names]
    usual += [PARTNERS[n] for n in scene.names if PARTNERS.get(n) and PARTNERS[n] not in scene.names]
    if usual and rng.random() < typical:
        return rng.choice(usual)
    return rng.choice([n for n in NAMES if n not in scene.names])


def _other(rng: random.Random, options: Sequence[str], truth: str) -> str:
    return rng.choice([option for option in options if option != truth])


NUMBERS = ("zero", "one", "two", "three", "four", "five")


def yes_no(rng: random.Random, scene: Scene, kind: str, yes: bool, typical: float = 0.35) -> str:
    """A yes/no question about presence, colour, side, number or place whose right answer is `yes`."""
    thing = rng.choice(scene.things)
    if kind == "exist":
        where = rng.choice(["in the image", "in the image", "in this image", "in the picture"])
        return f"Is there {article(thing.name if yes else absent(rng, scene, typical))} {where}?"
    if kind == "color":
        return f"Is the {thing.name} {thing.color if yes else _other(rng, list(COLORS), thing.color)}?"
    if kind == "count":
        n = len(scene.things)
        said = n if yes else rng.choice([m for m in range(2, 6) if m != n])
        return f"Are there {NUMBERS[said]} objects in the image?"
    if kind == "scene":
        return f"Is this picture taken in {article(scene.kind if yes else _other(rng, list(SCENES), scene.kind))}?"
    left, right = sorted(rng.sample(scene.things, 2), key=lambda t: t.cx)
    a, b = (left, right) if yes else (right, left)
    return f"Is the {a.name} to the left of the {b.name}?"


def open_question(rng: random.Random, scene: Scene) -> tuple[str, str]:
    """A short question and its one-word or short answer."""
    thing = rng.choice(scene.things)
    kind = rng.choice(["color", "place", "count", "scene", "what"])
    if kind == "color":
        return f"What color is the {thing.name}?", thing.color
    if kind == "place":
        return f"Where is the {thing.name}?", thing.place
    if kind == "count":
        return "How many objects are in the image?", str(len(scene.things))
    if kind == "scene":
        return "What place is shown?", scene.kind
    return f"What is {thing.place}?", thing.name
