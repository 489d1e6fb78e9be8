"""Reads figures back: what stands where, told without the code that drew it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmalign_eval.compare import Change, Comparison
from mmalign_eval.metrics.base import Metric, mean
from mmalign_eval.report.figures import Figure
from mmalign_eval.runs import Run, by_model, open_runs
from mmalign_eval.stats.paired import Paired
from tests.support_results import write_run

NS = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Text:
    x: float
    y: float
    anchor: str
    size: float
    kind: str
    shown: str
    whole: str

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom, at about half an em a character."""
        wide = len(self.shown) * self.size * 0.52
        left = self.x - {"start": 0.0, "middle": wide / 2, "end": wide}[self.anchor]
        return left, self.y - 0.75 * self.size, left + wide, self.y + 0.2 * self.size


@dataclass(frozen=True)
class Mark:
    x: float
    y: float
    classes: tuple[str, ...]
    title: str


def parsed(figure: Figure | str) -> ET.Element:
    return ET.fromstring(figure.svg if isinstance(figure, Figure) else figure)


def texts(root: ET.Element) -> list[Text]:
    out = []
    for node in root.iter(f"{NS}text"):
        title = node.find(f"{NS}title")
        shown = (title.tail if title is not None else node.text) or ""
        out.append(
            Text(
                float(node.attrib["x"]),
                float(node.attrib["y"]),
                node.attrib.get("text-anchor", "start"),
                float(node.attrib["font-size"]),
                node.attrib.get("class", ""),
                shown,
                (title.text or "") if title is not None else shown,
            )
        )
    return out


def words(root: ET.Element) -> list[str]:
    return [text.shown for text in texts(root)]


def marks(root: ET.Element) -> list[Mark]:
    out = []
    for node in root.iter(f"{NS}path"):
        classes = tuple(node.attrib.get("class", "").split())
        if "mark" in classes:
            x, y = re.fullmatch(r"translate\((\S+) (\S+)\)", node.attrib["transform"]).groups()  # type: ignore[union-attr]
            title = node.find(f"{NS}title")
            out.append(Mark(float(x), float(y), classes, (title.text or "") if title is not None else ""))
    return out


def whiskers(root: ET.Element) -> list[tuple[float, float, float, float]]:
    """Ends of intervals: x1, y1, x2, y2."""
    found = []
    for node in root.iter(f"{NS}path"):
        if "whisker" in node.attrib.get("class", ""):
            numbers = [float(n) for n in re.findall(r"-?\d+\.\d", node.attrib["d"])]
            found.append((numbers[0], numbers[1], numbers[2], numbers[3]))
    return found


def bars(root: ET.Element) -> list[tuple[float, float, float]]:
    """Left edge, middle height, width."""
    return [
        (float(n.attrib["x"]), float(n.attrib["y"]) + float(n.attrib["height"]) / 2, float(n.attrib["width"]))
        for n in root.iter(f"{NS}rect")
        if "bar" in n.attrib.get("class", "")
    ]


def overlaps(root: ET.Element) -> list[tuple[str, str]]:
    """Texts that stand on one another."""
    boxes = [(text.shown, text.box) for text in texts(root)]
    return [
        (a, b)
        for i, (a, one) in enumerate(boxes)
        for b, two in boxes[i + 1 :]
        if one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
    ]


def outside(root: ET.Element) -> list[str]:
    """Texts that leave the drawing."""
    wide, high = map(float, root.attrib["viewBox"].split()[2:])
    return [t.shown for t in texts(root) if t.box[0] < 0 or t.box[2] > wide or t.box[1] < 0 or t.box[3] > high]


def across(root: ET.Element, below: float, left: float = -1.0, right: float = 1e9) -> tuple[float, float]:
    """Slope and origin of the horizontal axis whose ticks are the next below a height: value = (x - origin) / slope."""
    ticks = [t for t in texts(root) if t.kind == "muted" and t.anchor == "middle" and t.y > below]
    ticks = [t for t in ticks if left <= t.x <= right and re.fullmatch(r"-?[\d.]+", t.shown)]
    row = [t for t in ticks if t.y == min(t.y for t in ticks)]
    first, last = row[0], row[-1]
    slope = (last.x - first.x) / (float(last.shown) - float(first.shown))
    return slope, first.x - slope * float(first.shown)


def results(
    folder: Path, models: Sequence[str], task: str, values: Mapping[str, float], n: int = 60, **facts: object
) -> dict[str, list[Run]]:
    """Result files of models whose metrics have about the given values, the same for each model but for a little."""
    metrics: list[Metric] = [mean(name, f"f{i}", proportion=True) for i, name in enumerate(values)]
    for m, model in enumerate(models):
        rows = []
        for k in range(n):
            right = {f"f{i}": float(k < round(n * value) - m % 5) for i, value in enumerate(values.values())}
            rows.append({"id": f"s{k:03d}", "cluster": f"c{k:03d}", **right})
        write_run(folder, model, task, metrics, rows, **facts)
    runs, problems = open_runs(folder)
    assert problems == []
    found = by_model(runs)
    return {model: found[model] for model in models}


def change(metric: str, delta: float | None, low: float | None, high: float | None, **more: object) -> Change:
    """A change as a comparison has it; base .5 and 200 clusters, if nothing else is said."""
    known: dict[str, object] = {
        **{"task": "toy", "unit": "fraction", "better": "higher", "p": 0.5, "clusters": 200, "base": 0.5},
        **more,
    }
    base = known["base"]
    assert isinstance(base, float)
    other = None if delta is None else base + delta
    p = known["p"]
    pair = Paired(base, other, delta, low, high, None, p, "randomisation", 1, 2, 3, 400, known["clusters"], 0, None)  # type: ignore[arg-type]
    task, unit, better = (str(known[key]) for key in ("task", "unit", "better"))
    return Change(task, str(known.get("protocol", "official")), "", task, metric, unit, better, True, pair, p)  # type: ignore[arg-type]


def compared(*changes: Change, base: str = "base", other: str = "tuned") -> Comparison:
    return Comparison(base, other, list(changes))


CHANGES = compared(
    change("accuracy", 0.05, 0.02, 0.08, p=0.001),
    change("yes_ratio", -0.08, -0.12, -0.04, p=0.001, better="neither"),
    change("CHAIRi", -7.5, -10.0, -4.0, p=0.0005, unit="percent", better="lower", task="objects", base=19.0),
    change("total", 2.0, -4.0, 8.0, p=0.6, unit="percent", clusters=33, task="vet", base=30.0),
    change("undefined", None, None, None, p=None),
    change("sum", -145.0, -200.0, -50.0, p=0.008, unit="points", task="sums", base=400.0),
    change("CIDEr", 0.04, 0.01, 0.07, p=0.02, unit="points", task="captions", base=1.2),
)
