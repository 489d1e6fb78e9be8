"""The generated files of a leaderboard: told from what they should be, and written where the two differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import BadInput
from ..files import write_whole
from .pages import MADE

SUFFIXES = (".md", ".svg")


def stale(root: Path, files: Mapping[str, str]) -> list[tuple[Path, str]]:
    """Files that are not as they should be, each with what is the matter with it."""
    found = []
    for name, text in sorted(files.items()):
        path = root / name
        try:
            there = path.read_bytes()
        except FileNotFoundError:
            found.append((path, "missing"))
            continue
        except OSError as error:
            raise BadInput(f"{path}: cannot read it ({error.strerror})") from error
        if there != text.encode("utf-8"):
            found.append((path, "not up to date"))
    return found + [(path, "no page any more") for path in _left(root, files)]


def write(root: Path, files: Mapping[str, str]) -> list[tuple[Path, str]]:
    """Makes them so; returns what was `new`, `updated` and `removed`.

    Raises:
        BadInput: A file of a page's name is not one of ours, and nothing is written; or a file cannot be written.
    """
    done, found = [], stale(root, files)
    for path, why in found:
        if why != "missing" and not _is_ours(path):
            raise BadInput(f"{path}: was not made by mmeval leaderboard; move it away, or choose another --root")
    for path, why in found:
        if path.name in files:
            write_file(path, files[path.name])
        else:
            try:
                path.unlink()
            except OSError as error:
                raise BadInput(f"cannot remove {path}: {error.strerror}") from error
        done.append((path, {"missing": "new", "not up to date": "updated"}.get(why, "removed")))
    return done


def write_file(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all, with the line breaks it has.

    Raises:
        BadInput: It cannot be written.
    """
    try:
        write_whole(path, [text.encode("utf-8")])
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error


def _left(root: Path, files: Mapping[str, str]) -> list[Path]:
    """Generated files of earlier pages; files without the mark are not ours to remove."""
    there = sorted(path for path in root.glob("*") if path.suffix in SUFFIXES and path.is_file())
    return [path for path in there if path.name not in files and _is_ours(path)]


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MADE)) == MADE.encode()
