"""Pages as GitHub's markdown: tables, footnotes, links to the details of every measured number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from ..tables import SIGNIFICANT
from ..tables import escaped as plain
from .details import DETAILS, anchor
from .model import MEASURED, PUBLISHED, Claim, Column, Footnote, Page, Row, Table

INDEX = "README"
HEAD = "[All pages](README.md)"
LEGEND = (
    "Rows say where their numbers are from: published, or measured with mmeval (each number links to its signature). "
    "In brackets the difference to the base"
)
MARK = f"`{SIGNIFICANT}`: a paired test tells it from the base's (5 %, Holm over the row)"
AGREES = {True: "yes", False: "**no**", None: "-"}


def page_text(page: Page) -> str:
    """One page."""
    lines = [f"# {plain(page.title)}", "", HEAD, "", plain(page.intro), ""]
    if page.figure:
        lines += [f"![{plain(page.figure.alt)}]({page.figure.file})", "", plain(page.figure.about), ""]
    for table in page.tables:
        title = plain(table.title) + _references(table.notes)
        lines += [f"## {title}", "", plain(table.caption), "", *table_lines(table), ""]
        lines += [f"{LEGEND}. {MARK}." if table.of(MEASURED) else f"{LEGEND}.", ""]
    for figure in page.figures:
        lines += [f"![{plain(figure.alt)}]({figure.file})", "", plain(figure.about), ""]
    lines += _claims(page.claims)
    for heading, slips in page.lists:
        lines += [f"## {plain(heading)}", "", *(f"- {plain(slip)}" for slip in slips), ""]
    return "\n".join([*lines, *footnote_lines(page.footnotes)])


def index_text(title: str, intro: str, pages: Sequence[Page], results: Iterable[str]) -> str:
    """The page that links all others.

    Args:
        title: Heading.
        intro: One paragraph.
        pages: The others.
        results: What was taken in (`Cell.result`): what no page has a column for is named.
    """
    lines = [f"# {plain(title)}", "", plain(intro), "", *_header(["page", "published rows", "measured rows"], 1)]
    for page in pages:
        counts = [sum(len(table.of(origin)) for table in page.tables) for origin in (PUBLISHED, MEASURED)]
        published, measured = (str(count) if page.tables else "-" for count in counts)
        lines.append(f"| [{plain(page.title)}]({page.name}.md) | {published} | {measured} |")
    lines += ["", f"[Details of the measured cells]({DETAILS}.md)", ""]
    shown = {cell.result for page in pages for *_, cell in page.cells()}
    if left := sorted(set(results) - shown):
        lines += [f"Results of which no page has a column: {', '.join(map(plain, left))}.", ""]
    return "\n".join(lines)


def table_lines(table: Table) -> list[str]:
    """A table's lines: measured numbers link to the details page beside it, footnotes are referred to."""
    titles = [plain(column.title) + _references(column.notes) for column in table.shown_columns]
    lines = _header(["model", "rows", *titles], 2)
    for row in table.rows:
        cells = [plain(row.name), row.origin + _references(row.notes)]
        cells += [_cell(table, row, column) for column in table.shown_columns]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def footnote_lines(footnotes: Iterable[Footnote]) -> list[str]:
    """The footnotes' definitions."""
    return [line for note in footnotes for line in (f"[^{note.key}]: {plain(note.text)}", "")]


def _cell(table: Table, row: Row, column: Column) -> str:
    text = plain(table.text(row, column))
    cell = row.cells.get(column.key)
    if cell is None:
        return text
    notes = [*cell.notes]
    for other in table.columns:
        if other.inside == column.key and other.key in row.cells:
            notes += row.cells[other.key].notes
    link = f"[{text}]({DETAILS}.md#{anchor(cell.result)})" if cell.result else text
    return link + _references(notes)


def _references(notes: Iterable[str]) -> str:
    return "".join(f"[^{note}]" for note in dict.fromkeys(notes))


def _header(titles: Sequence[str], words: int) -> list[str]:
    """Heading and rule; all but the first columns are right-aligned numbers."""
    rule = ["---"] * words + ["---:"] * (len(titles) - words)
    return [f"| {' | '.join(titles)} |", f"| {' | '.join(rule)} |"]


def _claims(claims: Iterable[Claim]) -> list[str]:
    lines = []
    for heading, found in groupby(claims, lambda claim: claim.group):
        group = list(found)
        decided = [claim for claim in group if claim.agrees is not None]
        agreed = sum(bool(claim.agrees) for claim in decided)
        lines += [f"## {plain(heading)}", "", f"{agreed} of {len(decided)} agree with what is printed.", ""]
        lines += _header(["claim", "where", "inputs", "formula", "printed", "recomputed", "agrees", "note"], 8)
        for claim in group:
            texts = [claim.name, claim.where, claim.inputs, claim.formula, claim.printed, claim.recomputed]
            lines.append(f"| {' | '.join([*map(plain, texts), AGREES[claim.agrees], plain(claim.note)])} |")
        lines.append("")
    return lines
