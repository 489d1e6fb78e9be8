"""The miniature's world: what scenes hold. A scene is a pure function of its seed.

Class names and ids are COCO's (cocodataset.org, `instances_*.json` categories), so that COCO tools read the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IMAGE_SIZE = 72
CELL = IMAGE_SIZE // 3
PATCH_SIZE = 12

# name -> (COCO category id, COCO supercategory)
CLASSES: dict[str, tuple[int, str]] = {
    "person": (1, "person"), "bicycle": (2, "vehicle"), "car": (3, "vehicle"), "bus": (6, "vehicle"),
    "boat": (9, "vehicle"), "traffic light": (10, "outdoor"), "bird": (16, "animal"), "cat": (17, "animal"),
    "dog": (18, "animal"), "horse": (19, "animal"), "sheep": (20, "animal"), "cow": (21, "animal"),
    "umbrella": (28, "accessory"), "kite": (38, "sports"), "surfboard": (42, "sports"), "bottle": (44, "kitchen"),
    "cup": (47, "kitchen"), "fork": (48, "kitchen"), "knife": (49, "kitchen"), "bowl": (51, "kitchen"),
    "banana": (52, "food"), "apple": (53, "food"), "chair": (62, "furniture"), "bed": (65, "furniture"),
    "laptop": (73, "electronic"), "book": (84, "indoor"), "clock": (85, "indoor"),
}  # fmt: skip
NAMES = list(CLASSES)

# No "orange": it is a COCO object too, and CHAIR would count the colour word as one.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (205, 45, 45), "blue": (45, 80, 205), "green": (35, 150, 65), "yellow": (230, 205, 50),
    "purple": (140, 60, 175), "white": (238, 238, 238), "black": (35, 35, 40), "pink": (240, 135, 175),
}  # fmt: skip

# How likely each class is in each kind of scene: the prior that a language model will lean on when it cannot see.
SCENES: dict[str, dict[str, float]] = {
    "street": {"person": 0.6, "car": 0.7, "bicycle": 0.4, "bus": 0.3, "traffic light": 0.45, "dog": 0.15,
               "umbrella": 0.1, "bird": 0.1},
    "beach": {"person": 0.6, "surfboard": 0.45, "boat": 0.45, "umbrella": 0.4, "kite": 0.35, "bird": 0.35,
              "dog": 0.15, "chair": 0.1},
    "farm": {"cow": 0.55, "sheep": 0.45, "horse": 0.5, "dog": 0.3, "bird": 0.3, "person": 0.3, "cat": 0.15,
             "apple": 0.1},
    "kitchen": {"cup": 0.5, "bowl": 0.5, "fork": 0.4, "knife": 0.3, "bottle": 0.4, "banana": 0.35, "apple": 0.35,
                "cat": 0.1},
    "bedroom": {"bed": 0.75, "book": 0.4, "clock": 0.4, "cat": 0.4, "chair": 0.25, "laptop": 0.1, "dog": 0.1},
    "office": {"laptop": 0.7, "chair": 0.55, "book": 0.4, "cup": 0.4, "clock": 0.35, "bottle": 0.2, "person": 0.2},
}  # fmt: skip

# Pairs that go together; in text always, in images often: the gap is where hallucinations come from.
PARTNERS = {
    "fork": "knife", "laptop": "chair", "surfboard": "person", "car": "bus", "cow": "sheep",
    "bed": "book", "boat": "bird", "bicycle": "person", "bowl": "cup", "kite": "umbrella",
}  # fmt: skip
P_PARTNER_IN_IMAGE = 0.4
P_OUT_OF_PLACE = 0.15

PLACES = [
    "at the top left", "at the top", "at the top right",
    "on the left", "in the middle", "on the right",
    "at the bottom left", "at the bottom", "at the bottom right",
]  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """One object of a scene, with its box centre and size in pixels."""

    name: str
    color: str
    cell: int  # 0..8 in reading order
    cx: float
    cy: float
    width: float
    height: float
    angle: float
    mirror: bool

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return PLACES[self.cell]


@dataclass(frozen=True)
class Scene:
    """A kind of place and the objects in it, in reading order."""

    seed: int
    kind: str
    things: tuple[Thing, ...]

    @property
    def names(self) -> list[str]:
        """Names of the objects in reading order."""
        return [thing.name for thing in self.things]


def draw_names(rng: np.random.Generator, kind: str, p_partner: float, p_odd: float) -> list[str]:
    """Choose two to five distinct classes for a scene of this kind."""
    prior = SCENES[kind]
    names: list[str] = []
    while len(names) < 2:
        names = [name for name, p in prior.items() if rng.random() < p]
    for name in list(names):
        partner = PARTNERS.get(name)
        if partner and partner not in names and rng.random() < p_partner:
            names.append(partner)
    if rng.random() < p_odd:
        others = [name for name in NAMES if name not in prior and name not in names]
        names.append(others[rng.integers(len(others))])
    order = rng.permutation(len(names))[:5]
    return [names[i] for i in order]


def make_scene(seed: int, p_partner: float = P_PARTNER_IN_IMAGE, p_odd: float = P_OUT_OF_PLACE) -> Scene:
    """The scene with this seed."""
    rng = np.random.default_rng([7, seed])
    kind = list(SCENES)[rng.integers(len(SCENES))]
    names = draw_names(rng, kind, p_partner, p_odd)
    cells = sorted(int(cell) for cell in rng.permutation(9)[: len(names)])
    colors = list(COLORS)
    things = []
    for name, cell in zip(names, cells, strict=True):
        size = rng.uniform(15, 26)
        things.append(
            Thing(
                name=name,
                color=colors[rng.integers(len(colors))],
                cell=cell,
                cx=(cell % 3 + 0.5) * CELL + rng.uniform(-3.5, 3.5),
                cy=(cell // 3 + 0.5) * CELL + rng.uniform(-3.5, 3.5),
                width=size * rng.uniform(0.85, 1.15),
                height=size * rng.uniform(0.85, 1.15),
                angle=rng.uniform(-14, 14),
                mirror=bool(rng.random() < 0.5),
            )
        )
    return Scene(seed, kind, tuple(things))
