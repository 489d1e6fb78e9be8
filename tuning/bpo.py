"""Preference tuning from files to a PEFT adapter or a checkpoint (BPO, Pi et al., 2024, sections 4 and 5)."""

from __future__ import annotations

import copy
import hashlib
import itertools
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoProcessor

from ..errors import BadInput
from ..models.checkpoint import Checkpoint, file_hash
from ..models.sharing import why_not_shared
from . import export, sharding, trainer
from .batches import LengthGroups
from .bpo_pairs import Item, Selection, encode, said, select
from .bpo_trainer import BpoTrainer, PairCollate
from .clock import Clock
from .config import Preference, Recipe, Stage
from .data import image_refs, used_images
from .loading import encoder_of, load_llava, load_processor, open_llava
from .looks import Looks
from .lora import base_model, prepare
from .pairs import read_pairs
from .reference import References, fill, key_of
from .rows import Pair
from .workplace import clear, leave_logs, need_space, workplace

TELL_EVERY = 15.0  # seconds between lines on the reference's progress
NO_DROPOUT = "none: log-probabilities of the same answer are compared (as TRL's disable_dropout does)"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class BpoJob:
    """What to do.

    Attributes:
        model: Folder or hub id of a LLaVA.
        pairs: Preference file.
        images: Folder its image names are relative to.
        out: Where the result appears.
        recipe: Of method bpo.
        seed: Of the choice of pairs, their order and LoRA's first values.
        merge: A whole checkpoint rather than a PEFT adapter.
        layout: How pairs are laid out; `auto`: packed where the model allows it.
        references: Folder for reference log-probabilities that outlasts the training, to be shared by trainings of one
            base; None: the work folder.
        adapter: Folder of a PEFT adapter that is merged into the LLaVA first, or empty: both are the base.
        fsdp: Spread the model over the processes.
    """

    model: str
    pairs: Path
    images: Path
    out: Path
    recipe: Recipe
    seed: int = 0
    merge: bool = False
    layout: str = "auto"
    references: Path | None = None
    adapter: str = ""
    fsdp: bool = False

    @property
    def preference(self) -> Preference:
        """The recipe's.

        Raises:
            BadInput: The recipe is of another method.
        """
        if self.recipe.preference is None:
            raise BadInput(f"recipe {self.recipe.name} is of method {self.recipe.method}: choose one of method bpo")
        return self.recipe.preference


@dataclass
class _Read:
    """What is known before any weight is loaded."""

    selection: Selection
    files: list[export.DataFile]
    checkpoint: Checkpoint
    processor: Any
    base: export.Base

    @property
    def shown(self) -> tuple[str, str]:
        """Hashes of what else decides how the base sees an image: its configuration, and its image processor."""
        found = self.checkpoint.fingerprints()
        return found["config"], found["processor"]


def run(job: BpoJob, tell: Tell) -> dict[str, Any]:
    """Trains, unless the result is there already.

    Args:
        job: What to do.
        tell: Takes a line for people.

    Returns:
        The record beside the result.

    Raises:
        BadInput: Anything given that cannot be, before any work; a full disk or a loss that is no number, during it.
    """
    found = _read(job)
    if export.already(job.out, job.recipe, job.seed, found.base, found.files, merged=job.merge):
        clear(trainer.work_folder(job.out))  # left behind where the last run was killed right at its end
        tell(f"{job.out} is there already, of this recipe, data, base and seed")
        return dict(export.read_json(job.out / export.TUNING_FILE))
    with workplace(job.out, _about(job, found)) as work:
        record = _train(job, found, work, tell)
    clear(work)
    return record


def _train(job: BpoJob, found: _Read, work: Path, tell: Tell) -> dict[str, Any]:
    tell(f"pairs   {said(found.selection.counts)}")
    precision = "bfloat16" if trainer.wants_bf16(job.recipe.tune) else "float32"
    base = "+".join(filter(None, (found.base.weights, found.base.peft, *found.shown)))
    if job.fsdp and precision != "float32":  # not autocast's choice of what to round
        precision += " sharded"
    train, held_out = _items(job, found, f"{base}|{precision}")
    model = _model(job)
    made = _trainer(job, found, work, model, train, held_out, tell)
    _fill(made, [*_drawn(made, job.recipe.tune), *held_out], tell)
    made.train(resume_from_checkpoint=trainer.last_checkpoint(work))
    if held_out and not _evaluated(made):
        made.evaluate()
    outcome = displacement(made.state.log_history)
    if outcome:
        tell(outcome["verdict"])
    if job.fsdp:
        sharding.unshard(made.model)
    return _leave(job, found, made, [*train, *held_out], {"displacement": outcome} if outcome else {})


# -- before -----------------------------------------------------------------------------------------------------------


