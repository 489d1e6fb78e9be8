"""Visual instruction tuning from files to a checkpoint or PEFT adapter: MM-ft, MM-lora and the SFT baseline.

Stage 1 trains the projector of a LLaVA put together from its parts (LLaVA, section 4.2); its result stays beside the
final one, as `<out>.stage1`, since an MM-lora adapter needs it. Stage 2 trains what the recipe's method says.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn

from ..errors import BadInput
from ..models.checkpoint import Checkpoint
from ..models.hf_loading import safetensors_header
from ..models.llava_layout import open_checkpoint
from ..models.tuned import TUNING_FILE, read_json, read_training, read_tuned
from . import export
from .assemble import assemble, resolve
from .batches import Row, encode_rows
from .config import Data, Recipe, Stage
from .curves import draw
from .data import Counts, read_conversations, used_images
from .encoding import Encoder
from .export import Base, DataFile
from .loading import load_llava, open_llava
from .lora import StageName, prepare
from .positives_only import conversations_of, is_preferences
from .rows import Conversation
from .sft import Done, SftTrainer, Tell, train_stage
from .trainer import LOG_FILE, accumulation, disk_errors, is_main, processes, wants_bf16, work_folder
from .workplace import clear, need_space, workplace

STAGE_1 = "projector"  # `tuned.method` of stage 1's result


class Reporter(Protocol):
    """Who is told how it goes."""

    def line(self, text: str) -> None:
        """A line for people."""

    def stage(self, name: str) -> Tell:
        """A stage begins; what it returns is called at every log entry."""


@dataclass(frozen=True)
class Source:
    """Training data.

    Attributes:
        file: LLaVA JSON; for sft also preference pairs, whose chosen answers are trained on.
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
class _Given:
    """A stage's data, read."""

    stage: Stage
    conversations: list[Conversation]
    counts: Counts
    file: DataFile
    rows: list[Row] = field(default_factory=list)


@dataclass
class _Read:
    """What is known before any weight is loaded."""

    base: Base
    tune: _Given
    pretrain: _Given | None = None
    about: dict[str, Any] = field(default_factory=dict)


def run(job: Job, reporter: Reporter) -> dict[str, Any]:
    """Trains, unless the result is there already.

    Returns:
        The record beside the result (`mmeval.json`).

    Raises:
        BadInput: Anything given that cannot be, before any work; a full disk or a loss that is no number, during it.
        ImageError: An image cannot be read.
    """
    found = _read(job)
    record = _finished(job, found)
    if record is not None:
        reporter.line(f"{job.out} is there already, of this recipe, data, base and seed: nothing to do")
        clear(work_folder(job.out))
        return record
    with workplace(job.out, found.about) as work:
        _meet()
        for name, given in (("stage 1", found.pretrain), (job.recipe.method, found.tune)):
            if given is not None:
                reporter.line(f"{name:<8} {given.file.path.name}: {'; '.join(given.counts.lines())}")
        if found.pretrain is not None and not job.stage_1.exists():
            _stage_1(job, found, found.pretrain, work, reporter)
        record = _stage_2(job, found, work, reporter)
        clear(work)
    return record


# -- before -----------------------------------------------------------------------------------------------------------


def _read(job: Job) -> _Read:
    """Everything that can be wrong with what was given, told before any work."""
    recipe = job.recipe
    _check_options(job)
    base = _base(job)
    found = _Read(base, _given(job, job.data, recipe.tune, recipe.data, "tune"))
    if not job.init:
        assert job.pretrain_data is not None
        assert recipe.pretrain is not None
        found.pretrain = _given(job, job.pretrain_data, recipe.pretrain, recipe.pretrain_data, "pretrain")
    parts = [(job.init or job.language or recipe.base), *([] if job.init else [job.tower or recipe.tower])]
    opened = [open_checkpoint(resolve(part)) for part in parts]
    if job.init:
        open_llava(job.init)
    _check_space(job, opened)
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
    for stage in (recipe.pretrain if not job.init else None, recipe.tune):
        if stage is not None:
            accumulation(stage)
            wants_bf16(stage)
            if stage.eval_every:
                raise BadInput(f"recipe {recipe.name}: eval_every: only bpo holds rows out to evaluate on")
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
    if job.language or not job.init:
        return export.base_of(job.language or job.recipe.base)
    folder = open_llava(job.init).folder
    record = read_tuned(folder)
    if record is None:
        raise BadInput(f"--init {job.init}: it does not say which language model it was made of: give --language too")
    known = record["base"]
    return Base(known["name"], known["weights"], known.get("peft", ""), read_training(folder))


