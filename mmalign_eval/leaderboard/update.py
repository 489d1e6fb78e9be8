"""Tables inside other markdown files: regions between marks are filled, everything else stays as it is.

    <!-- mmeval:page nlp -->                       all tables of a page
    <!-- mmeval:table nlp table2 -->               one of them
    <!-- mmeval:run results/mini -->               the table at the end of that run
    <!-- mmeval:compare results/a results/b -->    what changed from a to b (further ones follow)
    ...
    <!-- /mmeval -->

A mark stands on a line of its own; places of results are relative to the file. Marks inside fenced code are text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput, did_you_mean

# what fills a region: the words after `mmeval:NAME`, and the folder of the file, to lines of markdown
Fill = Callable[[list[str], Path], str]
_MARK = re.compile(r"^\s*<!--\s*(?P<end>/?)\s*mmeval(?::(?P<what>[\w-]*)(?P<words>.*?))?\s*-->\s*$")
_MEANT = re.compile(r"^\s*<!--\s*/?\s*mmeval\b")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FENCE = re.compile(r"^\s{0,3}(?P<fence>`{3,}|~{3,})")


@dataclass
class _Open:
    """A region that was begun.

    Attributes:
        line: Number of its first mark.
        text: What it is to be filled with.
    """

    line: int
    text: str


def filled(file: Path, fills: dict[str, Fill]) -> tuple[str, str]:
    """A markdown file as it is, and as it is with its regions filled anew.

    Args:
        file: With at least one region.
        fills: By the name after `mmeval:`.

    Raises:
        BadInput: No such file, no region in it, a mark that is unknown, not closed or not opened; with its line.
    """
    try:
        text = file.read_bytes().decode("utf-8")
    except OSError as error:
        raise BadInput(f"--update {file}: cannot read it ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"--update {file}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    newline = "\r\n" if "\r\n" in text else "\n"
    out: list[str] = []
    region: _Open | None = None
    fence, regions = "", 0
    for number, line in enumerate(_LINE.findall(text), 1):
        fence = _fence(fence, line) if region is None else ""
        mark = None if fence else _mark(file, number, line)
        if mark is None:
            out += [line] if region is None else []
        elif mark["end"]:
            if region is None:
                raise BadInput(f"{file}:{number}: closes a region that is not open; open it with <!-- mmeval:... -->")
            body = region.text.strip("\r\n").replace("\n", newline)
            out += [newline, body, newline, newline, line] if body else [line]
            region, regions = None, regions + 1
        else:
            if region is not None:
                raise BadInput(f"{file}:{region.line}: not closed before line {number}: <!-- /mmeval --> is missing")
            region = _Open(number, _filling(file, number, mark, fills))
            out.append(line)
    if region is not None:
        raise BadInput(f"{file}:{region.line}: not closed: <!-- /mmeval --> is missing")
    if not regions:
        raise BadInput(
            f"--update {file}: nothing to fill; mark a region with <!-- mmeval:page NAME --> and <!-- /mmeval -->"
        )
    return text, "".join(out)


def _fence(fence: str, line: str) -> str:
    """The fence of the code block that a line is in, itself included; empty outside."""
    found = _FENCE.match(line)
    if not fence:
        return found["fence"] if found else ""
    closes = found and found["fence"].startswith(fence) and not line.strip().strip(fence[0])
    return "" if closes else fence


def _mark(file: Path, number: int, line: str) -> re.Match[str] | None:
    found = _MARK.match(line)
    if found is None or (not found["end"] and found["what"] is None):
        if _MEANT.match(line):
            raise BadInput(
                f"{file}:{number}: not a mark: {line.strip()}; expected <!-- mmeval:NAME ... --> on one line"
            )
        return None
    return found


def _filling(file: Path, number: int, mark: re.Match[str], fills: dict[str, Fill]) -> str:
    what = mark["what"]
    if what not in fills:
        raise BadInput(
            f"{file}:{number}: unknown mark mmeval:{what}{did_you_mean(what, fills)}; known: {', '.join(sorted(fills))}"
        )
    try:
        return fills[what](shlex.split(mark["words"]), file.parent)
    except (BadInput, ValueError) as error:
        raise BadInput(f"{file}:{number}: {error}") from error
