"""The papers' printed tables, and which metric of which task each of their columns is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ..errors import BadInput, did_you_mean
from .model import PUBLISHED, Cell, Column, Footnote, Row, Table

PROTOCOL = "paper"  # the protocol that a published column is
FOLDER = "published"
PAGES = "pages.yaml"


@dataclass(frozen=True)
class Source:
    """Where a column's measured values come from.

    Attributes:
        task: Name of the task.
        metric: Metric that the column is.
        stand_in: Metric of the offline stand-in for the judge; empty for a task without a judge.
        judge: Judge whose numbers the column is; empty likewise.
        scale: What a measured value is multiplied by to be in the column's unit.
    """

    task: str
    metric: str
    stand_in: str = ""
    judge: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class Misprint:
    """A printed difference that is not the one of the printed values.

    Attributes:
        row: Name of the row.
        key: Of the column.
        printed: The difference as printed.
        value: Of the row.
        base: Of its base.
    """

    row: str
    key: str
    printed: float
    value: float
    base: float

    @property
    def recomputed(self) -> float:
        """The difference of the printed values."""
        return exact(self.value - self.base)


@dataclass(frozen=True)
class PrintedTable:
    """One printed table.

    Attributes:
        key: Name in its file.
        number: Of the table in the paper.
        page: Of the paper.
        title: As docs and pages head it.
        note: Units and editions.
        columns: In order.
        rows: In order; differences are recomputed.
        printed_deltas: Of (row name, column key), where the paper prints them.
    """

    key: str
    number: int
    page: int
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    printed_deltas: Mapping[tuple[str, str], float]

    def row(self, name: str) -> Row:
        """The row of a name.

        Raises:
            BadInput: There is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise BadInput(f"{self.key}: no row {name!r}{did_you_mean(name, [row.name for row in self.rows])}")

    def value(self, row: str, key: str) -> float | None:
        """A printed value; None where the paper prints none."""
        cells = self.row(row).cells
        if key not in cells:
            raise BadInput(f"{self.key}: no column {key!r}{did_you_mean(key, cells)}")
        return cells[key].value

    def misprints(self) -> list[Misprint]:
        """Printed differences that the rows do not give, row by row."""
        found = []
        for (name, key), printed in self.printed_deltas.items():
            value, base = self.value(name, key), self.value(self.row(name).base, key)
            assert value is not None
            assert base is not None
            if exact(value - base) != exact(printed):
                found.append(Misprint(name, key, printed, value, base))
        return found


@dataclass(frozen=True)
class Paper:
    """One paper's tables.

    Attributes:
        name: Of its file.
        cite: How it is cited.
        short: What it is called in a line.
        url: Where it is.
        tables: By their names in the file.
        sources: Of columns that mmeval measures, by key.
        notes: Texts of footnotes by key.
        claims: Derived figures, as `claims.py` reads them.
        relative: Printed relative changes: `table`, `key`, `from`, `to`.
        slips: Slips of its text, a line each.
    """

    name: str
    cite: str
    short: str
    url: str
    tables: Mapping[str, PrintedTable]
    sources: Mapping[str, Source]
    notes: Mapping[str, str] = field(default_factory=dict)
    claims: Sequence[Mapping[str, Any]] = ()
    relative: Sequence[Mapping[str, str]] = ()
    slips: Sequence[str] = ()

    def table(self, name: str) -> PrintedTable:
        """One of its tables.

        Raises:
            BadInput: There is none of that name.
        """
        if name not in self.tables:
            raise BadInput(f"{self.name}.yaml: no table {name!r}{did_you_mean(name, self.tables)}")
        return self.tables[name]


def exact(value: float) -> float:
    """A sum of printed decimals without the noise of binary fractions."""
    return round(value, 6) + 0.0


def rounded(value: float, decimals: int) -> float:
    """To the nearest, halves away from zero, as people round (163.85 is 163.9)."""
    return float(Decimal(repr(exact(value))).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP))


def data_of(root: Path | None) -> Traversable:
    """The folder with `pages.yaml` and `published/`: the leaderboard's own, else that of the package."""
    if root is not None and (root / PAGES).is_file():
        return root
    return files("mmalign_eval.leaderboards")


def read_yaml(file: Traversable) -> dict[str, Any]:
    """A YAML file that is a mapping.

    Raises:
        BadInput: It is missing, no YAML, or no mapping.
    """
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{file}: no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise BadInput(f"{file}: expected keys and values")
    return found


def read_papers(data: Traversable) -> dict[str, Paper]:
    """The papers of `published/*.yaml`, by file name, sorted.

    Raises:
        BadInput: No such folder, or a file that is not in the format.
    """
    folder = data.joinpath(FOLDER)
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; {PAGES} needs its published tables beside it")
    found = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name[:-5]: _paper(file) for file in found if file.name.endswith(".yaml")}