def _read(job: BpoJob) -> _Read:
    """Everything that can be wrong with what was given."""
    job.recipe.tune.accumulation(trainer.processes(), "tune")
    if job.fsdp:
        sharding.wrap_for_trainer(BpoTrainer)  # refuses a single process
    if job.adapter:
        _check_adapter(job)
    pairs = read_pairs(job.pairs)
    selection = select(pairs, job.preference, job.recipe.data, job.seed)
    used: list[Pair] = [*selection.train, *selection.held_out]
    image_refs([pair.image for pair in used], job.images, job.pairs, job.recipe.tune.image_aspect)
    checkpoint = open_llava(job.model)
    processor = load_processor(checkpoint, AutoProcessor)
    need_space(job.out, job.recipe, [checkpoint], merge=job.merge)
    files = [export.DataFile("tune", job.pairs, len(selection.train))]
    return _Read(selection, files, checkpoint, processor, export.base_of(job.model, job.adapter))


def _check_adapter(job: BpoJob) -> None:
    if not (Path(job.adapter) / "adapter_config.json").is_file():
        raise BadInput(f"--adapter {job.adapter}: no PEFT adapter there (no adapter_config.json)")
    if job.recipe.lora is not None and not job.merge:
        raise BadInput(
            f"--adapter {job.adapter}: the result would be an adapter for a model that has one already, "
            "and --model takes one only: add --merge, for a whole checkpoint"
        )


def _about(job: BpoJob, found: _Read) -> dict[str, Any]:
    """What makes two trainings the same one: a work folder is gone on with only then."""
    return {
        "recipe": job.recipe.model_dump(mode="json"),
        "seed": job.seed,
        "base": found.base.weights,
        "peft": found.base.peft,
        "shown": found.shown,
        "merge": job.merge,
        "data": [file_hash(file.path) for file in found.files],
        "layout": job.layout,
    }


def _model(job: BpoJob) -> nn.Module:
    """The LLaVA with its weights, what trains set and dropout off."""
    half = _frozen_in_half(job) and not job.fsdp  # shards must be all of one type
    llava, _ = load_llava(job.model, torch.bfloat16 if half else torch.float32, job.adapter)
    model = prepare(llava, job.recipe, "tune", job.seed)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def _frozen_in_half(job: BpoJob) -> bool:
    return trainer.wants_bf16(job.recipe.tune) and job.recipe.lora is not None


def _items(job: BpoJob, found: _Read, base: str) -> tuple[list[Item], list[Item]]:
    stage, selection = job.recipe.tune, found.selection
    encoder = encoder_of(found.processor, found.checkpoint.config, stage)

    def items(pairs: list[Pair]) -> list[Item]:
        refs = image_refs([pair.image for pair in pairs], job.images, job.pairs, stage.image_aspect)
        images = {pair.image: ref for pair, ref in zip(pairs, refs, strict=True)}
        return encode(pairs, images, encoder, lambda ids, image: key_of(ids, image, base), selection.counts)

    train = items(selection.train)
    if not train:
        raise BadInput(f"no pair is left to train on: {said(selection.counts)}; give --set tune.max_length")
    return train, items(selection.held_out)


def _trainer(
    job: BpoJob, found: _Read, work: Path, model: nn.Module, train: list[Item], held_out: list[Item], tell: Tell
) -> BpoTrainer:
    stage = job.recipe.tune
    if not held_out:
        stage = stage.model_copy(update={"eval_every": 0})
    llava = base_model(model)
    frozen = None
    if job.recipe.lora is None and held_out:
        frozen = copy.deepcopy(model).eval().requires_grad_(False)
    pad = found.processor.tokenizer.pad_token_id
    arguments = trainer.arguments(stage, work, job.seed)
    order = LengthGroups(
        [item.ids.length for item in train], [True] * len(train), stage.batch, job.seed, stage.group_by_length
    )
    kind: Any = sharding.wrap_for_trainer(BpoTrainer) if job.fsdp else BpoTrainer
    made: Any = kind(
        model,
        arguments,
        preference=job.preference,
        order=order,
        looks=Looks(llava, found.processor.image_processor),
        references=References(job.references or work, _writer(job, arguments.process_index)),
        train=train,
        held_out=held_out,
        collate=PairCollate(0 if pad is None else pad, packed=job.layout == "packed"),
        base=frozen,
        projector_lr=stage.projector_lr,
        callbacks=[trainer.PlainLog(work / trainer.LOG_FILE, stage.stop_after, _progress(tell, stage))],
    )
    if job.layout == "auto":  # here, where the model is on its device; one to be sharded is whole yet, on the CPU
        why_not = why_not_shared(llava)
        made.collate.packed = not why_not
        if why_not:
            tell(f"layout  a row for each answer: {why_not}")
    if job.fsdp:  # before the reference is computed: no device ever holds all of the model
        made.spread(model)
    if frozen is not None:
        made.spread(frozen) if job.fsdp else frozen.to(arguments.device)
    return made


