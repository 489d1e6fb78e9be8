"""A LLaVA to go on training with, and its processor."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import BadInput
from ..models import backbone, hf_loading, image_tokens, peft_adapter
from ..models.checkpoint import Checkpoint, one_line
from ..models.hf_options import HfOptions
from ..models.llava_layout import open_checkpoint, refuse_half_an_adapter
from .assemble import resolve
from .config import Stage
from .encoding import Encoder


def open_llava(target: str) -> Checkpoint:
    """A LLaVA's checkpoint; only its configuration is read.

    Raises:
        BadInput: Not there, or no LLaVA.
    """
    checkpoint = open_checkpoint(resolve(target))
    if checkpoint.config.model_type != "llava":
        raise BadInput(f"{target}: a {checkpoint.config.model_type}, not a LLaVA")
    return checkpoint


def load_llava(target: str, dtype: torch.dtype = torch.float32, adapter: str = "") -> tuple[Any, Any]:
    """Model (on the CPU) and processor, its tokenizer padding on the right.

    Args:
        target: Folder or hub id.
        dtype: Of the weights.
        adapter: Folder of a PEFT adapter that is merged into them, in float32.

    Raises:
        BadInput: Not there, damaged, incomplete, or no LLaVA; an adapter that does not fit.
    """
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    checkpoint = open_llava(target)
    checkpoint.fetch_weights()
    name = str(torch.float32 if adapter else dtype).removeprefix("torch.")
    model = hf_loading.load(LlavaForConditionalGeneration, checkpoint, HfOptions(), name, "cpu")
    if adapter:
        refuse_half_an_adapter(adapter)
        model = peft_adapter.merge(model, adapter, backbone.names(checkpoint).in_whole).to(dtype)
    return model, load_processor(checkpoint, AutoProcessor)


def load_processor(checkpoint: Checkpoint, auto_class: Any) -> Any:
    """A checkpoint's processor.

    Raises:
        BadInput: It cannot be read.
    """
    with hf_loading.quiet_transformers():
        try:
            return auto_class.from_pretrained(checkpoint.source, **checkpoint.revision)
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise BadInput(f"{checkpoint.target}: its processor cannot be read: {one_line(error)}") from error


def encoder_of(processor: Any, config: Any, stage: Stage) -> Encoder:
    """What makes token ids of a stage's rows for a LLaVA.

    Args:
        processor: The LLaVA's.
        config: Its configuration.
        stage: Its template and length.

    Raises:
        BadInput: The processor has no image token, or the tokenizer cannot be used.
    """
    image_id = image_tokens.image_id(processor, config)
    if image_id is None:
        raise BadInput("the model has no image token")
    size = processor._get_num_multimodal_tokens(image_sizes=[[100, 100]])["num_image_tokens"][0]  # alike for all
    wrap = bool(getattr(config, "mm_use_im_start_end", False))
    return Encoder(processor.tokenizer, stage.template, image_id, int(size), stage.max_length, wrap)
