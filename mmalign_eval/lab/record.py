"""What was fixed before the judged scenes were looked at: arms, seeds of the scenes, and the commit they are of."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..errors import BadInput
from ..files import write_whole
from . import arms

FILE = "registered.json"
FACTS, LOGS = "laboratory.json", "training"  # beside the results, as `mmeval leaderboard add --as lab` takes them
PROBE = "probabilities.svg"  # of `mmeval tune probe`


def register(folder: Path) -> dict[str, str]:
    """Notes the commit at which the arms stand, once, before the first judged run in a folder.

    Returns:
        `arms`: SHA-256 of all that is fixed (`arms.fixed`); `commit`: of the last change to it (empty outside a
        checkout); `date`.

    Raises:
        BadInput: The folder was registered with other arms, or the arms have changes that are not committed.
    """
    file = folder / FILE
    digest = arms.digest()
    if file.is_file():
        found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        if found["arms"] != digest:
            raise BadInput(
                f"{folder}: its judged scenes were registered with other arms (commit {found['commit'] or 'unknown'}): "
                "settings are chosen with --choose; give another --out for the new ones, and say how many there were"
            )
        return found
    found = {"arms": digest, "commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(file, [json.dumps(found, indent=1).encode()])
    return found


def leave_facts(folder: Path, plan: arms.Plan, scale: arms.Scale, *, judged: bool) -> None:
    """Writes `results/laboratory.json` and the training logs beside it: what the page shows beside results."""
    found = json.loads(text) if (text := _read(folder / FILE)) else {}
    every: list[arms.Instruct | arms.Prefer] = [*plan.instruct, *plan.prefer]
    described = [{"name": arm.name, "about": arm.about, "seeds": len(scale.seeds) if arm.seeds else 1} for arm in every]
    facts = {**found, "judged": judged, "arms": described}
    logs = folder / "results" / LOGS
    logs.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "results" / FACTS, [json.dumps(facts, indent=1).encode() + b"\n"])
    if (probe := folder / "probe" / PROBE).is_file():
        write_whole(logs / PROBE, [probe.read_bytes()])
    for log in sorted((folder / "models").glob("*-s*/training/log.jsonl")):
        write_whole(logs / f"{log.parent.parent.name}.jsonl", [log.read_bytes()])


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def commit(fixed: Sequence[Path] = ()) -> str:
    """The last commit that changed what is fixed; empty where there is no checkout.

    Args:
        fixed: Its files; none: `arms.fixed`.

    Raises:
        BadInput: They have changes that are not committed.
    """
    files = [str(file) for file in fixed or arms.fixed()]
    place = Path(files[0]).parent
    try:
        changed = _git(place, "status", "--porcelain", "--", *files)
    except (OSError, subprocess.CalledProcessError):
        return ""
    if changed:
        raise BadInput(
            f"what is registered has changes that are not committed ({changed.split()[-1]} ...): commit them before "
            "the first judged run, or try them with --choose"
        )
    return _git(place, "log", "-1", "--format=%H", "--", *files)  # empty where a checkout holds an installed package


def _git(place: Path, *arguments: str) -> str:
    ran = subprocess.run(["git", "-C", str(place), *arguments], capture_output=True, text=True, check=True)
    return ran.stdout.strip()
