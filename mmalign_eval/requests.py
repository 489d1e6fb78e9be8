"""What a task asks and what a model answers: frozen, hashable, serialisable records.

A `Generate` asks for text, a `Choose` for the log-likelihood of each of its options. Adapters get them and never
edit them; everything that can change an answer is inside them, so their canonical JSON is the key of the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

MODEL_TEMPLATE = "model"  # the checkpoint's own chat template
RAW_TEMPLATE = "raw"  # the text as it is: what language-model benchmarks send
MARKS = (16, 32, 64, 128, 256, 512)  # numbers of new tokens at which a response says how long its text was

_ENCODER = json.JSONEncoder(ensure_ascii=False)
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image is; its pixels are read only when a batch needs them.

    Attributes:
        path: An image file, or an Arrow or `.jsonl` file when `row` is set.
        row: Row of the file that holds the encoded image (base64 in JSON lines), counted from 0, or -1.
        column: Column of that row.
        transforms: Transforms applied after decoding, in order: `name` or `name:argument:...` (`data/transforms.py`).
    """

    path: str
    row: int = -1
    column: str = ""
    transforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One item of a benchmark.

    Attributes:
        id: Unique within the task, stable over data sources.
        data: The row: question, label, references ... (JSON values).
        images: Its images.
        cluster: What samples share that makes them dependent (an image, a subject); the id when empty.
        part: The part of the benchmark it belongs to (a split, a subset); `--limit` counts within parts.
        where: File and line it was read from, for messages.
    """

    id: str
    data: Mapping[str, Any]
    images: tuple[ImageRef, ...] = ()
    cluster: str = ""
    part: str = ""
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class GenParams:
    """How to decode. Every backend honours each field or refuses the request.

    Attributes:
        max_new_tokens: Most tokens to generate.
        temperature: 0 is greedy; above 0 samples.
        top_p: Nucleus; 1 keeps everything.
        top_k: Most likely tokens kept; 0 keeps everything.
        num_beams: Beam width; 1 is no beam search.
        min_new_tokens: End-of-sequence is not allowed before this many tokens.
        stop: Strings at which the text is cut (the stop string itself is dropped).
        seed: Per-sample seed; only sampling uses it, so greedy requests carry 0.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    num_beams: int = 1
    min_new_tokens: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0

    @property
    def sampled(self) -> bool:
        """Whether decoding draws random numbers."""
        return self.temperature > 0


def greedy(max_new_tokens: int, stop: tuple[str, ...] = ()) -> GenParams:
    """Greedy decoding of at most `max_new_tokens` tokens."""
    return GenParams(max_new_tokens=max_new_tokens, stop=stop)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One user turn with what stands before it.

    Attributes:
        text: The user's text; with the raw template, the whole context.
        images: Images of this turn, put in front of its text.
        system: System prompt, or None for the template's own.
        demos: Earlier (user, assistant) turns, text only.
        template: `model`, `raw`, or a name in `templates.py`.
        special_tokens: Whether the tokenizer adds its special tokens (LLaMA's BOS); None: its own habit.
    """

    text: str
    images: tuple[ImageRef, ...] = ()
    system: str | None = None
    demos: tuple[tuple[str, str], ...] = ()
    template: str = MODEL_TEMPLATE
    special_tokens: bool | None = None


@dataclass(frozen=True)
class Generate:
    """Asks for text."""

    prompt: Prompt
    params: GenParams

    @property
    def canonical(self) -> str:
        """Canonical JSON without image contents; equal requests have equal text."""
        return _canonical("generate", self.prompt, {"params": _params(self.params)})


@dataclass(frozen=True)
class Choose:
    """Asks for the summed log-likelihood of each option as continuation of the prompt.

    Attributes:
        prompt: The context, shared by all options.
        options: Continuations with their leading blank, as the benchmark writes them.
        rolling: The log-likelihood of a whole text in windows (perplexity tasks): the prompt is empty, one option.
    """

    prompt: Prompt
    options: tuple[str, ...]
    rolling: bool = False

    @property
    def canonical(self) -> str:
        """Canonical JSON without image contents; equal requests have equal text."""
        extra: dict[str, Any] = {"options": self.options}
        if self.rolling:
            extra["rolling"] = True
        return _canonical("choose", self.prompt, extra)


Request = Generate | Choose
Status = Literal["ok", "error", "refused", "truncated"]


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. An error is a status, never an answer.

    Attributes:
        status: `ok`; `truncated` (answered, but the prompt was cut on the left to fit the model's context); `error`
            (nothing usable came back); `refused` (the backend declined: a content filter, an unsupported request).
        text: Generated text, stop string and special tokens removed.
        logprobs: For `Choose`: natural-log likelihood of each option, summed over its tokens.
        greedy: For `Choose`: whether each option is what greedy decoding would give.
        finish: Why generation ended: `stop` or `length`; empty for `Choose`.
        prompt_tokens: Tokens in the prompt (all options' tokens included for `Choose`).
        new_tokens: Tokens generated.
        error: One line, for `error` and `refused`.
        marks: Characters of `text` after 16, 32, 64 ... new tokens (`MARKS`), as far as generation went beyond them;
            empty also where a backend does not tell.
        served: Which snapshot answered, where a server says so.
    """

    status: Status
    text: str = ""
    logprobs: tuple[float, ...] = ()
    greedy: tuple[bool, ...] = ()
    finish: str = ""
    prompt_tokens: int = 0
    new_tokens: int = 0
    error: str = ""
    marks: tuple[int, ...] = ()
    served: str = field(default="", compare=False)  # whoever answered, it is the same answer

    @property
    def answered(self) -> bool:
        """Whether there is an answer to score (and to keep)."""
        return self.status in ("ok", "truncated")

    def to_json(self) -> str:
        """Compact JSON without default fields."""
        fields = ((name, getattr(self, name)) for name in self.__slots__)
        return _ENCODER.encode({name: value for name, value in fields if value not in ("", 0, ())})

    @classmethod
    def from_json(cls, text: str) -> Response:
        """Reads what `to_json` wrote."""
        data = json.loads(text)
        for name in ("logprobs", "greedy", "marks"):
            if name in data:
                data[name] = tuple(data[name])
        return cls(**data)


def failure(message: str) -> Response:
    """An error response; newlines are folded so that the message stays one line."""
    return Response(status="error", error=" ".join(message.split())[:500] or "unknown error")


def with_seed(request: Request, run_seed: int, sample_id: str) -> Request:
    """Gives a sampled request its own seed, derived from ids so that order, sharding and batch size change nothing."""
    if isinstance(request, Choose) or not request.params.sampled:
        return request
    digest = hashlib.sha256(f"{run_seed}|{sample_id}".encode()).digest()
    return replace(request, params=replace(request.params, seed=int.from_bytes(digest[:8], "big") >> 1))


def _params(params: GenParams) -> dict[str, Any]:
    data = {name: getattr(params, name) for name in GenParams.__dataclass_fields__}
    if not params.sampled:
        del data["seed"]
    return data


def _canonical(kind: str, prompt: Prompt, extra: dict[str, Any]) -> str:
    data = {
        "kind": kind,
        "text": prompt.text,
        "system": prompt.system,
        "demos": prompt.demos,
        "template": prompt.template,
        "images": [image.transforms for image in prompt.images],
        **({} if prompt.special_tokens is None else {"special_tokens": prompt.special_tokens}),
        **extra,
    }
    return _CANONICAL.encode(data)
