"""The package `imagecorruptions` on today's libraries, each call with a generator of its own.

Its module of functions is loaded under a private name, so that the package stays as it is for everybody else:
 - `pkg_resources` is gone from setuptools, `scipy.ndimage.interpolation` goes with SciPy 2: stand-ins while it loads;
 - `np.float_` went with numpy 2, `gaussian(multichannel=...)` with scikit-image 0.21;
 - `np.random` is a generator of the calling thread, and `random_noise`, which numpy's seed never reached, is given one.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from ...errors import BadInput

NAME = f"{__name__}_functions"
_thread = threading.local()
_loading = threading.Lock()


def corrupt(image: np.ndarray, kind: str, severity: int, seed: int) -> np.ndarray:
    """The package's picture of an RGB image (uint8, height x width x 3) after `numpy.random.seed(seed)`."""
    from PIL import Image

    function = getattr(functions(), kind)
    _thread.random, _thread.seed = np.random.RandomState(seed), seed
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.uint8(function(Image.fromarray(image), severity))  # type: ignore[return-value]


def functions() -> ModuleType:
    """The package's functions, repaired; loaded once.

    Raises:
        BadInput: The package or one of its libraries does not import (with the cause).
    """
    with _loading:
        return _functions()


@cache
def _functions() -> ModuleType:
    spec = importlib.util.find_spec("imagecorruptions")
    if spec is None or not spec.origin:
        raise BadInput("corruptions need the package imagecorruptions: pip install imagecorruptions==1.1.2")
    folder = Path(spec.origin).parent
    own = importlib.util.spec_from_file_location(NAME, folder / "corruptions.py")
    assert own is not None
    assert own.loader is not None
    module = importlib.util.module_from_spec(own)
    try:
        with _stand_ins(folder):
            own.loader.exec_module(module)
    except ImportError as error:
        cure = "; on a machine without a display: pip install opencv-python-headless" if "libGL" in str(error) else ""
        raise BadInput(f"imagecorruptions does not import: {error}{cure}") from error
    _repair(module)
    return module


@contextlib.contextmanager
def _stand_ins(folder: Path) -> Iterator[None]:
    """Modules that the package imports names of and that may be gone, while it loads."""
    import scipy.ndimage

    resources, interpolation = ModuleType("pkg_resources"), ModuleType("scipy.ndimage.interpolation")
    vars(resources)["resource_filename"] = lambda _, name: str(folder / name)
    vars(interpolation)["map_coordinates"] = scipy.ndimage.map_coordinates
    names = {module.__name__: module for module in (resources, interpolation)}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def _repair(module: Any) -> None:
    import skimage.color
    import skimage.filters
    import skimage.util

    seeded = "rng" if "rng" in inspect.signature(skimage.util.random_noise).parameters else "seed"

    def gaussian(image: np.ndarray, *args: Any, multichannel: bool = False, **kwargs: Any) -> np.ndarray:
        return skimage.filters.gaussian(image, *args, channel_axis=-1 if multichannel else None, **kwargs)

    def random_noise(image: np.ndarray, **kwargs: Any) -> np.ndarray:
        return skimage.util.random_noise(image, **kwargs, **{seeded: _thread.seed})

    module.np = _Numpy()
    module.gaussian = gaussian
    module.sk = SimpleNamespace(color=skimage.color, util=SimpleNamespace(random_noise=random_noise))
    module.print = lambda *text: None  # it tells of exceptions that it handles


class _Numpy:
    """numpy as the package expects it; `random` is the generator of the calling thread."""

    float_ = np.float64

    @property
    def random(self) -> np.random.RandomState:
        """Seeded by `corrupt`."""
        return _thread.random

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)
