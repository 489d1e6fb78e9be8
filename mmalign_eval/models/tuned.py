"""What tuning leaves beside the checkpoint or PEFT adapter it made: its base, and which images it was trained on.

The file `mmeval.json` holds a JSON object; read here are its keys `tuned` and `training`, either of which may be
missing:

    {"tuned": {"method": "mm-ft", "recipe": "llava-stage-2", "seed": 0,
               "base": {"name": "vicuna-7b", "weights": "<SHA-256 as in the base's own results>", "peft": ""}},
     "training": {"coco_ids": [391895, ...], "images": ["<SHA-256 of the image file>", ...], ...}, ...}

`base.weights` and `base.peft` are what the base's results have under the same names in `model.identity`: tables find
it by them. `coco_ids` are the numbers in COCO file names, whatever the split; `images` are hashes of the encoded
files, as far as they were at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .checkpoint import read_json

TUNING_FILE = "mmeval.json"
KEYS = ("coco_ids", "images")


def read_tuned(*folders: str | Path) -> dict[str, Any] | None:
    """How the model of these folders was made: the `tuned` of the last one that has it; None if none has.

    Raises:
        BadInput: A record that is not in the format.
    """
    found = None
    for file, record in _records(*folders):
        if "tuned" in record:
            found = record["tuned"]
            base = found.get("base") if isinstance(found, dict) else None
            if not isinstance(base, dict) or not all(isinstance(base.get(key), str) for key in ("name", "weights")):
                raise BadInput(f"{file}: expected `tuned` with its `base`, that with `name` and `weights`")
    return found


def read_training(*folders: str | Path) -> dict[str, Any] | None:
    """What the tunings recorded in these folders were trained on, together; None if none is recorded.

    Raises:
        BadInput: A record that is not in the format.
    """
    found: dict[str, set[Any]] = {}
    for file, record in _records(*folders):
        training = record.get("training", {})
        if not isinstance(training, dict) or not all(isinstance(training.get(key, []), list) for key in KEYS):
            raise BadInput(f"{file}: expected an object with `training`, its {' and '.join(KEYS)} lists")
        for key in KEYS if "training" in record else ():
            found.setdefault(key, set()).update(training.get(key, []))
    return {key: sorted(values) for key, values in found.items()} if found else None


def _records(*folders: str | Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in (Path(folder) / TUNING_FILE for folder in folders if folder):
        if file.is_file():
            record = read_json(file)
            if not isinstance(record, dict):
                raise BadInput(f"{file}: expected an object with `tuned` and `training`")
            yield file, record
