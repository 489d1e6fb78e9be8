"""Measured rows: result files joined to a table's columns, with differences to their bases and what to know of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from ..compare.changes import LEVEL
from ..compare.checks import pair_up
from ..errors import MmevalError
from ..overlap import sentence
from ..results import read_sums
from ..runs import Run, weights_of
from ..stats import Sums
from ..stats.paired import Paired, holm, paired
from ..tables import FEW_CLUSTERS, cut, is_rough
from .model import MEASURED, Cell, Column, Footnote, Row, slug
from .published import PROTOCOL, Source

if TYPE_CHECKING:
    import pandas as pd

RESULTS = "results"  # folder of the results below a leaderboard's root
DRAWS = 2000  # of a paired test: p is known to a hundredth where it matters, and pages are made in seconds
KEPT = 64  # results whose sums stay in memory
REASON = 200  # characters of why a result is not compared: a formula can be pages long
MINIATURE = "Miniature: toy data, no fact about real models."
JOIN = ["task", "metric"]
ROW = ["folder", "protocol", "rank"]  # what results share that stand in one row
Line = dict[Any, Any]  # one of `_joined`


@dataclass
class Measured:
    """Everything that was measured, for all tables.

    Attributes:
        runs: By `Cell.result`: the file below the folder of results, without suffix.
        problems: One line for each file of sums that could not be read while comparing.
    """

    runs: Mapping[str, Run]
    problems: list[str] = field(default_factory=list)
    _tests: dict[tuple[str, str, str], Paired] = field(default_factory=dict, repr=False)
    _kept: dict[tuple[str, tuple[str, ...]], Sums] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Finds models by what their weights are, and names those of one name apart."""
        self._by_weights: dict[tuple[str, str], list[str]] = {}
        folders: dict[str, set[str]] = {}
        for name in sorted(self.runs):
            run = self.runs[name]
            if key := weights_of(run.result["model"]["identity"]):
                self._by_weights.setdefault(key, []).append(name)
            folders.setdefault(run.model, set()).add(folder(name))
        self._shared = {model for model, known in folders.items() if len(known) > 1}

    def model(self, name: str) -> str:
        """What the model of a result is called: with its folder where two of one name were measured."""
        model = self.runs[name].model
        return f"{model} [{folder(name)}]" if model in self._shared and folder(name) != model else model

    def base(self, name: str) -> str:
        """The base's result of the same task, protocol and judge; empty if there is none."""
        run = self.runs[name]
        base = weights_of(run.tuned.get("base", {}))
        known = self._by_weights.get(base, []) if base else []
        return next((other for other in known if self.runs[other].key == run.key and other != name), "")

    def unlike(self, base: str, other: str) -> tuple[str, ...]:
        """In what two results differ so that their difference is not the models' alone."""
        pairs, _, _ = pair_up([self.runs[base]], [self.runs[other]])
        return pairs[0].unlike

    def test(self, base: str, other: str, metrics: Mapping[str, str]) -> dict[str, Paired]:
        """Paired tests of metrics (with the better direction of each); none where sums cannot be read."""
        asked = {m: better for m, better in metrics.items() if (base, other, m) not in self._tests}
        if asked:
            try:
                found = paired(self._sums(base, asked), self._sums(other, asked), asked, DRAWS, intervals=False)
            except MmevalError as error:
                if str(error) not in self.problems:
                    self.problems.append(str(error))
                return {}
            self._tests.update({(base, other, metric): one for metric, one in found.items()})
        return {m: self._tests[base, other, m] for m in metrics if (base, other, m) in self._tests}

    def _sums(self, name: str, metrics: Iterable[str]) -> Sums:
        """Those of some metrics alone; a few are kept, for a base is compared with one model after another."""
        key = name, tuple(metrics)
        found = self._kept.pop(key, None)
        if found is None:
            run = self.runs[name]
            found = read_sums(run.path, run.result, key[1])
        self._kept[key] = found  # the last used comes last
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return found


def folder(result: str) -> str:
    """The folder of a result below the folder of results."""
    return result.rpartition("/")[0]


