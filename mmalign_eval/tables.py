"""How numbers are written in every table: values, intervals, differences, marks and footnotes.

One implementation: the table at the end of a run, `mmeval compare`, the leaderboards and the report say the same of the
same results.
"""

from __future__ import annotations

FEW_CLUSTERS = 50  # below it a cluster-robust interval is too narrow more often than it says; marked
ROUGH = "~"  # marks an interval from fewer
SIGNIFICANT = "*"  # marks a difference whose Holm-adjusted p is below 5 %


def shown_value(value: float | None, unit: str) -> str:
    """Fractions as percent, other units as they are; `-` where a metric is undefined."""
    if value is None:
        return "-"
    if unit == "fraction":
        return f"{100 * value:.1f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def shown_delta(delta: float | None, unit: str, scale_of: float | None = None) -> str:
    """A difference with its sign; with as many decimals as the value that it belongs to.

    Args:
        delta: The difference, in the metric's unit.
        unit: Of the metric.
        scale_of: A value of the metric: its size decides on the decimals, not that of the difference.
    """
    if delta is None:
        return "-"
    if unit == "fraction":
        return _signed(f"{100 * delta:+.1f}")
    large = abs(scale_of if scale_of is not None else delta) >= 10
    return _signed(f"{delta:+.1f}" if large else f"{delta:+.3f}")


def shown_p(p: float | None) -> str:
    """`p=.032`, `p<.0001`, `p=1.00`; empty without a test."""
    if p is None:
        return ""
    if p < 1e-4:
        return "p<.0001"
    if p >= 0.995:
        return "p=1.00"
    return "p=" + (f"{p:.4f}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}").lstrip("0")


def _signed(text: str) -> str:
    return "+" + text[1:] if float(text) == 0 else text  # no negative zero
