"""Processors taken apart: what is made of images alone is what the processor makes of them with the text."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from mmalign_eval.models.pixels import PIXELS, apart, stand_in

from .hf_case import nano
from .test_hf_families import built


def pictures(seed: int, count: int) -> list[Image.Image]:
    numbers = np.random.default_rng(seed)
    sizes = numbers.integers(1, 90, (count, 2))
    return [Image.fromarray(numbers.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in sizes]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def processor(request: pytest.FixtureRequest) -> Any:
    found = transformers.AutoProcessor.from_pretrained(nano("llava"))
    if request.param == "siglip":
        from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

        found.image_processor = SiglipImageProcessorPil(size={"height": 24, "width": 24})
    return found


@pytest.mark.parametrize("seed", range(5))
def test_made_apart_it_is_the_same(processor: Any, seed: int) -> None:
    found, images = apart(processor), pictures(seed, 1 + seed)
    assert found is not None
    preparer = pickle.loads(pickle.dumps(found.preparer))  # as another process has it
    text = [f"USER: <image>\nIs there{' a cup' * i}? ASSISTANT:" for i in range(len(images))]
    how = {"text": text, "padding": True, "return_tensors": "pt"}
    whole = processor(images=[[image] for image in images], **how)
    again = found.processor(images=[[stand_in(image.size, preparer(image))] for image in images], **how)
    assert set(whole) == set(again) == {"input_ids", "attention_mask", PIXELS}
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("family", ["llava_next", "gemma3"])  # sizes beside the pixels; crops beside them
def test_other_families_are_left_whole(family: str) -> None:
    assert apart(transformers.AutoProcessor.from_pretrained(built(family))) is None


def brighter_in_company(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {PIXELS: pixels + len(pixels)}


def with_a_mask(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {PIXELS: pixels, "pixel_attention_mask": torch.ones(len(pixels))}


def tiled(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {PIXELS: pixels.repeat(2, 1, 1, 1)}


def drawn(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {PIXELS: pixels + torch.rand(pixels.shape)}


@pytest.mark.parametrize("habit", [brighter_in_company, with_a_mask, tiled, drawn])
def test_one_that_cannot_be_taken_apart_is_not(processor: Any, habit: Any) -> None:
    class Peculiar:
        def __init__(self, real: Any) -> None:
            self.__dict__["real"] = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__dict__["real"], name)

        def __call__(self, images: Any, **options: Any) -> Any:
            return transformers.BatchFeature(habit(self.real(images, **options)[PIXELS]))

    twin = copy.copy(processor)
    twin.image_processor = Peculiar(processor.image_processor)
    assert apart(twin) is None
