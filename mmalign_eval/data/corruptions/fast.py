"""Corruptions that can be computed faster than the package does, byte for byte the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FAST: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {}
