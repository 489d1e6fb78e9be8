"""What verbs write for machines: whole files or none."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ..errors import BadInput

STDOUT = "-"


def write_json(place: str, value: Any) -> None:
    """Prints JSON (`-`), or writes it aside and renames it.

    Raises:
        BadInput: It cannot be written there.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if place == STDOUT:
        print(text, end="")
        return
    path = Path(place)
    try:
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(aside, 0o644)
            os.replace(aside, path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BadInput(f"--json {place}: cannot write there ({error.strerror})") from error
