"""Visual instruction tuning from files to a checkpoint or PEFT adapter: MM-ft, MM-lora and the SFT baseline.

Stage 1 trains the projector of a LLaVA put together from its parts (LLaVA, section 4.2); its result stays beside the
final one, as `<out>.stage1`, since an MM-lora adapter needs it. Stage 2 trains what the recipe's method says.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..models.tuned import TUNING_FILE
from . import export
from .assemble import assemble
from .batches import Row, encode_rows
from .config import Stage
from .data import used_images
from .instruct_job import STAGE_1, Found, Given, Job, about_stage_1, finished, read
from .loading import encoder_of, load_llava
from .lora import StageName, prepare
from .sft import Done, SftTrainer, Tell, train_stage
from .trainer import is_main, processes, wait_for_all, wants_bf16, work_folder
from .workplace import clear, leave_logs, workplace


class Reporter(Protocol):
    """Who is told how it goes."""

    def line(self, text: str) -> None:
        """A line for people."""

    def stage(self, name: str) -> Tell:
        """A stage begins; what it returns is called at every log entry."""


def run(job: Job, reporter: Reporter) -> dict[str, Any]:
    """Trains, unless the result is there already.

    Returns:
        The record beside the result (`mmeval.json`).

    Raises:
        BadInput: Anything given that cannot be, before any work; a full disk or a loss that is no number, during it.
        ImageError: An image cannot be read.
    """
    found = read(job)
    record = finished(job, found)
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


def _meet() -> None:
    """Lets the processes of a torchrun find each other before the first of them writes."""
    from accelerate import PartialState

    if processes() < 2:
        return
    cuda = torch.cuda.is_available()
    PartialState(cpu=not cuda, **({} if cuda else {"backend": "gloo"}))


# -- the stages -------------------------------------------------------------------------------------------------------


def _stage_1(job: Job, found: Found, given: Given, work: Path, reporter: Reporter) -> None:
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
        record = _record(job, found, final, [given], done, about=about_stage_1(job, found, given))
        record["tuned"]["method"] = STAGE_1
        (final / TUNING_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        leave_logs(work / "pretrain", final, done.trainer.state)
        export.finish(final, job.stage_1)
        shutil.rmtree(work / "pretrain")
    wait_for_all()
    reporter.line(f"stage 1  {_came_to(done)}  {job.stage_1}")


def _stage_2(job: Job, found: Found, work: Path, reporter: Reporter) -> dict[str, Any]:
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
        leave_logs(work / "tune", final, done.trainer.state)
        export.finish(final, job.out)
    wait_for_all()
    reporter.line(f"{recipe.method:<8} {_came_to(done)}  {job.out}")
    return record


def _encoded(given: Given, model: Any, processor: Any) -> list[Row]:
    return encode_rows(given.conversations, encoder_of(processor, model.config, given.stage), given.counts)


def _train(
    job: Job, model: nn.Module, processor: Any, given: Given, name: StageName, work: Path, reporter: Reporter
) -> Done:
    kind = SftTrainer
    if job.fsdp:
        from .sharding import wrap_for_trainer

        kind = wrap_for_trainer(SftTrainer)
    tell = reporter.stage("stage 1" if name == "pretrain" else job.recipe.method)
    answers = job.recipe.method == "sft"
    done = train_stage(model, processor, given.rows, given.stage, work / name, job.seed, tell, answers, kind)
    if job.fsdp:
        from .sharding import unshard

        unshard(done.trainer.model)
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


def _record(job: Job, found: Found, folder: Path, given: list[Given], done: Done, **facts: Any) -> dict[str, Any]:
    refs = [row.image for part in given for row in part.conversations]
    return export.write_record(
        folder,
        job.recipe,
        job.seed,
        found.base,
        [part.file for part in given],
        used_images(refs),
        rows={part.file.role: part.counts.as_json() for part in given},
        steps=done.steps,
        loss={"first": done.first_loss, "last": done.last_loss},
        **facts,
    )


def _came_to(done: Done) -> str:
    return f"{done.steps:,} steps  loss {done.first_loss:.4g} -> {done.last_loss:.4g}"
