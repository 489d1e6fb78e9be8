"""Which metrics of a result belong in one figure: told by how they are called, and by nothing else.

The names of a task's metrics are paths: `<part>/<metric>`. The first of these rules that fits a task makes its figures:

1. `<kind>/<severity>/<metric>` with at least two severities (whole numbers): a panel for each kind, the metric by
   severity; `clean/<metric>` is the level to compare with (`severities`).
2. `<part>/yes_ratio` beside `<part>/accuracy` (or `acc`): a panel for each part, one against the other; the part may
   be missing. The share of yes in the reference comes from `<part>/TP`, `FP`, `TN`, `FN` where they are there
   (`yes_ratios`).
3. `<part>/<metric>` beside `<part>/<metric>_plus` for at least three parts: a row for each part, two panels (`pluses`).
   At least three `<part>/score` of these parts: a figure of their own before it (`scores`).
4. At least three headline metrics of equal unit and direction that are called alike but for one part: `<name>/*`,
   `*/<name>` or `<name>/*/<name>`. A row for each. Of several such families of a metric the largest counts, and of
   equally large ones that which says more of the name (`parts`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Metrics = Mapping[str, Mapping[str, Any]]  # of a result file: by name, with value, low, high, unit, better, ...
PARTS = 3  # fewer are no family

_SEVERITY = re.compile(r"(?P<kind>.+)/(?P<severity>\d{1,3})/(?P<metric>[^/]+)")
CLEAN = "clean"
RATIO, ACCURACIES, PLUS, SCORE = "yes_ratio", ("accuracy", "acc"), "_plus", "score"


@dataclass(frozen=True)
class Severities:
    """A metric by kind and severity.

    Attributes:
        metric: Its last component.
        names: Of each kind, by severity in rising order.
        clean: Name of the metric to compare with; empty if there is none.
    """

    metric: str
    names: dict[str, dict[int, str]]
    clean: str


def severities(metrics: Metrics) -> list[Severities]:
    """What rule 1 finds: one for each metric, kinds in the order of the names."""
    found: dict[str, dict[str, dict[int, str]]] = {}
    for name in metrics:
        if match := _SEVERITY.fullmatch(name):
            kinds = found.setdefault(match["metric"], {})
            kinds.setdefault(match["kind"], {})[int(match["severity"])] = name
    out = []
    for metric, kinds in found.items():
        if len({severity for by in kinds.values() for severity in by}) >= 2:
            ordered = {kind: dict(sorted(by.items())) for kind, by in kinds.items()}
            clean = f"{CLEAN}/{metric}"
            out.append(Severities(metric, ordered, clean if clean in metrics else ""))
    return out


def yes_ratios(metrics: Metrics) -> dict[str, tuple[str, str]]:
    """What rule 2 finds: names of yes-ratio and accuracy by part."""
    out = {}
    for name in metrics:
        part, _, last = name.rpartition("/")
        if last == RATIO:
            inside = f"{part}/" if part else ""
            accuracy = next((f"{inside}{a}" for a in ACCURACIES if f"{inside}{a}" in metrics), "")
            if accuracy:
                out[part] = (name, accuracy)
    return out


def truth(metrics: Metrics, part: str) -> float | None:
    """Share of yes in the reference, of the counts of right and wrong answers of a part; None without them."""
    inside = f"{part}/" if part else ""
    found = [metrics.get(f"{inside}{key}", {}).get("value") for key in ("TP", "FN", "FP", "TN")]
    counts = [float(count) for count in found if count is not None]
    if len(counts) < len(found) or not sum(counts):
        return None
    return (counts[0] + counts[1]) / sum(counts)


def pluses(metrics: Metrics) -> list[tuple[str, dict[str, tuple[str, str]]]]:
    """What rule 3 finds: metric, and names of it and of its stricter kind by part."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for name in metrics:
        part, _, last = name.rpartition("/")
        if part and f"{name}{PLUS}" in metrics:
            found.setdefault(last, {})[part] = (name, f"{name}{PLUS}")
    return [(metric, parts) for metric, parts in found.items() if len(parts) >= PARTS]


def scores(metrics: Metrics, parts: Iterable[str]) -> dict[str, tuple[str]]:
    """Names of the scores of rule 3's parts, by part; none if fewer than three have one."""
    found = {part: (f"{part}/{SCORE}",) for part in parts if f"{part}/{SCORE}" in metrics}
    return found if len(found) >= PARTS else {}


def parts(metrics: Metrics, headline: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """What rule 4 finds: what the family is called (`group/*`), and metric names by what stands for `*`."""
    families: dict[tuple[str, Any, Any], dict[str, str]] = {}
    for name in headline:
        for pattern, part in _patterns(name):
            key = (pattern, metrics[name].get("unit"), metrics[name].get("better"))
            families.setdefault(key, {})[part] = name
    out: list[tuple[str, dict[str, str]]] = []
    taken: set[str] = set()
    for (pattern, *_), family in sorted(families.items(), key=lambda item: (-len(item[1]), -item[0][0].count("/"))):
        free = {part: name for part, name in family.items() if name not in taken}
        if len(free) >= PARTS:
            taken.update(free.values())
            out.append((pattern, free))
    return out


def _patterns(name: str) -> Iterator[tuple[str, str]]:
    first, *rest = name.split("/")
    if rest:
        yield f"{first}/*", "/".join(rest)
        yield f"*/{rest[-1]}", "/".join([first, *rest[:-1]])
    if len(rest) > 1:
        yield f"{first}/*/{rest[-1]}", "/".join(rest[:-1])
