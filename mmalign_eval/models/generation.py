"""Generating text for a batch of prompts with exactly the request's parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from ..requests import MARKS, GenParams
from .checkpoint import Ends
from .sampling import SeededSampling

# A stop string of n bytes spans at most n tokens; a few more keep the window's first token, which decoders may strip
# of its leading blank, out of it.
_WINDOW_MARGIN = 8


@dataclass(frozen=True)
class Generated:
    """One row's outcome.

    Attributes:
        text: Decoded without special tokens, cut at stop strings.
        finish: `stop` or `length`.
        new_tokens: Tokens generated, the end token included.
        bad: The model gave NaN on the way; the text is not an answer.
        marks: Characters of the text after each number of tokens in `MARKS` that generation went beyond.
    """

    text: str
    finish: str
    new_tokens: int
    bad: bool = False
    marks: tuple[int, ...] = ()


def plain_config(ends: Ends) -> GenerationConfig:
    """What a loaded model's own generation config is replaced with: nothing of the checkpoint's but its end tokens."""
    return GenerationConfig(eos_token_id=list(ends.eos) or None, pad_token_id=ends.pad)


def generate(
    model: Any,
    tokenizer: Any,
    inputs: Mapping[str, torch.Tensor],
    params: GenParams,
    seeds: Sequence[int],
    ends: Ends,
    before: Sequence[LogitsProcessor] = (),
) -> list[Generated]:
    """Generates one text a row.

    Args:
        model: A transformers model whose generation config is `plain_config`.
        tokenizer: To decode with.
        inputs: Left-padded `input_ids` and `attention_mask` `[rows, length]`, and pixel values where there are images.
        params: For all rows, their seeds aside.
        seeds: One a row; used for sampling only.
        ends: End tokens and padding.
        before: What changes the model's scores before anything is drawn from them.
    """
    rows, length = inputs["input_ids"].shape
    guard = _NanGuard(rows, params.num_beams, length)
    processors: list[LogitsProcessor] = [*before, guard]
    if params.sampled:
        processors.append(SeededSampling(params, seeds, length))
    stopper = _StopStrings(tokenizer, params.stop, length)
    with torch.inference_mode():
        output = model.generate(
            **inputs,
            generation_config=_config(params, ends),
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList([stopper] if params.stop else []),
        )
    new = output[:, length:].tolist()
    stops: list[int | None] = [None] * rows
    if params.num_beams == 1:  # with beams, rows change places on the way; the text alone tells where they stopped
        stops = [stopper.seen_at.get(row) for row in range(rows)]
    return [
        outcome(tokenizer, ids, params, ends, stop, guard.seen_at.get(row))
        for row, (ids, stop) in enumerate(zip(new, stops, strict=True))
    ]


def _config(params: GenParams, ends: Ends) -> GenerationConfig:
    """Gives every setting that could leak from elsewhere; sampling is ours, so the library always decodes greedily."""
    return GenerationConfig(
        max_new_tokens=params.max_new_tokens,
        min_new_tokens=params.min_new_tokens or None,
        do_sample=False,
        num_beams=params.num_beams,
        num_return_sequences=1,
        length_penalty=1.0,
        early_stopping=False,
        repetition_penalty=1.0,
        use_cache=True,
        eos_token_id=list(ends.eos) or None,
        pad_token_id=ends.pad,
    )


def outcome(
    tokenizer: Any, ids: list[int], params: GenParams, ends: Ends, stop_at: int | None, nan_at: int | None
) -> Generated:
    """What a row's new token ids come to.

    Args:
        tokenizer: To decode with.
        ids: New tokens; what follows an end token is padding.
        params: The request's.
        ends: End tokens and padding.
        stop_at: Number of new tokens with which it first had a stop string.
        nan_at: The first step with NaN.
    """
    end = next((i for i, token in enumerate(ids) if token in ends.eos), len(ids))
    ended = end < len(ids)
    if stop_at is not None and stop_at <= end:
        end, ended, used = stop_at, True, stop_at
    elif ended:
        used = end + 1
    else:  # beams that ended on a stop string are filled up
        while params.num_beams > 1 and end and ids[end - 1] == ends.pad:
            end -= 1
        used = end
    whole = tokenizer.decode(ids[:end], skip_special_tokens=True)
    text = cut(whole, params.stop)
    if len(text) < len(whole):
        ended = True
    bad = nan_at is not None and nan_at < used
    return Generated(text, "stop" if ended else "length", used, bad, _marks(tokenizer, ids[:end], text))


def _marks(tokenizer: Any, ids: list[int], text: str) -> tuple[int, ...]:
    """Characters of the text that the first 16, 32 ... of its tokens give; a character cut in two is left out."""
    beginnings = (tokenizer.decode(ids[:n], skip_special_tokens=True) for n in MARKS if n < len(ids))
    return tuple(_shared(text, beginning) for beginning in beginnings)


def _shared(a: str, b: str) -> int:
    """Characters at the start that two texts have in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first occurrence of each stop string in turn."""
    for word in stop:
        if word:
            text = text.split(word, 1)[0]
    return text


class StopStrings:
    """Sees when a text has a stop string.

    Attributes:
        stop: The strings.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.stop = [word for word in stop if word]
        self.window = max((len(word.encode()) for word in self.stop), default=0) + _WINDOW_MARGIN

    def hits(self, texts: Sequence[Sequence[int]]) -> list[bool]:
        """Whether each text, as its new token ids, has one in what its last token may have completed."""
        if not self.stop:
            return [False] * len(texts)
        ends = [list(ids[-self.window :]) for ids in texts]
        decoded = self.tokenizer.batch_decode(ends, skip_special_tokens=True)
        return [any(word in text for word in self.stop) for text in decoded]


class _StopStrings(StoppingCriteria):
    """Ends a row as soon as its new text has a stop string."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], prompt_length: int) -> None:
        self.strings, self.prompt_length = StopStrings(tokenizer, stop), prompt_length
        self.seen_at: dict[int, int] = {}  # row to the number of new tokens with which it first had a stop string

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        new = input_ids[:, self.prompt_length :]
        hits = self.strings.hits(new[:, -self.strings.window :].tolist())
        for row, hit in enumerate(hits):
            if hit:
                self.seen_at.setdefault(row, new.shape[1])
        return torch.tensor(hits, device=input_ids.device)  # type: ignore[return-value]


class _NanGuard(LogitsProcessor):
    """Notes rows whose scores become NaN and keeps decoding defined for them, so that the others go on."""

    def __init__(self, rows: int, beams: int, prompt_length: int) -> None:
        self.rows, self.beams, self.prompt_length = rows, beams, prompt_length
        self.seen_at: dict[int, int] = {}  # row to the first step with NaN

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        nan = torch.isnan(scores).any(dim=-1)
        if not nan.any():
            return scores
        for index in nan.nonzero().flatten().tolist():
            self.seen_at.setdefault(index // self.beams, input_ids.shape[1] - self.prompt_length)
        return torch.nan_to_num(scores, nan=0.0)  # type: ignore[return-value]
