"""The forest plot: what changed from base to other, metric by metric, each with its interval."""

from __future__ import annotations

from itertools import groupby

from ...compare import Change, Comparison
from ...tables import FEW_CLUSTERS, ROUGH, SIGNIFICANT, shown_change, shown_delta, shown_p, shown_value
from .bars import shown_scale
from .figure import Figure, named
from .rows import TURN, Block, Cell, Row, row_chart

PERCENT = ("fraction", "percent")
LOWER, NEITHER = "\u2193", "\u2194"  # behind the names of metrics: lower is better, no direction is better
SERIES = {"higher": 0, "lower": 0, "neither": 3}  # another shape and colour where right is not better


def forest(comparison: Comparison) -> Figure | None:
    """Differences of the headline metrics with 95 % intervals; None if there are none.

    Metrics in percent share one panel. All others have a panel for each task and unit, for a point of one task is not
    one of another. Where lower is better the sign is turned in the drawing, not in the number beside it: what lies
    right of zero is better everywhere.
    """
    changes = [change for change in comparison.changes if change.headline]
    if all(change.paired.delta is None for change in changes):
        return None
    percent = [change for change in changes if change.unit in PERCENT]
    others = [change for change in changes if change.unit not in PERCENT]
    blocks = [_block(percent, "percentage points")] if percent else []
    for (_, unit), group in groupby(others, key=lambda change: (change.key, change.unit)):
        blocks.append(_block(list(group), unit))
    title = f"Differences: {comparison.other} against {comparison.base}"
    caption = _caption(changes)
    data = (
        ("task", "metric", "base", "other", "difference", "95 % interval", "p"),
        *map(_data, changes),
    )
    name = named("differences", comparison.base, comparison.other)
    return Figure(name, title, caption, row_chart(title, caption, blocks), data)


def _block(changes: list[Change], unit: str) -> Block:
    rows = tuple(Row(change.label, _metric(change), SERIES[change.better], (_cell(change),)) for change in changes)
    turned = all(change.better == "neither" for change in changes)
    return Block(("",), unit if turned else f"worse {TURN} {unit} \u2192 better", rows)


def _metric(change: Change) -> str:
    return change.metric + {"lower": f" {LOWER}", "neither": f" {NEITHER}"}.get(change.better, "")


def _cell(change: Change) -> Cell:
    pair = change.paired
    factor = shown_scale(change.unit) * (-1 if change.better == "lower" else 1)
    delta, low, high = (None if value is None else value * factor for value in (pair.delta, pair.low, pair.high))
    ends = (high, low) if change.better == "lower" else (low, high)
    return Cell(delta, ends, _texts(change), is_open=not change.significant)


def _texts(change: Change) -> tuple[str, ...]:
    delta = shown_delta(change.paired.delta, change.unit, change.scale)
    marks = ROUGH * change.rough + SIGNIFICANT * change.significant
    return delta, shown_p(change.p_holm), marks


def _data(change: Change) -> tuple[str, ...]:
    pair, unit = change.paired, change.unit
    interval = shown_change(pair.low, pair.high, unit, change.scale, pair.clusters)
    p = shown_p(change.p_holm) + f" {SIGNIFICANT}" * change.significant
    values = (shown_value(pair.base, unit), shown_value(pair.other, unit), shown_delta(pair.delta, unit, change.scale))
    return (change.label, _metric(change), *values, interval, p)


def _caption(changes: list[Change]) -> str:
    parts = [f"Whiskers: 95 % intervals. p is adjusted after Holm; filled and {SIGNIFICANT}: below .05."]
    if any(change.better == "lower" for change in changes):
        parts.append(f"{LOWER} lower is better: drawn with its sign turned.")
    if any(change.better == "neither" for change in changes):
        parts.append(f"{NEITHER} no direction is better: right is more.")
    if any(change.rough for change in changes):
        parts.append(f"{ROUGH} from fewer than {FEW_CLUSTERS} clusters: the interval is rough.")
    return " ".join(parts)
