"""Pictograms: each class as a few polygons in the unit square (x to the right, y down), with a shade each."""

from __future__ import annotations

import math

Point = tuple[float, float]
Shape = tuple[str, list[Point]]  # shade: "main", "dark", "light", "wood", "skin" or "glass"


def box(shade: str, x0: float, y0: float, x1: float, y1: float) -> Shape:
    """An upright rectangle."""
    return shade, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def disc(shade: str, cx: float, cy: float, rx: float, ry: float | None = None) -> Shape:
    """An ellipse as a 16-gon."""
    ry = rx if ry is None else ry
    turns = [2 * math.pi * i / 16 for i in range(16)]
    return shade, [(cx + rx * math.cos(t), cy + ry * math.sin(t)) for t in turns]


def poly(shade: str, *xy: float) -> Shape:
    """A polygon from x, y, x, y, ..."""
    return shade, list(zip(xy[::2], xy[1::2], strict=True))


def bar(shade: str, x0: float, y0: float, x1: float, y1: float, width: float = 0.08) -> Shape:
    """A straight stroke."""
    length = math.hypot(x1 - x0, y1 - y0)
    dx, dy = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
    return shade, [(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)]


def _beast(head: list[Shape], body: float = 0.17) -> list[Shape]:
    """Four legs and a trunk; the head makes the difference."""
    legs = [bar("dark", x, 0.6, x, 0.98, 0.09) for x in (0.2, 0.36, 0.6, 0.76)]
    return [*legs, disc("main", 0.48, 0.52, 0.36, body), *head]


