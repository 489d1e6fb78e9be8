"""`mmeval`: the command line. Each verb is a thin module; errors become one line and a fixed exit code."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ..errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, MmevalError
from . import compare as compare_verb
from . import corrupt as corrupt_verb
from . import judge as judge_verb
from . import lab as lab_verb
from . import leaderboard as leaderboard_verb
from . import report as report_verb
from . import run as run_verb
from . import score as score_verb
from . import tasks as tasks_verb
from . import tune as tune_verb

app = typer.Typer(
    name="mmeval",
    help="What did the tuning do - to the language model inside, and to what the model sees?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run_verb.run)
app.command("score")(score_verb.score)
app.command("compare")(compare_verb.compare)
app.command("report")(report_verb.report)
app.command("corrupt")(corrupt_verb.corrupt)
app.command("lab")(lab_verb.lab)
app.add_typer(tasks_verb.app, name="tasks")
app.add_typer(judge_verb.app, name="judge")
app.add_typer(leaderboard_verb.app, name="leaderboard")
app.add_typer(tune_verb.app, name="tune")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"mmeval {installed('mmalign-eval')}")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code (0, 1, 2, 3, 4 or 130: see `errors.py`)."""
    previous = _terminate_like_interrupt()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name or an answer may have what the terminal's encoding has not
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(argv)
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    if code == EXIT_INTERRUPTED:
        print("mmeval: interrupted; what was done is kept - run the same command again to go on", file=sys.stderr)
    return code


def _dispatch(argv: Sequence[str] | None) -> int:
    try:
        code: Any = app(args=list(argv) if argv is not None else None, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a reader that went away can still be told from a failure
        return code if isinstance(code, int) else 0
    except MmevalError as error:
        print(f"mmeval: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except typer.Exit as done:
        return int(done.exit_code)
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or error.filename is not None:
            raise
        _reader_gone()
        print(f"mmeval: cannot write the output: {error.strerror}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except SystemExit as done:
        if isinstance(done.__context__, BrokenPipeError):  # typer makes an exit code of it
            return _reader_gone()
        raise
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # typer's usage errors
            error.show()
            return EXIT_BAD_INPUT
        raise


def _reader_gone() -> int:
    """The reader of our output went away (`| head`): not an error, and nothing more is written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return EXIT_OK


def _terminate_like_interrupt() -> Any:
    """A scheduler's SIGTERM ends a run like Ctrl-C: batches in flight are dropped, the rest is kept."""
    try:
        return signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not the main thread: the caller owns signals
        return None


def entry() -> None:
    """Entry point of the `mmeval` script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