def measured_rows(
    results: Measured, columns: Sequence[Column], sources: Mapping[str, Source]
) -> tuple[list[Row], list[Footnote]]:
    """The rows of one table and their footnotes.

    A row is one model under one protocol; where it has two results for one column (two judges), those that are not of
    the published column's judge stand in a further row. Rows of one base stand together, the base first, then by name;
    the published column's protocol before others.

    Args:
        results: What was measured.
        columns: Of the table.
        sources: Of its columns, by key.
    """
    notes = _Notes()
    known = {column.key: column for column in columns}
    lines = _joined(results, columns, sources).sort_values(ROW, kind="stable").to_dict("records")
    rows = []
    for _, same in groupby(lines, itemgetter(*ROW)):
        row = list(same)
        cells = {line["key"]: _cell(results, line, sources[line["key"]], notes) for line in row}
        rows.append(_row(results, row, _compared(results, cells, row, known, sources, notes), notes))
    return sorted(rows, key=_place), notes.kept()


def _joined(results: Measured, columns: Sequence[Column], sources: Mapping[str, Source]) -> pd.DataFrame:
    """A line for each metric of a result that is in a column, with the row that it belongs to.

    Columns: `key` of the table's column; `task`, `metric`, `result`, `folder`, `protocol`, `judge`; `official`:
    0 where it is of the published column's judge, 1 where not; `rank`: among the results of one model, protocol and
    column.
    """
    import pandas as pd

    wanted = pd.DataFrame(
        [
            {"key": column.key, "task": source.task, "metric": metric, "wanted": source.judge}
            for column in columns
            if (source := sources.get(column.key)) is not None
            for metric in dict.fromkeys(filter(None, (source.metric, source.stand_in)))
        ],
        columns=["key", *JOIN, "wanted"],
    )
    metrics = {str(task): set(lines) for task, lines in wanted.groupby("task")["metric"]}
    had = pd.DataFrame(
        [
            {"task": run.task, "metric": metric, "result": name, "folder": folder(name), "protocol": run.protocol,
             "judge": run.judge}
            for name, run in sorted(results.runs.items())
            for metric in sorted(metrics.get(run.task, set()) & run.result["metrics"].keys())
        ],
        columns=[*JOIN, "result", "folder", "protocol", "judge"],
    )  # fmt: skip
    found = wanted.merge(had, on=JOIN)
    found["other"] = found["metric"] != found["key"].map({key: source.metric for key, source in sources.items()})
    found = found.sort_values(["result", "key", "other"]).drop_duplicates(
        ["result", "key"]
    )  # the column's own name first
    found["official"] = (found["judge"] != found["wanted"]).astype(int)
    found = found.sort_values(["folder", "protocol", "key", "official", "judge", "result"], kind="stable")
    found["rank"] = found.groupby(["folder", "protocol", "key"]).cumcount()
    return found


def _cell(results: Measured, line: Line, source: Source, notes: _Notes) -> Cell:
    run = results.runs[line["result"]]
    metric = run.result["metrics"][line["metric"]]
    value, low, high = (None if metric[k] is None else metric[k] * source.scale for k in ("value", "low", "high"))
    return Cell(
        value=value,
        origin=MEASURED,
        notes=tuple(notes.of(run, line["result"], metric, source)),
        signature=run.result["signature"],
        result=line["result"],
        metric=line["metric"],
        low=low,
        high=high,
        n=metric["n"],
    )


