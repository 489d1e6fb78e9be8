"""A resumable list of steps: each a command of its own process, done once it has ended well, never done twice.

What a step was is kept in `<folder>/steps/<name>.json`, what it printed in `<folder>/logs/<name>.txt`. A step that was
killed is given again: trainings go on from their checkpoints, scoring from its store, data are written aside and
renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput
from ..files import write_whole

PACKAGE = "mmalign_eval"  # the module of `mmeval` commands
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: Unique; slashes make folders.
        command: Arguments of `python -m`, the module first; it is run in the laboratory's folder.
        needs: Names of steps that come before.
        minutes: About how long it takes alone on one core; decides the order, and the time that is said to be left.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    minutes: float = 1.0

    @property
    def digest(self) -> str:
        """What the step does, as a hash."""
        return hashlib.sha256(json.dumps(self.command).encode()).hexdigest()


class Ledger:
    """Which steps are done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def done(self, step: Step) -> bool:
        """Whether it is.

        Raises:
            BadInput: It was done with another command: the folder is of other settings.
        """
        file = self._file(step)
        if not file.is_file():
            return False
        if json.loads(file.read_text(encoding="utf-8"))["digest"] != step.digest:
            raise BadInput(
                f"{self.folder}: step {step.name} was made with other settings; give another --out, or remove "
                f"{file} and what the step made"
            )
        return True

    def seconds(self, step: Step) -> float:
        """How long a done step took."""
        return float(json.loads(self._file(step).read_text(encoding="utf-8"))["seconds"])

    def put(self, step: Step, seconds: float) -> None:
        """Notes that a step is done."""
        file = self._file(step)
        file.parent.mkdir(parents=True, exist_ok=True)
        row = {"digest": step.digest, "command": step.command, "seconds": round(seconds, 1)}
        write_whole(file, [json.dumps(row, indent=1).encode()])

    def log(self, step: Step) -> Path:
        """Where its output goes."""
        return self.folder / "logs" / f"{step.name}.txt"

    def _file(self, step: Step) -> Path:
        return self.folder / "steps" / f"{step.name}.json"


def check(steps: Sequence[Step]) -> None:
    """Refuses a list that cannot be done.

    Raises:
        ValueError: A name twice, a need that is no step, or a circle.
    """
    names = [step.name for step in steps]
    if len(set(names)) < len(names):
        raise ValueError(f"steps named twice: {sorted({name for name in names if names.count(name) > 1})}")
    for step in steps:
        if missing := set(step.needs) - set(names):
            raise ValueError(f"step {step.name} needs {sorted(missing)}, which are no steps")
    path_minutes(steps)


def path_minutes(steps: Sequence[Step]) -> dict[str, float]:
    """Minutes from the beginning of each step to the end of the longest chain that waits for it.

    Raises:
        ValueError: A circle.
    """
    after: dict[str, list[Step]] = {step.name: [] for step in steps}
    for step in steps:
        for need in step.needs:
            after[need].append(step)
    found: dict[str, float] = {}
    on_the_way: set[str] = set()

    def visit(step: Step) -> float:
        if step.name in on_the_way:
            raise ValueError(f"step {step.name} waits for itself")
        if step.name not in found:
            on_the_way.add(step.name)
            found[step.name] = step.minutes + max((visit(other) for other in after[step.name]), default=0.0)
            on_the_way.discard(step.name)
        return found[step.name]

    for step in steps:
        visit(step)
    return found


def wanted(steps: Sequence[Step], ends: Sequence[str]) -> list[Step]:
    """The steps that some of them need, in order, these included."""
    by_name = {step.name: step for step in steps}
    kept: set[str] = set()
    left = list(ends)
    while left:
        name = left.pop()
        if name not in kept:
            kept.add(name)
            left += by_name[name].needs
    return [step for step in steps if step.name in kept]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Holds the folder; a step that outlives a killed laboratory holds it on, so that nothing is done twice at once.

    Raises:
        BadInput: Another laboratory, or a step of one, is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"{folder}: a laboratory is at work there; wait, or give another --out") from error
        yield stream.fileno()


def run_inside(folder: Path, steps: Sequence[Step], tell: Tell) -> list[str]:
    """As `run`, one step after the other in this process: seconds of imports are paid once. For smoke tests.

    Raises:
        BadInput: The folder is held, or was made with other settings.
    """
    check(steps)
    ledger = Ledger(folder)
    with locked(folder):
        for number, step in enumerate(steps, start=1):
            if ledger.done(step):
                continue
            began, log = time.monotonic(), ledger.log(step)
            log.parent.mkdir(parents=True, exist_ok=True)
            with (
                log.open("a", encoding="utf-8") as stream,
                contextlib.chdir(folder),
                contextlib.redirect_stdout(stream),
                contextlib.redirect_stderr(stream),
            ):
                code = _call(step.command)
            if code:
                return [f"{step.name}: exit code {code}: {_last_line(log)} (log: {log})"]
            ledger.put(step, time.monotonic() - began)
            tell(f"[{number}/{len(steps)}] {step.name}  {time.monotonic() - began:.1f} s")
    return []


