"""Sizes of the random LLaVAs that are timed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LlavaShape:
    """A LLaVA's sizes.

    Attributes:
        vision: Width, MLP, layers, heads of the tower.
        language: Width, MLP, layers, heads of the language model.
        vocabulary: Its entries.
        image: Pixels of a side; 576 image tokens are (336 / 14) squared as well as (384 / 16) squared.
        patch: Pixels of a patch's side.
    """

    vision: tuple[int, int, int, int]
    language: tuple[int, int, int, int]
    vocabulary: int
    image: int
    patch: int

    @property
    def image_tokens(self) -> int:
        """Of one image."""
        return (self.image // self.patch) ** 2

    @property
    def position_bytes(self) -> int:
        """Of keys and values at one position in float32."""
        width, _, layers, _ = self.language
        return 2 * 4 * width * layers
