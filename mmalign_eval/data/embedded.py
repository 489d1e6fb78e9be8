"""Images that stand as base64 inside a data file: checked when the file is read, decoded when a batch needs them."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..requests import ImageRef

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8", b"BM")


def embedded_image(path: Path, line: int, column: str, text: Any) -> ImageRef:
    """A reference to the image of a line (counted from 1) of a JSON-lines file.

    Raises:
        BadInput: The text is not base64, or not that of an image; names file and line.
    """
    where = f"{path}:{line}"
    if not isinstance(text, str):
        raise BadInput(f"{where}: field {column!r}: expected an image as base64 text, found {type(text).__name__}")
    try:
        data = base64.b64decode(text.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"{where}: field {column!r} is not base64 ({error}); is the file complete?") from error
    if not data.startswith(_MAGIC):
        raise BadInput(f"{where}: field {column!r} is base64, but of no JPEG, PNG, WebP, GIF or BMP image")
    return ImageRef(str(path.resolve()), line - 1, column)
