"""Steps: done once, in order, side by side; killed and gone on with; failures named, other settings refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mmalign_eval.errors import BadInput
from mmalign_eval.lab.steps import Ledger, Step, check, locked, path_minutes, run, wanted


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `lab_tool` for `python -m`: appends its name to a file, or fails, or waits."""
    place = tmp_path / "tools"
    place.mkdir()
    (place / "lab_tool.py").write_text(
        "import sys, time\n"
        "name, what = sys.argv[1:3]\n"
        "open('began', 'a').write(name + '\\n')\n"
        "if what == 'fail': print('no luck'); sys.exit(3)\n"
        "if what == 'wait': time.sleep(60)\n"
        "open('did', 'a').write(name + '\\n')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(place))
    return tmp_path / "lab"


def step(name: str, *needs: str, what: str = "do", minutes: float = 1) -> Step:
    return Step(name, ("lab_tool", name, what), needs, minutes)


def did(folder: Path, file: str = "did") -> list[str]:
    path = folder / file
    return path.read_text().split() if path.exists() else []


def nothing(line: str) -> None:
    pass


def test_each_step_is_done_once_and_after_what_it_needs(tool: Path) -> None:
    steps = [step("c", "a", "b"), step("a"), step("b", "a")]
    said: list[str] = []
    assert run(tool, steps, 2, said.append) == []
    assert did(tool) == ["a", "b", "c"]
    assert run(tool, steps, 2, said.append) == []
    assert did(tool) == ["a", "b", "c"]
    assert said[-1] == "3 of 3 steps are done"


def test_the_longest_chain_goes_first(tool: Path) -> None:
    steps = [step("short"), step("long", minutes=9)]
    run(tool, steps, 1, nothing)
    assert did(tool) == ["long", "short"]
    assert path_minutes([step("a"), step("b", "a", minutes=4)]) == {"a": 5, "b": 4}


def test_a_failure_stops_only_what_waits_for_it(tool: Path) -> None:
    steps = [step("bad", what="fail"), step("after", "bad"), step("other")]
    lines = run(tool, steps, 1, nothing)
    assert lines[0].startswith("bad: exit code 3: no luck")
    assert lines[1:] == ["after: not done, it waits for what failed"]
    assert did(tool) == ["other"]
    mended = [replace(steps[0], command=("lab_tool", "bad", "do")), *steps[1:]]
    assert run(tool, mended, 1, nothing) == []
    assert did(tool) == ["other", "bad", "after"]


def test_other_settings_are_refused(tool: Path) -> None:
    run(tool, [step("a")], 1, nothing)
    with pytest.raises(BadInput, match="step a was made with other settings"):
        run(tool, [Step("a", ("lab_tool", "a", "do", "more"))], 1, nothing)


def test_a_step_that_outlives_its_laboratory_holds_the_folder(tool: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mmalign_eval.lab.steps import Step, run\n"
        "run(Path(sys.argv[1]), [Step('w', ('lab_tool', 'w', 'wait'))], 1, print)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tool)], start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not did(tool, "began"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.wait()
        with pytest.raises(BadInput, match="at work there"), locked(tool):
            pass
    finally:
        found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
        own = [int(line.split()[0]) for line in found.splitlines() if "lab_tool w wait" in line]
        for pid in own:
            os.kill(pid, signal.SIGKILL)
    assert len(own) == 1
    deadline = time.monotonic() + 10
    while True:
        try:
            with locked(tool):
                break
        except BadInput:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert not Ledger(tool).done(Step("w", ("lab_tool", "w", "wait")))


def test_a_list_that_cannot_be_done_is_refused() -> None:
    for steps, what in (
        ([step("a"), step("a")], "named twice"),
        ([step("a", "b")], "no steps"),
        ([step("a", "b"), step("b", "a")], "waits for itself"),
    ):
        with pytest.raises(ValueError, match=what):
            check(steps)


def test_only_what_some_steps_need() -> None:
    steps = [step("a"), step("b", "a"), step("c")]
    assert [one.name for one in wanted(steps, ["b"])] == ["a", "b"]


def test_a_done_step_says_what_it_was(tool: Path) -> None:
    run(tool, [step("x/y")], 1, nothing)
    row = json.loads((tool / "steps/x/y.json").read_text())
    assert row["command"] == ["lab_tool", "x/y", "do"]
    assert (tool / "logs/x/y.txt").exists()
