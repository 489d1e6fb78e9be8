"""The result files: the numbers, what they were made of, and the samples, for each model and task.

`<out>/<model>/<task>.json` (`<task>@<protocol>` for protocols other than the default) with metrics and their formulas;
`<task>.sums.npz` beside it with the sums that the formulas are of; `<task>.samples.jsonl` with every sample. Tables,
comparisons and reports read nothing else; `provenance` holds what may differ between two equal runs (time, machine,
versions).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import BadInput, Damaged, MmevalError
from .files import write_whole
from .result_shape import damage, row_damage
from .stats import Estimate, Sums
from .sums_file import sums_from, sums_to

SCHEMA = 2
AGAIN = "run the same command again to rewrite it"  # the cure of a damaged result
FOLDER_BYTES = 180  # of a model's folder: file systems take 255, and a fingerprint may be appended
_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
Result = dict[str, Any]


def result_stem(task: str, protocol: str, default_protocol: str, judge: str = "") -> str:
    """File name without suffix: `corrupt-NAME-fog-3` for `corrupt(NAME,fog,3)`; odd characters are replaced.

    Args:
        task: Name of the task.
        protocol: Its protocol.
        default_protocol: The protocol that goes without saying.
        judge: Who judged, if it was not the task's own stand-in: results by two judges lie side by side.
    """
    name = task.replace(")", "")  # what it was made of stands in front, so names stay different without it
    stem = name if protocol == default_protocol else f"{name}@{protocol}"
    stem += f"+{judge}" if judge else ""
    return "".join(c if c.isalnum() or c in "._-@+" else "-" for c in stem)


def model_folder(name: str) -> str:
    """Folder name of a model: odd characters are replaced; never hidden, never above, never too long to be made."""
    folder = "".join(c if c.isalnum() or c in "._-+" else "-" for c in name).lstrip(".") or "model"
    if len(folder.encode("utf-8", "replace")) <= FOLDER_BYTES:
        return folder
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return folder.encode("utf-8", "replace")[: FOLDER_BYTES - 9].decode("utf-8", "ignore") + f"-{digest}"


@dataclass(frozen=True, eq=False)
class Summary:
    """What scored records add up to: the metrics, and the sums that they were made of."""

    estimates: list[Estimate]
    sums: Sums

    def as_json(self) -> dict[str, dict[str, Any]]:
        """The metrics by name, as result files have them; `group` and `formula` say what of the sums they are."""
        return {
            e.name: {
                **{k: v for k, v in asdict(e).items() if k != "name"},
                "group": (made := self.sums.metrics[e.name]).group,
                "formula": str(made.formula) if made.formula is not None else None,
                "proportion": made.proportion,
            }
            for e in self.estimates
        }


def headline(result: Result) -> list[str]:
    """Names of the metrics that tables show: of the task's headline those that are there, else all."""
    metrics = result["metrics"]
    return [name for name in result["task"]["headline"] if name in metrics] or list(metrics)


def signature(result: Result) -> str:
    """One line that two comparable scores share: task version, protocol, judge, decoding, template, data and n."""
    task, data = result["task"], result["data"]
    parts = {
        "task": f"{task['name']}.v{task['version']}",
        "protocol": task["protocol"],
        "shots": task["shots"],
        "judge": _judge(result),
        "decoding": _short(result["params"]),
        "prompts": result["prompt_hash"][:8],
        "template": str(result["model"]["identity"].get("template", "none"))[:8],
        "data": data["hash"][:12],
        "n": result["counts"]["n"],
        **{key: value for key, value in task.get("extra", {}).items() if isinstance(value, str | int)},
    }
    return "|".join(f"{key}:{value}" for key, value in parts.items())


