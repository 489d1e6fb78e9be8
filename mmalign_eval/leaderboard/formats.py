"""Pages for other tools: CSV and JSON with every digit, LaTeX to print, `model-index` for a model card.

All are made from the same `Page` objects as the markdown, so they say the same numbers.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ..errors import BadInput, did_you_mean
from ..runs import Run
from ..tables import SIGNIFICANT
from .model import MEASURED, Cell, Column, Page, Row, Table, slug

FORMATS = ("csv", "latex", "json", "model-index")
SCHEMA = 1  # of the JSON
CSV_COLUMNS = (
    "page", "table", "origin", "model", "tuning", "base", "column", "task", "metric", "unit", "better", "value", "low",
    "high", "n", "delta", "p", "significant", "notes", "signature", "result",
)  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip
# What the Hub calls what a model is asked to do (huggingface.co/tasks).
_HUB_TASKS = {"text": "text-generation", "image": "image-text-to-text"}


def as_csv(pages: Iterable[Page]) -> str:
    """One line a number (RFC 4180, with a header): what spreadsheets pivot and data frames read.

    Values, ends and differences are in the column's unit, with all their digits; `notes` has the footnotes' texts.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(CSV_COLUMNS)
    for page in pages:
        notes = {note.key: note.text for note in page.footnotes}
        for table, row, column, cell in page.cells():
            writer.writerow(
                [
                    *(page.name, table.key, cell.origin, row.model, row.tuning, row.base, column.title, column.task),
                    *(
                        cell.metric or column.metric,
                        column.unit,
                        column.better,
                        *map(_digits, (cell.value, cell.low, cell.high)),
                    ),
                    *("" if cell.n is None else cell.n, _digits(cell.delta), _digits(cell.p)),
                    "yes" if cell.significant else "no",
                    "; ".join(notes.get(key, key) for key in (*table.notes, *column.notes, *row.notes, *cell.notes)),
                    *(cell.signature, cell.result),
                ]
            )
    return file.getvalue()


def as_json(pages: Iterable[Page]) -> str:
    """The pages as they are, every digit kept; of a figure the name of its file."""
    found = []
    for page in pages:
        one = asdict(page)
        one["figure"] = page.figure.file if page.figure else None
        found.append(one)
    whole = {"kind": "mmeval-leaderboard", "schema": SCHEMA, "pages": found}
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_latex(pages: Iterable[Page]) -> str:
    r"""A `table` with a `tabular` for each table of the pages; needs `\usepackage{booktabs}` and a UTF-8 engine.

    Published and measured rows are set apart by a rule and named; footnotes stand below their table.
    """
    tables = [_latex_table(page, table) for page in pages for table in page.tables]
    return "\n".join(["% needs \\usepackage{booktabs}; made by mmeval leaderboard", *tables])


def as_model_index(pages: Iterable[Page], runs: Mapping[str, Run], model: str) -> str:
    """The measured numbers of one model as `model-index`, to stand in the YAML head of its card on the Hub.

    Args:
        pages: Where its numbers are.
        runs: Results by `Cell.result`: what a number was measured on.
        model: Name of a measured row, or of the model's folder of results.

    Raises:
        BadInput: No measured row has that name.
    """
    import yaml

    cells = [found for page in pages for found in page.cells() if found[3].origin == MEASURED]
    chosen = {
        (cell.result, cell.metric): (column, cell)
        for _, row, column, cell in cells
        if model in (row.name, _folder(cell)) and cell.value is not None
    }
    if not chosen:
        known = sorted({_folder(cell) for *_, cell in cells})
        have = f"measured are {', '.join(known)}" if known else "nothing is measured yet: mmeval leaderboard add RUN"
        raise BadInput(f"--model {model}: no measured row of that name{did_you_mean(model, known)}; {have}")
    results: dict[str, dict[str, Any]] = {}
    for (result, _), (column, cell) in chosen.items():
        results.setdefault(result, _hub_result(runs[result]))["metrics"].append(_hub_metric(column, cell))
    card = {"model-index": [{"name": model, "results": list(results.values())}]}
    return str(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120))