def _progress(tell: Tell, stage: Stage) -> Callable[[int, int, dict[str, float]], None]:
    clock = Clock()

    def line(step: int, steps: int, entry: dict[str, float]) -> None:
        prefix = "eval_" if "eval_loss" in entry else ""
        if f"{prefix}loss" not in entry:
            return
        shown = {name: entry.get(f"{prefix}{name}") for name in ("loss", "rewards/accuracies", "rewards/margins")}
        shown["logps/chosen"] = entry.get(f"{prefix}logps/chosen")
        if prefix:
            shown["kl"] = entry.get("eval_kl")
        told = "  ".join(f"{name} {value:.4g}" for name, value in shown.items() if value is not None)
        rate = "" if prefix else clock.told(step, steps)
        tell(f"{'held out' if prefix else 'step':9}{step}/{steps}  {told}{'  ' if rate else ''}{rate}")

    return line


def _writer(job: BpoJob, rank: int) -> str:
    """A name for this process' file: where a folder is shared, of the training too."""
    if job.references is None:
        return str(rank)
    return f"{hashlib.sha256(str(job.out.resolve()).encode()).hexdigest()[:12]}-{rank}"


def _drawn(made: BpoTrainer, stage: Stage) -> list[Item]:
    """The pairs that the training will see: not all of them where it ends before the first epoch does."""
    items = made.items
    limits = [steps for steps in (stage.max_steps, stage.stop_after) if steps]
    if not limits or min(limits) * stage.batch >= len(made.order):
        return items
    made.order.set_epoch(0)
    first = itertools.islice(made.order, min(limits) * stage.batch)
    return [items[i] for i in sorted(set(first))]


def _fill(made: BpoTrainer, items: list[Item], tell: Tell) -> None:
    """Reference log-probabilities of all pairs, before the first step."""
    told, clock = time.monotonic(), Clock("pair")

    def count(done: int, whole: int) -> None:
        nonlocal told
        rate = clock.told(done, whole)
        if done == whole or time.monotonic() - told > TELL_EVERY:
            told = time.monotonic()
            tell(f"reference {done}/{whole} pairs{'  ' if rate else ''}{rate}")

    batch = made.args.per_device_eval_batch_size
    share = (made.args.process_index, made.args.world_size)
    fill(made.references, items, made.base_logprobs, batch, count, share, made.sharded)
    if trainer.processes() > 1:
        trainer.wait_for_all()
        made.references.read()


# -- after ------------------------------------------------------------------------------------------------------------


def _evaluated(made: BpoTrainer) -> bool:
    """Whether the last step was evaluated, here or before an interruption."""
    return any("eval_loss" in row and row["step"] == made.state.global_step for row in made.state.log_history)


def displacement(history: list[dict[str, float]]) -> dict[str, Any] | None:
    """What became of the chosen answers' log-probability, over the same pairs before and after.

    Args:
        history: Log entries; the last evaluation decides, without any the last interval of training.

    Returns:
        `before`, `after`, `pairs` (`held_out` or `train`), `fell`, and `verdict` for people; None without entries.
    """
    for prefix, pairs in (("eval_", "held_out"), ("", "train")):
        rows = [row for row in history if f"{prefix}logps/base" in row]
        if rows:
            before, after = rows[-1][f"{prefix}logps/base"], rows[-1][f"{prefix}logps/chosen"]
            where = "of held-out pairs" if prefix else "of the last interval's training pairs"
            if after < before:
                verdict = f"chosen log-probability {where} fell from {before:.4g} to {after:.4g} "
                verdict += "(likelihood displacement)"
            else:
                verdict = f"chosen log-probability {where} went from {before:.4g} to {after:.4g}: it did not fall"
            return {"before": before, "after": after, "pairs": pairs, "fell": after < before, "verdict": verdict}
    return None


def _leave(job: BpoJob, found: _Read, made: BpoTrainer, items: list[Item], facts: dict[str, Any]) -> dict[str, Any]:
    """Writes the result aside and brings it to its place; the work folder goes."""
    record: dict[str, Any] = {}
    work = trainer.work_folder(job.out)
    if trainer.is_main():
        final = work / "final"
        shutil.rmtree(final, ignore_errors=True)
        model: Any = made.accelerator.unwrap_model(made.model)
        if job.fsdp and _frozen_in_half(job):
            _halve_frozen(model)
        if job.recipe.lora is None or job.merge:
            whole = model.merge_and_unload() if job.recipe.lora is not None else model
            export.save_checkpoint(whole, found.processor, final)
        else:
            export.save_adapter(model, final)
        last = next((row for row in reversed(made.state.log_history) if "eval_loss" in row), None)
        record = export.write_record(
            final,
            job.recipe,
            job.seed,
            found.base,
            found.files,
            used_images(item.image for item in items),
            pairs=found.selection.counts,
            steps=made.state.global_step,
            lora_dropout=NO_DROPOUT,
            merged=job.merge,
            layout="packed" if made.collate.packed else "rows",
            **({"held_out": {k: v for k, v in last.items() if k.startswith("eval_")}} if last else {}),
            **facts,
        )
        leave_logs(work, final, made.state)
        export.finish(final, job.out)
    trainer.wait_for_all()
    return record


def _halve_frozen(model: nn.Module) -> None:
    """What is frozen gets the type that it has where nothing is sharded, so that merged checkpoints are alike."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
