"""What marked regions of other markdown files are filled with: pages, tables, runs, comparisons (see `update.py`)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..compare import compare_runs, model_runs
from ..compare.bases import against_bases
from ..compare.tables import comparison_table
from ..errors import BadInput, did_you_mean
from ..result_tables import Line, results_table, shown_metrics
from ..runs import Run
from ..tables import markdown
from .markdown import footnote_lines, table_lines
from .model import Page, Table
from .pages import Board, leaderboard
from .update import Fill

_FOOTNOTE = re.compile(r"\[\^([\w-]+)\]")
_LINK = re.compile(r"\]\((?=[\w-]+\.md)")  # to a page beside the leaderboard's own


@dataclass
class Regions:
    """Fills regions; reads the leaderboard only if one asks for it.

    Attributes:
        root: The leaderboard.
        problems: One line for each result file that could not be used.
    """

    root: Path
    problems: list[str] = field(default_factory=list)

    @property
    def fills(self) -> dict[str, Fill]:
        """What fills a region, by the name after `mmeval:`."""
        return {"page": self.page, "table": self.table, "run": self.run, "compare": self.compare}

    @cached_property
    def board(self) -> Board:
        """The leaderboard's pages."""
        board = leaderboard(self.root)
        self.problems += board.problems
        return board

    def page(self, words: list[str], folder: Path) -> str:
        """All tables of a page."""
        if len(words) != 1:
            raise BadInput(f"mmeval:page: expected the name of a page, found {words or 'none'}")
        page = self.board.page(words[0])
        return self._tables(page, page.tables, folder)

    def table(self, words: list[str], folder: Path) -> str:
        """One table of a page; its first, if none is named."""
        if not 1 <= len(words) <= 2:
            raise BadInput(f"mmeval:table: expected the names of a page and of its table, found {words or 'none'}")
        page = self.board.page(words[0])
        known = {table.key: table for table in page.tables}
        key = words[1] if len(words) > 1 else next(iter(known), "")
        if key not in known:
            have = ", ".join(known) or "none"
            raise BadInput(
                f"mmeval:table: page {page.name} has no table {key!r}{did_you_mean(key, known)}; it has {have}"
            )
        return self._tables(page, [known[key]], folder)

    def run(self, words: list[str], folder: Path) -> str:
        """What `mmeval run` said at its end, against the base if it has results beside it."""
        if len(words) != 1:
            raise BadInput(f"mmeval:run: expected the results of one model, found {words or 'none'}")
        runs = self._runs(folder / words[0])
        against, problems = against_bases([runs[0].path])
        self.problems += [line for line in problems if line not in self.problems]
        comparison = next((found for found, _ in against.values()), None)
        lines = [Line(run.model, run.result, shown_metrics(run.result), comparison) for run in runs]
        return markdown(results_table(lines))

    def compare(self, words: list[str], folder: Path) -> str:
        """What changed from a model's results to others'."""
        if len(words) < 2:
            raise BadInput("mmeval:compare: expected the results of a base and of one or more others")
        base, *others = (self._runs(folder / word) for word in words)
        return "\n".join(markdown(comparison_table(compare_runs(base, other))) for other in others)

    def _runs(self, place: Path) -> list[Run]:
        runs, problems = model_runs(place)
        self.problems += problems
        return runs

    def _tables(self, page: Page, tables: Iterable[Table], folder: Path) -> str:
        """Tables with their footnotes; links lead to the leaderboard's pages, footnotes are named after the page."""
        lines: list[str] = []
        for table in tables:
            lines += [f"**{table.title}.** {table.caption}", "", *table_lines(table), ""]
        used = dict.fromkeys(_FOOTNOTE.findall("\n".join(lines)))
        lines += footnote_lines(note for note in page.footnotes if note.key in used)
        there = Path(os.path.relpath(self.root, folder)).as_posix()
        text = _FOOTNOTE.sub(rf"[^{page.name}-\1]", "\n".join(lines))
        return text if there == "." else _LINK.sub(rf"]({there}/", text)