def table_of(paper: Paper, printed: PrintedTable, notes: Sequence[str] = ()) -> tuple[Table, list[Footnote]]:
    """A printed table as pages show it, with footnotes: misprints, and those that columns and table ask for."""
    footnotes = [Footnote(key, _note(paper, key)) for key in notes]
    for column in printed.columns:
        footnotes += [Footnote(key, _note(paper, key)) for key in column.notes]
    titles = {column.key: column for column in printed.columns}
    marked: dict[tuple[str, str], str] = {}
    for number, wrong in enumerate(printed.misprints(), 1):
        column = titles[wrong.key]
        key = marked[wrong.row, wrong.key] = f"{printed.key}-misprint-{number}"
        text = (
            f"{wrong.row}, {column.title}: printed as {column.shown_delta(wrong.printed)}; the rows give "
            f"{column.shown(wrong.value)} - {column.shown(wrong.base)} = {column.shown_delta(wrong.recomputed)}."
        )
        footnotes.append(Footnote(key, text))
    rows = tuple(
        replace(row, cells={key: _marked(cell, marked.get((row.name, key))) for key, cell in row.cells.items()})
        for row in printed.rows
    )
    caption = f"{paper.cite}, Table {printed.number}, page {printed.page}: {printed.note}."
    return Table(printed.key, printed.title, caption, printed.columns, rows, tuple(notes)), footnotes


def _note(paper: Paper, key: str) -> str:
    if key not in paper.notes:
        raise BadInput(f"{paper.name}.yaml: no footnote {key!r} under notes{did_you_mean(key, paper.notes)}")
    return paper.notes[key]


def _marked(cell: Cell, note: str | None) -> Cell:
    return cell if note is None else replace(cell, notes=(note,))


def _paper(file: Traversable) -> Paper:
    raw = read_yaml(file)
    try:
        metrics, about = raw["metrics"], raw["about"]
        sources = {
            key: Source(m["task"], m["metric"], m.get("stand_in", ""), m.get("judge", ""), float(m.get("scale", 1)))
            for key, m in metrics.items()
        }
        tables = {
            name: _table(name, table, metrics)
            for name, table in raw.items()
            if isinstance(table, dict) and "rows" in table
        }
        return Paper(
            name=file.name[:-5],
            cite=about["cite"],
            short=about["short"],
            url=about["url"],
            tables=tables,
            sources=sources,
            notes=raw.get("notes", {}),
            claims=raw.get("claims", ()),
            relative=raw.get("relative", ()),
            slips=raw.get("slips", ()),
        )
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{file}: not in the format of published tables ({type(error).__name__}: {error})") from error


def _table(name: str, raw: Mapping[str, Any], metrics: Mapping[str, Any]) -> PrintedTable:
    columns = tuple(_column(key, metrics[key]) for key in raw["keys"])
    bare = [_row(name, one, columns) for one in raw["rows"]]
    known = {row.name: row for row, _ in bare}
    if len(known) != len(bare):
        raise BadInput(f"{name}: two rows of one name")
    rows = tuple(_with_deltas(name, row, known) for row, _ in bare)
    printed = {(row.name, key): delta for row, deltas in bare for key, delta in deltas.items()}
    title = raw["title"].partition(", ")[2] or raw["title"]
    return PrintedTable(
        name, int(raw["table"]), int(raw["page"]), title[:1].upper() + title[1:], raw["note"], columns, rows, printed
    )


def _column(key: str, raw: Mapping[str, Any]) -> Column:
    wanted = ("title", "unit", "better", "suffix", "decimals", "small_decimals", "inside")
    given = {name: raw[name] for name in wanted if name in raw}
    return Column(key=key, task=raw["task"], metric=raw["metric"], notes=tuple(raw.get("notes", ())), **given)


def _row(table: str, raw: Mapping[str, Any], columns: Sequence[Column]) -> tuple[Row, dict[str, float]]:
    """The row without differences, and the differences printed in it."""
    tuning = raw.get("tuning", "none")
    base = raw.get("base", raw["model"] if tuning != "none" else "")
    values, deltas = raw["values"], raw.get("delta", ())
    if len(values) != len(columns) or (deltas and len(deltas) != len(columns)):
        raise BadInput(f"{table}: row {raw['model']} has {len(values)} values for {len(columns)} columns")
    keys = [column.key for column in columns]
    cells = {key: Cell(None if v is None else float(v), PUBLISHED) for key, v in zip(keys, values, strict=True)}
    row = Row(raw["model"], "" if tuning == "none" else tuning, base, PUBLISHED, cells)
    return row, {key: float(delta) for key, delta in zip(keys, deltas, strict=False)}


def _with_deltas(table: str, row: Row, known: Mapping[str, Row]) -> Row:
    if not row.base:
        return row
    if row.base not in known:
        raise BadInput(f"{table}: {row.name} has base {row.base!r}, which is no row{did_you_mean(row.base, known)}")
    return replace(row, cells=dict(_differences(row, known[row.base])))


def _differences(row: Row, base: Row) -> Iterator[tuple[str, Cell]]:
    for key, cell in row.cells.items():
        before = base.cells[key].value
        defined = cell.value is not None and before is not None
        yield key, replace(cell, delta=exact(cell.value - before) if defined else None)  # type: ignore[operator]
