"""Reads generated markdown back: a few lines that know nothing of how it was written."""

from __future__ import annotations

import re

ESCAPED = re.compile(r"\\([\\`*\[\]|~_])")


def tables(text: str) -> list[list[dict[str, str]]]:
    """Tables of a page: a dict by heading for each row; the footnote references are kept, the links are not."""
    found: list[list[list[str]]] = [[]]
    for line in text.split("\n"):
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            found[-1].append([cell.strip() for cell in cells])
        elif found[-1]:
            found.append([])
    out = []
    for head, rule, *rows in (table for table in found if table):
        assert all(re.fullmatch(r":?-+:?", cell) for cell in rule), rule
        assert all(len(row) == len(head) for row in rows), "a row with another number of cells than the heading"
        out.append([{bare(h): unlinked(c) for h, c in zip(head, row, strict=True)} for row in rows])
    return out


def unlinked(cell: str) -> str:
    return re.sub(r"(?<!\\)\[((?:[^\[\]\\]|\\.)*)\]\([^)]*\)", r"\1", cell)


def bare(cell: str) -> str:
    """Without footnote references and escapes."""
    return ESCAPED.sub(r"\1", re.sub(r"\[\^[^\]]*\]", "", cell)).strip()


def marks(cell: str) -> list[str]:
    """Keys of the footnotes referred to."""
    return re.findall(r"\[\^([^\]]*)\]", cell)


def footnotes(text: str) -> dict[str, str]:
    """Footnotes by key."""
    return {key: ESCAPED.sub(r"\1", words) for key, words in re.findall(r"^\[\^([^\]]*)\]: (.*)$", text, re.MULTILINE)}
