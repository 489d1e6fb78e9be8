"""Names given on the command line."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import BadInput

MOST_SEED = 2**32 - 1  # what a training's generators take


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


def pairs_of_options(values: Iterable[str], flag: str) -> dict[str, str]:
    """KEY=VALUE options (`-M`, `--set`) as a mapping; the last of a key wins.

    Args:
        values: As given.
        flag: The option, for messages.

    Raises:
        BadInput: No key, or no equals sign.
    """
    found = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise BadInput(f"{flag} {value}: expected KEY=VALUE")
        found[key] = text
    return found
