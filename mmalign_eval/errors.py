"""Errors that end a command with one clear line and a fixed exit code.

Exit codes: 0 ok, 1 checked and found wanting (worse, stale, damaged), 2 bad input, 3 undecided,
4 finished with too many sample errors, 130 interrupted (resumable).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from types import TracebackType

EXIT_OK, EXIT_WANTING, EXIT_BAD_INPUT, EXIT_UNDECIDED, EXIT_TOO_MANY_ERRORS, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130


class MmevalError(Exception):
    """Base of all errors a user is meant to read; its text is one line with the cause and the cure."""

    exit_code = EXIT_BAD_INPUT


class BadInput(MmevalError):
    """Something the user gave is wrong: an unknown name, a wrong layout, an option that does not apply."""


class PluginError(BadInput):
    """A task's own code failed; the text names the cause and the plugin's line."""


class Damaged(MmevalError):
    """A file was checked and found damaged."""

    exit_code = EXIT_WANTING


class ImageError(MmevalError):
    """An image that cannot be read: missing, truncated, or not an image."""


class Refused(MmevalError):
    """An adapter cannot honour a request as it stands (a parameter, a modality); nothing is silently dropped."""


class OutOfMemory(Exception):
    """A batch did not fit in memory; the engine halves it and goes on."""


def located(error: BaseException, file: str = "") -> str:
    """`Type: message (file:line)` on one line, for errors that a plugin raised.

    Args:
        error: With its traceback.
        file: The plugin's file: its own innermost line is named rather than one of a library it called.
    """
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({error.filename}:{error.lineno})"
    frames = [(t.tb_frame.f_code.co_filename, t.tb_lineno) for t in _traces(error)]
    frames = [(name, line) for name, line in frames if "importlib" not in name]
    own = [frame for frame in frames if file and frame[0] == file]
    return text + "".join(f" ({name}:{line})" for name, line in (own or frames)[-1:])


def _traces(error: BaseException) -> Iterator[TracebackType]:
    trace = error.__traceback__
    while trace:
        yield trace
        trace = trace.tb_next


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `" - did you mean X?"` for the closest known name, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" - did you mean {close[0]!r}?" if close else ""
