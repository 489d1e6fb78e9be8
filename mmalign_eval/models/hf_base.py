"""What a Hugging Face model is and how it reads requests: identity, templates, token ids; nothing needs weights."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import templates
from ..errors import BadInput, Refused
from ..phases import Work
from ..requests import MODEL_TEMPLATE, Choose, Generate, GenParams, Prompt, Request
from . import hf_loading, hf_options, peft_adapter
from .base import ModelAdapter
from .checkpoint import Checkpoint, ends, max_length, one_line
from .encoding import BoundedCache, Ids, Scored, TextEncoder
from .hf_options import HfOptions

T = TypeVar("T")

_CACHED_TOKENS = 8_000_000  # of planned requests, 4 bytes each
_NONE = np.empty(0, np.int32)


class HfBase(ModelAdapter):
    """The part of an adapter that works before its weights are loaded."""

    part = "whole"
    work: Work

    def __init__(self, checkpoint: Checkpoint, options: HfOptions, tokenizer: Any) -> None:
        self.checkpoint, self.options, self.tokenizer = checkpoint, options, tokenizer
        self.work = Work()
        self.tokenizer.padding_side = "left"  # not kept by every checkpoint's files; right padding garbles batches
        self.encoder = TextEncoder(tokenizer, options.add_bos)
        self._encoders: dict[bool, TextEncoder] = {}  # for prompts that say themselves what stands before them
        self.batch_rows = options.batch_rows or hf_options.DEFAULT_ROWS
        self.batch_tokens = options.batch_tokens  # else known once there are weights
        self._pass_tokens = options.batch_tokens  # most that go through the model at once
        self.choose_rows = options.batch_rows
        self.device = hf_options.resolve_device(options)
        self.dtype = hf_loading.resolve_dtype(checkpoint, options, self.device)
        self.name = Path(checkpoint.target).resolve().name if not checkpoint.commit else Path(checkpoint.target).name
        if options.adapter:
            self.name += f"+{Path(options.adapter).resolve().name}"
        self.ends = ends(checkpoint, tokenizer)
        self.max_length = max_length(checkpoint.config, tokenizer)
        self._encoded = BoundedCache(_CACHED_TOKENS)
        self._model: Any = None
        self._alone = ""  # why requests do not share a prefix tree
        self._written: dict[GenParams, tuple[int, int]] = {}  # texts and their tokens so far, by parameters
        self._unshown = ""  # why those about one image do not share it

    # -- what it is ---------------------------------------------------------------------------------------------

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return {
            "kind": "hf",
            "part": self.part,
            **self._files(),
            "peft": peft_adapter.fingerprint(self.options.adapter) if self.options.adapter else "",
            "dtype": self.dtype,
            "template": hashlib.sha256(self._template_text().encode()).hexdigest(),
            "add_bos": self.options.add_bos,
            "eos": list(self.ends.eos),
            **self._seen(),
        }

    def _seen(self) -> dict[str, str]:
        """What stands between an image and the model, if anything does."""
        return {}

    def _files(self) -> dict[str, str]:
        return self.checkpoint.fingerprints()

    def identity(self) -> dict[str, Any]:
        """Hashes of everything that can change an answer; no paths."""
        return dict(self._identity)

    def describe(self) -> dict[str, Any]:
        """Class, size and where it runs, and the identity."""
        options = self.options
        return {
            "class": self._class_name(),
            "parameters": self._count_parameters(),
            "device": f"device_map={options.device_map}" if options.device_map else self.device,
            "attention": self._model.config._attn_implementation if self._model is not None else options.attn or "auto",
            "max_length": self.max_length,
            "batch_tokens": self.batch_tokens,
            "batch_rows": self.batch_rows,
            "commit": self.checkpoint.commit,
            "adapter": peft_adapter.summary(options.adapter) if options.adapter else "",
            "prefixes_are_shared": (not self._alone) if self._model is not None else None,
            **({"prefixes_not_shared_because": self._alone} if self._alone else {}),
            **({"images_not_shared_because": self._unshown} if self._unshown else {}),
            **self.identity(),
        }

    def _count_parameters(self) -> int:
        model = self._model if self._model is not None else self._skeleton()
        return sum(parameter.numel() for parameter in model.parameters())

    def _template_text(self) -> str:
        if self.options.template != MODEL_TEMPLATE:
            return templates.fingerprint_text(self.options.template)
        return str(self._chat_template() or "")

    @abstractmethod
    def _class_name(self) -> str:
        """Name of the model's class."""

    @abstractmethod
    def _skeleton(self) -> Any:
        """The model without memory for weights."""

    @abstractmethod
    def _chat_template(self) -> Any:
        """The checkpoint's chat template, or None."""

    @abstractmethod
    def _chat(self, prompt: Prompt) -> str:
        """A prompt in the checkpoint's own template."""

    # -- text and tokens ----------------------------------------------------------------------------------------

    def render(self, request: Request) -> str:
        """The context as sent: for a `Choose` the options follow it, for a rolling one it is the text itself."""
        if isinstance(request, Choose) and request.rolling:
            return request.options[0]
        return self._render(request.prompt)

    def _render(self, prompt: Prompt) -> str:
        name = self.options.template if prompt.template == MODEL_TEMPLATE else prompt.template
        if name != MODEL_TEMPLATE:
            return templates.render(name, prompt, self._image_token())
        from jinja2.exceptions import TemplateError

        try:
            return self._chat(prompt)
        except (TemplateError, TypeError) as error:
            choice = ", ".join(templates.TEMPLATES)
            cause = f"its chat template does not take this prompt ({one_line(error)})"
            raise BadInput(f"{self.name}: {cause}; choose one with -M template=: {choice}") from error

    def _image_token(self) -> str:
        return "<image>"

    def _encoder(self, prompt: Prompt) -> TextEncoder:
        if prompt.special_tokens is None:
            return self.encoder
        return self._encoders.setdefault(prompt.special_tokens, TextEncoder(self.tokenizer, prompt.special_tokens))

    def _encode(self, request: Request, make: Callable[[], tuple[T, int]]) -> T:
        found: T | None = self._encoded.get(request)
        if found is None:
            found, size = make()
            self._encoded.put(request, found, size)
        return found

    def _windows(self, request: Choose) -> list[Scored]:
        def make() -> tuple[list[Scored], int]:
            windows = list(self.encoder.rolling(request.options[0], self.max_length))
            return windows, sum(window.size for window in windows)

        return self._encode(request, make)

    def _scored(self, request: Choose) -> Scored:
        def make() -> tuple[Scored, int]:
            scored = self._encoder(request.prompt).choose(self._render(request.prompt), request.options)
            return scored, scored.size

        return self._encode(request, make)

    def _prompt_ids(self, request: Generate) -> Ids:
        def make() -> tuple[Ids, int]:
            ids = self._encoder(request.prompt).prompt_ids(self._render(request.prompt))
            return ids, len(ids)

        return self._encode(request, make)

    def _expand(self, ids: Ids, prompt: Prompt) -> Ids:
        """Ids with each image as many ids as the model has image tokens."""
        return ids

    def laid_out(self, request: Request) -> Sequence[Scored]:
        """The prompt, or context and options."""
        if isinstance(request, Generate):
            return [Scored(self._expand(self._prompt_ids(request), request.prompt), (_NONE,))]
        scored = self._windows(request) if request.rolling else [self._scored(request)]
        return [Scored(self._expand(part.context, request.prompt), part.options) for part in scored]

    def length(self, request: Request) -> int:
        """Tokens in a batch: a packed row for a `Choose`, prompt and new tokens for a `Generate`."""
        if isinstance(request, Generate):
            room = self.max_length - request.params.max_new_tokens
            ids = self._expand(self._prompt_ids(request), request.prompt)
            return (min(len(ids), max(room, 1)) + request.params.max_new_tokens) * request.params.num_beams
        if request.rolling:
            return min(self.max_length, max((window.size for window in self._windows(request)), default=1))
        scored = self._scored(request)
        options = sum(max(0, len(option) - 1) for option in scored.options)
        return len(self._expand(scored.context, request.prompt)) + options

    def prefix(self, request: Request) -> Ids:
        """A prompt's token ids; an option's context."""
        if isinstance(request, Generate):
            return self._expand(self._prompt_ids(request), request.prompt)
        return _NONE if request.rolling else self._expand(self._scored(request).context, request.prompt)

    def effective(self, params: GenParams) -> dict[str, Any]:
        """Everything that decides the text: the request's parameters, and the checkpoint's end tokens."""
        shown = super().effective(params) | {"stop": list(params.stop), "eos_token_ids": list(self.ends.eos)}
        sampled = ("temperature", "top_p", "top_k", "seed")
        return shown if params.sampled else {k: v for k, v in shown.items() if k not in sampled} | {"temperature": 0.0}

    def check(self, request: Request) -> None:
        """Refuses images a text model cannot see, sampling with beams, and more new tokens than the model has room."""
        if request.prompt.images and not self.images:
            raise Refused(f"{self.name} takes no images: give an image-text model, or leave backbone=true out")
        if isinstance(request, Choose):
            if request.rolling and len(request.options) != 1:
                raise Refused("a rolling request has exactly one option")
            return
        params = request.params
        if params.sampled and params.num_beams > 1:
            beams = f"temperature {params.temperature} with {params.num_beams} beams"
            raise Refused(f"{beams}: sampling with beams is not supported")
        if params.max_new_tokens >= self.max_length:
            room = f"{params.max_new_tokens} new tokens leave no room for a prompt"
            raise Refused(f"{room}: {self.name} takes {self.max_length} in all")
