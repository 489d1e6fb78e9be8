"""`hf:PATH_OR_ID`: any causal language model or image-text-to-text model that transformers' Auto classes load.

The configuration decides which of the two it is. Opening reads configuration, tokenizer and processor; weights come
with `load()`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import templates
from ..errors import BadInput, Refused
from ..requests import Choose, Generate, ImageRef, Prompt, Request
from . import backbone, hf_loading, hf_options, image_tokens, peft_adapter
from .base import ModelAdapter, Options
from .checkpoint import Checkpoint, one_line
from .hf_model import HfModel
from .hf_options import HfOptions
from .hf_seeing import HfSeeing
from .llava_layout import Parts, open_checkpoint, refuse_half_an_adapter
from .weaken import features_weakened, parse_contrast, parse_weaken, pixels_weakened, projector_of


def open_model(target: str, options: Options) -> ModelAdapter:
    """Opens a model without its weights.

    Args:
        target: Folder or hub id.
        options: `-M` options (`hf_options.HfOptions`).

    Raises:
        BadInput: Not a checkpoint, not a kind of model that is driven here, or an option that does not apply.
    """
    parsed = hf_options.parse(options, local=Path(target).exists())
    with hf_loading.quiet_transformers():
        parts = Parts(parsed.vision_tower, parsed.base, language_only=parsed.backbone)
        checkpoint = open_checkpoint(target, parsed.revision, parts)
        if checkpoint.multimodal and not parsed.backbone:
            return HfImageText(checkpoint, parsed)
        if parsed.weaken:
            raise BadInput(f"-M weaken=: hf:{target} is run as a language model and sees no image; leave it out")
        if parsed.backbone and not checkpoint.multimodal and not checkpoint.extracted:
            raise BadInput(f"-M backbone=true: hf:{target} is a language model already; leave it out")
        return HfText(checkpoint, parsed)


class HfText(HfModel):
    """A causal language model: a whole checkpoint, or the backbone of a multimodal one."""

    def __init__(self, checkpoint: Checkpoint, options: HfOptions) -> None:
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

        self.is_backbone = checkpoint.multimodal
        self.part = "backbone" if self.is_backbone else "whole"
        self.config = backbone.text_config(checkpoint) if self.is_backbone else checkpoint.config
        if type(self.config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            kind = "a language model" if self.is_backbone else "an image-text-to-text model"
            raise BadInput(f"hf:{checkpoint.target}: {self.config.model_type} is neither a causal LM nor {kind} here")
        super().__init__(checkpoint, options, _tokenizer(checkpoint))

    def _files(self) -> dict[str, str]:
        return {**super()._files(), "processor": ""}  # a language model sees no image

    def _class_name(self) -> str:
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

        cls: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(self.config)]
        return str(cls.__name__)

    def _skeleton(self) -> Any:
        from transformers import AutoModelForCausalLM

        return backbone.on_meta(AutoModelForCausalLM, self.config)

    def _chat_template(self) -> Any:
        return self.tokenizer.chat_template

    def _chat(self, prompt: Prompt) -> str:
        if not self.tokenizer.chat_template:
            return templates.render("raw", prompt)
        # A multimodal checkpoint's template reads lists of parts, and would drop plain strings in silence.
        turns = templates.messages(prompt, parts=self.is_backbone)
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _load_weights(self) -> Any:
        from transformers import AutoModelForCausalLM

        if self.is_backbone:
            model = backbone.load_backbone(self.checkpoint, self.options, self.dtype, self.device)
        else:
            model = hf_loading.load(AutoModelForCausalLM, self.checkpoint, self.options, self.dtype, self.device)
        if self.options.adapter:
            if not self.is_backbone:
                resolve, outside = backbone.adapter_on_language_model(model)
                return peft_adapter.apply(model, self.options.adapter, resolve, outside)
            names = backbone.names(self.checkpoint)
            return peft_adapter.apply(model, self.options.adapter, names.of_adapter, outside=names.outside)
        return model


class HfImageText(HfSeeing):
    """A multimodal model: images and text in, text out. Text tasks go to its backbone."""

    images = True

    def __init__(self, checkpoint: Checkpoint, options: HfOptions) -> None:
        from transformers import AutoProcessor

        try:
            self.processor = AutoProcessor.from_pretrained(checkpoint.source, **checkpoint.revision)
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise BadInput(f"hf:{checkpoint.target}: its processor cannot be read: {one_line(error)}") from error
        if options.adapter:
            refuse_half_an_adapter(options.adapter)
        super().__init__(checkpoint, options, self.processor.tokenizer)
        self.image_id = image_tokens.image_id(self.processor, checkpoint.config)
        self._lender: HfImageText | None = None
        self._check_weaken()
        self.name += self._suffix()

    @cached_property
    def _backbone(self) -> ModelAdapter:
        if not backbone.available(self.checkpoint):
            return self
        return HfText(self.checkpoint, replace(self.options, weaken=None, contrast=None))

    def for_text(self) -> ModelAdapter:
        """The language model alone, loaded apart from this one; this model where transformers has no class for that."""
        return self._backbone

    # -- weakened images ------------------------------------------------------------------------------------------

    def weakened(self, weaken: str, contrast: str = "") -> HfImageText:
        """As `ModelAdapter.weakened` says; `close` of the lender frees the weights once no twin holds them."""
        twin = copy.copy(self)
        twin.options = replace(self.options, weaken=parse_weaken(weaken), contrast=parse_contrast(contrast))
        if twin.options.contrast and not twin.options.weaken:
            raise BadInput(f"contrast {contrast}: against which weakened image?")
        twin._lender, twin._model = self._lender or self, None
        for own in ("_identity", "_path", "_scorer"):
            twin.__dict__.pop(own, None)
        twin.name = self.name.removesuffix(self._suffix()) + twin._suffix()
        twin._check_weaken()
        return twin

    def _suffix(self) -> str:
        return f"+{self.options.weaken.name}" if self.options.weaken else ""

    def _check_weaken(self) -> None:
        spec = self.options.weaken
        if spec and spec.target == "features" and projector_of(self._skeleton()) is None:
            cause = f"{self._class_name()} has no projector of a known name to put noise before"
            raise BadInput(f"-M weaken={spec}: {cause}; weaken pixels instead (pixels:{spec.step})")

    def _seen(self) -> dict[str, str]:
        options = self.options
        known = {"weaken": options.weaken, "contrast": options.contrast}
        return {name: str(value) for name, value in known.items() if value}

    def check(self, request: Request) -> None:
        """Refuses, beside what the base class does, what contrastive decoding cannot be."""
        super().check(request)
        if not self.options.contrast or not request.prompt.images:
            return
        if isinstance(request, Choose):
            raise Refused("-M contrast= is a way of writing text: log-likelihoods are asked for without it")
        if request.params.num_beams > 1:
            raise Refused(f"-M contrast= with {request.params.num_beams} beams is not supported")

    def load(self) -> None:
        """Brings the weights, or takes those of the model that this one shares them with."""
        if self._lender is None:
            if self._model is None:
                super().load()
            return
        self._lender.load()
        self._model, self._alone = self._lender._model, self._lender._alone
        self._size_batches()

    def _noisy(self, inputs: dict[str, Any], requests: Sequence[Request]) -> dict[str, Any]:
        """The model's inputs with noise on their pixels, if it is pixels that are weakened."""
        spec = self.options.weaken
        if spec is None or spec.target != "pixels":
            return inputs
        return pixels_weakened(self._model, inputs, _images(requests), spec)

    def _seeing(self, requests: Sequence[Request]) -> AbstractContextManager[None]:
        """In which forward passes with these requests' images have noise on their features, if they are weakened."""
        spec = self.options.weaken
        if spec is None or spec.target != "features":
            return contextlib.nullcontext()
        return features_weakened(self._model, _images(requests), spec)

    def _contrasted(self) -> bool:
        return self.options.contrast is not None

    def _before(self, inputs: Mapping[str, Any], requests: Sequence[Generate]) -> list[Any]:
        if not self.options.contrast or not requests[0].prompt.images:
            return []
        from .contrast import Contrastive

        weak = self._noisy(dict(inputs), requests)
        return [Contrastive(self._model, weak, self.options.contrast, lambda: self._seeing(requests))]

    # -- what it is -----------------------------------------------------------------------------------------------

    def _class_name(self) -> str:
        from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

        cls: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(self.checkpoint.config)]
        return str(cls.__name__)

    def _skeleton(self) -> Any:
        from transformers import AutoModelForImageTextToText

        return backbone.on_meta(AutoModelForImageTextToText, self.checkpoint.config)

    def _chat_template(self) -> Any:
        return self.processor.chat_template or self.tokenizer.chat_template

    def _chat(self, prompt: Prompt) -> str:
        if not self._chat_template():
            choices = ", ".join(templates.TEMPLATES)
            raise BadInput(f"{self.name} has no chat template: choose one with -M template=NAME ({choices})")
        turns = templates.messages(prompt, parts=True)
        return str(self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _image_token(self) -> str:
        return image_tokens.image_text(self.processor, self.name, self.checkpoint.config)

    def _load_weights(self) -> Any:
        from transformers import AutoModelForImageTextToText

        model = hf_loading.load(AutoModelForImageTextToText, self.checkpoint, self.options, self.dtype, self.device)
        if self.options.adapter:
            names = backbone.names(self.checkpoint)
            return peft_adapter.apply(model, self.options.adapter, names.in_whole)
        return model


def _tokenizer(checkpoint: Checkpoint) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(checkpoint.source, **checkpoint.revision)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise BadInput(f"hf:{checkpoint.target}: its tokenizer cannot be read: {one_line(error)}") from error


def _images(requests: Sequence[Request]) -> list[ImageRef]:
    return [ref for request in requests for ref in request.prompt.images]
