"""Rows of hub data sets and of parquet folders, one code path; images stay encoded until a batch needs them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..requests import ImageRef

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class HubRows:
    """A data set on the hub.

    Attributes:
        ids: Repository ids, newest first; the next is tried when one is not found.
        config: Configuration names to load, one after the other (`_config` in each row says which).
        split: Name of the evaluated split.
        more_splits: Further splits (demonstrations come from them), after it. A downloaded folder may lack them. Each
            row says which it is of (`_split`) and its number there (`_row`).
        columns: Columns that the loader needs, of every configuration or by configuration; a missing one is reported
            by name.
        image: Name of the image column, or empty.
    """

    ids: tuple[str, ...]
    split: str
    columns: tuple[str, ...] | Mapping[str, tuple[str, ...]]
    config: tuple[str, ...] = ("default",)
    image: str = ""
    more_splits: tuple[str, ...] = ()

    def needs(self, config: str) -> tuple[str, ...]:
        """Columns needed of one configuration."""
        return self.columns if isinstance(self.columns, tuple) else self.columns[config]


def hub_rows(task: str, hub: HubRows | None, get: str) -> Iterator[dict[str, Any]]:
    """Rows of a hub data set, the first id that exists.

    Raises:
        BadInput: No hub data set is known, or none can be reached.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    if hub is None:
        raise BadInput(f"{task}: no hub data set is known; give --data {task}=DIR. Get it: {get}")
    for config, split in ((config, split) for config in hub.config for split in (hub.split, *hub.more_splits)):
        errors = []
        for name in hub.ids:
            try:
                dataset = load_dataset(name, None if config == "default" else config, split=split)
                break
            except (ConnectionError, ValueError, OSError, DatasetsError, RuntimeError) as error:
                # RuntimeError: a repository whose rows only its own script can make
                errors.append(f"{name}: {' '.join(str(error).split())[:160]}")
        else:
            raise BadInput(
                f"{task}: cannot load {' or '.join(hub.ids)} from the hub ({'; '.join(errors)}); without network give "
                f"--data {task}=DIR (native files or parquet), --data mini, or set MMEVAL_DATA. Get it: {get}"
            )
        yield from _rows(task, hub, dataset, name, config, split)


def parquet_rows(task: str, hub: HubRows, files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Rows of a downloaded hub data set: parquet files in the hub's folder layout (`<config>/<split>-*.parquet`).

    Raises:
        BadInput: A file is damaged, files of different columns are mixed, or a needed column is missing.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    for config, split in ((config, split) for config in hub.config for split in (hub.split, *hub.more_splits)):
        own = [f for f in files if f.parent.name == config] or [f for f in files if config in f.stem] or list(files)
        chosen = [f for f in own if re.match(rf"{split}(-|$)", f.stem)]
        if not chosen and split != hub.split:
            continue  # only demonstrations need it
        others = [f for f in own if any(re.match(rf"{name}(-|$)", f.stem) for name in hub.more_splits)]
        chosen = chosen or [f for f in own if split in f.stem] or [f for f in own if f not in others]
        try:
            dataset = load_dataset("parquet", data_files=[str(f) for f in chosen], split="train")
        except (OSError, ValueError, DatasetsError) as error:
            cause = " ".join(str(error.__cause__ or error).split())[:200]
            raise BadInput(f"{task}: cannot read {chosen[0]}{' and others' * (len(chosen) > 1)}: {cause}") from error
        yield from _rows(task, hub, dataset, str(chosen[0].parent), config, split)


def _rows(task: str, hub: HubRows, dataset: Dataset, name: str, config: str, split: str) -> Iterator[dict[str, Any]]:
    found = ", ".join(dataset.column_names)
    if hub.image and hub.image not in dataset.column_names:
        urls = "; it only lists addresses, which are not fetched" if "url" in dataset.column_names else ""
        raise BadInput(f"{task}: {name} holds no images: no column {hub.image!r} among {found}{urls}")
    for column in hub.needs(config):
        if column not in dataset.column_names:
            raise BadInput(f"{task}: column {column!r} is missing in {name}; found {found}")
    refs = _image_refs(dataset, hub.image) if hub.image else None
    plain = dataset.remove_columns([hub.image]) if hub.image else dataset
    for index, row in enumerate(plain):
        if refs is not None:
            row[hub.image] = refs(index)
        yield {**row, "_config": config, "_split": split, "_row": index}


def _image_refs(dataset: Dataset, column: str) -> Any:
    """Row index to a reference into the Arrow file that `datasets` keeps on disk."""
    from datasets import Dataset

    files = [entry["filename"] for entry in dataset.cache_files]
    starts, total = [], 0
    for file in files:
        starts.append(total)
        total += Dataset.from_file(file).num_rows
    if total != dataset.num_rows:
        raise BadInput(f"the cached Arrow files hold {total} rows, the data set {dataset.num_rows}: clear its cache")

    def ref(index: int) -> ImageRef:
        part = max(i for i, start in enumerate(starts) if start <= index)
        return ImageRef(files[part], index - starts[part], column)

    return ref
