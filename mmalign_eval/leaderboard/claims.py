"""The papers' derived figures, computed anew from their own tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import BadInput
from ..metrics.formula import Formula, over
from .model import MINUS, Claim, Column
from .published import Paper, PrintedTable, exact, rounded

MORE_THAN = "more than"
SHOWN_INPUTS = 12  # numbers that a formula is written out with


def claims_of(paper: Paper) -> Iterator[Claim]:
    """Every derived figure of a paper: of its text, its printed relative changes, its printed differences.

    Raises:
        BadInput: A claim that is not in the format, or names what the tables do not have.
    """
    for raw in paper.claims:
        try:
            yield _claim(paper, raw)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            name = raw.get("name") if isinstance(raw, Mapping) else raw
            raise BadInput(f"{paper.name}.yaml: claim {name!r}: {type(error).__name__}: {error}") from error
    for raw in paper.relative:
        yield from _relative(paper, raw)
    for table in paper.tables.values():
        yield from _differences(paper, table)


def _claim(paper: Paper, raw: Mapping[str, Any]) -> Claim:
    inputs = [_inputs(paper, one) for one in raw["inputs"]]
    numbers = [number for _, values, _ in inputs for number in values]
    columns = [column for _, _, known in inputs for column in known]
    value = _value(raw["formula"], numbers, columns)
    decimals, suffix = raw.get("decimals", 1), raw.get("suffix", "")
    printed, relation = raw.get("printed"), raw.get("relation", "")
    if relation not in ("", MORE_THAN):
        raise ValueError(f"relation {relation!r} is not {MORE_THAN!r}")
    agrees = None
    if printed is not None:
        agrees = value > printed if relation else rounded(value, decimals) == exact(printed)
    shown = _shown(printed, decimals, suffix, raw.get("sign", False)) if printed is not None else MINUS
    return Claim(
        group=f"{paper.short}: figures of the text",
        name=raw["name"],
        where=raw["where"],
        formula=_written(raw["formula"], numbers),
        inputs="; ".join(words for words, _, _ in inputs),
        printed=f"{relation} {shown}" if relation else shown,
        recomputed=_shown(value, decimals, suffix, raw.get("sign", False)),
        agrees=agrees,
        note=raw.get("note", ""),
    )


def _inputs(paper: Paper, raw: Mapping[str, Any]) -> tuple[str, list[float], list[Column]]:
    """What the inputs are in words, the numbers row by row, and the column of each."""
    table = paper.table(raw["table"])
    rows = [table.row(name) for name in raw["rows"]] if "rows" in raw else list(table.rows)
    if "tuning" in raw:
        rows = [row for row in rows if row.tuning == raw["tuning"]]
    keys = raw.get("keys", [column.key for column in table.columns])
    kind = raw.get("values", "printed")
    columns = {column.key: column for column in table.columns}
    numbers = []
    for row in rows:
        for key in keys:
            found = {
                "printed": table.value(row.name, key),
                "change": row.cells[key].delta,
                "delta": table.printed_deltas.get((row.name, key)),
            }[kind]
            if found is None:
                raise BadInput(f"{paper.name}.yaml, {table.key}: {row.name} has no number under {key}")
            numbers.append(found)
    named = ", ".join(row.name for row in rows) if "rows" in raw else f"all rows {raw.get('tuning', '')}".strip()
    headings = ", ".join(columns[key].title for key in keys) if "keys" in raw else "all columns"
    what = {"printed": "", "change": " (differences of the rows)", "delta": " (printed differences)"}[kind]
    return f"Table {table.number}: {named}; {headings}{what}", numbers, [columns[key] for _ in rows for key in keys]


def _value(formula: str, numbers: Sequence[float], columns: Sequence[Column]) -> float:
    half = len(numbers) // 2
    pairs = list(zip(numbers[:half], numbers[half:], columns, strict=False))
    if formula == "better":
        return float(sum(b > a if column.better == "higher" else b < a for a, b, column in pairs))
    if formula == "equal":
        return float(sum(a == b for a, b, _ in pairs))
    if formula == "mean":
        formula = over("mean", [f"s[{i}]" for i in range(len(numbers))])
    return exact(float(Formula(formula)(np.array(numbers))))


def _written(formula: str, numbers: Sequence[float]) -> str:
    """The formula with its numbers: `46.0 - 38.9`."""
    if formula in ("better", "equal"):
        return (
            f"of {len(numbers) // 2} pairs those in which the second is {formula}"
            if formula == "better"
            else (f"of {len(numbers) // 2} pairs those that are equal")
        )
    if formula == "mean":
        if len(numbers) > SHOWN_INPUTS:
            return f"mean of {len(numbers)} numbers"
        formula = over("mean", [f"s[{i}]" for i in range(len(numbers))])
    return re.sub(r"s\[(\d+)\]", lambda match: _number(numbers[int(match[1])]), formula)


def _number(value: float) -> str:
    return f"{value:.1f}" if value >= 0 else f"({value:.1f})"


def _shown(value: float, decimals: int, suffix: str, sign: bool) -> str:
    value = rounded(value, decimals)
    return f"{value:{'+' if sign else ''}.{decimals}f}{suffix}"


def _relative(paper: Paper, raw: Mapping[str, str]) -> Iterator[Claim]:
    """Printed changes relative to a column: 100 (to - from) / from."""
    table = paper.table(raw["table"])
    for row in table.rows:
        before, after, printed = (table.value(row.name, raw[key]) for key in ("from", "to", "key"))
        assert before is not None
        assert after is not None
        assert printed is not None
        value = 100 * (after - before) / before
        yield Claim(
            group=f"{paper.short}: printed relative changes, Table {table.number}",
            name=row.name,
            where=_where(table),
            formula=f"100 * ({after:.1f} - {before:.1f}) / {before:.1f}",
            inputs=f"Table {table.number}: {row.name}",
            printed=_shown(printed, 1, "%", sign=True),
            recomputed=_shown(value, 1, "%", sign=True),
            agrees=rounded(value, 1) == exact(printed),
        )


def _differences(paper: Paper, table: PrintedTable) -> Iterator[Claim]:
    """Printed differences to the base."""
    columns = {column.key: column for column in table.columns}
    for (name, key), printed in table.printed_deltas.items():
        row, column = table.row(name), columns[key]
        value, before = table.value(name, key), table.value(row.base, key)
        assert value is not None
        assert before is not None
        yield Claim(
            group=f"{paper.short}: printed differences to the base, Table {table.number}",
            name=f"{name}, {column.title}",
            where=_where(table),
            formula=f"{value:.1f} - {before:.1f}",
            inputs=f"Table {table.number}: {name}, {row.base}",
            printed=column.shown_delta(printed),
            recomputed=column.shown_delta(exact(value - before)),
            agrees=exact(value - before) == exact(printed),
        )


def _where(table: PrintedTable) -> str:
    return f"Table {table.number}, page {table.page}"
