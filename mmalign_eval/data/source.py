"""Where samples come from: a hub data set, a folder of native files or parquet, or the miniature."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..errors import BadInput
from ..requests import Sample
from .files import Folder
from .hub import HubRows as HubRows  # task files take it from here
from .hub import hub_rows, parquet_rows

ENV_DATA = "MMEVAL_DATA"


@dataclass(frozen=True)
class Source:
    """One place.

    Attributes:
        kind: `mini` (the miniature's own files), `hub`, or `dir`.
        path: The folder, for `mini` and `dir`.
        file: A single file of it that was named in its stead; it is taken whatever it is called.
        images: Whether images are needed; without (answers made elsewhere are only scored) none has to be there.
    """

    kind: Literal["mini", "hub", "dir"]
    path: str = ""
    file: str = ""
    images: bool = True

    def __str__(self) -> str:
        """As results name it: never a machine's path."""
        return {"mini": "miniature", "hub": "hub", "dir": "native files"}[self.kind]


class TaskData(ABC):
    """How one benchmark's samples are read. Subclasses say the layout and turn files or rows into samples."""

    task: str = ""
    folder: ClassVar[str]  # its folder under a data root
    layout: ClassVar[str]  # the files expected, for messages and `mmeval tasks show`
    get: ClassVar[str]  # where to get them
    hub: ClassVar[HubRows | None] = None

    def samples(self, source: Source) -> Iterator[Sample]:
        """All samples of the source, ids checked for duplicates.

        Raises:
            BadInput: Files missing or in another layout, columns missing, duplicate ids, no sample at all.
        """
        seen: set[str] = set()
        for sample in self._open(source):
            if sample.id in seen:
                where = sample.where or f"{self.task}: {source.path or source}"
                raise BadInput(f"{where}: sample id {sample.id!r} occurs twice")
            seen.add(sample.id)
            yield sample
        if not seen:
            raise BadInput(f"{self.task}: no samples in {source.path or source}; expected {self.layout}")

    @abstractmethod
    def native(self, folder: Folder) -> Iterable[Sample]:
        """Samples from the benchmark's own files."""

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterable[Sample]:
        """Samples from hub rows; `row[image column]` is an `ImageRef`."""
        raise BadInput(f"{self.task}: no hub layout is known; use --data {self.task}=DIR with {self.layout}")

    def build(self, annotations: Path, out: Path, *, images: int, seed: int) -> list[Path]:
        """Makes the benchmark's question files for other images, where its authors say how.

        Args:
            annotations: Object annotations in COCO's layout (`instances_*.json`).
            out: Folder to write to.
            images: How many images to ask about.
            seed: Of the draws.

        Raises:
            BadInput: The benchmark cannot be built from annotations, or these do not suffice.
        """
        raise BadInput(f"{self.task}: its questions cannot be made from annotations. Get them: {self.get}")

    def open(self, source: Source) -> Folder:
        """The folder of a `mini` or `dir` source.

        Raises:
            BadInput: The miniature holds nothing for this task.
        """
        if source.kind == "mini" and not (Path(source.path) / self.folder).is_dir():
            raise BadInput(
                f"{self.task}: the miniature holds no data for it; give --data {self.task}=DIR with {self.layout}. "
                f"Get it: {self.get}"
            )
        told = {"task": self.task, "layout": self.layout, "get": self.get}
        return Folder(source.path, self.folder, file=source.file, need_images=source.images, **told)

    def _open(self, source: Source) -> Iterable[Sample]:
        if source.kind == "hub":
            return self.rows(hub_rows(self.task, self.hub, self.get))
        folder = self.open(source)
        if self.hub and not source.file and (files := folder.parquet()):
            return self.rows(parquet_rows(self.task, self.hub, files))
        return self.native(folder)


@dataclass(frozen=True)
class DataChoice:
    """What `--data` said: one default place and places for single tasks.

    Attributes:
        default: For every task not named.
        tasks: Task name to its own place.
    """

    default: str = ""
    tasks: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, values: Iterable[str], only_mini: bool) -> DataChoice:
        """Reads `mini`, `hub`, `DIR` and `TASK=DIR` values.

        Args:
            values: As given on the command line.
            only_mini: Every model is the embedded miniature: its data is then what was asked for when nothing else is.

        Raises:
            BadInput: Two defaults.
        """
        default, tasks = "", {}
        for value in values:
            name, equals, place = value.partition("=")
            if equals and not Path(value).exists():
                tasks[name] = place
            elif default:
                raise BadInput(f"--data {default} and --data {value}: give one default, or TASK=DIR for single tasks")
            else:
                default = value
        return cls(default or os.environ.get(ENV_DATA, "") or ("mini" if only_mini else "hub"), tasks)

    def source(self, task: str, *, images: bool = True) -> Source:
        """The source for a task.

        Args:
            task: Its name.
            images: Whether its images are needed. Without them a single file may stand for its folder.

        Raises:
            BadInput: The folder does not exist.
        """
        place = self.tasks.get(task, self.default)
        if place == "hub":
            return Source("hub", images=images)
        if place == "mini":
            from ..miniature import data_dir

            return Source("mini", str(data_dir()), images=images)
        if not images and Path(place).is_file():
            return Source("dir", str(Path(place).parent), file=Path(place).name, images=False)
        if not Path(place).is_dir():
            problem = "a file, not a folder" if Path(place).exists() else "no such folder"
            cure = "give mini, hub, a folder, or TASK=DIR"
            if not images:
                problem, cure = "no such file or folder", "give mini, hub, a folder or a file"
            raise BadInput(f"--data {place}: {problem} ({cure})")
        return Source("dir", place, images=images)
