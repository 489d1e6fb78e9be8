"""The laboratory's page: its arms' results with paired tests of what was claimed before they were looked at.

`laboratory.yaml` says which tables, figures and claims there are; the numbers are those of the result files below
`results/lab/`, the rest (the commit, the arms, training logs) is what the laboratory left beside them. Results of
several training seeds of an arm, `<model>-s0`, `-s1` ..., are pooled: the test takes these models as they are, and all
seeds have to agree on the direction.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import BadInput
from ..files import write_whole
from ..report.figures import training_curves
from ..report.figures.plot import Line, Panel, Point, point_chart
from ..runs import Run
from ..stats import Sums
from ..stats.paired import Paired, holm, paired
from ..stats.pooled import pooled
from .model import MEASURED, Cell, Column, Figure, Page, Row, Table

FOLDER = "lab"  # below the results
FACTS = "laboratory.json"
LOGS = "training"
SPEC = "laboratory.yaml"
NAME = "miniature"
DRAWS = 10_000
SEED = re.compile(r"-s\d+(?=$|[.+])")  # in models' names: `mini+bpo-s0`, `mm-ft-s0.stage1+mm-lora-s0`

Verdict = Literal["confirmed", "refuted", "not tested"]


@dataclass(frozen=True)
class Tested:
    """One test of a claim.

    Attributes:
        text: What is expected, in words.
        found: The paired comparison; None where a side has no result.
        p: Adjusted over the claim's tests.
        holds: Whether the expectation is met at the claim's level.
        seeds: Differences of each seed.
        percent: The metric is a fraction, and shown in percent.
        clusters: What the test's clusters are.
    """

    text: str
    found: Paired | None
    p: float | None
    holds: bool
    seeds: tuple[float, ...] = ()
    percent: bool = False
    clusters: str = "images"


@dataclass
class Results:
    """The laboratory's results by arm and task.

    Attributes:
        runs: By path below the results, without suffix.
    """

    runs: Mapping[str, Run]
    _arms: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _sums: dict[tuple[str, str], Sums] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Groups seeds."""
        for name, run in sorted(self.runs.items()):
            self._arms.setdefault((SEED.sub("", run.model), run.task), []).append(name)

    def names(self, arm: str, task: str) -> list[str]:
        """The result files of an arm, one a seed."""
        return self._arms.get((arm, task), [])

    def sums(self, arm: str, task: str) -> Sums:
        """Their sums, pooled."""
        key = (arm, task)
        if key not in self._sums:
            self._sums[key] = pooled([self.runs[name].sums for name in self.names(arm, task)])
        return self._sums[key]

    def value(self, arm: str, task: str, metric: str) -> float | None:
        """A metric over all seeds of an arm; None also where it is not defined (a recall that is never reached)."""
        if not self.names(arm, task):
            return None
        sums = self.sums(arm, task)
        made = sums.metrics.get(metric)
        if made is None:
            return None
        if made.formula is None:
            values = [self.runs[name].result["metrics"][metric]["value"] for name in self.names(arm, task)]
            return None if None in values else sum(values) / len(values)
        found = float(made.formula(sums.by_cluster(made.group)[1].sum(axis=0)))
        return found if math.isfinite(found) else None

    def is_fraction(self, arm: str, task: str, metric: str) -> bool:
        """Whether a metric lies between 0 and 1."""
        return bool(self._result(arm, task)["metrics"][metric]["unit"] == "fraction")

    def clusters(self, arm: str, task: str) -> str:
        """What a task's samples are drawn by."""
        return "images" if self._result(arm, task)["task"]["modality"] == "image" else "clusters of samples"

    def _result(self, arm: str, task: str) -> Mapping[str, Any]:
        return self.runs[self.names(arm, task)[0]].result

    def test(self, base: str, other: str, task: str, metric: str, better: str) -> Paired | None:
        """Other against base; None where one has no result."""
        mine, theirs = self.names(base, task), self.names(other, task)
        if not mine or not theirs:
            return None
        # with different numbers of seeds each side is its own mean: sums are scaled to one seed
        one, two = (_scaled(self.sums(arm, task), len(self.names(arm, task))) for arm in (base, other))
        return paired(one, two, {metric: better}, DRAWS).get(metric)

    def seeds(self, base: str, other: str, task: str, metric: str) -> tuple[float, ...]:
        """The difference of each seed to the base's mean."""
        before = self.value(base, task, metric)
        if before is None:
            return ()
        values = [self.runs[name].result["metrics"][metric]["value"] for name in self.names(other, task)]
        return tuple(value - before for value in values if value is not None)


def _scaled(sums: Sums, seeds: int) -> Sums:
    if seeds == 1:
        return sums
    return replace(sums, groups=[replace(group, sums=group.sums / seeds) for group in sums.groups])