def _given(job: Job, source: Source, stage: Stage, data: Data, role: str) -> _Given:
    counts = Counts()
    if job.recipe.method == "sft" and is_preferences(source.file):
        rows = conversations_of(source.file, source.images, data, job.seed, stage.image_aspect, counts)
    else:
        rows = read_conversations(source.file, source.images, data, job.seed, stage.image_aspect, counts)
    return _Given(stage, rows, counts, DataFile(role, source.file, len(rows)))


def _check_space(job: Job, opened: list[Checkpoint]) -> None:
    sizes = [_parameters(checkpoint) for checkpoint in opened]
    width = 2 if wants_bf16(job.recipe.tune) else 4
    whole = sum(sizes) * width
    trained = 0 if job.recipe.lora is not None else sizes[0]
    written = (0 if job.init else whole) + (whole if job.recipe.lora is None or job.merge else 0)
    need_space(job.out, trained, written)


def _parameters(checkpoint: Checkpoint) -> int:
    """Weights of a checkpoint on disk; of pickled ones, as if they had two bytes each."""
    total = 0
    for file in checkpoint.fetch_weights():
        if file.suffix == ".safetensors":
            total += sum(math.prod(tensor["shape"]) for tensor in safetensors_header(file).values())
        else:
            total += file.stat().st_size // 2
    return total


def _finished(job: Job, found: _Read) -> dict[str, Any] | None:
    """The record of a result that is there; stage 1's, if there, is checked to be of this training."""
    files = [given.file for given in (found.pretrain, found.tune) if given]
    facts = {"from": found.about["from"], "merged": job.merge}
    if export.already(job.out, job.recipe, job.seed, found.base, files, **facts):
        return dict(read_json(job.out / TUNING_FILE))
    if found.pretrain is not None and job.stage_1.exists():
        _check_stage_1(job, found, found.pretrain)
    return None


def _check_stage_1(job: Job, found: _Read, given: _Given) -> None:
    file = job.stage_1 / TUNING_FILE
    record = read_json(file) if file.is_file() else {}
    if record.get("about") != json.loads(json.dumps(_about_stage_1(job, found, given))):
        raise BadInput(
            f"{job.stage_1}: another stage 1 is there; give another --out, move it away, "
            f"or go on from it with --init {job.stage_1}"
        )


def _about_stage_1(job: Job, found: _Read, given: _Given) -> dict[str, Any]:
    recipe = job.recipe.model_dump(mode="json")
    kept = {key: recipe[key] for key in ("projector", "pretrain", "pretrain_data")}
    shown = {key: recipe["tune"][key] for key in ("template", "image_aspect")}  # what the processor is made for
    return {**kept, **shown, "seed": job.seed, "from": found.about["from"], "data": export.file_facts(given.file)}


def _meet() -> None:
    """Lets the processes of a torchrun find each other before the first of them writes."""
    from accelerate import PartialState

    if processes() < 2:
        return
    cuda = torch.cuda.is_available()
    PartialState(cpu=not cuda, **({} if cuda else {"backend": "gloo"}))


def _wait() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


# -- the stages -------------------------------------------------------------------------------------------------------