def _call(command: Sequence[str]) -> int:
    """What `python -m` would do with the command, in this process."""
    module, *arguments = command
    before, sys.argv = sys.argv, [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(bool(done.code))
    finally:
        sys.argv = before
    return 0


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def run(folder: Path, steps: Sequence[Step], processes: int, tell: Tell) -> list[str]:
    """Does what is not done yet, the longest chains first.

    Args:
        folder: The laboratory's.
        steps: All of them, those done too.
        processes: At once, each with one thread.
        tell: Called with each line about how it goes.

    Returns:
        A line for each step that failed; steps that wait for it are left out, all others are done.

    Raises:
        BadInput: The folder is held, or was made with other settings.
        KeyboardInterrupt: Interrupted; running steps were ended as well.
    """
    check(steps)
    with locked(folder) as lock:
        return _Work(folder, steps, processes, tell, lock).run()


class _Work:
    def __init__(self, folder: Path, steps: Sequence[Step], processes: int, tell: Tell, lock: int) -> None:
        self.ledger, self.processes, self.tell, self.lock = Ledger(folder), processes, tell, lock
        self.rank = path_minutes(steps)
        self.all = len(steps)
        self.left = {step.name: step for step in steps if not self.ledger.done(step)}
        self.running: dict[str, tuple[Step, subprocess.Popen[bytes], float]] = {}
        self.failed: dict[str, str] = {}
        self.spent = self.planned = 0.0  # minutes of what this run finished, really and as planned

    def run(self) -> list[str]:
        if len(self.left) < self.all:
            self.tell(f"{self.all - len(self.left)} of {self.all} steps are done")
        try:
            while self.left or self.running:
                self._start()
                if not self.running:
                    break  # what is left waits for what failed
                self._wait()
        except KeyboardInterrupt:
            self._end()
            raise
        waiting = [f"{name}: not done, it waits for what failed" for name in self.left]
        return [*self.failed.values(), *waiting]

    def _start(self) -> None:
        ready = [s for s in self.left.values() if not any(n in self.left or n in self.running for n in s.needs)]
        ready = [step for step in ready if not any(need in self.failed for need in step.needs)]
        for step in sorted(ready, key=lambda step: -self.rank[step.name])[: self.processes - len(self.running)]:
            del self.left[step.name]
            log = self.ledger.log(step)
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as stream:
                process = subprocess.Popen(
                    [sys.executable, "-m", *step.command], cwd=self.ledger.folder, stdin=subprocess.DEVNULL,
                    stdout=stream, stderr=stream, env={**os.environ, **dict.fromkeys(THREADS, "1")},
                    pass_fds=(self.lock,), start_new_session=True,
                )  # fmt: skip
            self.running[step.name] = (step, process, time.monotonic())

    def _wait(self) -> None:
        while True:
            for name, (step, process, began) in list(self.running.items()):
                if (code := process.poll()) is not None:
                    del self.running[name]
                    self._ended(step, code, time.monotonic() - began)
                    return
            time.sleep(0.05)

    def _ended(self, step: Step, code: int, seconds: float) -> None:
        if code:
            log = self.ledger.log(step)
            self.failed[step.name] = f"{step.name}: exit code {code}: {_last_line(log)} (log: {log})"
            self.tell(f"failed  {self.failed[step.name]}")
            return
        self.ledger.put(step, seconds)
        self.spent, self.planned = self.spent + seconds / 60, self.planned + step.minutes
        finished = self.all - len(self.left) - len(self.running) - len(self.failed)
        self.tell(f"[{finished}/{self.all}] {step.name}  {seconds / 60:.1f} min{self._eta()}")

    def _eta(self) -> str:
        steps = [*self.left.values(), *(step for step, _, _ in self.running.values())]
        if not steps:
            return ""
        pace = self.spent / self.planned if self.planned else 1.0
        chain = max(self.rank[step.name] for step in steps)
        minutes = pace * max(chain, sum(step.minutes for step in steps) / self.processes)
        return f"  about {max(1, round(minutes))} min left"

    def _end(self) -> None:
        for _, process, _ in self.running.values():
            os.killpg(process.pid, signal.SIGINT)
        for _, process, _ in self.running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
