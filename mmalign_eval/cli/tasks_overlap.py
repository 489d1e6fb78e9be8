"""`mmeval tasks overlap`: which of a task's images a tuning file holds, as lines of text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..data.source import DataChoice
from ..errors import BadInput
from ..overlap import overlap, read_training_file
from ..plan import base_name, open_task
from .files import STDOUT, write_json


def compare(name: str, training: str, images: str, data: DataChoice, json_to: str) -> Iterator[str]:
    """What `mmeval tasks overlap` prints; writes `--json`.

    Raises:
        BadInput: A task without images, files missing or in another layout.
    """
    task = open_task(name)
    if task.modality != "image":
        raise BadInput(f"task {name} shows no images: there is nothing to compare")
    source = data.source(base_name(name), images=False)
    found = read_training_file(Path(training), Path(images) if images else None)
    result = overlap(list(task.data.samples(source)), found.record())
    record = found.record()
    ids, files = len(record["coco_ids"]), len(record["images"])
    if json_to:
        told = {"rows": found.rows, "rows_without_image": found.bare, "images": len(found.images)}
        training_json = {**told, "coco_ids": ids, "hashed": files}
        write_json(json_to, {"task": name, "training": training_json, "overlap": result.as_json()})
    if json_to != STDOUT:
        yield f"training  {len(found.images)} images in {Path(training).name}: {ids} COCO ids, {files} files at hand"
        yield f"task      {name}: {result.images} images, {result.samples} samples, {result.hashed} files compared"
        yield (
            f"shared    {result.shared} images ({result.shared_samples} samples): {result.by_coco_id} by COCO id, "
            f"{result.by_hash} by file"
        )
        for match in result.first:
            yield f"          {match['image']}  {match['sample']}  by {match['by']}"
        if result.shared > len(result.first):
            yield f"          and {result.shared - len(result.first)} more"
