"""Draw a scene: same seed, same pixels. Also the outline of each object, for COCO annotations and tower targets."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageDraw

from mmalign_eval.miniature.shapes import SHAPES, Point
from mmalign_eval.miniature.world import COLORS, IMAGE_SIZE, Scene, Thing

SCALE = 3  # drawn three times larger, then box-averaged: smooth edges without an anti-aliasing library
RGB = tuple[int, int, int]

_SKY: dict[str, tuple[RGB, RGB]] = {  # scene -> colours above and below the horizon
    "street": ((170, 185, 205), (125, 125, 130)),
    "beach": ((150, 205, 240), (225, 205, 150)),
    "farm": ((165, 205, 235), (140, 185, 100)),
    "kitchen": ((240, 225, 190), (190, 150, 110)),
    "bedroom": ((205, 190, 220), (150, 120, 140)),
    "office": ((205, 215, 215), (140, 155, 160)),
}
_FIXED: dict[str, RGB] = {
    "wood": (135, 90, 50), "skin": (230, 180, 145), "glass": (190, 220, 235),
    "lampr": (235, 60, 50), "lampy": (245, 200, 60), "lampg": (70, 200, 90),
}  # fmt: skip


def outline(thing: Thing, points: list[Point]) -> list[Point]:
    """Unit-square points in image pixels."""
    turn = math.radians(thing.angle)
    cos, sin = math.cos(turn), math.sin(turn)
    out = []
    for x, y in points:
        dx = (x - 0.5) * thing.width * (-1 if thing.mirror else 1)
        dy = (y - 0.5) * thing.height
        out.append((thing.cx + dx * cos - dy * sin, thing.cy + dx * sin + dy * cos))
    return out


def _shade(kind: str, main: np.ndarray) -> RGB:
    if kind in _FIXED:
        return _FIXED[kind]
    dark_main = main.mean() < 70
    if kind == "dark":
        main = main * 0.4 + (60 if dark_main else 0)
    elif kind == "light":
        main = main * 0.4 + 150 * (0.7 if main.mean() > 200 else 1)
    r, g, b = (int(v) for v in np.clip(main, 0, 255))
    return r, g, b


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene."""
    rng = np.random.default_rng([11, scene.seed])
    side = IMAGE_SIZE * SCALE
    above, below = (_jitter(rng, color, 25) for color in _SKY[scene.kind])
    image = Image.new("RGB", (side, side), above)
    pen = ImageDraw.Draw(image)
    horizon = side * rng.uniform(0.3, 0.7)
    pen.rectangle([0, horizon, side, side], fill=below)
    for _ in range(rng.integers(2, 7)):  # clutter
        x, y = rng.uniform(0, side, 2)
        rx, ry = rng.uniform(2, 7, 2) * SCALE
        pen.ellipse([x - rx, y - ry, x + rx, y + ry], fill=_jitter(rng, above if y < horizon else below, 25))
    for thing in scene.things:
        main = np.array(_jitter(rng, COLORS[thing.color], 22), dtype=float)
        for kind, points in SHAPES[thing.name]:
            pixels = [(x * SCALE, y * SCALE) for x, y in outline(thing, points)]
            pen.polygon(pixels, fill=_shade(kind, main))
    small = np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX), dtype=float)
    small = small * rng.uniform(0.8, 1.15) + rng.normal(0, rng.uniform(0, 12), small.shape)
    return Image.fromarray(np.clip(small, 0, 255).astype(np.uint8))


def _jitter(rng: np.random.Generator, color: RGB, spread: int) -> RGB:
    r, g, b = (int(v) for v in np.clip(np.array(color) + rng.uniform(-spread, spread, 3), 0, 255))
    return r, g, b


def silhouette(thing: Thing) -> list[Point]:
    """Convex hull of everything drawn for the object: its segmentation polygon, clipped to the image."""
    points = sorted({p for _, shape in SHAPES[thing.name] for p in outline(thing, shape)})

    def half(source: list[Point]) -> list[Point]:
        hull: list[Point] = []
        for x, y in source:
            while len(hull) > 1:
                (x1, y1), (x2, y2) = hull[-2], hull[-1]
                if (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) > 0:
                    break
                hull.pop()
            hull.append((x, y))
        return hull[:-1]

    hull = half(points) + half(points[::-1])
    return [(min(max(x, 0.0), float(IMAGE_SIZE)), min(max(y, 0.0), float(IMAGE_SIZE))) for x, y in hull]


def jpeg(image: Image.Image) -> bytes:
    """JPEG bytes as committed: quality 92 without chroma subsampling, so that small things keep their colour."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()
