"""Contrastive decoding against a weakened image: what BPO's released script samples negatives with. Off by default.

    logits = (1 + alpha) l(clear) - alpha l(weakened), where l(clear) >= max l(clear) + ln beta; the others are excluded

(VCD, Leng et al., 2023, eqs. 3 and 4; BPO's `run_llava_image_weakening.py` has alpha 1, beta 0.2.) The formula makes
what the weakened image suggests less likely, not more, which is why it is not how this package makes negatives. In the
released script the two branches share one cache from the second token on, so that they are the same and the contrast
vanishes; here the weakened branch has a cache of its own.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from transformers import LogitsProcessor

from .weaken import Contrast

Seeing = Callable[[], AbstractContextManager[None]]


def contrasted(clear: torch.Tensor, weakened: torch.Tensor, spec: Contrast) -> torch.Tensor:
    """Logits `[rows, vocabulary]` of the formula above; excluded tokens get -inf."""
    clear, weakened = clear.float(), weakened.float()
    least = clear.max(dim=-1, keepdim=True).values + math.log(spec.beta)
    mixed = (1 + spec.alpha) * clear - spec.alpha * weakened
    return mixed.masked_fill(clear < least, -torch.inf)


class Contrastive(LogitsProcessor):
    """Contrasts each step's logits with those of the weakened branch, which it runs along.

    Args:
        model: The model that generates.
        inputs: What the weakened branch starts from: left-padded ids and mask, pixel values.
        spec: Alpha and beta.
        seeing: Makes the context in which the model weakens their features.
    """

    def __init__(self, model: Any, inputs: Mapping[str, torch.Tensor], spec: Contrast, seeing: Seeing) -> None:
        self.model, self.inputs, self.spec, self.seeing = model, dict(inputs), spec, seeing
        self._mask = self.inputs["attention_mask"]
        self._cache: Any = None
        self._positions = "position_ids" in inspect.signature(model.forward).parameters

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Contrasted scores `[rows, vocabulary]`."""
        weakened = self._start() if self._cache is None else self._go_on(input_ids[:, -1:])
        return contrasted(scores, weakened, self.spec)  # type: ignore[return-value]

    def _start(self) -> torch.Tensor:
        positions = (self._mask.cumsum(dim=-1) - 1).clamp(min=0)
        with self.seeing():
            return self._forward({**self.inputs, **self._at(positions)})

    def _go_on(self, last: torch.Tensor) -> torch.Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(last), 1)], dim=1)
        positions = self._mask.sum(dim=-1, keepdim=True) - 1
        more = {"input_ids": last, "attention_mask": self._mask, "past_key_values": self._cache}
        return self._forward({**more, **self._at(positions)})

    def _at(self, positions: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"position_ids": positions} if self._positions else {}

    def _forward(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        output = self.model(**inputs, use_cache=True)
        self._cache = output.past_key_values
        logits: torch.Tensor = output.logits[:, -1]
        return logits
