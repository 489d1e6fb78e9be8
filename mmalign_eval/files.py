"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, chunks: Iterable[bytes]) -> str:
    """Writes aside, then renames; what is no file (a device, a pipe) is written straight, and a link is followed.

    Args:
        path: Where to; its folder is there.
        chunks: The content.

    Returns:
        SHA-256 of the content.

    Raises:
        OSError: It cannot be written there, or the disk is full.
    """
    digest = hashlib.sha256()
    if path.exists() and not path.is_file():  # renaming would put a file in the place of /dev/null
        with path.open("wb") as stream:
            for chunk in chunks:
                digest.update(chunk)
                stream.write(chunk)
        return digest.hexdigest()
    target = path.resolve()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return digest.hexdigest()
