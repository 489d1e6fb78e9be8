"""Curves of a training at its end, as SVG: BPO's Fig. 6 and what belongs to it.

Bars are one standard deviation over an interval's pairs (or answers) to either side of the mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import write_whole
from ..report.figures.plot import Line, Panel, Point, point_chart

PANELS = (  # title, what it shows: (name in the legend, logged as)
    ("log-probability, chosen", (("training", "logps/chosen"), ("held out", "eval_logps/chosen"))),
    ("log-probability, rejected", (("training", "logps/rejected"), ("held out", "eval_logps/rejected"))),
    ("reward, training", (("chosen", "rewards/chosen"), ("rejected", "rewards/rejected"))),
    ("reward, held out", (("chosen", "eval_rewards/chosen"), ("rejected", "eval_rewards/rejected"))),
    ("reward margin", (("training", "rewards/margins"), ("held out", "eval_rewards/margins"))),
    ("reward accuracy", (("training", "rewards/accuracies"), ("held out", "eval_rewards/accuracies"))),
    ("loss", (("training", "loss"), ("held out", "eval_loss"))),
    ("KL to the base, a token", (("held out", "eval_kl"),)),
)
NOTE = (
    "Means over the pairs of each logged interval; bars: one standard deviation over them. Log-probabilities (nats) "
    "are summed over an answer's tokens; rewards are beta times their gain on the base."
)
NOTE_SFT = (
    "Means over the answers of each logged interval; bars: one standard deviation over them. Log-probabilities (nats) "
    "of the ground truth are summed over an answer's tokens."
)
MOST = 40  # points of a line: of a longer log each is the mean of neighbours, so that bars stay apart


def draw(log: Path, file: Path) -> bool:
    """Draws a log (`log.jsonl`) into an SVG file; both kinds of training have their own set of panels.

    Args:
        log: One JSON object a line, with `step`.
        file: Where to.

    Returns:
        Whether there was anything to draw: a training of one step has no curve.
    """
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    preference = any("logps/rejected" in row for row in rows)
    panels = [panel for panel in (_panel(title, lines, rows) for title, lines in PANELS) if panel is not None]
    if not panels:
        return False
    if not preference:  # what a ground truth's answer is called where nothing is rejected
        panels = [_renamed(panel) for panel in panels]
    note = NOTE if preference else NOTE_SFT
    title = "Preference tuning" if preference else "Supervised tuning"
    svg = point_chart(title, note, panels, x_label="step", same_y=False, whole_x=True)
    write_whole(file, [svg.encode("utf-8")])
    return True


def _panel(title: str, lines: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, Any]]) -> Panel | None:
    drawn: list[Line] = []
    names: list[str] = []
    for name, key in lines:
        points = _points(rows, key)
        if len(points) > 1:
            drawn.append(Line(len(drawn), points, marked=len(points) <= MOST, shift=3.0 * len(drawn)))
            names.append(name)
    return Panel(title, tuple(drawn), names=tuple(names)) if drawn else None


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[Point, ...]:
    """Points of one logged value; of a step that was logged twice the last counts."""
    found = {int(row["step"]): (float(row[key]), row.get(f"{key}_sd")) for row in rows if key in row}
    steps = sorted(found)
    width = -(-len(steps) // MOST)
    points = []
    for start in range(0, len(steps), max(1, width)):
        some = steps[start : start + width]
        mean = sum(found[step][0] for step in some) / len(some)
        sds = [sd for _, sd in (found[step] for step in some) if sd is not None]
        sd = (sum(value * value for value in sds) / len(sds)) ** 0.5 if sds else None
        ends = (mean - sd, mean + sd) if sd is not None else (None, None)
        told = f"step {some[-1]}: {mean:.4g}" + (f" (sd {sd:.3g})" if sd is not None else "")
        points.append(Point(sum(some) / len(some), mean, y_ends=ends, text=told))
    return tuple(points)


def _renamed(panel: Panel) -> Panel:
    title = "log-probability, ground truth" if panel.title == "log-probability, chosen" else panel.title
    return Panel(title, panel.lines, panel.levels, panel.uprights, panel.names)