def laboratory_page(raw: Mapping[str, Any], runs: Mapping[str, Run], place: Path) -> Page:
    """The page.

    Args:
        raw: `laboratory.yaml`.
        runs: Results by `Cell.result`; those below the laboratory's folder count.
        place: The laboratory's folder below the results: facts and training logs lie there.
    """
    results = Results({name: run for name, run in runs.items() if name.startswith(f"{FOLDER}/")})
    facts = json.loads(text) if (text := _read(place / FACTS)) else {}
    tables = tuple(table for one in raw["tables"] if (table := _table(one, results)).rows)
    figures = (
        *_curves(raw.get("curves", ()), results),
        *_drawn(raw.get("drawn", ()), place),
        *_logs(raw.get("training", ()), place),
    )
    claims = [_claim(one, results, facts.get("judged") is True) for one in raw["claims"]]
    summary = (raw["summary"], tuple(f"{title}: {verdict}." for title, verdict, _ in claims))
    lists = [summary, *((f"{title}: {verdict}", lines) for title, verdict, lines in claims)]
    lists.append((raw["registered"], tuple(_registered(facts, results))))
    return Page(NAME, raw["title"], raw["intro"], tables, lists=tuple(lists), figures=figures)


def take_facts(place: Path, root: Path) -> list[Path]:
    """Copies what the laboratory left beside its results, its facts, training logs and figures, into a leaderboard.

    Args:
        place: The folder of results.
        root: The leaderboard's folder of results.

    Raises:
        BadInput: It cannot be written.
    """
    written = []
    for source in [place / FACTS, *sorted((place / LOGS).glob("*.*"))]:
        if source.is_file():
            target = root / FOLDER / source.relative_to(place)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                write_whole(target, [source.read_bytes()])
            except OSError as error:
                raise BadInput(f"cannot write {target}: {error.strerror or error}") from error
            written.append(target)
    return written


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _registered(facts: Mapping[str, Any], results: Results) -> Iterator[str]:
    """What was fixed beforehand, and every arm; those that were not scored say so."""
    scored = {SEED.sub("", run.model).rpartition("+")[2] for run in results.runs.values()}
    if facts.get("judged") is not True:
        yield "These are not results of the judged scenes: no claim is tested by them."
    commit = facts.get("commit") or "not on record"
    yield f"Arms and seeds of the scenes were fixed at commit {commit}, {facts.get('date', 'date not on record')}."
    for arm in facts.get("arms", ()):
        said = f" ({arm['about']})" if arm.get("about") else ""
        yield f"{arm['name']}{said}: {arm['seeds']} training seed{'' if arm['seeds'] == 1 else 's'}" + (
            "" if arm["name"] in scored else "; not scored yet"
        )


# -- tables -----------------------------------------------------------------------------------------------------------


def _table(raw: Mapping[str, Any], results: Results) -> Table:
    columns = tuple(Column(**one) for one in raw["columns"])
    rows = []
    for one in raw["rows"]:
        if cells := _cells(one["model"], raw["base"], columns, results):
            seeds = max(len(results.names(one["model"], column.task)) for column in columns)
            name = one["name"] + (f", mean of {seeds} seeds" if seeds > 1 else "")
            rows.append(Row(name, "", "", MEASURED, cells))
    return Table(raw["key"], raw["title"], raw["caption"], columns, tuple(rows))


def _cells(arm: str, base: str, columns: Sequence[Column], results: Results) -> dict[str, Cell]:
    """An arm's values, with paired tests against the base: the row is one family."""
    found: dict[str, Cell] = {}
    tests: dict[str, Paired] = {}
    for column in columns:
        if not results.names(arm, column.task):
            continue
        value = results.value(arm, column.task, column.metric)
        if value is None:
            found[column.key] = Cell(None, MEASURED)
            continue
        scale = 100.0 if column.unit == "percent" and results.is_fraction(arm, column.task, column.metric) else 1.0
        name = results.names(arm, column.task)[0]
        run = results.runs[name]
        cell = Cell(
            value * scale, MEASURED, signature=run.result["signature"], result=name, metric=column.metric,
            n=run.result["metrics"][column.metric]["n"],
        )  # fmt: skip
        if arm != base and (test := results.test(base, arm, column.task, column.metric, column.better)):
            before = results.value(base, column.task, column.metric)
            cell = replace(cell, delta=None if before is None else (value - before) * scale)
            tests[column.key] = test
        found[column.key] = cell
    adjusted = holm(test.p for test in tests.values())
    for key, p in zip(tests, adjusted, strict=True):
        found[key] = replace(found[key], p=p, significant=p is not None and p < 0.05)
    return found


# -- claims -----------------------------------------------------------------------------------------------------------


