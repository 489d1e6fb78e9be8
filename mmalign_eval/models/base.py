"""What the engine needs of a model adapter."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import BadInput, did_you_mean
from ..image_workers import Preparer
from ..images import ImagePool
from ..phases import Work
from ..requests import GenParams, Request, Response
from .encoding import Ids, Scored

Options = Mapping[str, str]


class ModelAdapter(ABC):
    """Drives one model. Opening an adapter reads configuration and tokenizer only; `load` brings the weights.

    Attributes:
        name: Short name, used for the result folder.
        images: Whether it takes images.
        batch_tokens: Most tokens (prompt plus new) in a batch; 0: no limit.
        batch_rows: Most requests in a batch; 0: no limit.
        choose_rows: Most in a batch of `Choose` requests alone; 0: no limit; None: as batch_rows.
        work: What it has done so far; None: it does not know.
    """

    name: str
    images: bool = False
    batch_tokens: int = 0
    batch_rows: int = 0
    choose_rows: int | None = None
    work: Work | None = None

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything that can change an answer, as JSON: weights, revision, PEFT adapter, dtype, template."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """For people and provenance: class, parameters, dtype, device, and what `identity` holds."""

    @abstractmethod
    def render(self, request: Request) -> str:
        """The exact text sent to the model for a request (image placeholders as the model's own)."""

    def laid_out(self, request: Request) -> Sequence[Scored] | None:
        """Token ids that a request needs: what comes first, and what follows it for each option; None if unknown.

        A prompt has one, empty option; a text in windows is several parts. Images are expanded to as many ids as the
        model has image tokens, each derived from the image's digest so that different images differ. Used to plan,
        never to run.
        """
        return None

    def sequences(self, request: Request) -> list[list[int]] | None:
        """The same as whole sequences: one, or one an option."""
        parts = self.laid_out(request)
        if parts is None:
            return None
        return [[*part.context.tolist(), *option.tolist()] for part in parts for option in part.options]

    def length(self, request: Request) -> int:
        """Tokens this request occupies in a batch, prompt plus new; 1 if unknown."""
        return 1

    def prefix(self, request: Request) -> Ids:
        """Token ids that a request begins with: those that begin alike are asked one after the other.

        Options that share what comes before them go through the model with it, so that only what a `Choose` request
        does not share with the one before it counts in a batch. Empty: nothing is shared.
        """
        return np.empty(0, np.int32)

    def effective(self, params: GenParams) -> dict[str, Any]:
        """The parameters in effect for `params`, resolved (stop strings, end tokens), for the result file."""
        return {name: getattr(params, name) for name in GenParams.__dataclass_fields__}

    def for_text(self) -> ModelAdapter:
        """The adapter for text tasks: itself, or a multimodal model's language backbone."""
        return self

    def check(self, request: Request) -> None:  # noqa: B027 - most adapters take every request
        """Raises `Refused` for a request this adapter cannot honour."""

    def weakened(self, weaken: str, contrast: str = "") -> ModelAdapter:
        """This model seeing images weakened, its weights shared: sweeping over noise loads them once.

        Args:
            weaken: As `-M weaken=`; empty: images as they are.
            contrast: As `-M contrast=`; empty: plain decoding.

        Raises:
            BadInput: Not that form, or a model into which no noise can be put.
        """
        raise BadInput(f"{self.name}: only hf: models that see images can have them weakened")

    def training_record(self) -> dict[str, Any] | None:
        """What our tuning trained it on (`coco_ids`, `images`); None where nothing is recorded."""
        return None

    def tuned(self) -> dict[str, Any] | None:
        """How our tuning made it, and of which base (`models/tuned.py`); None where nothing is recorded."""
        return None

    def load(self) -> None:  # noqa: B027 - an API has no weights
        """Brings the weights into memory; called at most once, only if something is left to ask."""

    def preparer(self) -> Preparer | None:
        """What makes of one image what the model gets to see, if another process can do that; None: only pictures."""
        return None

    @abstractmethod
    def answer(self, batch: Sequence[Request], images: ImagePool) -> Iterator[tuple[int, Response]]:
        """Answers a batch: yields (index in batch, response), each index once, in any order.

        Raises:
            OutOfMemory: The batch does not fit; the engine halves it. Already yielded answers are kept.
            Exception: Anything else fails the batch; the engine then asks its requests one at a time.
        """

    def close(self) -> None:  # noqa: B027 - nor anything to free
        """Frees the weights."""

    def fingerprint(self) -> str:
        """SHA-256 of `identity()`: the model's part of the store's key."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()


def check_options(kind: str, options: Options, known: Sequence[str]) -> None:
    """Refuses unknown `-M` keys with did-you-mean."""
    for key in options:
        if key not in known:
            hint = did_you_mean(key, known)
            raise BadInput(f"-M {key}=: {kind} models have no such option{hint}; they have {', '.join(sorted(known))}")


def parse_bool(key: str, value: str) -> bool:
    """Reads `true`/`false` of a `-M` option."""
    if value.lower() in ("true", "1", "yes"):
        return True
    if value.lower() in ("false", "0", "no"):
        return False
    raise BadInput(f"-M {key}={value}: expected true or false")


def parse_int(key: str, value: str) -> int:
    """Reads a positive whole number of a `-M` option."""
    if not value.isdigit() or int(value) < 1:
        raise BadInput(f"-M {key}={value}: expected a whole number above 0")
    return int(value)
