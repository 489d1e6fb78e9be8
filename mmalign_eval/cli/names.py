"""Names given on the command line."""

from __future__ import annotations

from collections.abc import Iterable


def split_names(values: Iterable[str]) -> list[str]:
    """Parts between commas, but for commas inside parentheses: `corrupt(NAME,contrast,3)` is one name."""
    parts, depth = [""], 0
    for character in ",".join(values):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
