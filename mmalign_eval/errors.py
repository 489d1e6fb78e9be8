"""Errors that end a command with one clear line and a fixed exit code.

Exit codes: 0 ok, 1 checked and found wanting (worse, stale, damaged), 2 bad input, 3 undecided,
4 finished with too many sample errors, 130 interrupted (resumable).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK, EXIT_WANTING, EXIT_BAD_INPUT, EXIT_UNDECIDED, EXIT_TOO_MANY_ERRORS, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130


class MmevalError(Exception):
    """Base of all errors a user is meant to read; its text is one line with the cause and the cure."""

    exit_code = EXIT_BAD_INPUT


class BadInput(MmevalError):
    """Something the user gave is wrong: an unknown name, a wrong layout, an option that does not apply."""


class Damaged(MmevalError):
    """A file was checked and found damaged."""

    exit_code = EXIT_WANTING


class ImageError(MmevalError):
    """An image that cannot be read: missing, truncated, or not an image."""


class Refused(MmevalError):
    """An adapter cannot honour a request as it stands (a parameter, a modality); nothing is silently dropped."""


class OutOfMemory(Exception):
    """A batch did not fit in memory; the engine halves it and goes on."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `" - did you mean X?"` for the closest known name, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" - did you mean {close[0]!r}?" if close else ""
