"""What visual instruction tuning is given, and everything about it that can be wrong before any weight is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..models.checkpoint import Checkpoint
from ..models.llava_layout import open_checkpoint
from ..models.tuned import TUNING_FILE, read_json, read_training, read_tuned
from . import export
from .assemble import resolve
from .batches import Row
from .config import Data, Recipe, Stage
from .data import Counts, read_conversations
from .export import Base, DataFile
from .loading import open_llava
from .positives_only import conversations_of, is_preferences
from .rows import Conversation
from .sft import SftTrainer
from .trainer import processes, wants_bf16
from .workplace import need_space

STAGE_1 = "projector"  # `tuned.method` of stage 1's result
_OF_LANGUAGE = (STAGE_1, "mm-ft", "mm-lora")  # methods whose record names the language model as the base


@dataclass(frozen=True)
class Source:
    """Training data.

    Attributes:
        file: LLaVA JSON; for sft also preference pairs, whose chosen answers are trained on, or positives.
        images: Folder its image names are relative to.
    """

    file: Path
    images: Path | None = None


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        recipe: Of method mm-ft, mm-lora or sft, with all changes.
        out: Where the result appears.
        data: Of stage 2.
        seed: Of the drawn rows, their order, the projector's and LoRA's first values, dropout.
        language: Folder or hub id of the language model; empty: the recipe's.
        tower: Of the vision tower; empty: the recipe's.
        pretrain_data: Of stage 1.
        init: A LLaVA to begin stage 2 with; for sft, the base.
        merge: A whole checkpoint rather than a PEFT adapter.
        fsdp: Spread the model over the processes.
    """

    recipe: Recipe
    out: Path
    data: Source
    seed: int = 0
    language: str = ""
    tower: str = ""
    pretrain_data: Source | None = None
    init: str = ""
    merge: bool = False
    fsdp: bool = False

    @property
    def stage_1(self) -> Path:
        """Where stage 1's result is kept."""
        return self.out.with_name(f"{self.out.name}.stage1")

    @property
    def begins_with(self) -> str:
        """The LLaVA that stage 2 begins with."""
        return self.init or str(self.stage_1)


@dataclass
class Given:
    """A stage's data, read.

    Attributes:
        stage: How it is trained on.
        conversations: Rows of the file that are used.
        counts: What became of all of its rows.
        file: For the record.
        rows: The conversations' token ids, once there is a tokenizer.
    """

    stage: Stage
    conversations: list[Conversation]
    counts: Counts
    file: DataFile
    rows: list[Row] = field(default_factory=list)


@dataclass
class Found:
    """What is known before any weight is loaded.

    Attributes:
        base: What tables compare with.
        tune: Stage 2's data.
        pretrain: Stage 1's; None where it is skipped.
        about: All that makes two trainings the same one.
    """

    base: Base
    tune: Given
    pretrain: Given | None = None
    about: dict[str, Any] = field(default_factory=dict)


def read(job: Job) -> Found:
    """Reads the data and looks at the checkpoints' files.

    Raises:
        BadInput: Anything given that cannot be, or too little room on the disk.
    """
    recipe = job.recipe
    _check_options(job)
    base = _base(job)
    found = Found(base, _given(job, job.data, recipe.tune, recipe.data, "tune"))
    if not job.init:
        assert job.pretrain_data is not None
        assert recipe.pretrain is not None
        found.pretrain = _given(job, job.pretrain_data, recipe.pretrain, recipe.pretrain_data, "pretrain")
    parts = [(job.init or job.language or recipe.base), *([] if job.init else [job.tower or recipe.tower])]
    opened = [open_checkpoint(resolve(part)) for part in parts]
    if job.init:
        open_llava(job.init)
    need_space(job.out, recipe, opened, whole_before=not job.init, merge=job.merge)
    found.about = {
        "recipe": recipe.model_dump(mode="json"),
        "seed": job.seed,
        "base": base.weights,
        "from": [checkpoint.fingerprints()["weights"] for checkpoint in opened],
        "data": [export.file_facts(given.file) for given in (found.pretrain, found.tune) if given],
        "merge": job.merge,
    }
    return found


