"""Corrupted images on disk: lossless, bounded, the least recently used go first.

One file an image: a PPM, which is its pixels and a line before them, and so takes no longer to write than to copy (PNG
would take longer than most corruptions). A comment in it holds a checksum, so a damaged file is made again. Files are
written aside and renamed: a kill at any moment leaves whole files only, and processes can share a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
LOWEST = 10**6  # bytes; less would hold no photograph
KEPT = 0.9  # of the limit is left when something has to go
LOOKS = 64  # the folder is looked through whenever this part of the limit was written: others write there too
STALE = 3600  # seconds after which a file being written belongs to a process that is gone
MADE_BY = ("imagecorruptions", "numpy", "opencv-python", "pillow", "scikit-image", "scipy")
HEADER = re.compile(rb"P6\n#([0-9a-f]{8})\n(\d{1,6}) (\d{1,6})\n255\n")


@cache
def _versions() -> str:
    """What some corruptions' bytes depend on: another version's images are not taken for this one's."""
    return "|".join(
        f"{one.name} {one.version}"
        for one in sorted(distributions(), key=lambda one: one.name or "")
        if one.name and one.name.lower().startswith(MADE_BY)
    )


def _tell(message: str) -> None:
    print(f"mmeval: {message}", file=sys.stderr, flush=True)


class CorruptCache:
    """Images by key (`images.ImageCache`).

    Attributes:
        heads: Names of the transforms whose results are kept.
        tell: Hears, once, that images can no longer be kept.
    """

    heads = frozenset({"corrupt"})

    def __init__(self, folder: str | os.PathLike[str], limit: int, tell: Callable[[str], None] = _tell) -> None:
        """A cache.

        Args:
            folder: Made if it is not there; several processes may share it.
            limit: Bytes that its files may take, at least a megabyte.
            tell: Hears, once, that images can no longer be kept.

        Raises:
            BadInput: The limit is too low, or the folder cannot be made.
        """
        if limit < LOWEST:
            raise BadInput(f"--corrupt-cache: {limit} bytes hold no image; give at least 1MB")
        self.folder, self.limit, self.tell = Path(folder), limit, tell
        self._lock = threading.Lock()
        self._writes = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--corrupt-cache: cannot make {self.folder}: {error.strerror or error}") from error
        self._unseen = 0  # bytes written since the folder was looked through
        self._room = limit - self._make_room(0)

    def __reduce__(self) -> tuple[type[CorruptCache], tuple[Path, int]]:
        return CorruptCache, (self.folder, self.limit)  # another process's view of the same folder

    def get(self, key: str) -> Image | None:
        """The image of a key, or None if it is not there or damaged (the file is then deleted)."""
        from PIL import Image

        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        match = HEADER.match(data)
        pixels = memoryview(data)[match.end() :] if match else memoryview(b"")
        if match is None or len(pixels) != 3 * int(match[2]) * int(match[3]) or zlib.crc32(pixels) != int(match[1], 16):
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):  # evicted meanwhile, or not ours to touch: the image is whole all the same
            os.utime(path)  # used now: others go first
        return Image.frombytes("RGB", (int(match[2]), int(match[3])), bytes(pixels))

    def put(self, key: str, image: Image) -> None:
        """Keeps an RGB image; what was used longest ago makes room for it. Never raises: an image can be made again."""
        pixels = image.tobytes()
        head = f"P6\n#{zlib.crc32(pixels):08x}\n{image.width} {image.height}\n255\n".encode()
        size = len(head) + len(pixels)
        if not self._writes or size > self.limit * (1 - KEPT):
            return
        try:
            with self._lock:
                self._reserve(size)
            self._write(self._path(key), head, pixels)
        except OSError as error:
            with self._lock:
                if self._writes:
                    self.tell(f"corrupted images are no longer kept in {self.folder}: {error.strerror or error}")
                self._writes = False

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(f"{_versions()}|{key}".encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.ppm"

    def _write(self, path: Path, head: bytes, pixels: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(head)
                file.write(pixels)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _reserve(self, size: int) -> None:
        """Counts bytes about to be written, and makes room for them if the limit asks for it."""
        self._unseen += size
        if size > self._room or self._unseen > self.limit / LOOKS:
            self._room, self._unseen = self.limit - self._make_room(size), 0
        self._room -= size

    def _make_room(self, size: int) -> int:
        """Looks through the folder and deletes until `size` more bytes fit; returns the bytes that are left."""
        files = []
        for entry in self._entries():
            try:
                found = entry.stat()
            except FileNotFoundError:
                continue  # another process deleted it
            if entry.name.startswith(".") and time.time() - found.st_mtime > STALE:
                Path(entry.path).unlink(missing_ok=True)
            else:
                files.append((found.st_mtime_ns, entry.path, found.st_size))
        total = sum(bytes_ for *_, bytes_ in files)
        if total + size <= self.limit:
            return total
        for _, path, bytes_ in sorted(files):
            if total + size <= self.limit * KEPT:
                break
            Path(path).unlink(missing_ok=True)
            total -= bytes_
        return total

    def _entries(self) -> list[os.DirEntry[str]]:
        """All files of the cache: nothing else in the folder is touched."""
        found: list[os.DirEntry[str]] = []
        for place in self.folder.glob("[0-9a-f][0-9a-f]"):
            with os.scandir(place) as entries:
                found += [entry for entry in entries if entry.name.endswith(".ppm") or entry.name.startswith(".")]
        return found


def bytes_of(text: str) -> int:
    """`5GB`, `500MB`, `1.5 GB` in bytes (decimal units).

    Raises:
        BadInput: Not a size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if not match:
        raise BadInput(f"--corrupt-cache {text}: expected a size such as 5GB or 500MB")
    return int(float(match[1]) * UNITS[match[2]])
