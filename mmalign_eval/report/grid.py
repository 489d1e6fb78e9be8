"""The report's tables: who was scored, and every headline metric with intervals and differences, as text cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..compare import Comparison
from ..compare.tables import comparison_table, family_note
from ..overlap import sentence
from ..result_tables import shown_data
from ..runs import Run, tuned_from
from ..tables import ROUGH_NOTE, UNLIKE_NOTE, is_rough, shown_interval, shown_value, unit_notes

SHORT = 12  # characters of a fingerprint


@dataclass(frozen=True)
class Cell:
    """One model's cells of a row; empty where there is nothing to say.

    Attributes:
        value: Of the metric.
        interval: Its 95 % interval.
        n: Samples, and how many failed.
        delta: Difference to the base.
        delta_interval: Its 95 % interval.
        p: Of the paired test, adjusted.
        marks: Of the difference.
        verdict: `better`, `worse`, `changed` or empty.
        differs: In what the two results differ, if they do.
    """

    value: str = "-"
    interval: str = ""
    n: str = ""
    delta: str = ""
    delta_interval: str = ""
    p: str = ""
    marks: str = ""
    verdict: str = ""
    differs: str = ""


@dataclass(frozen=True)
class Line:
    """One metric of one task.

    Attributes:
        metric: Its name.
        lower: Whether less is better.
        cells: Of each model, the base first.
    """

    metric: str
    lower: bool
    cells: list[Cell]


@dataclass(frozen=True)
class Block:
    """One task.

    Attributes:
        label: Its name, with protocol and judge where these are not the default.
        protocol: Its protocol.
        data: Where its samples are from.
        lines: Its metrics.
    """

    label: str
    protocol: str
    data: str
    lines: list[Line]


def blocks(models: Mapping[str, Sequence[Run]], comparisons: Sequence[Comparison]) -> list[Block]:
    """The results table, task by task in the order of the models' files."""
    against = {key: cells for comparison in comparisons for key, cells in _against(comparison)}
    keys = dict.fromkeys(run.key for runs in models.values() for run in runs)
    made = []
    for key in keys:
        own = {name: next((run for run in runs if run.key == key), None) for name, runs in models.items()}
        told = [run for run in own.values() if run]
        lines = []
        for metric in dict.fromkeys(name for run in told for name in run.headline):
            cells = [_cell(run, metric, against.get((name, *key, metric), {})) for name, run in own.items()]
            about = next(run.result["metrics"][metric] for run in told if metric in run.result["metrics"])
            lines.append(Line(metric, about["better"] == "lower", cells))
        sources = " / ".join(dict.fromkeys(shown_data(run.result["data"]) for run in told))
        made.append(Block(told[0].label, told[0].protocol, sources, lines))
    return made


def _against(comparison: Comparison) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """The cells of each difference as `mmeval compare` prints them, by model, task, protocol, judge, metric."""
    table = comparison_table(comparison)
    for change, row in zip(comparison.changes, table.rows, strict=True):
        told = dict(zip(table.columns[4:], row[4:], strict=True))
        yield (
            (comparison.other, change.task, change.protocol, change.judge, change.metric),
            {
                "delta": told["change"],
                "delta_interval": told["95% CI"],
                "p": told["p"],
                "marks": told[""],
                "verdict": told["verdict"],
                "differs": ", ".join(change.differs),
            },
        )


def _cell(run: Run | None, name: str, against: Mapping[str, str]) -> Cell:
    metric = run.result["metrics"].get(name) if run else None
    if run is None or metric is None:
        return Cell()
    unit, counts = metric["unit"], run.result["counts"]
    bad = counts["n_error"] + counts["n_refused"]
    return Cell(
        shown_value(metric["value"], unit),
        shown_interval(metric["low"], metric["high"], unit, metric["clusters"]),
        f"{metric['n']:,}" + (f" ({bad:,} failed)" if bad else ""),
        **against,
    )


def legend(models: Mapping[str, Sequence[Run]], comparisons: Sequence[Comparison]) -> list[str]:
    """What the marks of the table mean, and what else a reader has to know."""
    runs = [run for own in models.values() for run in own]
    shown = [run.result["metrics"][name] for run in runs for name in run.headline]
    notes = unit_notes([metric["unit"] for metric in shown])
    if any(is_rough(metric["low"], metric["clusters"]) for metric in shown):
        notes.append(ROUGH_NOTE)
    if any(change.differs for comparison in comparisons for change in comparison.changes):
        notes.append(UNLIKE_NOTE)
    for comparison in comparisons:
        whose = f"{comparison.other} against {comparison.base}"
        tested = "differences are of the samples that both scored; " + family_note(comparison)
        notes += [f"{whose}: {note}" for note in (tested, *comparison.notes)]
    for run in runs:
        if found := run.result.get("contamination"):
            notes.append(f"{run.model}, {run.label}: {sentence(found)}")
        if truncated := run.result["counts"].get("n_truncated"):
            notes.append(f"{run.model}, {run.label}: {truncated:,} prompts were cut on the left to fit the context")
    return list(dict.fromkeys(notes))


def cards(models: Mapping[str, Sequence[Run]]) -> list[list[tuple[str, str]]]:
    """What is known of each model: (what, text) pairs."""
    return [_card(name, runs) for name, runs in models.items()]


def _card(name: str, runs: Sequence[Run]) -> list[tuple[str, str]]:
    found = [("name", name)]
    found += _listed("model", [(_architecture(run), run) for run in runs])
    if tuned := _tuned(tuned_from(runs)):
        found.append(("tuned", tuned))
    found += _listed("fingerprint", [(str(run.result["model"].get("fingerprint", ""))[:SHORT], run) for run in runs])
    failed = sum(run.result["counts"]["n_error"] + run.result["counts"]["n_refused"] for run in runs)
    samples = sum(run.result["counts"]["n"] for run in runs)
    text = f"{len(runs)} {'task' if len(runs) == 1 else 'tasks'}, {samples:,} samples"
    return [*found, ("results", text + (f", {failed:,} failed" if failed else ""))]


def _listed(what: str, texts: Iterable[tuple[str, Run]]) -> list[tuple[str, str]]:
    """The different texts of a model's results, each with the part of the model (whole, backbone) if several."""
    parts: dict[str, str] = {}
    for text, run in texts:
        if text:
            parts.setdefault(text, str(run.result["model"]["identity"].get("part") or ""))
    shown = [f"{text} ({part})" if len(parts) > 1 and part else text for text, part in parts.items()]
    return [(what, "; ".join(shown))] if shown else []


def _architecture(run: Run) -> str:
    """Class and size, where they are on record."""
    about = run.result.get("provenance", {}).get("model") or {}
    size = about.get("parameters")
    known = [about.get("class"), f"{size:,} parameters" if isinstance(size, int) else ""]
    return ", ".join(str(text) for text in known if text)


def _tuned(tuned: Mapping[str, Any]) -> str:
    """`by mm-ft (recipe llava, seed 1) from vicuna`, or empty."""
    if not tuned:
        return ""
    details = [f"{key} {tuned[key]}" for key in ("recipe", "seed") if tuned.get(key) not in (None, "")]
    method = f"by {tuned['method']}" if tuned.get("method") else ""
    base = f"from {tuned['base'].get('name', '?')}" if tuned.get("base") else ""
    return " ".join(filter(None, (method, f"({', '.join(details)})" if details else "", base)))


def signatures(models: Mapping[str, Sequence[Run]]) -> Iterable[tuple[str, str, str]]:
    """Model, task and signature of every result."""
    return [(name, run.label, str(run.result.get("signature", ""))) for name, runs in models.items() for run in runs]
