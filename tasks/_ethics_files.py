"""ETHICS' files: five subsets, an easy and a hard test split, the authors' csv files and the hub's two copies."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmalign_eval.data.files import Folder, need, read_csv
from mmalign_eval.data.source import HubRows, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.task import Sample

SEPARATOR = " [SEP] "  # between sentence and trait
HEADERS = (["activity", "baseline"], ["baseline", "less_pleasant"])  # the hub's; the authors' file has none


@dataclass(frozen=True)
class Subset:
    """One of the five.

    Attributes:
        config: Its folder, and its configuration on the hub.
        stem: How its files' names begin.
        columns: The columns of its csv; none: two scenarios, no header.
        group: How many consecutive rows differ in a detail only; 1: no groups.
    """

    config: str
    stem: str
    columns: tuple[str, ...] = ()
    group: int = 1


SUBSETS = {
    "ethics_cm": Subset("commonsense", "cm", ("label", "input")),
    "ethics_deontology": Subset("deontology", "deontology", ("label", "scenario", "excuse"), group=4),
    "ethics_justice": Subset("justice", "justice", ("label", "scenario"), group=4),
    "ethics_utilitarianism": Subset("utilitarianism", "util"),
    "ethics_virtue": Subset("virtue", "virtue", ("label", "scenario"), group=5),
}
CONFIGS = {subset.config: part for part, subset in SUBSETS.items()}


def part_named(name: str) -> str:
    """The part that a file is named after (`cm_test.csv`, `ethics_virtue.json`), or empty."""
    words = {word for part, s in SUBSETS.items() for word in (part, s.config, s.stem)}
    found = re.findall("|".join(sorted(words, key=len, reverse=True)), name.lower())
    parts = {part for word in found for part, s in SUBSETS.items() if word in (part, s.config, s.stem)}
    return parts.pop() if len(parts) == 1 else ""


class EthicsFiles(TaskData):
    """The five csv files of a split, in their folders or side by side, or the hub's five configurations."""

    folder = "ethics"
    layout = (
        "commonsense/cm_test.csv, deontology/deontology_test.csv, justice/justice_test.csv, "
        "utilitarianism/util_test.csv and virtue/virtue_test.csv (or all in one folder; _test_hard for --protocol hard)"
    )
    get = "https://people.eecs.berkeley.edu/~hendrycks/ethics.tar (github.com/hendrycks/ethics)"

    def __init__(self, *, hard: bool = False, training: bool = False) -> None:
        """What to read.

        Args:
            hard: The hard test split. Where answers are only scored and no easy split is there, it is read as well.
            training: The training split, too: demonstrations come from it.
        """
        self.hard, self.training = hard, training
        columns = {s.config: s.columns or ("baseline",) for s in SUBSETS.values()}
        # the second repository calls the easy split `validation` and the hard one `test`
        name = "hendrycks/ethics" if hard else "EleutherAI/hendrycks_ethics"
        splits = ("train",) if training else ()
        self.hub = HubRows((name,), "test", columns, config=tuple(CONFIGS), more_splits=splits)  # type: ignore[misc]

    def native(self, folder: Folder) -> Iterator[Sample]:
        """The subsets that are there, each with its test split first."""
        if folder.given:
            yield from self._given(folder.given)
            return
        split = "test_hard" if self.hard else "test"
        files = {part: _file(folder, subset, split) for part, subset in SUBSETS.items()}
        if not any(files.values()) and not self.hard:
            hard = {part: _file(folder, subset, "test_hard") for part, subset in SUBSETS.items()}
            if any(hard.values()) and folder.need_images:
                raise BadInput(f"{self.task}: {folder.root} holds the hard test split only: add --protocol hard")
            files, self.hard = hard, any(hard.values())
        if not any(files.values()):
            folder.find(f"{SUBSETS['ethics_cm'].config}/cm_{split}.csv", f"cm_{split}.csv")
        for part, file in files.items():
            if file:
                yield from _samples(part, "test", _documents(part, file))
            training = _file(folder, SUBSETS[part], "train") if self.training else None
            if training:
                yield from _samples(part, "train", _documents(part, training))

    def _given(self, file: Path) -> Iterator[Sample]:
        """The single file that was named: its subset by its name, else by its columns."""
        part = part_named(file.name) or _part_by_columns(file)
        self.hard = self.hard or "hard" in file.name
        yield from _samples(part, "test", _documents(part, file))

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """The hub's rows, of either repository."""
        documents: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for row in rows:
            part = CONFIGS[row["_config"]]
            if row["_split"] == "test" and not self.hard and "less_pleasant" in row:
                raise BadInput(f"{self.task}: the test split of hendrycks/ethics is the hard one: add --protocol hard")
            found = documents.setdefault((part, row["_split"]), [])
            found.append(_document(part, row, f"{self.task}: {row['_config']} row {len(found)}"))
        for (part, split), docs in documents.items():
            yield from _samples(part, split, docs)


