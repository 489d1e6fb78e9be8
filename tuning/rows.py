"""What training rows are, whatever file they came from: conversations about an image, and preference pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..requests import ImageRef

IGNORED = -100  # label of a token that is not learnt (torch's cross_entropy)


@dataclass(frozen=True, slots=True)
class Conversation:
    """One training conversation.

    Attributes:
        id: As the file has it.
        turns: (question, answer) pairs, without any `<image>`.
        image: Its image, in front of the first question; None for text-only rows.
        kind: `conversation`, `detail` or `reasoning`, where the file tells; else empty.
        where: File and row, for messages.
    """

    id: str
    turns: tuple[tuple[str, str], ...]
    image: ImageRef | None = None
    kind: str = ""
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Positive:
    """A prompt with its ground-truth response: what preference pairs are made from.

    Attributes:
        id: `<source>-<n>`, unique.
        source: Data set it was drawn from.
        prompt: Without any `<image>`.
        response: The annotation.
        image: File name as the source has it, relative to the image folder.
    """

    id: str
    source: str
    prompt: str
    response: str
    image: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference: given the image and the prompt, `chosen` is preferred to `rejected`.

    Attributes:
        id: Unique; the positive's id and the kind of negative.
        prompt: Without any `<image>`.
        chosen: The preferred response.
        rejected: The other.
        image: File name relative to the image folder.
        kind: How the rejected response was made: `mllm-hal` (weakened image), `llm-hal` (injected errors), `self` ...
        source: Data set of the positive.
    """

    id: str
    prompt: str
    chosen: str
    rejected: str
    image: str
    kind: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a training sequence, each image expanded to as many image tokens as it has features.

    Attributes:
        ids: Token ids.
        labels: The same ids where a token is learnt, `IGNORED` elsewhere; same length.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]
