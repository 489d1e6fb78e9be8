"""Pictures of a photograph's size, edges and grain, made from a seed."""

from __future__ import annotations

import numpy as np

WIDTH, HEIGHT = 640, 480  # COCO's usual size


def photographs(count: int, width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    """`count` pictures, uint8, height x width x 3: smooth areas, edges, grain, some of it over- and underexposed."""
    from PIL import Image

    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        picture = np.clip((picture - 128) * 1.3 + 128 + rng.normal(0, 6, picture.shape), 0, 255)
        pictures.append(picture.astype(np.uint8))
    return pictures
