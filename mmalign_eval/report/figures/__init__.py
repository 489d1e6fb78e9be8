"""Figures as plain SVG: written by this package's own small code, so that equal results give equal bytes everywhere."""

from .bars import grouped_bars
from .figure import Figure, write_figures

__all__ = ["Figure", "grouped_bars", "write_figures"]
