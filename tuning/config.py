"""Recipes: what is trained, on what, how fast; YAML files whose every key is known and checked before any work.

The files under `recipes/` hold the papers' values; `sources` says where each comes from. A file that starts with
`extends: NAME` holds only what differs from that packaged recipe (which itself extends none).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import BadInput, did_you_mean

Method = Literal["mm-ft", "mm-lora", "sft", "bpo"]
TemplateName = Literal["v0", "v1", "llava_llama_2", "plain"]
Kind = Literal["conversation", "detail", "reasoning"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Stage(_Part):
    """How one training is run.

    Attributes:
        lr: Peak learning rate (AdamW).
        projector_lr: Of the projector, where it differs.
        epochs: Passes over the data.
        max_steps: Optimizer steps instead of epochs; 0: by epochs.
        stop_after: Steps after which to stop before the schedule has come down; 0: run it out.
        batch: Samples (or pairs) an optimizer step sees, over all processes.
        micro_batch: Samples in one forward pass of one process; batch = micro_batch x processes x accumulation.
        schedule: Of the learning rate, after the warm-up.
        warmup: Share of the steps.
        weight_decay: AdamW's.
        beta2: AdamW's second moment decay.
        max_grad_norm: Gradients are clipped to it; 0: not.
        max_length: Most tokens of a sample, image tokens included.
        template: Conversation template.
        image_aspect: `square`: the processor's resize and centre crop; `pad`: pasted on a square of CLIP's mean colour.
        group_by_length: Batches of like length, and of text or images only.
        gradient_checkpointing: Activations are computed again on the way back.
        precision: `auto`: bfloat16 where the device has it, else float32.
        log_every: Steps between log lines.
        save_every: Steps between checkpoints to resume from.
        eval_every: Steps between evaluations on held-out samples; 0: none.
    """

    lr: float = Field(gt=0)
    projector_lr: float | None = Field(default=None, gt=0)
    epochs: float = Field(default=1, gt=0)
    max_steps: int = Field(default=0, ge=0)
    stop_after: int = Field(default=0, ge=0)
    batch: int = Field(ge=1)
    micro_batch: int = Field(ge=1)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    beta2: float = Field(default=0.999, gt=0, lt=1)
    max_grad_norm: float = Field(default=1.0, ge=0)
    max_length: int = Field(default=2048, ge=8)
    template: TemplateName = "v1"
    image_aspect: Literal["square", "pad"] = "square"
    group_by_length: bool = True
    gradient_checkpointing: bool = True
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    log_every: int = Field(default=10, ge=1)
    save_every: int = Field(default=500, ge=1)
    eval_every: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _divides(self) -> Stage:
        if self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is no multiple of micro_batch {self.micro_batch}")
        return self

    def accumulation(self, processes: int, name: str) -> int:
        """Forward passes of a process for one optimizer step.

        Args:
            processes: That share a batch.
            name: Of the stage, `pretrain` or `tune`, for the message.

        Raises:
            BadInput: The batch does not divide over the processes.
        """
        number, rest = divmod(self.batch, self.micro_batch * processes)
        if rest or not number:
            raise BadInput(
                f"{name}: batch {self.batch} is no multiple of micro_batch {self.micro_batch} x {processes} processes: "
                f"give --set {name}.batch or --set {name}.micro_batch"
            )
        return number


class Lora(_Part):
    """Low-rank adaptation of every linear layer of the language model but its head (never the vision tower's).

    Attributes:
        r: Rank.
        alpha: Scale: the update is alpha / r times B A.
        dropout: On the input of A.
    """

    r: int = Field(ge=1)
    alpha: float = Field(gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Preference(_Part):
    """What BPO's loss and choice of pairs are.

    Attributes:
        beta: The paper's eta in eq. (4).
        train_projector: Whether the projector is trained too (the released script does; the reference then drifts).
        anchor: Weight of the chosen answer's mean negative log-likelihood a token beside eq. (4); 0: the paper's loss.
        match_length: Most by which the rejected answer's words may differ from the chosen one's, as a share; 0: any.
        balance: As many pairs whose chosen answer says yes as pairs whose chosen answer says no.
    """

    beta: float = Field(default=0.1, gt=0)
    train_projector: bool = False
    anchor: float = Field(default=0.0, ge=0)
    match_length: float = Field(default=0.0, ge=0)
    balance: bool = False


class Data(_Part):
    """Which rows are used.

    Attributes:
        name: The data set the paper used; for people.
        rows: How many rows that has, for `mmeval tune plan`; 0: unknown.
        samples: Rows drawn (seeded); 0: all.
        kinds: Only rows of these kinds; empty: all.
        text_only: The same conversations without their images.
        max_words: Rows with an answer of more whitespace-separated words are dropped; 0: none.
        held_out: Share of the images whose rows are not trained on; bpo evaluates on them.
    """

    name: str = ""
    rows: int = Field(default=0, ge=0)
    samples: int = Field(default=0, ge=0)
    kinds: tuple[Kind, ...] = ()
    text_only: bool = False
    max_words: int = Field(default=0, ge=0)
    held_out: float = Field(default=0.0, ge=0, lt=1)


class Recipe(_Part):
    """Everything that makes a tuned model of a base.

    Attributes:
        name: The file's name without its ending.
        about: One line for lists.
        method: What is done.
        language: Architecture of the language model, a name in `recipes/architectures/`.
        vision: Architecture of the vision tower, likewise.
        projector: `linear` or `mlp2x_gelu` (two layers with a GELU between them).
        base: Hub id or folder of the language model (mm-ft, mm-lora) or of the LLaVA (sft, bpo) the paper began with.
        tower: Hub id or folder of the vision tower (mm-ft, mm-lora).
        pretrain: Stage 1, the projector alone; none: the given model has a trained projector.
        pretrain_data: Of stage 1.
        tune: Stage 2, or preference tuning.
        data: Of that.
        lora: LoRA; none: all weights of language model and projector are trained.
        preference: For bpo.
        sources: Key (`tune.lr`, or `tune` for what it leaves unsaid) to where its value comes from.
    """

    name: str
    about: str
    method: Method
    language: str
    vision: str
    projector: Literal["linear", "mlp2x_gelu"]
    base: str = ""
    tower: str = ""
    pretrain: Stage | None = None
    pretrain_data: Data = Data()
    tune: Stage
    data: Data = Data()
    lora: Lora | None = None
    preference: Preference | None = None
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if (self.method == "bpo") != (self.preference is not None):
            raise ValueError("`preference` belongs to method bpo, and to it alone")
        if self.method == "mm-lora" and self.lora is None:
            raise ValueError("method mm-lora needs `lora`")
        if self.method == "mm-ft" and self.lora is not None:
            raise ValueError("method mm-ft trains all weights: `lora` does not belong to it")
        if (self.tune.eval_every and not self.preference) or (self.pretrain and self.pretrain.eval_every):
            raise ValueError("eval_every: only bpo evaluates while it trains")
        if self.tune.eval_every and not self.data.held_out:
            raise ValueError("tune.eval_every needs pairs to evaluate on: give data.held_out, a share of the images")
        for key in self.sources:
            if not _is_key(key):
                raise ValueError(f"sources: {key} is no key of a recipe")
        return self

    @property
    def trains_projector(self) -> bool:
        """Whether stage 2 trains the projector: always without LoRA, with it in mm-lora and where `preference` says."""
        asked = self.preference is not None and self.preference.train_projector
        return self.lora is None or self.method == "mm-lora" or asked


@cache
def recipe_names() -> tuple[str, ...]:
    """Names of the packaged recipes."""
    return tuple(sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml")))


def _folder() -> Any:
    return files("mmalign_eval.tuning") / "recipes"


def load_recipe(given: str, changes: Mapping[str, str] | None = None) -> Recipe:
    """A recipe by name or from a YAML file, with `--set key=value` changes (`tune.lr=1e-4`).

    Raises:
        BadInput: No such recipe, not YAML, an unknown key (with did-you-mean) or a value that cannot be.
    """
    if given.endswith((".yaml", ".yml")) or "/" in given:
        path = Path(given)
        if not path.is_file():
            raise BadInput(f"--recipe {given}: no such file")
        name, content = path.stem, _read(path, f"--recipe {given}")
    else:
        name, content = given, _packaged(given, "")
    if "extends" in content:
        content = _extended(content, name)
    for key, value in (changes or {}).items():
        _put(content, key, value)
        content["sources"] = {**_sources(content, name), key: "--set"}
    return parse_recipe({"name": name, **content}, f"recipe {name}")


def _read(file: Any, where: str) -> dict[str, Any]:
    """A YAML file's keys and values; `file` is a Path or a packaged one."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{where}: expected keys and values")
    return content


def _packaged(name: str, where: str) -> dict[str, Any]:
    known = recipe_names()
    if name not in known:
        raise BadInput(f"{where}unknown recipe {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
    return _read(_folder() / f"{name}.yaml", f"recipe {name}")


def _extended(content: dict[str, Any], name: str) -> dict[str, Any]:
    """The content laid over the packaged recipe it extends.

    A source told by the extended recipe goes with the value it was told of: what is changed here needs its own.
    """
    parent = _packaged(str(content["extends"]), f"recipe {name}: extends: ")
    if "extends" in parent:
        raise BadInput(
            f"recipe {name}: extends {content['extends']}, which itself extends {parent['extends']}: one level"
        )
    own = {key: value for key, value in content.items() if key != "extends"}
    changed = set(leaves({key: value for key, value in own.items() if key != "sources"}))
    told = {key: source for key, source in _sources(parent, name).items() if not _covered(key, changed)}
    merged = _laid_over(parent, {key: value for key, value in own.items() if key != "sources"})
    return {**merged, "sources": {**told, **_sources(own, name)}}


def _sources(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get("sources") or {}
    if not isinstance(found, dict):
        raise BadInput(f"recipe {name}: sources: expected keys of the recipe and where their values come from")
    return found


def _covered(key: str, changed: set[str]) -> bool:
    """Whether a change touches the key: the key itself, or a part above it replaced as a whole."""
    return any(key == other or key.startswith(f"{other}.") for other in changed)


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inside = merged.get(key)
        merged[key] = _laid_over(inside, value) if isinstance(inside, dict) and isinstance(value, dict) else value
    return merged


def leaves(content: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Dotted keys of all values, `tune.lr`."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def parse_recipe(content: Mapping[str, Any], where: str) -> Recipe:
    """Validates a recipe's content; `where` begins every message.

    Raises:
        BadInput: As `load_recipe`.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise BadInput(f"{where}: {_first(error)}") from error


def _put(content: dict[str, Any], key: str, value: str) -> None:
    *above, last = key.split(".")
    inside = content
    for part in above:
        found = inside.setdefault(part, {})
        if not isinstance(found, dict):
            raise BadInput(f"--set {key}: {part} has no keys inside")
        inside = found
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise BadInput(f"--set {key}={value}: not valid YAML: {' '.join(str(error).split())}") from error
    try:  # YAML reads 1e-4 as text
        inside[last] = float(parsed) if isinstance(parsed, str) else parsed
    except ValueError:
        inside[last] = parsed


def _first(error: ValidationError) -> str:
    """The first problem in one line, unknown keys with did-you-mean."""
    problems = error.errors()  # a misspelt key is also missing under its right name: the misspelling is what helps
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _keys(problem["loc"][:-1])
        hint = did_you_mean(str(problem["loc"][-1]), known)
        return f"unknown key {where}{hint}; known: {', '.join(known)}"
    said = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


_PARTS: dict[str, type[BaseModel]] = {
    **{"pretrain": Stage, "tune": Stage, "lora": Lora},
    **{"preference": Preference, "data": Data, "pretrain_data": Data},
}


def _keys(above: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in above:
        model = _PARTS.get(str(part), model)
    return list(model.model_fields)


def _is_key(dotted: str) -> bool:
    head, _, rest = dotted.partition(".")
    if not rest:
        return head in Recipe.model_fields
    return head in _PARTS and rest in _PARTS[head].model_fields