def _digits(number: float | None) -> str:
    """All of them, so that reading it gives the same number again."""
    return "" if number is None else repr(float(number))


def _folder(cell: Cell) -> str:
    return cell.result.split("/")[0]


def _hub_result(run: Run) -> dict[str, Any]:
    task = run.result["task"]
    kind = _HUB_TASKS[task["modality"]]
    given = {"protocol": run.protocol, "shots": task["shots"], **({"judge": run.judge} if run.judge else {})}
    name = f"{run.task} (miniature data: no fact about real models)" if run.miniature else run.task
    return {
        "task": {"type": kind, "name": kind.replace("-", " ")},
        "dataset": {"name": name, "type": run.task, "args": given},
        "metrics": [],
    }


def _hub_metric(column: Column, cell: Cell) -> dict[str, Any]:
    about = {"n": cell.n, "low": cell.low, "high": cell.high, "unit": column.unit, "signature": cell.signature}
    return {
        "type": cell.metric,
        "value": cell.value,
        "name": column.title,
        "args": {key: value for key, value in about.items() if value is not None},
    }


def _latex_table(page: Page, table: Table) -> str:
    columns = table.shown_columns
    marks = {key: str(number) for number, key in enumerate(_notes(table), 1)}
    texts = {note.key: note.text for note in page.footnotes}
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape_latex(f'{table.title}. {table.caption}')}{_superscript(table.notes, marks)}}}",
        rf"\label{{tab:{slug(page.name)}-{slug(table.key)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(["Model", *(escape_latex(c.title) + _superscript(c.notes, marks) for c in columns)]) + r" \\",
    ]
    for origin in dict.fromkeys(row.origin for row in table.rows):
        lines.append(r"\midrule")
        lines.append(rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{\emph{{{origin}}}}} \\")
        for row in table.of(origin):
            cells = [_latex_cell(table, row, column, marks) for column in columns]
            lines.append(" & ".join([escape_latex(row.name) + _superscript(row.notes, marks), *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize $^{{{mark}}}$ {escape_latex(texts.get(key, key))}" for key, mark in marks.items()]
    if any(cell.significant for row in table.rows for cell in row.cells.values()):
        lines.append(r"\par\footnotesize $^{*}$ differs from its base (paired test, Holm-adjusted p below 0.05)")
    return "\n".join([*lines, r"\end{table}", ""])


def _notes(table: Table) -> list[str]:
    """Keys of the footnotes of one table, in the order of their first use."""
    found = [*table.notes, *(key for column in table.shown_columns for key in column.notes)]
    for row in table.rows:
        found += [*row.notes, *(key for column in table.shown_columns for key in _cell_notes(table, row, column))]
    return list(dict.fromkeys(found))


def _cell_notes(table: Table, row: Row, column: Column) -> list[str]:
    """Of a cell, and of those in its brackets."""
    keys = [column.key, *(other.key for other in table.columns if other.inside == column.key)]
    return list(dict.fromkeys(note for key in keys if key in row.cells for note in row.cells[key].notes))


def _latex_cell(table: Table, row: Row, column: Column, marks: Mapping[str, str]) -> str:
    text = table.text(row, column)
    starred = text.endswith(SIGNIFICANT)
    plain = escape_latex(text.removesuffix(SIGNIFICANT))
    return plain + _superscript(_cell_notes(table, row, column), marks, SIGNIFICANT if starred else "")


def _superscript(keys: Iterable[str], marks: Mapping[str, str], first: str = "") -> str:
    text = ",".join(([first] if first else []) + [marks[key] for key in keys])
    return f"$^{{{text}}}$" if text else ""


def escape_latex(text: str) -> str:
    """Plain text as LaTeX: no character of it is a command; line breaks are spaces."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