def write_result(folder: Path, stem: str, result: Result, samples: Iterable[dict[str, Any]], sums: Sums) -> Path:
    """Writes the three files, the result last; each appears whole or not at all.

    Raises:
        MmevalError: The disk is full or the folder cannot be written.
    """
    path = folder / f"{stem}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(f".{stem}.*"):  # left by a run that was killed while writing
            stale.unlink()
        digest = write_whole(folder / f"{stem}.samples.jsonl", _lines(samples))
        made = write_whole(folder / f"{stem}.sums.npz", [sums_to(sums)])
        result = {
            **result,
            "samples": {"file": f"{stem}.samples.jsonl", "sha256": digest},
            "sums": {"file": f"{stem}.sums.npz", "sha256": made},
        }
        text = json.dumps(_finite(result), indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(path, [text.encode("utf-8", "surrogatepass"), b"\n"])
    except OSError as error:
        raise MmevalError(
            f"cannot write {path}: {error.strerror or error}; answers are kept in the store, run the same command again"
        ) from error
    return path


def read_result(path: str | os.PathLike[str]) -> Result:
    """Reads and checks a result file.

    Raises:
        BadInput: No such file, or not a result file.
        Damaged: Truncated, parts missing or of another type, or of a schema this version does not know.
    """
    file = Path(path)
    if not file.is_file():
        raise BadInput(f"{file}: no such result file")
    try:
        result = json.loads(file.read_text(encoding="utf-8", errors="surrogatepass"))
    except OSError as error:
        raise Damaged(f"{file}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{file}: damaged result file ({error}); {AGAIN}") from error
    if not isinstance(result, dict) or result.get("kind") != "mmeval-result":
        raise BadInput(f"{file}: not a result file of mmeval")
    if result.get("schema") != SCHEMA:
        older = isinstance(result.get("schema"), int) and result["schema"] < SCHEMA
        cure = "run the same command again, its answers are kept in the store" if older else "use a newer mmeval"
        raise Damaged(f"{file}: result schema {result.get('schema')}, this version reads {SCHEMA}: {cure}")
    if cause := damage(result):
        raise Damaged(f"{file}: damaged result file ({cause}); {AGAIN}")
    return result


def read_samples(path: str | os.PathLike[str], result: Result) -> Iterator[dict[str, Any]]:
    """The samples beside a result file, checked against its hash.

    Raises:
        Damaged: Missing, not the file that the result was written with, or a line that is no sample.
    """
    data = _beside(Path(path), result["samples"])
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line:
            yield _sample(line, f"{Path(path).parent / result['samples']['file']}:{number}")


def read_sums(path: str | os.PathLike[str], result: Result, only: Collection[str] | None = None) -> Sums:
    """The sums beside a result file, checked against its hash.

    Args:
        path: The result file.
        result: Its content.
        only: Metrics wanted; those of others are not unpacked. None: all.

    Raises:
        Damaged: Missing, not the file that the result was written with, or a formula that is none.
    """
    return sums_from(_beside(Path(path), result["sums"]), result["metrics"], str(path), only)


def check_sums(path: str | os.PathLike[str], result: Result) -> None:
    """Whether the file of sums is there and whole, without reading what is in it.

    Raises:
        Damaged: Missing, or not the file that the result was written with.
    """
    _beside(Path(path), result["sums"])


def _sample(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{where}: no sample ({error}); {AGAIN}") from error
    if cause := row_damage(row):
        raise Damaged(f"{where}: no sample ({cause}); {AGAIN}")
    found: dict[str, Any] = row
    return found


def _beside(path: Path, part: dict[str, str]) -> bytes:
    file = path.parent / part["file"]
    if not file.is_file():
        raise Damaged(f"{file}: missing; {AGAIN}")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Damaged(f"{file}: cannot be read ({error.strerror or error})") from error
    if hashlib.sha256(data).hexdigest() != part["sha256"]:
        raise Damaged(f"{file}: changed or truncated since {path.name} was written; {AGAIN}")
    return data


def find_results(root: str | os.PathLike[str]) -> list[Path]:
    """Result files at or below a folder, sorted."""
    path = Path(root)
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*.json") if not p.name.startswith("."))


def digest_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """SHA-256 of a value's canonical JSON; `default` stands in for what JSON does not know."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=default)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def digest_json_list(values: Iterable[Any], default: Callable[[Any], Any] | None = None) -> str:
    """`digest_json` of a list that is never held as a whole."""
    encoder = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=default)
    digest, between = hashlib.sha256(b"["), ""
    for value in values:
        digest.update((between + encoder.encode(value)).encode("utf-8", "replace"))
        between = ", "
    digest.update(b"]")
    return digest.hexdigest()


def _judge(result: Result) -> str:
    runs = result.get("judge", {}).get("runs", 1)
    return (result["task"].get("judge") or "none") + (f" x{runs}" if runs > 1 else "")


def _short(value: Any) -> str:
    return digest_json(value)[:8]


def _lines(samples: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    for sample in samples:
        try:
            text = _STRICT.encode(sample)
        except ValueError:
            text = _STRICT.encode(_finite(sample))
        yield text.encode("utf-8", "surrogatepass") + b"\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity: None stands for undefined."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
