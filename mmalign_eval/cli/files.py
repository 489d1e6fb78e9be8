"""What verbs write for machines: whole files or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..files import write_whole

STDOUT = "-"


def write_json(place: str, value: Any) -> None:
    """Prints JSON (`-`), or writes it, whole or not at all.

    Raises:
        BadInput: It cannot be written there.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if place == STDOUT:
        print(text, end="")
        return
    try:
        # half a character, which a model may say, is as good an escape of JSON
        write_whole(Path(place), [text.encode("utf-8", "backslashreplace")])
    except OSError as error:
        raise BadInput(f"--json {place}: cannot write there ({error.strerror})") from error
