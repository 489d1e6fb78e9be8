"""Training curves: what a trainer logged, over its steps."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import BadInput
from .figure import Figure, named
from .plot import Line, Panel, Point, point_chart

STEPS = ("step", "global_step")
LOG, STATE, LEFT = "log.jsonl", "trainer_state.json", "training"  # what `mmeval tune` calls its logs, and their folder
POINTS = 200  # a line of more is drawn as means of neighbours: two to a pixel say no more
# What trainers log of themselves rather than of the training (Hugging Face Trainer, `speed_metrics`).
SKIPPED = ("epoch", "total_flos", "runtime", "per_second", "num_input_tokens_seen")
FIRST = ("accuracies", "margins", "loss")  # panels that a reader of preference tuning looks for stand first
EVAL = "eval_"
SPREAD = "_sd"  # `<metric>_sd`: the standard deviation over what `<metric>` is the mean of
SIDES = ("chosen", "rejected")  # of a preference pair: `<what>/chosen` and `<what>/rejected` share a panel

Series = list[tuple[int, float]]


@dataclass(frozen=True)
class _Key:
    panel: str
    name: str


def training_curves(path: str | os.PathLike[str]) -> Figure:
    """Draws every number logged at two steps or more, in panels by name.

    `<what>/chosen` and `<what>/rejected` share a panel, as do a metric of training and the same of evaluation
    (`eval_<metric>`). `<metric>_sd` is drawn as bars around `<metric>`.

    Args:
        path: `trainer_state.json` of Hugging Face's Trainer (its `log_history`), or a log of one JSON object a line,
            each row with `step`; or what `mmeval tune` left, a folder with either in `training/`.

    Raises:
        BadInput: No such file, not such a log, or nothing in it to draw.
    """
    file = _log_in(Path(path))
    panels: dict[str, dict[str, Series]] = {}
    spreads: dict[_Key, dict[int, float]] = {}
    series = _series(_rows(file), file)
    for name, points in series.items():
        stem = name.removesuffix(SPREAD)
        if stem != name and stem in series:
            spreads[_key(stem)] = dict(points)
            continue
        key = _key(name)
        panels.setdefault(key.panel, {})[key.name] = points
    binned = max(len(points) for lines in panels.values() for points in lines.values())
    width = math.ceil(binned / POINTS)
    title = f"Training: {_name(file)}"
    said = [f"Each point is the mean of {width} logged steps."] if width > 1 else []
    said += ["Bars are one standard deviation to either side."] if spreads else []
    caption = " ".join(said)
    ordered = sorted(panels, key=_rank)
    drawn = [_panel(name, panels[name], spreads, width) for name in ordered]
    svg = point_chart(title, caption, drawn, x_label="step", same_y=False, whole_x=True)
    return Figure(named("training", title.removeprefix("Training: ")), title, caption, svg, _data(panels, ordered))


def _log_in(path: Path) -> Path:
    found = (path / LEFT / name for name in (LOG, STATE))
    return next((file for file in found if file.is_file()), path)


def _name(file: Path) -> str:
    """What was trained: a log's own name, or its folder's where all logs are called alike."""
    if file.name not in (LOG, STATE):
        return file.stem
    folder = file.absolute().parent
    return (folder.parent if folder.name == LEFT else folder).name or file.stem


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"{file}: {error.strerror or error}; expected trainer_state.json or a log in JSON lines"
        ) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: not text; expected trainer_state.json or a log in JSON lines") from error
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return [_row(line, number, file) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    rows = whole.get("log_history", [whole]) if isinstance(whole, dict) else whole
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{file}: no training log; expected an object with 'log_history', or one JSON object a line")
    return rows


def _row(line: str, number: int, file: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file}:{number}: not JSON; expected trainer_state.json or a log in JSON lines") from error
    if not isinstance(row, dict):
        raise BadInput(f"{file}:{number}: expected an object with 'step' and what was logged there")
    return row


def _series(rows: Iterable[dict[str, Any]], file: Path) -> dict[str, Series]:
    """Numbers by name, each with its steps in rising order; of one step the last counts (a run that was resumed)."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        step = next((row[key] for key in STEPS if key in row), None)
        if not isinstance(step, int | float) or isinstance(step, bool) or not math.isfinite(step):
            continue  # trainers add rows about the whole run
        for name, value in row.items():
            if name not in STEPS and not name.endswith(SKIPPED) and _number(value):
                found.setdefault(name, {})[int(step)] = float(value)
    series = {name: sorted(by.items()) for name, by in found.items() if len(by) > 1}
    if not series:
        raise BadInput(f"{file}: nothing to draw: no number was logged at two steps or more (rows with 'step')")
    return series


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key(name: str) -> _Key:
    bare = name.removeprefix(EVAL)
    who = "evaluation" if bare != name else "training"
    stem, _, last = bare.rpartition("/")
    if last in SIDES and stem:
        return _Key(stem, last if bare == name else f"{last}, {who}")
    return _Key(bare, who)


def _rank(panel: str) -> tuple[int, str]:
    last = panel.rpartition("/")[2]
    return (FIRST.index(last) if last in FIRST else len(FIRST), panel)


def _panel(panel: str, lines: dict[str, Series], spreads: dict[_Key, dict[int, float]], width: int) -> Panel:
    drawn = tuple(
        Line(i, tuple(_binned(points, spreads.get(_Key(panel, name), {}), width)), marked=len(points) <= 30)
        for i, (name, points) in enumerate(lines.items())
    )
    return Panel(panel, drawn, names=tuple(lines))


def _binned(points: Series, spread: dict[int, float], width: int) -> list[Point]:
    """Means of `width` neighbours; a gap where one of them is undefined."""
    out = []
    for i in range(0, len(points), width):
        part = points[i : i + width]
        step = sum(step for step, _ in part) / len(part)
        value = sum(value for _, value in part) / len(part)
        bars = [spread[step] for step, _ in part if step in spread]
        bar = math.sqrt(sum(sd * sd for sd in bars) / len(bars)) if bars else None
        ends = (None, None) if bar is None else (value - bar, value + bar)
        out.append(Point(step, value, y_ends=ends, text=f"step {step:g}: {value:.4g}"))
    return out


def _data(panels: dict[str, dict[str, Series]], ordered: list[str]) -> tuple[tuple[str, ...], ...]:
    """First, last and extremes: whole curves are no reading."""
    rows: list[tuple[str, ...]] = [("logged", "steps", "first", "last", "lowest", "highest")]
    for panel in ordered:
        for name, points in panels[panel].items():
            values = [value for _, value in points]
            known = [value for value in values if math.isfinite(value)] or [math.nan]
            shown = (f"{value:.4g}" for value in (values[0], values[-1], min(known), max(known)))
            rows.append((f"{panel}, {name}", f"{points[0][0]} .. {points[-1][0]}", *shown))
    return tuple(rows)