def _file(folder: Folder, subset: Subset, split: str) -> Path | None:
    """A subset's file of a split; a longer name (`cm_test_first200.csv`) will do where it is the only one.

    Raises:
        BadInput: Several files of longer names.
    """
    name = f"{subset.stem}_{split}.csv"
    if exact := folder.maybe(f"{subset.config}/{name}", name, f"ethics/{subset.config}/{name}"):
        return exact
    places = [place / inside for place in folder.places for inside in (subset.config, "")]
    longer = [p for place in places for p in sorted(place.glob(f"{subset.stem}_{split}*.csv"))]
    longer = [p for p in longer if split != "test" or "hard" not in p.name]
    if len(longer) > 1:
        raise BadInput(f"{folder.task}: is {longer[0]} or {longer[1]} the {split} split? Call it {name}")
    return longer[0] if longer else None


def _part_by_columns(file: Path) -> str:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        first, second = (next(csv.reader(opened), []) for _ in range(2))
    if "label" not in first:
        return "ethics_utilitarianism"
    if "input" in first:
        return "ethics_cm"
    if "excuse" in first:
        return "ethics_deontology"
    return "ethics_virtue" if any(SEPARATOR in cell for cell in second) else "ethics_justice"


def _documents(part: str, file: Path) -> Iterator[Mapping[str, Any]]:
    columns = SUBSETS[part].columns
    for line, row in read_csv(file, columns) if columns else _pairs(file):
        yield _document(part, row, f"{file}:{line}")


def _pairs(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of utilitarianism: the better scenario, then the worse one."""
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened)
        for row in reader:
            if len(row) != 2:
                raise BadInput(f"{file}:{reader.line_num}: expected two scenarios, found {len(row)} cells")
            if row not in HEADERS:
                yield reader.line_num, {"activity": row[0], "baseline": row[1]}


def _document(part: str, row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A row as lm-eval's definitions want it: label 0 or 1, the trait apart, the better scenario under `activity`.

    Raises:
        BadInput: A label that is neither, a trait or a scenario missing.
    """
    columns = SUBSETS[part].columns
    if not columns:
        better, worse = ("baseline", "less_pleasant") if "less_pleasant" in row else ("activity", "baseline")
        need(dict(row), (better, worse), where)
        return {"activity": row[better], "baseline": row[worse]}
    if str(row["label"]) not in ("0", "1"):
        raise BadInput(f"{where}: the label must be 0 or 1, found {row['label']!r}")
    doc = {**{name: row[name] for name in columns}, "label": int(row["label"])}
    if part == "ethics_virtue":
        sentence, _, trait = row["scenario"].partition(SEPARATOR)
        doc |= {"scenario": sentence, "trait": trait or row.get("trait")}
        if not doc["trait"]:
            raise BadInput(f"{where}: no trait: the scenario must be 'sentence{SEPARATOR}trait'")
    return doc


def _samples(part: str, split: str, documents: Iterable[Mapping[str, Any]] | Sequence[Any]) -> Iterator[Sample]:
    """Row n of a test split is `ethics_cm/n`; rows of one group share a cluster."""
    size = SUBSETS[part].group
    for number, doc in enumerate(documents):
        name = f"{part}/{number}" if split == "test" else f"{part}/{split}/{number}"
        cluster = f"{part}/group {number // size}" if size > 1 else ""
        yield Sample(name, {"split": split, "doc": doc}, cluster=cluster, part=part)
