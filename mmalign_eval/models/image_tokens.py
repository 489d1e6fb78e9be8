"""Images as tokens: how many a model makes of one, and stand-in ids for planning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import BadInput, ImageError
from ..images import digest, image_size
from ..requests import ImageRef
from .encoding import Ids

_NUMBERS: dict[tuple[str, tuple[str, ...]], int] = {}  # of images by content and transforms
_UNREADABLE = (336, 336)  # planned size of an image that cannot be read; asking for it gives the error


def image_text(processor: Any, name: str, config: Any) -> str:
    """The placeholder of one image in a text, between start and end tokens if the model was trained with them (LLaVA).

    Raises:
        BadInput: The processor has none (it needs the checkpoint's own chat template).
    """
    token = getattr(processor, "image_token", None)
    if not token:
        raise BadInput(f"{name}: its processor names no image token; use template=model")
    text = str(getattr(token, "content", token))
    return f"<im_start>{text}<im_end>" if getattr(config, "mm_use_im_start_end", False) else text


def image_id(processor: Any, config: Any) -> int | None:
    """Id of that placeholder, or None."""
    # The processor's comes first: in Gemma 3 it is what stands in a text, the configuration's what it is expanded to.
    for owner, name in ((processor, "image_token_id"), (config, "image_token_id"), (config, "image_token_index")):
        if getattr(owner, name, None) is not None:
            return int(getattr(owner, name))
    return None


def count(ids: Ids, image: int | None) -> int:
    """Placeholders among ids."""
    return 0 if image is None else int(np.count_nonzero(ids == image))


def expand(ids: Ids, refs: Sequence[ImageRef], image: int | None, processor: Any) -> Ids:
    """Ids with each placeholder replaced by as many ids as its image has tokens.

    These ids are negative, so that they meet no vocabulary, and the first of them is the image's own in this process.
    """
    if not refs or image is None:
        return ids
    found, start = [], 0
    for at, ref in zip(np.flatnonzero(ids == image).tolist(), refs, strict=False):
        found += [ids[start:at], _stand_ins(ref, processor)]
        start = at + 1
    return np.concatenate([*found, ids[start:]])


def _stand_ins(ref: ImageRef, processor: Any) -> Ids:
    number = _NUMBERS.setdefault((digest(ref), ref.transforms), len(_NUMBERS))
    made = np.full(_tokens(processor, _size(ref.path, ref.row, ref.column)), -1, np.int32)
    made[:1] = -2 - number
    return made


def _tokens(processor: Any, size: tuple[int, int]) -> int:
    known = processor.__dict__.setdefault("_mmeval_image_tokens", {})
    if size not in known:
        known[size] = int(processor._get_num_multimodal_tokens(image_sizes=[size])["num_image_tokens"][0])
    return int(known[size])


@lru_cache(maxsize=100_000)
def _size(path: str, row: int, column: str) -> tuple[int, int]:
    """Height and width of an image, from its header, before transforms."""
    try:
        return image_size(ImageRef(path, row, column))
    except ImageError:
        return _UNREADABLE


def with_zeros(types: Any, more: int) -> Any:
    """Token types `[1, length]` with zeros for tokens that follow."""
    import torch

    return torch.cat([types, types.new_zeros(types.shape[0], more)], dim=1)
