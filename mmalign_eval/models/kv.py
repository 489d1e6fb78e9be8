"""Keys and values of one path of tokens, which what follows it can look at: computed once, cut back, gone on from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import Cache, DynamicLayer

from ..phases import Work
from .encoding import Ids
from .masks import as_given
from .tree import common

Positions = npt.NDArray[np.int64]
Seeing = Callable[[], AbstractContextManager[Any]]
_NONE: Positions = np.empty(0, np.int64)
_CHUNK = 2048  # most tokens of a path that go through the model at once, where memory allows
_ROOM = 256  # tokens of room beyond what is asked for, so that a few more tokens move nothing


class GrowingLayer(DynamicLayer):
    """A layer that keeps room beyond its tokens: what is added is copied once, not the whole cache with it.

    Args:
        more: Most tokens that will follow the first ones, for which alone room is kept; None: any number.
    """

    def __init__(self, *args: Any, more: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._more = more
        self._buffers: list[torch.Tensor] = []
        self._size = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds tokens' keys and values and returns all of them."""
        end = self._size + key_states.shape[-2]
        if not self._buffers or end > self._buffers[0].shape[-2]:
            self._grow(key_states, value_states, end + self._spare(end))
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., self._size : end, :] = new
        return self._show(end)

    def crop(self, tokens_to_remove: int) -> None:
        """Forgets so many of the last tokens (a negative number, as transformers gives it)."""
        if tokens_to_remove and self._buffers:
            self._show(max(0, self._size - abs(tokens_to_remove)))

    def gather(self, start: int, places: torch.Tensor) -> None:
        """Has the tokens of these places follow the first `start` ones; all others are forgotten."""
        end = start + len(places)
        for buffer in self._buffers:
            buffer[..., start:end, :] = buffer[..., places.to(buffer.device), :]
        self._show(end)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps these rows only."""
        self._buffers = [buffer[indices.to(buffer.device)] for buffer in self._buffers]
        self._show(self._size)

    def _spare(self, end: int) -> int:
        spare = max(_ROOM, end // 4)
        return spare if self._more is None or self._buffers else min(spare, self._more)

    def _grow(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        grown = []
        for number, like in enumerate((keys, values)):
            buffer = like.new_empty((*like.shape[:-2], room, like.shape[-1]))
            if self._buffers:
                buffer[..., : self._size, :] = self._buffers[number][..., : self._size, :]
            grown.append(buffer)
        self._buffers = grown

    def _show(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        self._size = size
        keys, values = (buffer[..., :size, :] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values


def growing(more: int | None = None) -> Cache:
    """An empty cache of such layers, for as many tokens after the first ones; None: for any number."""
    return Cache(layer_class_to_replicate=cast(type[GrowingLayer], partial(GrowingLayer, more=more)))


class Pictures:
    """Images of a batch, as stand-ins in its token ids: runs of negative ids that differ from image to image.

    Attributes:
        image_id: What the model reads in place of each stand-in.
    """

    def __init__(self, image_id: int) -> None:
        self.image_id = image_id
        self._inputs: dict[int, tuple[Mapping[str, Any], Seeing]] = {}

    def add(self, stand_in: int, inputs: Mapping[str, Any], seeing: Seeing) -> None:
        """An image by its first stand-in: the inputs that show it, and in which context the model looks at it."""
        self._inputs[stand_in] = inputs, seeing

    def shown(self, ids: Ids) -> tuple[Ids, Mapping[str, Any], Seeing]:
        """Ids as the model reads them, and the inputs and context that go with their one image."""
        inputs, seeing = self._inputs[int(ids[ids < 0][0])]
        return np.where(ids < 0, self.image_id, ids), inputs, seeing


class Path:
    """The keys and values of one path of tokens, in a row of its own.

    Attributes:
        model: A transformers causal LM (or image-text model), in evaluation mode.
        chunk: Most tokens that go through the model at once, an image and what is before it aside.
        held: The path's tokens.
        computed: Tokens that went through the model so far.
        work: Hears of what is gone on from, and of phases.
    """

    def __init__(self, model: Any, chunk: int = _CHUNK, work: Work | None = None) -> None:
        self.model = model
        self.work = work or Work()
        self.chunk = min(chunk, _CHUNK)
        self.held: Ids = np.empty(0, np.int32)
        self.computed = 0
        self._cache = growing()
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    @property
    def device(self) -> torch.device:
        """Where the model takes its input."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    def back_to(self, length: int) -> None:
        """Forgets what comes after so many tokens."""
        if length < len(self.held):
            self._cache.crop(length - len(self.held))
            self.held = self.held[:length]

    def keep(self, places: Positions) -> None:
        """Forgets all but some places, given in rising order; those become one another's neighbours."""
        (moved,) = np.nonzero(places != np.arange(len(places)))
        start = int(moved[0]) if len(moved) else len(places)
        if start == len(places):
            self.back_to(start)
            return
        rest = torch.from_numpy(places[start:])
        with torch.inference_mode():
            for layer in self._cache.layers:
                assert isinstance(layer, GrowingLayer)
                layer.gather(start, rest)
        self.held = self.held[places]

    def forget(self) -> None:
        """Holds nothing any more."""
        self._cache = growing()
        self.held = self.held[:0]

    def shared(self, tokens: Ids) -> int:
        """How many first tokens of another path are held."""
        return common(self.held, tokens)

    def hold(
        self, ids: Ids, asked: Positions = _NONE, pictures: Pictures | None = None
    ) -> Iterator[tuple[Positions, torch.Tensor]]:
        """Makes a path the one that is held; what it shares with the one before is not computed again.

        Args:
            ids: The path's tokens.
            asked: Positions whose logits are wanted, rising.
            pictures: Of the stand-ins in it. An image is seen in one piece with all that comes before it.

        Yields:
            Some of the asked positions, and their logits `[some, vocabulary]`.
        """
        at = self.shared(ids)
        if len(asked):
            at = min(at, int(asked[0]))
        stand_ins = np.flatnonzero(ids < 0)
        seen = int(stand_ins[-1]) + 1 if len(stand_ins) else 0  # where what is seen ends
        if at < seen:
            at = 0
        self.back_to(at)
        self.work.hit(at)
        while at < len(ids):
            to = max(seen, min(len(ids), at + self.chunk)) if at >= seen else seen
            some = asked[(asked >= at) & (asked < to)]
            if at < seen:
                assert pictures is not None
                shown, inputs, seeing = pictures.shown(ids[at:to])
                with seeing():
                    logits = self.forward(shown, np.arange(at, to), torch.from_numpy(some - at), extra=inputs)
            else:
                logits = self.forward(ids[at:to], np.arange(at, to), torch.from_numpy(some - at))
            self.held = ids[:to]
            if len(some):
                yield some, logits
            at = to

    def rows(self, places: Sequence[Positions], more: int) -> tuple[Cache, torch.Tensor]:
        """Copies of parts of the path as rows of their own, padded on the left.

        Args:
            places: For each row the places of its tokens, of those held.
            more: Most tokens that will follow in a row.

        Returns:
            A cache `[rows, longest]`, and which of its places are tokens.
        """
        longest = max(map(len, places))
        index, mask = np.zeros((len(places), longest), np.int64), np.zeros((len(places), longest), np.int64)
        for row, own in enumerate(places):
            index[row, longest - len(own) :], mask[row, longest - len(own) :] = own, 1
        cache = growing(more)
        at = torch.from_numpy(index).to(self.device)
        for number, layer in enumerate(self._cache.layers):
            assert isinstance(layer, GrowingLayer)
            assert layer.keys is not None
            assert layer.values is not None
            keys, values = (kept[0][:, at.to(kept.device)].transpose(0, 1) for kept in (layer.keys, layer.values))
            cache.update(keys, values, number)
        return cache, torch.from_numpy(mask).to(self.device)

    def forward(
        self,
        ids: Ids,
        positions: Any,
        keep: torch.Tensor,
        mask: torch.Tensor | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> torch.Tensor:
        """Goes on from the path; what is added stays in it until `back_to`.

        Args:
            ids: Tokens `[new]`.
            positions: Their positions `[new]`.
            keep: Which of them to give logits for `[kept]`.
            mask: Which of all tokens each new one may look at, bool `[new, held + new]`; None: all before it.
            extra: Further inputs (pixel values).

        Returns:
            Logits `[kept, vocabulary]`.
        """
        before, device = len(self.held), self.device
        if mask is None and before:
            mask = torch.ones(len(ids), before + len(ids), dtype=torch.bool).tril(before)
        inputs = {
            "input_ids": torch.from_numpy(np.asarray(ids, np.int64))[None].to(device),
            "position_ids": torch.from_numpy(np.asarray(positions, np.int64))[None].to(device),
            **({} if mask is None else {"attention_mask": as_given(mask.to(device)[None, None], self.model)}),
            **(extra or {}),
        }
        more = {"logits_to_keep": keep.to(device)} if self._keeps else {}
        with torch.inference_mode():
            logits: torch.Tensor = self.model(**inputs, past_key_values=self._cache, use_cache=True, **more).logits[0]
        self.held = np.concatenate([self.held, ids])
        self.computed += len(ids)
        return logits if self._keeps else logits[keep.to(device)]
