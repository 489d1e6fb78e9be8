"""A checkpoint that both vLLM and transformers run on a CPU, opened by both."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from mmalign_eval.miniature import nano
from mmalign_eval.models import hf, vllm

_ROOT = tempfile.TemporaryDirectory(prefix="mmeval-vllm-")
POSITIONS = 1024
CACHE = {"kv_cache_gb": "1"}
TEXT = "Question: How many apples does Tom have?"
BROKEN = "<extra_9>"  # its embedding is not a number


@cache
def checkpoint(positions: int = POSITIONS) -> Path:
    """A random LLaMA whose heads have 32 numbers, the fewest that vLLM's attention takes on a CPU.

    One of the tokens it likes to write ends a text, and one is broken.
    """
    folder = Path(_ROOT.name) / f"model-{positions}"
    tokenizer, config = nano.nano_tokenizer(), nano._llama_config()
    config.head_dim, config.max_position_embeddings = 32, positions
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        broken = tokenizer.convert_tokens_to_ids(BROKEN)
        model.get_input_embeddings().weight[broken] = float("nan")
        model.lm_head.weight[broken] = 0  # never among the likeliest, so not written
    nano._save(model, folder, tokenizer)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    with torch.inference_mode():
        liked = model.eval().generate(ids, max_new_tokens=20, min_new_tokens=20, do_sample=False)[0, -1]
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": [2, int(liked)]}))
    return folder


@cache
def by_hf() -> Any:
    """The checkpoint in transformers."""
    return loaded(hf.open_model(str(checkpoint()), {}))


@cache
def by_vllm() -> Any:
    """The same in vLLM; started once, which takes a while."""
    return loaded(vllm.open_model(str(checkpoint()), CACHE))


def loaded(model: Any) -> Any:
    """The model with its weights."""
    model.load()
    return model
