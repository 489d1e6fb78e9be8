"""Stage 1 begins here: a language model, a CLIP vision tower and a fresh projector become one LLaVA."""

from __future__ import annotations

from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlavaForConditionalGeneration

from ..errors import BadInput
from ..miniature import checkpoint as miniature
from ..models import hf_loading
from ..models.checkpoint import Checkpoint, one_line
from ..models.hf_options import HfOptions
from ..models.llava_layout import open_checkpoint
from ..models.llava_parts import (
    chat_template,
    give_image_token,
    grow_vocabulary,
    image_processor,
    make_processor,
    put_together,
    vision_tower,
)
from .config import TemplateName

_MINIATURE: dict[str, Literal["llava", "lm"]] = {"mini": "llava", "mini:lm": "lm"}


def resolve(target: str) -> str:
    """A folder or hub id; `mini` and `mini:lm` are the committed miniature's."""
    return str(miniature(_MINIATURE[target])) if target in _MINIATURE else target.removeprefix("hf:")


def assemble(
    language: str,
    tower: str,
    projector: Literal["linear", "mlp2x_gelu"],
    seed: int,
    *,
    template: TemplateName = "v1",
    image_aspect: Literal["square", "pad"] = "square",
    dtype: torch.dtype = torch.float32,
) -> tuple[LlavaForConditionalGeneration, Any]:
    """A LLaVA with an untrained projector, and its processor.

    Args:
        language: Folder or hub id of a causal LM of LLaMA's build.
        tower: Folder or hub id of a CLIP vision tower, of a whole CLIP, or of a LLaVA whose tower is taken.
        projector: One linear layer, or two with a GELU between them (LLaVA-1.5).
        seed: Of the projector's weights, which are drawn as torch draws linear layers (LLaVA's builder does).
        template: Whose chat form the processor carries; `plain`, which has none, leaves v1's.
        image_aspect: How the processor makes images square: crop, or `pad`.
        dtype: Of the weights in memory.

    Returns:
        The model on the CPU, its tower (and the identity of a one-layer projector) frozen, and its LlavaProcessor.
        The logits of the language model's own tokens are unchanged by what is added.

    Raises:
        BadInput: A part that is not there, not complete, or not of a kind that LLaVA holds.
    """
    with hf_loading.quiet_transformers(), torch.random.fork_rng(devices=[]):  # making models draws numbers
        words, eyes = open_checkpoint(resolve(language)), open_checkpoint(resolve(tower))
        pictures = image_processor(eyes, pad=image_aspect == "pad")
        model = _language_model(words, dtype)
        tokenizer = _tokenizer(words)
        image_id = give_image_token(tokenizer)
        grow_vocabulary(model, len(tokenizer))
        llava = put_together(model, vision_tower(eyes, dtype), projector, image_id, tokenizer, seed)
        form = chat_template("v1" if template == "plain" else template)
        processor = make_processor(tokenizer, pictures, llava.config.vision_config.patch_size, form)
    return llava, processor


def _language_model(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    if checkpoint.multimodal:
        raise BadInput(f"{checkpoint.target}: has images already: give the language model that it was made from")
    name = str(dtype).removeprefix("torch.")
    return hf_loading.load(AutoModelForCausalLM, checkpoint, HfOptions(), name, "cpu")


def _tokenizer(checkpoint: Checkpoint) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.source, **checkpoint.revision)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise BadInput(f"{checkpoint.target}: its tokenizer cannot be read: {one_line(error)}") from error
    return tokenizer
