"""The arms as data: `arms.yaml`, checked."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

FILE = "arms.yaml"
ScaleName = Literal["smoke", "lab", "full"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(_Part):
    """How large everything is.

    Attributes:
        instruct: Scenes for visual instruction tuning.
        prefer: Scenes for preference pairs.
        choose: Scenes for choosing settings.
        judge: Judged scenes.
        questions: Of those scored on (judged or for choosing), how many have yes/no questions, six a split each.
        probe: Scenes whose word probabilities are followed as noise grows.
        seeds: Training seeds of the arms that have several; the others have the first.
        max_steps: Of every training, where a smoke test cuts them; 0: as the recipes say.
        arms: The arms there are; empty: all.
        tasks: The tasks there are; empty: all.
    """

    instruct: int
    prefer: int
    choose: int
    judge: int
    questions: int
    probe: int
    seeds: tuple[int, ...]
    max_steps: int = 0
    arms: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


class Score(_Part):
    """Tasks that are scored together.

    Attributes:
        tasks: `NAME` or `NAME=PROTOCOL`.
        minutes: About, of one model on the judged scenes.
        data: Where from; empty: the judged scenes.
    """

    tasks: tuple[str, ...]
    minutes: float
    data: str = ""


class Negatives(_Part):
    """How a preference file is made.

    Attributes:
        how: As `mmeval tune negatives --how` has it.
        options: Its further options.
        rules: Instead: the rules of `inject.py` that put errors in.
    """

    how: str = ""
    options: tuple[str, ...] = ()
    rules: Literal["", "like_paper", "length_neutral"] = ""


class Arm(_Part):
    """One way of tuning.

    Attributes:
        name: Unique; results stand under it.
        scores: Names of `scores`.
        changes: `key=value` changes of the recipe.
        seeds: Whether it is trained with every seed of the scale.
        minutes: About how long a training takes alone on one core.
    """

    name: str
    scores: tuple[str, ...]
    changes: tuple[str, ...] = Field(default=(), alias="set")
    seeds: bool = False
    minutes: float = 2.2


class Instruct(Arm):
    """Visual instruction tuning of the miniature's language model.

    Attributes:
        recipe: Name of a packaged recipe.
        data: File of conversations.
    """

    recipe: str
    data: str

    @property
    def lora(self) -> bool:
        """Whether its result is a PEFT adapter."""
        return self.recipe.endswith("mm-lora")

    @property
    def about(self) -> str:
        """What it is, for people."""
        return "; ".join((self.recipe, self.data, *self.changes))


class Prefer(Arm):
    """Preference tuning of the miniature LLaVA, or SFT on the positives.

    Attributes:
        method: What it is.
        pairs: Names of `negatives`, together.
    """

    method: Literal["bpo", "sft"] = "bpo"
    pairs: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        """What it is, for people."""
        kind = f"negatives {' and '.join(self.pairs)}" if self.pairs else "positives alone"
        return "; ".join((kind, *self.changes))


class Plan(_Part):
    """Everything in `arms.yaml`.

    Attributes:
        scales: By name.
        scores: By name.
        template: That image answers are asked for in.
        negatives: By name.
        positives: Rows drawn from each source, at full scale.
        settings: `key=value` changes of all recipes of a method (`mm`, `sft`, `bpo`).
        instruct: Arms of Sight Beyond Text.
        prefer: Arms of BPO.
        weakening: Noise steps at which the base is scored.
    """

    scales: dict[ScaleName, Scale]
    scores: dict[str, Score]
    template: str
    negatives: dict[str, Negatives]
    positives: dict[str, int]
    settings: dict[Literal["mm", "sft", "bpo"], tuple[str, ...]]
    instruct: tuple[Instruct, ...]
    prefer: tuple[Prefer, ...]
    weakening: tuple[int, ...]


@cache
def load() -> Plan:
    """The arms, checked: unknown keys, names used twice and names of nothing are refused.

    Raises:
        ValueError: The file is not in the format.
    """
    plan = Plan.model_validate(yaml.safe_load(_text()))
    arms: list[Arm] = [*plan.instruct, *plan.prefer]
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names):
        raise ValueError(f"{FILE}: two arms of one name")
    for arm in arms:
        if unknown := set(arm.scores) - set(plan.scores):
            raise ValueError(f"{FILE}: {arm.name}: no scores named {sorted(unknown)}")
    for one in plan.prefer:
        if (one.method == "bpo") != bool(one.pairs) or set(one.pairs) - set(plan.negatives):
            raise ValueError(f"{FILE}: {one.name}: bpo needs pairs of {sorted(plan.negatives)}, sft has none")
    return plan


def fixed() -> tuple[Any, ...]:
    """What may not change after the first judged run: arms and their recipes, scenes and data, the claims' rules."""
    lab, recipes = files("mmalign_eval.lab"), files("mmalign_eval.tuning") / "recipes"
    own = [lab / name for name in (FILE, "scenes.py", "world.py", "inject.py")]
    mini = sorted((file for file in recipes.iterdir() if file.name.startswith("mini-")), key=lambda file: file.name)
    return (*own, *mini, files("mmalign_eval.leaderboards") / "laboratory.yaml")


def digest() -> str:
    """SHA-256 of the names and contents of what is fixed."""
    found = hashlib.sha256()
    for file in fixed():
        content = file.read_bytes()
        found.update(f"{file.name} {len(content)}\n".encode() + content)
    return found.hexdigest()


def _text() -> str:
    return str((files("mmalign_eval.lab") / FILE).read_text(encoding="utf-8"))


__all__ = ["Arm", "Instruct", "Negatives", "Plan", "Prefer", "Scale", "ScaleName", "Score", "digest", "fixed", "load"]
