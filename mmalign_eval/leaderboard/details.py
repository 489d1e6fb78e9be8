"""The details page: of each measured cell everything that a comparable number has to share with it."""

from __future__ import annotations

import re

DETAILS = "details"  # name of the page


def anchor(result: str) -> str:
    """Name of a result's section on the details page, for `details.md#...`: the same as long as the file's name is.

    Args:
        result: `Cell.result`: the result file below `results/`, without suffix.
    """
    return re.sub(r"[^\w.@+:-]", "-", result.replace("/", ":"))