def _stage_1(job: Job, found: _Read, given: _Given, work: Path, reporter: Reporter) -> None:
    recipe = job.recipe
    model, processor = assemble(
        job.language or recipe.base,
        job.tower or recipe.tower,
        recipe.projector,
        job.seed,
        template=recipe.tune.template,
        image_aspect=recipe.tune.image_aspect,
        dtype=_dtype(job, given.stage),
    )
    for part in (given, found.tune):  # stage 2's too: what is wrong with them shows before hours of stage 1
        part.rows = _encoded(part, model, processor)
    trained = prepare(model, recipe, "pretrain", job.seed)
    done = _train(job, trained, processor, given, "pretrain", work, reporter)
    if is_main():
        final = _fresh(work / "final-stage1")
        export.save_checkpoint(_plain(done, given.stage), processor, final)
        record = _record(job, found, final, [given], done, about=_about_stage_1(job, found, given))
        record["tuned"]["method"] = STAGE_1
        (final / TUNING_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        _logs(work / "pretrain", final / "training", done)
        export.finish(final, job.stage_1)
        shutil.rmtree(work / "pretrain")
    _wait()
    reporter.line(f"stage 1  {_came_to(done)}  {job.stage_1}")


def _stage_2(job: Job, found: _Read, work: Path, reporter: Reporter) -> dict[str, Any]:
    recipe, given = job.recipe, found.tune
    model, processor = load_llava(job.begins_with, _dtype(job, given.stage))
    given.rows = given.rows or _encoded(given, model, processor)
    trained = prepare(model, recipe, "tune", job.seed)
    done = _train(job, trained, processor, given, "tune", work, reporter)
    record: dict[str, Any] = {}
    if is_main():
        final = _fresh(work / "final")
        if recipe.lora is None or job.merge:
            whole = _plain(done, given.stage)
            export.save_checkpoint(whole.merge_and_unload() if job.merge else whole, processor, final)
        else:
            export.save_adapter(done.trainer.model, final)
        onto = export.base_of(job.begins_with)
        facts = {"onto": {"name": onto.name, "weights": onto.weights}, "from": found.about["from"], "merged": job.merge}
        parts = [part for part in (found.pretrain, given) if part]
        record = _record(job, found, final, parts, done, **facts)
        _logs(work / "tune", final / "training", done)
        export.finish(final, job.out)
    _wait()
    reporter.line(f"{recipe.method:<8} {_came_to(done)}  {job.out}")
    return record


def _encoded(given: _Given, model: Any, processor: Any) -> list[Row]:
    size = processor._get_num_multimodal_tokens(image_sizes=[[100, 100]])["num_image_tokens"][0]
    wrap = bool(getattr(model.config, "mm_use_im_start_end", False))
    encoder = Encoder(
        processor.tokenizer, given.stage.template, model.config.image_token_id, int(size), given.stage.max_length, wrap
    )
    return encode_rows(given.conversations, encoder, given.counts)


def _train(
    job: Job, model: nn.Module, processor: Any, given: _Given, name: StageName, work: Path, reporter: Reporter
) -> Done:
    kind = SftTrainer
    if job.fsdp:
        from .sharding import wrap_for_trainer

        kind = wrap_for_trainer(SftTrainer)  # type: ignore[assignment]
    tell = reporter.stage("stage 1" if name == "pretrain" else job.recipe.method)
    answers = job.recipe.method == "sft"
    done = train_stage(model, processor, given.rows, given.stage, work / name, job.seed, tell, answers, kind)
    if job.fsdp:
        from .sharding import unshard

        unshard(done.trainer.model)  # type: ignore[arg-type]
    return done


def _dtype(job: Job, stage: Stage) -> torch.dtype:
    """Of the weights in memory; those that train become float32 (`lora.prepare`). Shards must be all of one type."""
    return torch.bfloat16 if wants_bf16(stage) and not job.fsdp else torch.float32


# -- after ------------------------------------------------------------------------------------------------------------


def _plain(done: Done, stage: Stage) -> Any:
    """The trained model on the CPU, in the type its checkpoint has: as the released ones, bfloat16 after bfloat16."""
    model: Any = done.trainer.model
    model.config.use_cache = True  # Trainer turns it off
    return model.to("cpu", torch.bfloat16 if wants_bf16(stage) else torch.float32)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


@dataclass(frozen=True)
class _Images:
    """Images of a training, as `export.write_record` takes them."""

    content: Mapping[str, Any]

    def record(self) -> Mapping[str, Any]:
        return self.content


def _record(job: Job, found: _Read, folder: Path, given: list[_Given], done: Done, **facts: Any) -> dict[str, Any]:
    refs = [row.image for part in given for row in part.conversations]
    return export.write_record(
        folder,
        job.recipe,
        job.seed,
        found.base,
        [part.file for part in given],
        [_Images(used_images(refs))],  # type: ignore[list-item]
        rows={part.file.role: part.counts.as_json() for part in given},
        steps=done.steps,
        loss={"first": done.first_loss, "last": done.last_loss},
        **facts,
    )


def _logs(work: Path, folder: Path, done: Done) -> None:
    with disk_errors(str(folder)):
        folder.mkdir(exist_ok=True)
        shutil.copy(work / LOG_FILE, folder)
        done.trainer.state.save_to_json(str(folder / "trainer_state.json"))
        draw(folder / LOG_FILE, folder / "curves.svg")


def _came_to(done: Done) -> str:
    return f"{done.steps:,} steps  loss {done.first_loss:.4g} -> {done.last_loss:.4g}"
