"""The vision tower looks at an image once, as long as there is room to keep what it saw."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmalign_eval.tuning.batches import pixels
from mmalign_eval.tuning.loading import load_llava
from mmalign_eval.tuning.logprobs import tower_features
from mmalign_eval.tuning.looks import Looks

from mmalign_eval.requests import ImageRef

from .conftest import LlavaData


@pytest.mark.parametrize(("kept", "again"), [(3, 0), (1, 2), (0, 3)])
def test_each_image_once_while_there_is_room(
    nano_llava: Path, llava_data: LlavaData, monkeypatch: pytest.MonkeyPatch, kept: int, again: int
) -> None:
    model, processor = load_llava(str(nano_llava))
    a, b, c = (ImageRef(str(file)) for file in sorted(llava_data.images.iterdir())[:3])
    wanted = tower_features(model, pixels([a, b, a, c], processor.image_processor))
    looks = Looks(model, processor.image_processor, room=kept * wanted[0].numel() * wanted.element_size())
    torch.testing.assert_close(looks.features([a, b, a, c]), wanted)
    assert looks.passes == 3
    torch.testing.assert_close(looks.features([c, b, a]), wanted[[3, 1, 0]])
    assert looks.passes == 3 + again