def _check_options(job: Job) -> None:
    recipe = job.recipe
    for name, stage in (("pretrain", recipe.pretrain if not job.init else None), ("tune", recipe.tune)):
        if stage is not None:
            stage.accumulation(processes(), name)
            wants_bf16(stage)
    if job.merge and recipe.lora is None:
        raise BadInput("--merge: nothing to merge: without LoRA the result is a whole checkpoint anyway")
    if job.fsdp:
        from .sharding import wrap_for_trainer

        wrap_for_trainer(SftTrainer)
    if job.init:
        return
    if recipe.pretrain is None:
        raise BadInput(f"recipe {recipe.name} has no stage 1: give a LLaVA with a trained projector with --init")
    if not (job.language or recipe.base):
        raise BadInput("no language model given: --language FOLDER_OR_ID, or a recipe with `base`")
    if not (job.tower or recipe.tower):
        raise BadInput("no vision tower given: --tower FOLDER_OR_ID, or a recipe with `tower`")
    if job.pretrain_data is None:
        raise BadInput("stage 1 needs --pretrain-data FILE and --pretrain-images DIR (or skip it: --init LLAVA)")


def _base(job: Job) -> Base:
    """What tables compare with: the language model, or for sft the LLaVA."""
    if job.recipe.method == "sft":
        return export.base_of(job.init)
    if not job.init:
        return export.base_of(job.language or job.recipe.base)
    llava = open_llava(job.init)
    folder, record = llava.folder, read_tuned(llava.folder)
    if job.language:
        base = export.base_of(job.language)
        _check_made_of(job, llava, record, base)
        return base
    if record is None:
        raise BadInput(f"--init {job.init}: it does not say which language model it was made of: give --language too")
    known = record["base"]
    return Base(known["name"], known["weights"], known.get("peft", ""), read_training(folder))


def _check_made_of(job: Job, llava: Checkpoint, record: dict[str, Any] | None, base: Base) -> None:
    """Refuses a language model that the LLaVA cannot have been made of: the difference to it would mean nothing."""
    if record and record.get("method") in _OF_LANGUAGE and record["base"]["weights"] != base.weights:
        known = record["base"]["name"]
        raise BadInput(f"--language {job.language}: --init {job.init} was made of {known}, as it says: leave it out")
    inside, given = llava.config.get_text_config(), open_checkpoint(resolve(job.language)).config
    for key in ("model_type", "hidden_size", "num_hidden_layers"):
        one, other = getattr(inside, key, None), getattr(given, key, None)
        if one != other:
            raise BadInput(
                f"--language {job.language}: not what --init {job.init} was made of: {key} {other} there, {one} here"
            )


def _given(job: Job, source: Source, stage: Stage, data: Data, role: str) -> Given:
    counts = Counts()
    if job.recipe.method == "sft" and is_preferences(source.file):
        rows = conversations_of(source.file, source.images, data, job.seed, stage.image_aspect, counts)
    else:
        rows = read_conversations(source.file, source.images, data, job.seed, stage.image_aspect, counts)
    return Given(stage, rows, counts, DataFile(role, source.file, len(rows)))


def finished(job: Job, found: Found) -> dict[str, Any] | None:
    """The record of a result that is there already; stage 1's, if there, is checked to be of this training.

    Raises:
        BadInput: What is there is of another training.
    """
    files = [given.file for given in (found.pretrain, found.tune) if given]
    facts = {"from": found.about["from"], "merged": job.merge}
    if export.already(job.out, job.recipe, job.seed, found.base, files, **facts):
        return dict(read_json(job.out / TUNING_FILE))
    if found.pretrain is not None and job.stage_1.exists():
        _check_stage_1(job, found, found.pretrain)
    return None


def _check_stage_1(job: Job, found: Found, given: Given) -> None:
    file = job.stage_1 / TUNING_FILE
    record = read_json(file) if file.is_file() else None
    if not isinstance(record, dict) or record.get("about") != json.loads(json.dumps(about_stage_1(job, found, given))):
        raise BadInput(
            f"{job.stage_1}: another stage 1 is there; give another --out, move it away, "
            f"or go on from it with --init {job.stage_1}"
        )


def about_stage_1(job: Job, found: Found, given: Given) -> dict[str, Any]:
    """What makes two first stages the same one."""
    recipe = job.recipe.model_dump(mode="json")
    kept = {key: recipe[key] for key in ("projector", "pretrain", "pretrain_data")}
    shown = {key: recipe["tune"][key] for key in ("template", "image_aspect")}  # what the processor is made for
    return {**kept, **shown, "seed": job.seed, "from": found.about["from"], "data": export.file_facts(given.file)}