SHAPES: dict[str, list[Shape]] = {
    "person": [
        disc("skin", 0.5, 0.15, 0.15),
        box("main", 0.32, 0.3, 0.68, 0.66),
        bar("skin", 0.3, 0.32, 0.1, 0.6, 0.1),
        bar("skin", 0.7, 0.32, 0.9, 0.6, 0.1),
        bar("dark", 0.4, 0.66, 0.36, 1.0, 0.13),
        bar("dark", 0.6, 0.66, 0.64, 1.0, 0.13),
    ],
    "bicycle": [
        disc("dark", 0.22, 0.68, 0.22),
        disc("glass", 0.22, 0.68, 0.13),
        disc("dark", 0.78, 0.68, 0.22),
        disc("glass", 0.78, 0.68, 0.13),
        bar("main", 0.22, 0.68, 0.4, 0.3),
        bar("main", 0.4, 0.35, 0.7, 0.35),
        bar("main", 0.78, 0.68, 0.68, 0.2),
        bar("main", 0.5, 0.68, 0.7, 0.35),
        bar("dark", 0.3, 0.26, 0.5, 0.26),
    ],
    "car": [
        poly("main", 0.0, 0.5, 0.2, 0.48, 0.32, 0.25, 0.7, 0.25, 0.82, 0.48, 1.0, 0.52, 1.0, 0.75, 0.0, 0.75),
        poly("glass", 0.27, 0.47, 0.36, 0.31, 0.66, 0.31, 0.75, 0.47),
        disc("dark", 0.22, 0.76, 0.13),
        disc("dark", 0.78, 0.76, 0.13),
    ],
    "bus": [
        box("main", 0.0, 0.1, 1.0, 0.82),
        *[box("glass", x, 0.2, x + 0.19, 0.45) for x in (0.06, 0.3, 0.54, 0.77)],
        box("light", 0.0, 0.54, 1.0, 0.6),
        disc("dark", 0.22, 0.84, 0.13),
        disc("dark", 0.78, 0.84, 0.13),
    ],
    "boat": [
        poly("main", 0.0, 0.65, 1.0, 0.65, 0.8, 0.95, 0.2, 0.95),
        bar("wood", 0.5, 0.05, 0.5, 0.65, 0.06),
        poly("light", 0.54, 0.08, 0.54, 0.58, 0.92, 0.58),
        poly("light", 0.46, 0.2, 0.46, 0.58, 0.16, 0.58),
    ],
    "traffic light": [
        box("dark", 0.44, 0.7, 0.56, 1.0),
        box("main", 0.3, 0.0, 0.7, 0.72),
        disc("lampr", 0.5, 0.14, 0.1),
        disc("lampy", 0.5, 0.36, 0.1),
        disc("lampg", 0.5, 0.58, 0.1),
    ],
    "bird": [
        poly("dark", 0.0, 0.55, 0.28, 0.5, 0.25, 0.7),
        disc("main", 0.5, 0.55, 0.3, 0.2),
        disc("main", 0.8, 0.35, 0.14),
        poly("lampy", 0.92, 0.32, 1.0, 0.38, 0.92, 0.42),
        poly("light", 0.3, 0.5, 0.6, 0.5, 0.35, 0.1),
        bar("dark", 0.5, 0.74, 0.5, 0.95, 0.05),
    ],
    "cat": [
        bar("main", 0.85, 0.8, 0.98, 0.35, 0.09),
        disc("main", 0.55, 0.75, 0.34, 0.24),
        disc("main", 0.32, 0.38, 0.25),
        poly("main", 0.1, 0.35, 0.12, 0.02, 0.3, 0.2),
        poly("main", 0.54, 0.35, 0.52, 0.02, 0.34, 0.2),
        disc("lampg", 0.24, 0.36, 0.05),
        disc("lampg", 0.4, 0.36, 0.05),
    ],
    "dog": _beast(
        [
            disc("main", 0.84, 0.3, 0.15),
            box("main", 0.86, 0.3, 1.0, 0.42),
            disc("dark", 0.74, 0.33, 0.06, 0.15),
            bar("main", 0.14, 0.45, 0.0, 0.2, 0.08),
        ],
        0.13,
    ),
    "horse": _beast(
        [
            poly("main", 0.68, 0.5, 0.76, 0.08, 0.9, 0.08, 1.0, 0.26, 0.88, 0.3, 0.84, 0.55),
            poly("dark", 0.62, 0.4, 0.7, 0.05, 0.78, 0.08, 0.72, 0.45),
            bar("dark", 0.12, 0.45, 0.02, 0.85, 0.1),
        ]
    ),
    "sheep": [
        *[bar("dark", x, 0.65, x, 0.98, 0.08) for x in (0.3, 0.6)],
        *[
            disc("main", x, y, 0.17)
            for x, y in ((0.2, 0.5), (0.36, 0.36), (0.56, 0.36), (0.7, 0.5), (0.3, 0.62), (0.55, 0.62), (0.45, 0.5))
        ],
        disc("dark", 0.86, 0.42, 0.12, 0.15),
    ],
    "cow": _beast(
        [
            box("main", 0.78, 0.22, 1.0, 0.5),
            box("skin", 0.84, 0.42, 1.0, 0.54),
            bar("light", 0.78, 0.22, 0.72, 0.06),
            bar("light", 0.96, 0.22, 1.0, 0.06),
            disc("light", 0.36, 0.48, 0.11, 0.09),
            disc("light", 0.62, 0.56, 0.09, 0.08),
        ],
        0.22,
    ),
    "umbrella": [
        bar("wood", 0.5, 0.2, 0.5, 0.98, 0.06),
        bar("wood", 0.5, 0.96, 0.64, 0.9, 0.06),
        poly("main", 0.0, 0.52, 0.1, 0.28, 0.3, 0.1, 0.5, 0.04, 0.7, 0.1, 0.9, 0.28, 1.0, 0.52),
        poly("light", 0.34, 0.52, 0.5, 0.06, 0.66, 0.52),
    ],
    "kite": [
        poly("main", 0.6, 0.0, 1.0, 0.34, 0.5, 0.75, 0.25, 0.25),
        poly("light", 0.6, 0.0, 0.5, 0.75, 0.25, 0.25),
        bar("dark", 0.5, 0.75, 0.3, 0.85, 0.05),
        bar("dark", 0.3, 0.85, 0.4, 1.0, 0.05),
    ],
    "surfboard": [
        disc("main", 0.5, 0.5, 0.19, 0.5),
        bar("light", 0.5, 0.04, 0.5, 0.96, 0.07),
        bar("dark", 0.33, 0.72, 0.67, 0.72, 0.06),
    ],
    "bottle": [
        box("main", 0.28, 0.38, 0.72, 1.0),
        poly("main", 0.28, 0.4, 0.42, 0.22, 0.58, 0.22, 0.72, 0.4),
        box("main", 0.42, 0.08, 0.58, 0.24),
        box("dark", 0.4, 0.0, 0.6, 0.1),
        box("light", 0.28, 0.56, 0.72, 0.8),
    ],
    "cup": [
        disc("main", 0.78, 0.55, 0.2),
        disc("glass", 0.78, 0.55, 0.1),
        poly("main", 0.1, 0.2, 0.78, 0.2, 0.7, 0.95, 0.2, 0.95),
        disc("dark", 0.44, 0.2, 0.34, 0.08),
    ],
    "fork": [
        bar("main", 0.5, 0.4, 0.5, 1.0, 0.12),
        box("main", 0.24, 0.34, 0.76, 0.46),
        *[bar("main", x, 0.0, x, 0.4, 0.09) for x in (0.28, 0.5, 0.72)],
    ],
    "knife": [poly("light", 0.4, 0.62, 0.4, 0.02, 0.66, 0.24, 0.64, 0.62), box("main", 0.38, 0.62, 0.64, 1.0)],
    "bowl": [
        poly("main", 0.0, 0.4, 1.0, 0.4, 0.82, 0.8, 0.64, 0.92, 0.36, 0.92, 0.18, 0.8),
        disc("light", 0.5, 0.4, 0.5, 0.12),
    ],
    "banana": [
        poly("main", 0.08, 0.12, 0.22, 0.5, 0.5, 0.72, 0.98, 0.72, 0.94, 0.9, 0.5, 0.98, 0.16, 0.78, 0.0, 0.4),
        box("dark", 0.02, 0.02, 0.14, 0.16),
    ],
    "apple": [
        disc("main", 0.36, 0.6, 0.32, 0.36),
        disc("main", 0.64, 0.6, 0.32, 0.36),
        bar("wood", 0.5, 0.3, 0.54, 0.02, 0.07),
        disc("lampg", 0.68, 0.12, 0.16, 0.08),
    ],
    "chair": [
        box("main", 0.16, 0.0, 0.3, 0.98),
        box("main", 0.16, 0.5, 0.84, 0.64),
        box("dark", 0.72, 0.6, 0.84, 0.98),
        box("light", 0.3, 0.06, 0.4, 0.5),
    ],
    "bed": [
        box("wood", 0.0, 0.1, 0.1, 0.95),
        box("wood", 0.9, 0.4, 1.0, 0.95),
        box("main", 0.1, 0.52, 0.9, 0.82),
        box("light", 0.12, 0.36, 0.4, 0.54),
    ],
    "laptop": [
        box("dark", 0.14, 0.08, 0.86, 0.62),
        box("main", 0.2, 0.14, 0.8, 0.56),
        poly("light", 0.14, 0.64, 0.86, 0.64, 1.0, 0.92, 0.0, 0.92),
    ],
    "book": [
        poly("main", 0.5, 0.2, 0.02, 0.1, 0.02, 0.85, 0.5, 0.95),
        poly("main", 0.5, 0.2, 0.98, 0.1, 0.98, 0.85, 0.5, 0.95),
        *[bar("light", 0.1, y, 0.42, y + 0.07, 0.05) for y in (0.3, 0.46, 0.62)],
        *[bar("light", 0.58, y + 0.07, 0.9, y, 0.05) for y in (0.3, 0.46, 0.62)],
        bar("dark", 0.5, 0.2, 0.5, 0.95, 0.05),
    ],
    "clock": [
        disc("main", 0.5, 0.5, 0.5),
        disc("light", 0.5, 0.5, 0.37),
        bar("dark", 0.5, 0.5, 0.5, 0.2, 0.08),
        bar("dark", 0.5, 0.5, 0.72, 0.6, 0.08),
    ],
}
