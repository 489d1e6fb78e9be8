"""The reverse: a model adapter of ours as an lm-eval `LM`, so that lm-eval's own evaluator can run on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from ..errors import MmevalError
from ..images import ImagePool
from ..requests import Response
from .convert import answer, to_requests

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from ..models.base import ModelAdapter


class AdapterLM(LM):
    """Answers lm-eval's three kinds of requests with a model adapter, whose weights are loaded here."""

    def __init__(self, adapter: ModelAdapter, batch: int = 8) -> None:
        """Wraps `adapter`; it is given `batch` requests at a time."""
        super().__init__()
        self._adapter, self._batch = adapter, batch
        adapter.load()

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of each continuation; requests of equal context share one forward pass."""
        return self._ask(requests)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-likelihood of each whole text."""
        return self._ask(requests)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Generated texts, cut at their stop strings."""
        return self._ask(requests)

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval's request cache calls the tokenizer."""
        return self._adapter.name

    def _ask(self, instances: Sequence[Instance]) -> list[Any]:
        """Answers in the order of the instances.

        Raises:
            MmevalError: The adapter failed a request; lm-eval has no way to carry on without an answer.
        """
        requests, slots = to_requests(instances, "lm-eval")
        responses: list[Response] = []
        images = ImagePool()
        try:
            for start in range(0, len(requests), self._batch):
                chunk = requests[start : start + self._batch]
                found = dict(self._adapter.answer(chunk, images))
                responses += [found[i] for i in range(len(chunk))]
        finally:
            images.close()
        failed = next((r for r in responses if not r.answered), None)
        if failed is not None:
            raise MmevalError(f"{self._adapter.name}: {failed.status}: {failed.error}")
        return [answer(slot, responses) for slot in slots]
