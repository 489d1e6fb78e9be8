"""The package `imagecorruptions` itself, with no more help than it needs to be imported and to run its noises."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def package() -> ModuleType:
    """`imagecorruptions`; today's setuptools lacks the `pkg_resources` that it imports, SciPy 2 its old name."""
    import scipy.ndimage

    spec = importlib.util.find_spec("imagecorruptions")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    stand_ins = {name: ModuleType(name) for name in ("pkg_resources", "scipy.ndimage.interpolation")}
    vars(stand_ins["pkg_resources"])["resource_filename"] = lambda _, name: str(folder / name)
    vars(stand_ins["scipy.ndimage.interpolation"])["map_coordinates"] = scipy.ndimage.map_coordinates
    sys.modules.update({name: module for name, module in stand_ins.items() if name not in sys.modules})
    return importlib.import_module("imagecorruptions")
