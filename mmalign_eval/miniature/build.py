"""Make the miniature from seeds: vision tower and language model side by side, then LLaVA's two stages, then the files.

Every step keeps its state in `work/`, so a killed build goes on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPVisionModel, LlamaForCausalLM

from mmalign_eval.miniature.corpus import text_tokenizer
from mmalign_eval.miniature.export import export_language, export_llava, leave_record
from mmalign_eval.miniature.files_image import write_image_files
from mmalign_eval.miniature.files_text import write_text_files
from mmalign_eval.miniature.language import text_config, train_language, weighted_loss, window_arrays
from mmalign_eval.miniature.recipe import Recipe
from mmalign_eval.miniature.tokenizer import load_tokenizer
from mmalign_eval.miniature.tuning import assemble, train_stage1, train_stage2, train_words
from mmalign_eval.miniature.vision import patch_features, render_set, train_tower, vision_config

TEXT_WINDOWS = 1  # windows of plain text a step in stage 2


def timed(work: Path, name: str, step: Callable[[], object]) -> None:
    """Run a step unless it was finished before; note its minutes."""
    done = work / f"{name}.done.json"
    if not done.exists():
        began = time.time()
        step()
        done.write_text(json.dumps({"minutes": round((time.time() - began) / 60, 2)}))
    print(f"{name}: {json.loads(done.read_text())['minutes']} min", flush=True)


def build_tower(recipe: Recipe, work: Path) -> None:
    """Vision tower and its features of all training images."""
    torch.set_num_threads(1)
    config = vision_config(recipe.vision_hidden, recipe.vision_layers)

    def step() -> None:
        tower = train_tower(recipe.train_images, recipe.tower, work, config, recipe.tower_batch)
        tower.save_pretrained(work / "tower")
        pixels, *_ = render_set(range(recipe.train_images), work, "train")
        np.save(work / "features.npy", patch_features(tower, pixels))

    timed(work, "tower", step)


def build_language(recipe: Recipe, work: Path) -> None:
    """Tokenizer and base language model."""
    torch.set_num_threads(1)

    def step() -> None:
        if not (work / "tokenizer").exists():
            text_tokenizer(recipe.vocab_size, recipe.tokenizer_documents).save_pretrained(work / "tokenizer")
        tokenizer = load_tokenizer(work / "tokenizer")
        config = text_config(len(tokenizer), recipe.text_hidden, recipe.text_layers)
        train_language(tokenizer, config, recipe.phases, work).save_pretrained(work / "language")

    timed(work, "language", step)


def build_llava(recipe: Recipe, work: Path, checkpoints: Path) -> None:
    """Both stages, and both checkpoints."""
    tokenizer = load_tokenizer(work / "tokenizer")
    language = LlamaForCausalLM.from_pretrained(work / "language")
    export_language(language, work / "tokenizer", checkpoints / "lm")
    model = assemble(CLIPVisionModel.from_pretrained(work / "tower"), language)
    features = np.load(work / "features.npy", mmap_mode="r")
    ids, weights = window_arrays(tokenizer, recipe.phases, len(recipe.phases) - 1, work)

    def text_loss(step: int) -> torch.Tensor:
        rows = np.arange(step * TEXT_WINDOWS, (step + 1) * TEXT_WINDOWS) % len(ids)
        tokens = torch.from_numpy(ids[rows].astype(np.int64))
        hidden = model.model.language_model(tokens, use_cache=False).last_hidden_state
        return weighted_loss(model.lm_head(hidden), tokens, torch.from_numpy(weights[rows]).float())

    def stage1() -> None:
        train_words(model, tokenizer, features, work, recipe.words)
        train_stage1(model, tokenizer, features, recipe.stage1, work, recipe.stage1_batch)

    timed(work, "stage1", stage1)

    def stage2() -> None:
        model.load_state_dict(torch.load(work / "stage1.pt", weights_only=True)["model"])
        for stage in recipe.stage2:
            train_stage2(model, tokenizer, features, text_loss, stage, work, recipe.stage2_batch)
        export_llava(model, work / "tokenizer", checkpoints / "llava")
        leave_record(checkpoints / "llava", checkpoints / "lm")

    timed(work, "stage2", stage2)


def _side_by_side(recipe: Recipe, work: Path) -> None:
    parts = [
        multiprocessing.get_context("spawn").Process(target=part, args=(recipe, work))
        for part in (build_tower, build_language)
    ]
    for process in parts:
        process.start()
    for process in parts:
        process.join()
    if any(process.exitcode for process in parts):
        raise RuntimeError("the tower or the language model was not finished; run the same command to go on")


def build(recipe: Recipe, out: Path, processes: int = 2) -> None:
    """Everything: `out/data`, `out/checkpoints`, and `out/work` with what a resumed build needs."""
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    if processes > 1:
        _side_by_side(recipe, work)
    else:
        build_tower(recipe, work)
        build_language(recipe, work)
    torch.set_num_threads(1)  # one thread a process: two on two busy cores wait for each other
    build_llava(recipe, work, out / "checkpoints")

    def files() -> None:
        write_image_files(out / "data", recipe.benchmark_images)
        write_text_files(out / "data")

    timed(work, "files", files)