def _compared(
    results: Measured, cells: Mapping[str, Cell], row: Sequence[Line], columns: Mapping[str, Column],
    sources: Mapping[str, Source], notes: _Notes,
) -> dict[str, Cell]:  # fmt: skip
    """The cells with differences to the base's; the row's columns are one family of tests."""
    found = dict(cells)
    p_values: dict[str, float | None] = {}
    for result in sorted({line["result"] for line in row}):
        base = results.base(result)
        if not base:
            continue
        metrics = {line["key"]: line["metric"] for line in row if line["result"] == result}
        if unlike := results.unlike(base, result):
            why = cut(", ".join(unlike), REASON)
            note = notes.add(f"not-compared-{slug(result)}", f"No difference to the base: {why}.")
            for key in metrics:
                found[key] = replace(found[key], notes=(*found[key].notes, note))
            continue
        theirs = results.runs[base].result["metrics"]
        known = {key: metric for key, metric in metrics.items() if metric in theirs}
        tests = results.test(base, result, {metric: columns[key].better for key, metric in known.items()})
        for key, metric in known.items():
            before, cell = theirs[metric]["value"], found[key]
            if before is not None and cell.value is not None:
                found[key] = replace(cell, delta=cell.value - before * sources[key].scale)
            p_values[key] = tests[metric].p if metric in tests else None
    for key, p in zip(p_values, holm(p_values.values()), strict=True):
        found[key] = replace(found[key], p=p, significant=p is not None and p < LEVEL)
    return found


def _row(results: Measured, row: Sequence[Line], cells: Mapping[str, Cell], notes: _Notes) -> Row:
    first = row[0]["result"]
    tuned = results.runs[first].tuned
    bases = [base for line in row if (base := results.base(line["result"]))]
    base = results.model(bases[0]) if bases else str(tuned.get("base", {}).get("name", ""))
    common = [note for note in next(iter(cells.values())).notes if all(note in cell.notes for cell in cells.values())]
    lean = {key: replace(cell, notes=tuple(n for n in cell.notes if n not in common)) for key, cell in cells.items()}
    row_notes = (notes.protocol(row[0]["protocol"]), *common)
    return Row(results.model(first), str(tuned.get("method", "")), base, MEASURED, lean, row_notes, row[0]["rank"])


def _place(row: Row) -> tuple[Any, ...]:
    """Bases before what was tuned from them; the published columns' protocol before others."""
    protocol = row.notes[0]
    return row.base or row.model, bool(row.tuning), row.model, protocol != _protocol(PROTOCOL), protocol, row.order


def _protocol(name: str) -> str:
    return f"protocol-{slug(name)}"


class _Notes:
    """Footnotes as they are needed; equal ones once."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def add(self, key: str, text: str) -> str:
        """Keeps a footnote; its key."""
        self._texts[key] = text
        return key

    def kept(self) -> list[Footnote]:
        """Those that were added."""
        return [Footnote(key, text) for key, text in sorted(self._texts.items())]

    def protocol(self, name: str) -> str:
        """What a row was measured with."""
        other = "" if name == PROTOCOL else ", not the papers' own: not to be compared with published rows"
        return self.add(_protocol(name), f"Protocol {name}{other}.")

    def of(self, run: Run, name: str, metric: Mapping[str, Any], source: Source) -> Iterable[str]:
        """What to know of one measured number."""
        result = run.result
        if run.miniature:
            yield self.add("miniature", MINIATURE)
        if run.judge and source.judge:
            as_published = "the judge of the benchmark's own tool"
            other = f"not by {source.judge}, {as_published}: not to be compared with published rows"
            text = as_published if run.judge == source.judge else other
            yield self.add(f"judge-{slug(run.judge)}-{slug(source.judge)}", f"Judged by {run.judge}, {text}.")
        if (limit := result["data"]["limit"]) is not None:
            yield self.add(f"limit-{limit}", f"Only the first {limit} samples of each part.")
        counts = result["counts"]
        if failed := counts["n_error"] + counts["n_refused"] + (counts.get("n_missing") or 0):
            text = f"{failed} of {counts['n']} samples failed or were not answered and do not count."
            yield self.add(f"failed-{slug(name)}", text)
        if is_rough(metric["low"], metric["clusters"]):
            text = f"Fewer than {FEW_CLUSTERS} clusters: interval and test are rough."
            yield self.add("few-clusters", text)
        if contamination := result.get("contamination"):
            words = sentence(contamination)
            yield self.add(f"seen-{slug(name)}", f"{words[:1].upper()}{words[1:]}.")
