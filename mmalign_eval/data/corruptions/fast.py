"""Corruptions that can be computed faster than the package does, byte for byte the same.

Where a faster formula could round to another byte (its value stands at a whole number, where truncation decides), the
package's own arithmetic is used for just those pixels or, where that is not possible, for the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from . import package

NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # the package's constants, severity 1 to 5
DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
BLOCK = 1 << 15  # pixels at a time: temporaries stay in the processor's cache
PAIRS = 1 << 14
SURE = 1e-10  # of 255: a value nearer to a whole number could truncate to another; rounding is off by less than 1e-12


def gaussian_noise(image: np.ndarray, severity: int, seed: int) -> np.ndarray:
    """Numpy's normal numbers, many at a time: pairs of uniform ones, of which those in the unit circle give two.

    numpy's old generator (frozen: NEP 19) takes one pair after the other by Marsaglia's polar method. Here the
    logarithm may differ in its last bit; if that could change a byte, the package computes the picture.
    """
    random, width = np.random.RandomState(seed), 255 * NOISE[severity - 1]
    flat, out, at = image.reshape(-1), np.empty(image.size, dtype=np.uint8), 0
    while at < flat.size:
        part = flat[at : at + 2 * PAIRS]
        noisy = _normal(random)[: part.size]
        part = part[: noisy.size]
        noisy *= width
        noisy += part
        whole = np.rint(noisy)
        whole -= noisy
        if np.abs(whole, out=whole).min() < SURE:
            return package.corrupt(image, "gaussian_noise", severity, seed)
        out[at : at + noisy.size] = np.clip(noisy, 0, 255, out=noisy)
        at += noisy.size
    return out.reshape(image.shape)


def _normal(random: np.random.RandomState) -> np.ndarray:
    """The next normal numbers of a generator: as many as `PAIRS` pairs of uniform ones give, about 1.57 a pair."""
    pairs = random.random_sample((PAIRS, 2))
    pairs *= 2
    pairs -= 1
    first, second = pairs[:, 0], pairs[:, 1]
    squared = first * first
    squared += second * second
    inside = (squared < 1) & (squared != 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.log(squared)
        factor *= -2
        factor /= squared
        np.sqrt(factor, out=factor)
        made = np.empty_like(pairs)
        np.multiply(factor, second, out=made[:, 0])
        np.multiply(factor, first, out=made[:, 1])
    return made.view(np.complex128)[:, 0][inside].view(np.float64)  # a pair moves as one number


def defocus_blur(image: np.ndarray, severity: int, seed: int) -> np.ndarray:
    """The same filter on the same planes, without the copies around it."""
    import cv2

    kernel, out = _disk(severity), np.empty_like(image)
    for channel in range(3):
        blurred = cv2.filter2D(image[:, :, channel] / 255.0, -1, kernel)
        np.clip(blurred, 0, 1, out=blurred)
        blurred *= 255
        out[:, :, channel] = blurred
    return out


@cache
def _disk(severity: int) -> np.ndarray:
    radius, alias = DEFOCUS[severity - 1]
    return np.asarray(package.functions().disk(radius=radius, alias_blur=alias))


def contrast(image: np.ndarray, severity: int, seed: int) -> np.ndarray:
    """A channel's value depends on the byte and on the channel's mean alone: a table of 256.

    The mean is taken of the exact sum; the package adds up 64-bit floats. If that could change a byte of the table,
    the package computes the picture.
    """
    import cv2

    pixels = image.shape[0] * image.shape[1]
    means = np.array(cv2.sumElems(image)[:3]) / (255.0 * pixels)
    values = np.arange(256)[:, None] / 255.0
    table = np.clip((values - means) * CONTRAST[severity - 1] + means, 0, 1) * 255
    sums_differ_by = (pixels + 16) * 2.0**-52 * 256
    if np.abs(table - np.rint(table)).min() <= sums_differ_by:
        return package.corrupt(image, "contrast", severity, seed)
    return np.asarray(cv2.LUT(image, table.astype(np.uint8)[None]))


def brightness(image: np.ndarray, severity: int, seed: int) -> np.ndarray:
    """Adding to V of HSV multiplies all three channels alike: a byte depends on itself and on the largest of the three.

    So a table of 65,536 holds all results, but one: the middle channel, in whose value hue is rounded. Where its
    unrounded value is a whole number it is computed as scikit-image does.
    """
    table, whole = _brightness_tables(severity)
    flat = image.reshape(-1, 3)
    out = np.empty_like(flat)
    for start in range(0, len(flat), BLOCK):
        pixels = flat[start : start + BLOCK]
        planes = [np.ascontiguousarray(pixels[:, channel]) for channel in range(3)]
        upper, lower = np.maximum(planes[0], planes[1]), np.minimum(planes[0], planes[1])
        largest = np.maximum(upper, planes[2])
        middle = np.maximum(lower, np.minimum(upper, planes[2]))
        row = largest.astype(np.intp) << 8
        part = out[start : start + BLOCK]
        for channel, plane in enumerate(planes):
            part[:, channel] = table.take(row + plane)
        found = np.flatnonzero(whole.take(row + middle))
        if found.size:
            part[found] = _middle_exact(pixels[found], part[found], BRIGHTNESS[severity - 1])
    return out.reshape(image.shape)


@cache
def _brightness_tables(severity: int) -> tuple[np.ndarray, np.ndarray]:
    """By 256 x (largest channel) + (own value): the result, and whether a middle channel's is a whole number.

    The result is `p` of HSV to RGB, in scikit-image's order of operations: it is the value of the least channel, and of
    the largest too where the two are equal; hue plays no part in either, also not where two channels tie (there it is
    a whole sixth, and 6 * (k / 6) is k in floating point).
    """
    added = BRIGHTNESS[severity - 1]
    values = np.arange(256) / 255.0
    largest, own = values[:, None], values[None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        saturation = (largest - own) / largest
    saturation[0] = 0.0
    raised = np.clip(largest + added, 0, 1)
    table = np.clip(raised * (1 - saturation), 0, 1) * 255
    top, byte = np.arange(256)[:, None], np.arange(256)[None, :]
    numerator = np.minimum(2 * top + round(510 * added), 510) * byte  # of the exact value, over 2 * largest
    whole = (byte > 0) & (byte < top) & (numerator % np.maximum(2 * top, 1) == 0)
    return table.astype(np.uint8).reshape(-1), whole.reshape(-1)


def _middle_exact(pixels: np.ndarray, out: np.ndarray, added: float) -> np.ndarray:
    """Sets the middle channel of pixels with three different channels, as `rgb2hsv` and `hsv2rgb` compute it.

    Args:
        pixels: uint8, n x 3.
        out: Their results, the middle channel's still to be set where there is one.
        added: To V.
    """
    order = np.argsort(pixels, axis=1)
    values = pixels / 255.0
    rows = np.arange(len(pixels))
    least, most = values[rows, order[:, 0]], values[rows, order[:, 2]]
    top = order[:, 2]  # which channel is largest: hue counts from there
    delta = most - least
    hue = (values[rows, (top + 1) % 3] - values[rows, (top + 2) % 3]) / delta
    hue = np.where(top == 0, hue, 2.0 * top + hue)
    sixths = (hue / 6.0) % 1.0 * 6
    sector = np.floor(sixths)
    within = sixths - sector
    saturation, raised = delta / most, np.clip(most + added, 0, 1)
    falling, rising = raised * (1 - within * saturation), raised * (1 - (1 - within) * saturation)
    result = np.clip(np.where(sector % 2 == 1, falling, rising), 0, 1) * 255
    middle = order[:, 1]
    own = pixels[rows, middle]
    strict = (own > pixels[rows, order[:, 0]]) & (own < pixels[rows, top])
    out[rows[strict], middle[strict]] = result[strict].astype(np.uint8)
    return out


FAST: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "gaussian_noise": gaussian_noise,
    "defocus_blur": defocus_blur,
    "contrast": contrast,
    "brightness": brightness,
}
