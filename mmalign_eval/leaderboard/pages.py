"""The leaderboards: published tables and results, read from files and made into pages.

Nothing but the files' content decides on the pages: no clock, no order of files, no locale, no machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput, did_you_mean
from ..runs import Run, open_runs
from . import laboratory
from .claims import claims_of
from .details import DETAILS, details_text
from .figure import figure_of
from .markdown import INDEX, index_text, page_text
from .measured import RESULTS, Measured, measured_rows
from .model import Footnote, Page, Table
from .published import PAGES, Paper, data_of, read_papers, read_yaml, table_of

if TYPE_CHECKING:
    import pandas as pd

MADE = "<!-- made by mmeval leaderboard -->"  # heads every generated file


@dataclass(frozen=True)
class Board:
    """All pages, and what they were made of.

    Attributes:
        title: Of the index.
        intro: Likewise.
        pages: In order.
        runs: The results, by `Cell.result`.
        problems: One line for each result file that could not be used; the others are on the pages.
    """

    title: str
    intro: str
    pages: tuple[Page, ...]
    runs: Mapping[str, Run] = field(repr=False)
    problems: tuple[str, ...] = ()

    def page(self, name: str) -> Page:
        """The page of a name.

        Raises:
            BadInput: There is none.
        """
        known = {page.name: page for page in self.pages}
        if name not in known:
            raise BadInput(f"no page {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")
        return known[name]

    def frame(self) -> pd.DataFrame:
        """Every cell of every table, one row each.

        Columns: `page`, `table`, `model`, `tuning` and `base` of the row, `column` (its heading), `task`, `metric`,
        `origin` (`published` or `measured`), `value` and `delta` to the base as printed (`unit`: `percent`, `points`),
        `low`, `high`, `n`, `p` (missing for what is published), `significant`, `notes` (keys of footnotes),
        `signature`.
        """
        import pandas as pd

        rows = [
            {
                **{"page": page.name, "table": table.key, "model": row.model, "tuning": row.tuning, "base": row.base},
                **{"column": column.title, "task": column.task, "metric": column.metric, "origin": cell.origin},
                **{"value": cell.value, "delta": cell.delta, "unit": column.unit, "low": cell.low, "high": cell.high},
                **{"n": cell.n, "p": cell.p, "significant": cell.significant, "notes": ", ".join(cell.notes)},
                "signature": cell.signature,
            }
            for page in self.pages
            for table, row, column, cell in page.cells()
        ]
        numbers = {name: "float64" for name in ("value", "delta", "low", "high", "p")}
        return pd.DataFrame(rows).astype({**numbers, "n": "Int64"})

    def files(self) -> dict[str, str]:
        """Every generated file's name and content: index, pages, details, figures."""
        own = [name for name in self.runs if not name.startswith(f"{laboratory.FOLDER}/")]  # the other has its page
        found = {f"{INDEX}.md": index_text(self.title, self.intro, self.pages, own)}
        for page in self.pages:
            found[f"{page.name}.md"] = page_text(page)
            for figure in (*([page.figure] if page.figure else []), *page.figures):
                found[figure.file] = figure.svg
        found[f"{DETAILS}.md"] = details_text(self.pages, self.runs)
        return {name: f"{MADE}\n{text}" for name, text in found.items()}


def leaderboard(root: str | Path | None = None, published: Traversable | None = None) -> Board:
    """Reads a leaderboard's files.

    Args:
        root: Its folder, with `results/`; None: the published rows alone.
        published: The folder with `pages.yaml` and `published/`; by default the root if it has them, else the
            package's own.

    Raises:
        BadInput: No such folder, or published files that are not in the format.
    """
    place = Path(root) if root is not None else None
    if place is not None and not place.is_dir():
        raise BadInput(f"{place}: no such folder; give the folder of the leaderboards")
    data = published if published is not None else data_of(place)
    runs, problems = read_results(place)
    toy = {name: run for name, run in runs.items() if name.startswith(f"{laboratory.FOLDER}/")}
    results = Measured({name: run for name, run in runs.items() if name not in toy})
    papers, spec = read_papers(data), read_yaml(data.joinpath(PAGES))
    try:
        pages = [_page(papers, raw, results) for raw in spec["pages"]]
        if toy and place is not None:
            raw = read_yaml(data.joinpath(laboratory.SPEC))
            pages.append(laboratory.laboratory_page(raw, toy, place / RESULTS / laboratory.FOLDER))
        shown = dict.fromkeys(one["paper"] for raw in spec["pages"] for one in raw["tables"])
        pages.append(_claims_page([papers[name] for name in shown], spec["claims"]))
        title, intro = spec["index"]["title"], spec["index"]["intro"]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{PAGES}: not in the format of pages ({type(error).__name__}: {error})") from error
    return Board(title, intro, tuple(pages), runs, (*problems, *results.problems))


def read_results(root: Path | None) -> tuple[dict[str, Run], list[str]]:
    """The results below `results/` of a leaderboard by their path there without suffix, and a line for each damaged."""
    place = root / RESULTS if root is not None else None
    if place is None or not any(place.rglob("*.json")):
        return {}, []
    runs, problems = open_runs(place)
    named = {run.path.relative_to(place).with_suffix("").as_posix(): run for run in runs}
    return dict(sorted(named.items())), sorted(problems)


def _page(papers: Mapping[str, Paper], raw: Mapping[str, Any], results: Measured) -> Page:
    tables, footnotes = [], []
    for one in raw["tables"]:
        if one["paper"] not in papers:
            raise BadInput(f"{PAGES}: no paper {one['paper']!r}{did_you_mean(one['paper'], papers)}")
        paper = papers[one["paper"]]
        table, notes = table_of(paper, paper.table(one["table"]), one.get("notes", ()))
        rows, more = measured_rows(results, table.columns, paper.sources)
        tables.append(replace(table, rows=(*table.rows, *rows)))
        footnotes += [*notes, *more]
    figure = None
    if given := raw.get("figure"):
        figure = figure_of(papers[raw["tables"][0]["paper"]].table(given["table"]), given)
    return Page(raw["name"], raw["title"], raw["intro"], tuple(tables), _used(tables, footnotes), figure)


def _used(tables: Sequence[Table], footnotes: Iterable[Footnote]) -> tuple[Footnote, ...]:
    """Footnotes in the order of their first use."""
    known = {note.key: note for note in footnotes}
    keys: dict[str, None] = {}
    for table in tables:
        keys.update(dict.fromkeys(table.notes))
        keys.update(dict.fromkeys(note for column in table.columns for note in column.notes))
        for row in table.rows:
            keys.update(dict.fromkeys(row.notes))
            keys.update(dict.fromkeys(n for c in table.columns if c.key in row.cells for n in row.cells[c.key].notes))
    return tuple(known[key] for key in keys)


def _claims_page(papers: Sequence[Paper], raw: Mapping[str, Any]) -> Page:
    claims = tuple(claim for paper in papers for claim in claims_of(paper))
    lists = tuple((f"{paper.short}: slips of the text", tuple(paper.slips)) for paper in papers if paper.slips)
    return Page(raw["name"], raw["title"], raw["intro"], claims=claims, lists=lists)
