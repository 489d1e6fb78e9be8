"""SIGKILL at twenty seeded moments: a rerun asks again only what was in flight and writes the same files."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from mmalign_eval.store import Store

from .toy import make_toy

SAMPLES, BATCH, DELAY = 480, 4, 0.004

KILL_IN_COMMIT = """
import os, signal, mmalign_eval.store as store
def put_many(self, answers, original=store.Store.put_many):
    self._db.execute("BEGIN IMMEDIATE")
    rows = [(key, response.to_json()) for key, response in answers if response.answered]
    self._db.executemany("INSERT OR IGNORE INTO answers (key, response) VALUES (?, ?)", rows)
    os.kill(os.getpid(), signal.SIGKILL)
store.Store.put_many = put_many
"""
KILL_IN_RESULT = """
import os, signal, mmalign_eval.results as results
def lines(samples, original=results._lines):
    for count, chunk in enumerate(original(samples)):
        yield chunk
        if count == 101:
            os.kill(os.getpid(), signal.SIGKILL)
results._lines = lines
"""
KILL_BEFORE_RENAME = """
import os, signal
def replace(a, b, original=os.replace):
    if str(b).endswith("toy.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    original(a, b)
os.replace = replace
"""


def command(tmp_path: Path, out: Path, patch: str = "") -> list[str]:
    plugin, data = tmp_path / "toy_task.py", tmp_path / "toy"
    arguments = [
        "run", "--model", f"scripted:{tmp_path / 'script.yaml'}", "--tasks", "toy", "--include", str(plugin),
        "--data", str(data), "--out", str(out), "-M", f"batch_rows={BATCH}", "-M", f"delay={DELAY}",
        "-M", f"log={out}.calls",
    ]  # fmt: skip
    code = f"import sys\n{patch}\nfrom mmalign_eval.cli.main import main\nsys.exit(main({arguments!r}))"
    return [sys.executable, "-c", code]


def calls(out: Path) -> list[str]:
    log = Path(f"{out}.calls")
    return log.read_text().split("\n")[:-1] if log.exists() else []


def answered(out: Path) -> int:
    if not (out / "store.sqlite").exists():
        return 0
    store = Store(out / "store.sqlite")
    try:
        return len(store)
    finally:
        store.close()


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def content(out: Path) -> tuple[dict[str, object], bytes]:
    result = json.loads((out / "script" / "toy.json").read_text())
    del result["provenance"]
    return result, (out / "script" / "toy.samples.jsonl").read_bytes()


def test_twenty_kills_cost_at_most_the_batch_in_flight_each(tmp_path: Path) -> None:
    make_toy(tmp_path, samples=SAMPLES)
    (tmp_path / "script.yaml").write_text("- {match: '[02468] even', text: 'yes'}\n- {text: 'no'}\n")
    whole = tmp_path / "whole"
    assert subprocess.run(command(tmp_path, whole), check=False, capture_output=True).returncode == 0
    assert len(calls(whole)) == SAMPLES

    out, rng = tmp_path / "killed", random.Random(20)
    for kill in range(20):
        before_calls, before_kept = len(calls(out)), answered(out)
        if kill == 7:
            run = start(command(tmp_path, out, KILL_IN_COMMIT))
        elif kill == 18:
            run = start(command(tmp_path, out, KILL_IN_RESULT))
        elif kill == 19:
            run = start(command(tmp_path, out, KILL_BEFORE_RENAME))
        else:
            run = start(command(tmp_path, out))
            _wait_for_calls(out, run, before_calls + rng.randrange(0, 14))
            time.sleep(rng.random() * DELAY * BATCH)
            os.kill(run.pid, signal.SIGKILL)
        assert run.wait(timeout=60) == -signal.SIGKILL, f"kill {kill} came too late"
        lost = (len(calls(out)) - before_calls) - (answered(out) - before_kept)
        assert 0 <= lost <= BATCH, f"kill {kill} lost {lost} answers"
    assert not (out / "script" / "toy.json").exists()

    asked = len(calls(out))
    left = SAMPLES - answered(out)
    assert subprocess.run(command(tmp_path, out), check=False, capture_output=True).returncode == 0
    assert len(calls(out)) - asked == left
    assert len(set(calls(out))) == SAMPLES
    assert content(out) == content(whole)
    assert [p.name for p in (out / "script").iterdir() if p.name.startswith(".")] == []


def _wait_for_calls(out: Path, run: subprocess.Popen[bytes], count: int) -> None:
    deadline = time.monotonic() + 60
    while len(calls(out)) < count:
        assert run.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