def _claim(raw: Mapping[str, Any], results: Results, judged: bool) -> tuple[str, Verdict, tuple[str, ...]]:
    """Title, verdict, and a line for each test; nothing is confirmed or refuted but on the judged scenes."""
    found = [(one, _test(one, results)) for one in raw["tests"]]
    adjusted = holm(test.p if test else None for one, test in found if "least" not in one)
    p_of = iter(adjusted)
    tested = []
    for one, test in found:
        p = None if "least" in one else next(p_of)
        seeds = results.seeds(one["base"], one["other"], one["task"], one["metric"])
        holds = _holds(one, test, p, seeds, raw["level"])
        kind = (one["other"], one["task"])
        shown = (results.is_fraction(*kind, one["metric"]), results.clusters(*kind)) if test else ()
        tested.append(Tested(one["say"], test, p, holds, seeds, *shown))
    groups: dict[str, bool] = {}
    for (one, _), result in zip(found, tested, strict=True):
        group = one.get("any", one["say"])  # of tests of one such name one is enough
        groups[group] = groups.get(group, False) or result.holds
    verdict: Verdict = "confirmed" if all(groups.values()) else "refuted"
    if not judged or any(test.found is None for test in tested):
        verdict = "not tested"
    return raw["title"], verdict, (raw["rule"], *map(_line, tested))


def _test(raw: Mapping[str, Any], results: Results) -> Paired | None:
    return results.test(raw["base"], raw["other"], raw["task"], raw["metric"], raw.get("better", "lower"))


def _holds(raw: Mapping[str, Any], test: Paired | None, p: float | None, seeds: Sequence[float], level: float) -> bool:
    if test is None or test.delta is None:
        return False
    if "least" in raw:  # no worse than a margin: a figure, not a test
        return test.delta >= raw["least"]
    sign = -1 if raw["expect"] == "lower" else 1
    return p is not None and p < level and all(sign * delta > 0 for delta in (test.delta, *seeds))


def _line(tested: Tested) -> str:
    test = tested.found
    if test is None or test.delta is None or test.base is None or test.other is None:
        return f"{tested.text}: no result"
    scale = 100.0 if tested.percent else 1.0
    said = f"{scale * test.base:.1f} to {scale * test.other:.1f} ({_signed(scale * test.delta)}"
    if test.low is not None and test.high is not None:
        said += f", 95 % {_signed(scale * test.low)} .. {_signed(scale * test.high)}"
    said += f"; p = {tested.p:.2g}" if tested.p is not None else ""
    if len(tested.seeds) > 1:
        said += f"; seeds {', '.join(_signed(scale * delta) for delta in tested.seeds)}"
    return f"{tested.text}: {'yes' if tested.holds else 'no'}, {said}; {test.clusters} {tested.clusters})"


def _signed(value: float) -> str:
    """With a sign and one decimal; zero is +0.0."""
    return f"{round(value, 1) + 0.0:+.1f}"


# -- figures ----------------------------------------------------------------------------------------------------------


def _curves(raw: Sequence[Mapping[str, Any]], results: Results) -> Iterator[Figure]:
    """Metrics along a row of models: noise steps, or sizes of data."""
    for one in raw:
        panels, told = [], []
        for metric in one["metrics"]:
            lines = []
            for series, (name, points) in enumerate(one["lines"].items()):
                drawn = [(x, results.value(model, metric["task"], metric["metric"])) for x, model in points]
                known = tuple(Point(x, y, text=f"{name} {x:g}: {y:.3g}") for x, y in drawn if y is not None)
                if known:
                    lines.append(Line(series, known))
                    values = ", ".join(f"{p.x:g}: {p.y:.3g}" for p in known)
                    told.append(f"{metric['title']}, {name}: {values}")
            if lines:
                panels.append(Panel(metric["title"], tuple(lines)))
        if panels:
            svg = point_chart(one["title"], one["about"], panels, list(one["lines"]), x_label=one["x"], same_y=False)
            yield Figure(one["file"], f"{one['title']}. {'; '.join(told)}.", one["about"], svg)


def _drawn(raw: Sequence[Mapping[str, Any]], place: Path) -> Iterator[Figure]:
    """Figures that a step of the laboratory drew."""
    for one in raw:
        if svg := _read(place / LOGS / one["svg"]):
            yield Figure(one["file"], f"{one['title']}.", one["about"], svg)


def _logs(raw: Sequence[Mapping[str, Any]], place: Path) -> Iterator[Figure]:
    """Training curves of what the laboratory left."""
    for one in raw:
        log = place / LOGS / f"{one['model']}.jsonl"
        if log.is_file():
            made = training_curves(log)
            yield Figure(one["file"], f"{one['title']}.", one["about"], made.svg)
