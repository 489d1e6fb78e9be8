"""How a loaded Hugging Face model answers batches: text and image-text models alike."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BadInput, OutOfMemory
from ..images import ImagePool
from ..phases import PREFILL
from ..requests import Choose, Generate, GenParams, Request, Response, failure
from . import hf_loading
from .encoding import Ids, Scored
from .hf_base import HfBase
from .hf_options import MOST_TOKENS
from .tuned import read_training, read_tuned

if TYPE_CHECKING:
    from .generation import Generated
    from .kv import Path, Pictures
    from .likelihood import Likelihood
    from .shared import TreeScorer

log = logging.getLogger(__name__)
_FEW = 16  # new tokens that a text is expected to have before one is written
# Tokens whose arithmetic takes as long as reading the weights, by whether it is a CPU. There a LLaMA of 134 M weights
# in float32 writes 20 tokens a second in one row and 150 in many (one thread); an accelerator does some 300 operations
# for each byte that it reads (H100 SXM: 990e12 in bfloat16, 3.35e12 bytes), two for each weight of two bytes.
_BALANCE = {True: 8, False: 256}
_LEAST_PASS = 64  # tokens that go through the model at once, however little memory there is
NOT_A_NUMBER = "the model gave NaN or infinite scores"


@dataclass(frozen=True)
class Apart:
    """A `Choose` request to be scored row by row.

    Attributes:
        index: Its place in the batch.
        parts: What to score: the request, or the windows of a rolling one.
        rolling: The parts' results are one sum.
    """

    index: int
    parts: Sequence[Scored]
    rolling: bool = False


class HfModel(HfBase):
    """Base of `HfText` and `HfImageText`."""

    @abstractmethod
    def _load_weights(self) -> Any:
        """The model with its weights and its PEFT adapter."""

    def training_record(self) -> dict[str, Any] | None:
        """What stands beside the checkpoint and beside its PEFT adapter, together."""
        return read_training(self.checkpoint.folder, self.options.adapter)

    def tuned(self) -> dict[str, Any] | None:
        """What the last of the two says."""
        return read_tuned(self.checkpoint.folder, self.options.adapter)

    def load(self) -> None:
        """Brings the weights; sees whether options may share a row.

        Raises:
            BadInput: Weights or PEFT adapter incomplete, not for this model, or too large for this machine.
        """
        from .generation import plain_config
        from .sharing import why_not_shared
        from .watching import watch

        self.close()  # nothing that was held of weights before
        try:
            self._model = self._load_weights()
        except OutOfMemory as error:
            cure = "try -M dtype=bfloat16, or -M device_map=auto"
            raise BadInput(f"{self.name}: the weights do not fit into memory; {cure} ({error})") from error
        self._model.generation_config = plain_config(self.ends)
        with hf_loading.translate_memory_errors():
            self._alone = why_not_shared(self._model)
        if self._alone:
            log.warning("%s: prompts and options go through it one by one: %s", self.name, self._alone)
        watch(self._model, self.work)
        self._size_batches()

    def _size_batches(self) -> None:
        """Sizes batches by what the weights leave of the memory; what the user gave stands."""
        from .memory import limits

        given = self.options.batch_tokens
        found = limits(self._model, given or MOST_TOKENS, self.batch_rows, twice=bool(self.options.contrast))
        self.batch_tokens, self._pass_tokens = given or found.tokens, found.pass_tokens

    @contextlib.contextmanager
    def _memory(self) -> Iterator[None]:
        """In which the model runs: when memory runs out, it goes on holding nothing, and with smaller passes."""
        try:
            with hf_loading.translate_memory_errors():
                yield
        except OutOfMemory:
            self._pass_tokens = max(_LEAST_PASS, self._pass_tokens // 2)
            self._path.forget()
            self._path.chunk = min(self._path.chunk, self._pass_tokens)
            self._scorer.pack = min(self._scorer.pack, self._pass_tokens)
            raise

    def close(self) -> None:
        """Frees the weights."""
        import torch

        self._model = None
        for own in ("_path", "_scorer"):
            self.__dict__.pop(own, None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def answer(self, batch: Sequence[Request], images: ImagePool) -> Iterator[tuple[int, Response]]:
        """Answers `Choose` requests together, then `Generate` requests in groups of equal parameters."""
        choose = [(i, r) for i, r in enumerate(batch) if isinstance(r, Choose)]
        if choose:
            yield from self._answer_choose(choose, images)
        groups: dict[Any, list[tuple[int, Generate]]] = {}
        for i, request in enumerate(batch):
            if isinstance(request, Generate):
                key = (replace(request.params, seed=0), bool(request.prompt.images))
                groups.setdefault(key, []).append((i, request))
        for group in groups.values():
            yield from self._answer_generate(group, images)

    def _answer_choose(self, batch: list[tuple[int, Choose]], images: ImagePool) -> Iterator[tuple[int, Response]]:
        together: list[tuple[int, Scored]] = []
        apart: list[Apart] = []
        for i, request in batch:
            if request.rolling:
                apart.append(Apart(i, self._windows(request), rolling=True))
                continue
            scored = self._scored(request)
            if not self._alone and self._fits(scored):
                together.append((i, scored))
            else:
                apart.append(Apart(i, [scored]))
        again: list[int] = []
        yield from self._choose_together(together, again)
        parts = dict(together)
        apart += [Apart(i, [parts[i]]) for i in again]
        yield from self._score_apart(apart, len(batch))

    def _choose_together(
        self, batch: Sequence[tuple[int, Scored]], again: list[int], pictures: Pictures | None = None
    ) -> Iterator[tuple[int, Response]]:
        """Scores over one prefix tree; images are stand-ins in it.

        What is not finite goes to `again`, to be asked alone: NaN spreads to all that are in a row with it.
        """
        if not batch:
            return
        with self._memory():
            scored_now = self._scorer.score([scored for _, scored in batch], pictures)
            for at, likelihoods in self.work.through(PREFILL, scored_now):
                i, scored = batch[at]
                if all(math.isfinite(found.logprob) for found in likelihoods):
                    yield i, choice(likelihoods, scored.size)
                else:
                    again.append(i)

    @cached_property
    def _path(self) -> Path:
        """What was gone through last; there are weights when it is first asked for."""
        from .kv import Path

        return Path(self._model, self._pass_tokens, self.work)

    @cached_property
    def _scorer(self) -> TreeScorer:
        from .shared import TreeScorer, pack_tokens

        return TreeScorer(self._path, pack_tokens(self._width, self._pass_tokens))

    @property
    def _width(self) -> int:
        return int(self._model.config.get_text_config(decoder=True).hidden_size)

    def _fits(self, scored: Scored) -> bool:
        """Whether no sequence is longer than the model, so that nothing is cut."""
        longest = max((len(option) for option in scored.options), default=0)
        return len(scored.context) + max(0, longest - 1) <= self.max_length

    def _score_apart(self, apart: Sequence[Apart], at_once: int) -> Iterator[tuple[int, Response]]:
        """The slow twin: each option (or window) in its own row, at most `at_once` rows a forward pass."""
        from .likelihood import EMPTY
        from .prefix import score_separately

        pairs = [(part.context, option) for item in apart for part in item.parts for option in part.options]
        scorable = [i for i, (_, option) in enumerate(pairs) if 0 < len(option) <= self.max_length]
        scorable.sort(key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
        found: list[Likelihood] = [EMPTY] * len(pairs)
        while scorable:
            longest = min(self.max_length, sum(map(len, pairs[scorable[0]])))
            rows = max(1, min(at_once, self._pass_tokens // longest))
            some, scorable = scorable[:rows], scorable[rows:]
            with self._memory(), self.work.phase(PREFILL):
                scores = score_separately(self._model, [pairs[i] for i in some], self.max_length)
            for i, score in zip(some, scores, strict=True):
                found[i] = score
        left = iter(found)
        for item in apart:
            yield item.index, self._from_parts(item, [next(left) for part in item.parts for _ in part.options])

    def _from_parts(self, item: Apart, found: list[Likelihood]) -> Response:
        size = sum(part.size for part in item.parts)
        if item.rolling and found:
            whole = replace(found[0], logprob=math.fsum(f.logprob for f in found), greedy=all(f.greedy for f in found))
            return choice([whole], size)
        if item.rolling:  # a text without tokens
            return Response("ok", logprobs=(0.0,), greedy=(True,))
        scored = item.parts[0]
        longest = max((len(option) for option in scored.options), default=0)
        if longest > self.max_length:
            return failure(f"an option of {longest} tokens is longer than the model's {self.max_length}")
        return choice(found, size, truncated=len(scored.context) + longest > self.max_length + 1)

    def _answer_generate(self, group: list[tuple[int, Generate]], images: ImagePool) -> Iterator[tuple[int, Response]]:
        room = self.max_length - group[0][1].params.max_new_tokens
        whole = [self._prompt_ids(request) for _, request in group]
        rows = [ids[-room:] for ids in whole]
        requests = [request for _, request in group]
        together = not self._alone and self._pays(rows, requests[0].params)
        generated = self._together(rows, requests) if together else []
        if not generated or any(result.bad for result in generated):  # NaN spreads to all that are in a row with it
            generated = self._generate(self._padded(rows), requests)
        for (i, _), tokens, result in zip(group, whole, generated, strict=True):
            yield i, answer_text(result, min(len(tokens), room), truncated=len(tokens) > room)

    def _pays(self, rows: Sequence[Ids], params: GenParams, at_least: int = 0) -> bool:
        """Whether prompts share `at_least` so many first tokens, and had better go through them once."""
        from .together import Decoding, pays, shared_path

        if params.num_beams > 1:
            return False
        shared = shared_path(rows)
        held = min(shared, self._path.shared(rows[0]))
        decoding = Decoding(self._steps(params), self.batch_rows, _BALANCE[self.device == "cpu"])
        return shared >= at_least and pays(list(map(len, rows)), shared, held, self._width, decoding)

    def _steps(self, params: GenParams) -> float:
        """New tokens that a text has had on average; before there is one, a few."""
        texts, tokens = self._written.get(replace(params, seed=0), (0, 0))
        return tokens / texts if texts else min(params.max_new_tokens, _FEW)

    def _note(self, params: GenParams, generated: list[Generated]) -> list[Generated]:
        """Remembers how long the texts are that such parameters give."""
        texts, tokens = self._written.get(replace(params, seed=0), (0, 0))
        self._written[replace(params, seed=0)] = (
            texts + len(generated), tokens + sum(result.new_tokens for result in generated)
        )  # fmt: skip
        return generated

    def _together(
        self, rows: Sequence[Ids], requests: Sequence[Generate], pictures: Pictures | None = None
    ) -> list[Generated]:
        from .together import generate_together

        seeds = [request.params.seed for request in requests]
        with self._memory():
            params = requests[0].params
            found = generate_together(self._path, rows, params, seeds, self.tokenizer, self.ends, pictures)
            return self._note(params, found)

    def _padded(self, rows: Sequence[Ids]) -> dict[str, Any]:
        """Token ids and mask, padded on the left."""
        import torch

        width = max(map(len, rows))
        ids, mask = np.full((len(rows), width), self.ends.pad, np.int64), np.zeros((len(rows), width), np.int64)
        for row, tokens in enumerate(rows):
            ids[row, width - len(tokens) :], mask[row, width - len(tokens) :] = tokens, 1
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}

    def _generate(self, inputs: dict[str, Any], requests: Sequence[Generate]) -> list[Generated]:
        from .decoding import generate_rows
        from .generation import generate
        from .watching import DecodingBegins

        assert self.tokenizer.padding_side == "left"
        assert bool(inputs["attention_mask"][:, -1].all()), "prompts must be padded on the left"
        device = self._model.get_input_embeddings().weight.device
        placed = {name: value.to(device) for name, value in inputs.items()}
        seeds = [request.params.seed for request in requests]
        params = requests[0].params
        with self._memory(), self.work.phase(PREFILL):
            before = self._before(placed, requests)
            if not (self._alone or before or params.num_beams > 1 or typed(placed)):
                found = generate_rows(self._model, placed, params, seeds, self.tokenizer, self.ends, self.work)
                return self._note(params, found)
            before.append(DecodingBegins(self.work))
            return generate(self._model, self.tokenizer, placed, params, seeds, self.ends, before)

    def _before(self, inputs: Mapping[str, Any], requests: Sequence[Generate]) -> list[Any]:
        """Logits processors that come before sampling."""
        return []


def beside(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A processor's tensors beside the text's."""
    return {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}


def typed(inputs: Mapping[str, Any]) -> bool:
    """Whether there is more than an id and a mask for each token (types): further tokens would need it, too."""
    return any(value.shape[:2] == inputs["input_ids"].shape for value in beside(inputs).values())


def choice(found: Sequence[Likelihood], size: int, truncated: bool = False) -> Response:
    """The response to a `Choose`; scores that are not finite are an error."""
    if not all(math.isfinite(f.logprob) for f in found):
        return failure(NOT_A_NUMBER)
    return Response(
        status="truncated" if truncated else "ok",
        logprobs=tuple(f.logprob for f in found),
        greedy=tuple(f.greedy for f in found),
        prompt_tokens=size,
    )


def answer_text(result: Generated, prompt_tokens: int, truncated: bool = False) -> Response:
    """The response to a `Generate`."""
    if result.bad:
        return failure(NOT_A_NUMBER)
    return Response(
        status="truncated" if truncated else "ok",
        text=result.text,
        finish=result.finish,
        prompt_tokens=prompt_tokens,
        new_tokens=result.new_tokens,
        marks=result.marks,
    )
