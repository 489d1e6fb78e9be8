"""Figures as plain SVG: written by this package's own small code, so that equal results give equal bytes everywhere."""

from .bars import grouped_bars
from .choose import figures_of
from .figure import Figure, write_figures
from .svg import STYLE
from .training import training_curves

__all__ = ["STYLE", "Figure", "figures_of", "grouped_bars", "training_curves", "write_figures"]
