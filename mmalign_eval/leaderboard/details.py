"""The details page: of each measured cell everything that a comparable number has to share with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..results import Result
from ..runs import Run
from ..tables import FEW_CLUSTERS, ROUGH, SIGNIFICANT, escaped, shown_p
from .model import Cell, Column, Page, Row

DETAILS = "details"  # name of the page
INTRO = (
    "What the measured cells of the other pages were measured with. A number can be compared with one whose signature "
    "is the same. Intervals are 95 % and respect clusters; p is of a paired test against the base's answers to the "
    f"same samples, Holm-adjusted over the row of the page; `{SIGNIFICANT}` is below 0.05, `{ROUGH}` marks intervals "
    f"from fewer than {FEW_CLUSTERS} clusters."
)
NOTHING = "Nothing is measured yet: `mmeval leaderboard add RUN` takes results in."
Facts = Iterator[tuple[str, str]]
plain = lru_cache(4096)(escaped)  # results of one benchmark, and of one model, have most facts in common


@dataclass(frozen=True)
class _Shown:
    """A measured cell and where it is."""

    page: Page
    row: Row
    column: Column
    cell: Cell


def anchor(result: str) -> str:
    """Name of a result's section on the details page, for `details.md#...`: the same as long as the file's name is.

    Args:
        result: `Cell.result`: the result file below `results/`, without suffix.
    """
    return re.sub(r"[^\w.@+:-]", "-", result.replace("/", ":"))


def details_text(pages: Iterable[Page], runs: Mapping[str, Run]) -> str:
    """The details page: the signatures of all results that have a cell on a page, and these cells with all figures.

    Args:
        pages: The pages that link to it.
        runs: Results by `Cell.result`.
    """
    shown: dict[str, list[_Shown]] = {}
    for page in pages:
        for _, row, column, cell in page.cells():
            if cell.result:
                shown.setdefault(cell.result, []).append(_Shown(page, row, column, cell))
    lines = ["# Details of the measured cells", "", "[All pages](README.md)", "", INTRO, ""]
    model = ""
    for result in sorted(shown):
        if result.split("/")[0] != model:
            model = result.split("/")[0]
            lines += [f"## {plain(model)}", ""]
        lines += _section(result, runs[result], shown[result])
    return "\n".join(lines if shown else [*lines, NOTHING, ""])


def _section(result: str, run: Run, shown: Iterable[_Shown]) -> list[str]:
    return [
        f'### <a id="{anchor(result)}"></a>{plain(run.label)}',
        "",
        f"`{run.result['signature'].replace('`', '')}`",
        "",
        *(f"- {name}: {plain(text)}" for name, text in _facts(run.result) if text),
        "",
        "| page | column | metric | value | 95 % interval | n | clusters | against base | p |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
        *(_line(one, run.result["metrics"][one.cell.metric]) for one in shown),
        "",
    ]


def _line(one: _Shown, metric: Mapping[str, Any]) -> str:
    """One cell; the interval is the column's, its clusters those of the result file."""
    column, cell = one.column, one.cell
    clusters = metric["clusters"]
    rough = ROUGH if clusters < FEW_CLUSTERS else ""
    interval = f"{rough}{column.shown(cell.low)} .. {column.shown(cell.high)}" if cell.low is not None else "-"
    delta = (
        column.shown_delta(cell.delta) + (SIGNIFICANT if cell.significant else "") if cell.delta is not None else "-"
    )
    link = f"[{plain(one.page.title)}]({one.page.name}.md)"
    texts = [column.title, cell.metric, column.shown(cell.value), interval, cell.n, clusters, delta, shown_p(cell.p)]
    return " | ".join(["| " + link, *(plain("-" if text is None else str(text)) or "-" for text in texts)]) + " |"


def _facts(result: Result) -> Facts:
    """What the signature says in short, in words."""
    task, model, data, counts = (result[key] for key in ("task", "model", "data", "counts"))
    identity, made = model["identity"], result["provenance"]
    yield "task", f"{task['name']}, version {task['version']}, {task['shots']} shots"
    yield "protocol", f"{task['protocol']}" + (f" ({task['note']})" if task["note"] else "")
    yield "judge", _judge(result)
    yield "decoding", _flat(result["params"]) or "log-likelihoods only"
    yield "prompts", result["prompt_hash"]
    yield "template", str(identity.get("template") or "")
    miniature = ": toy data, says nothing about real models" if data["source"] == "miniature" else ""
    yield "data", f"{data['source']}{miniature}; {data['hash']}"
    failed = {"failed": counts["n_error"], "refused": counts["n_refused"], "not answered": counts.get("n_missing", 0)}
    cut = [f"first {data['limit']} of each part only"] if data["limit"] is not None else []
    yield "samples", ", ".join([str(counts["n"]), *(f"{n} {word}" for word, n in failed.items() if n), *cut])
    yield "model", _model(model)
    yield "seed", str(result["seed"])
    yield "made with", ", ".join(f"{name} {version}" for name, version in sorted(made.get("versions", {}).items()))


def _judge(result: Result) -> str:
    name, judge = result["task"].get("judge") or "", result.get("judge", {})
    if not name:
        return ""
    if judge.get("kind") != "model":
        return f"{name} (offline)"
    return f"{name}, {judge['runs']} verdicts each, {judge['n_failed']} of {judge['n_verdicts']} failed"


def _model(model: Mapping[str, Any]) -> str:
    identity = model["identity"]
    found = [f"{model['name']}, fingerprint {model['fingerprint']}"]
    found += [f"{key} {identity[key]}" for key in ("part", "weights", "peft", "dtype") if identity.get(key)]
    if tuned := model.get("tuned"):
        found.append(f"tuned by {tuned['method']} from {tuned['base']['name']}")
    return ", ".join(found)


def _flat(params: Mapping[str, Any]) -> str:
    """`temperature=0.2, stop=["###"]`."""
    return ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(params.items()))
