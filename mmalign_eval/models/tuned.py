"""What tuning leaves beside the checkpoint or PEFT adapter it made: which images it was trained on.

The file `mmeval_tuning.json` holds a JSON object; read here is its key `training`:

    {"training": {"coco_ids": [391895, ...], "images": ["<SHA-256 of the image file>", ...], ...}, ...}

`coco_ids` are the numbers in COCO file names, whatever the split; `images` are hashes of the encoded files, as far as
they were at hand. Either may be missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import BadInput
from .checkpoint import read_json

TUNING_FILE = "mmeval_tuning.json"
KEYS = ("coco_ids", "images")


def read_training(*folders: str | Path) -> dict[str, Any] | None:
    """What the tunings recorded in these folders were trained on, together; None if none is recorded.

    Raises:
        BadInput: A record that is not in the format.
    """
    found: dict[str, set[Any]] = {}
    for file in (Path(folder) / TUNING_FILE for folder in folders if folder):
        if not file.is_file():
            continue
        record = read_json(file)
        training = record.get("training") if isinstance(record, dict) else None
        if not isinstance(training, dict) or not all(isinstance(training.get(key, []), list) for key in KEYS):
            raise BadInput(f"{file}: expected an object with `training`, its {' and '.join(KEYS)} lists")
        for key in KEYS:
            found.setdefault(key, set()).update(training.get(key, []))
    return {key: sorted(values) for key, values in found.items()} if found else None
