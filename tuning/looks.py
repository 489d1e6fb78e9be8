"""What the frozen vision tower makes of images, computed once for whoever asks, as long as there is room to keep it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..requests import ImageRef
from .batches import pixels
from .logprobs import tower_features

ROOM = 4 * 1024**3  # bytes of features that a process keeps: all of the miniature's, 3,600 of LLaVA-1.5's in bfloat16


class Looks:
    """Features of images, the projector's input.

    Args:
        llava: The transformers model; its tower does not train.
        image_processor: Of its processor.
        room: Bytes to keep; what does not fit is computed again when asked for again.
    """

    def __init__(self, llava: Any, image_processor: Any, room: int = ROOM) -> None:
        self.llava, self.image_processor, self.room = llava, image_processor, room
        self._kept: dict[ImageRef, torch.Tensor] = {}
        self.passes = 0  # images that went through the tower

    def features(self, refs: Sequence[ImageRef]) -> torch.Tensor:
        """Features `[len(refs), image tokens, tower's width]` on the model's device, equal images looked at once.

        Raises:
            ImageError: An image that cannot be read.
        """
        new = [ref for ref in dict.fromkeys(refs) if ref not in self._kept]
        found = dict(zip(new, self._look(new), strict=True)) if new else {}
        for ref, features in found.items():
            size = features.numel() * features.element_size()
            if size <= self.room:
                self._kept[ref] = features.cpu()
                self.room -= size
        device = self.llava.device
        return torch.stack([(found[ref] if ref in found else self._kept[ref]).to(device) for ref in refs])

    def _look(self, refs: Sequence[ImageRef]) -> torch.Tensor:
        self.passes += len(refs)
        return tower_features(self.llava, pixels(refs, self.image_processor))
