"""Save checkpoints as transformers does, in half precision, so that Auto classes load them without a special case."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from transformers import LlamaForCausalLM, LlavaForConditionalGeneration, PreTrainedModel

from mmalign_eval.miniature.tokenizer import BOS_ID, EOS_ID, PAD_ID, load_tokenizer, make_processor
from mmalign_eval.miniature.world import IMAGE_SIZE, PATCH_SIZE
from mmalign_eval.models.checkpoint import open_checkpoint
from mmalign_eval.models.tuned import TUNING_FILE


def _save_half(model: PreTrainedModel, path: Path) -> None:
    half: PreTrainedModel = copy.deepcopy(model).half()
    settings = half.generation_config
    settings.bos_token_id, settings.eos_token_id, settings.pad_token_id = BOS_ID, EOS_ID, PAD_ID
    half.save_pretrained(path)


def export_language(model: LlamaForCausalLM, tokenizer: Path, path: Path) -> None:
    """The language model with its tokenizer, loaded afresh: a processor leaves its class in the tokenizer's config."""
    _save_half(model, path)
    load_tokenizer(tokenizer).save_pretrained(path)


def export_llava(model: LlavaForConditionalGeneration, tokenizer: Path, path: Path) -> None:
    """The LLaVA with its processor and chat template."""
    _save_half(model, path)
    make_processor(load_tokenizer(tokenizer), IMAGE_SIZE, PATCH_SIZE).save_pretrained(path)


def leave_record(tuned: Path, base: Path) -> None:
    """Says beside the LLaVA which language model it was made of, as a tuned checkpoint's `mmeval.json` does."""
    weights = open_checkpoint(str(base)).fingerprints()["weights"]
    record = {"tuned": {"method": "mm-ft", "base": {"name": "mini-lm", "weights": weights, "peft": ""}}}
    (tuned / TUNING_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
