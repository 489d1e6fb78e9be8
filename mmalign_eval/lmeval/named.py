"""`lm_eval:NAME`: any task, tag or group of the installed lm-eval, from the hub or from a folder of its splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..data.files import Folder, read_jsonl
from ..data.source import Source, TaskData
from ..errors import BadInput, did_you_mean
from ..requests import RAW_TEMPLATE
from ..requests import greedy as greedy_params
from ..task import GroupMean, LmEvalTask, Protocol, Sample
from .convert import MAX_GEN_TOKS
from .parts import PartSpec, quiet

Config = dict[str, Any]
SUFFIXES = (".jsonl", ".parquet")


class SplitFiles(TaskData):
    """One file a split: `test.jsonl`, `train.parquet` ...; tasks of several parts have a folder for each."""

    layout = "one .jsonl or .parquet file a split, named by the split (test.jsonl, train.parquet)"
    get = "the data set that the lm-eval task names"

    def __init__(self, name: str, parts: tuple[str, ...]) -> None:
        self.task, self._parts = f"lm_eval:{name}", parts

    def native(self, folder: Folder) -> Iterable[Sample]:
        """Never called: the files of all parts are read by `_open`."""
        raise NotImplementedError

    def _open(self, source: Source) -> Iterator[Sample]:
        if source.kind == "mini":
            raise BadInput(f"{self.task}: the miniature holds no data for it; give --data {self.task}=DIR or hub")
        for part in self._parts:
            folder = Path(source.path)
            if (folder / part).is_dir():
                folder = folder / part
            elif len(self._parts) > 1:
                missing = folder / part
                raise BadInput(f"{self.task}: folder {missing} not found; expected for each part {self.layout}")
            yield from self._split_files(part, folder)

    def _split_files(self, part: str, folder: Path) -> Iterator[Sample]:
        splits: dict[str, list[Path]] = {}
        for file in sorted(f for f in folder.iterdir() if f.suffix in SUFFIXES):
            splits.setdefault(file.stem.split("-")[0], []).append(file)  # the hub's shards: test-00000-of-00002.parquet
        for split, files in splits.items():
            if len({file.suffix for file in files}) > 1:
                names = ", ".join(file.name for file in files)
                raise BadInput(f"{self.task}: {folder} holds split {split!r} twice ({names}): remove one")
            for number, doc in enumerate(doc for file in files for doc in _documents(file)):
                yield Sample(f"{part}/{split}/{number}", {"split": split, "doc": doc}, part=part)


class NamedTask(LmEvalTask):
    """Base of the classes that `open_lm_eval` makes."""

    takes_shots = True  # a part whose file fixes 0 shots refuses them when it is bound

    @property
    def part_shots(self) -> int | None:
        """What `--few-shot` says; without it each part's own."""
        return self.few_shot

    def downloads(self, source: Source) -> bool:
        """From the hub, lm-eval's own way: the task file names the data set."""
        return source.kind == "hub"


def open_lm_eval(name: str, few_shot: int | None = None) -> NamedTask:
    """A task of the installed lm-eval by its own name; tags and groups become tasks of several parts.

    Args:
        name: As `lm_eval ls tasks` lists it.
        few_shot: Demonstrations; None: as its task file says.

    Raises:
        BadInput: Unknown name.
    """
    index = _index()
    if name not in index:
        hint = did_you_mean(name, index)
        raise BadInput(f"unknown lm-eval task {name!r}{hint}; `lm_eval ls tasks` lists them all")
    configs: dict[str, Config] = {}
    means = tuple(_expand(name, {}, configs))
    if not configs:
        raise BadInput(f"lm-eval group {name!r} holds no task")
    specs = [PartSpec(part, config) for part, config in configs.items()]
    shots = max(int(spec.declared.config.num_fewshot or 0) for spec in specs)
    protocol = Protocol(
        ask="lm-eval's own template",
        params=greedy_params(MAX_GEN_TOKS),
        template=RAW_TEMPLATE,
        shots=shots,
        source=f"lm-eval task {name}",
    )
    attributes: dict[str, Any] = {
        "__doc__": f"lm-eval's {name}, through our plan and store.",
        "name": f"lm_eval:{name}",
        "version": _whole(specs[0].version),
        "protocols": {"lm_eval": protocol},
        "default_protocol": "lm_eval",
        "data": SplitFiles(name, tuple(configs)),
        "parts": configs,
        "group_means": means,
        "sources": ("https://github.com/EleutherAI/lm-evaluation-harness",),
    }
    cls: type[NamedTask] = type("Named", (NamedTask,), attributes)
    return cls(few_shot=few_shot)


@cache
def _index() -> Mapping[str, Any]:
    """lm-eval's index of all its task files; about ten seconds, once a process."""
    quiet()
    from lm_eval.tasks import TaskManager

    return TaskManager().task_index


def _expand(name: str, overrides: Config, configs: dict[str, Config]) -> Iterator[GroupMean]:
    """Adds the leaf tasks below a name to `configs`; yields the means that groups on the way declare.

    lm-eval's own factory builds (and downloads) every task as it walks its groups; this walks the same way without.
    """
    from lm_eval.tasks._index import Kind
    from lm_eval.tasks._yaml_loader import load_yaml

    entry = _index()[name]
    if entry.kind is Kind.TAG:
        for member in sorted(entry.tags):
            yield from _expand(member, overrides, configs)
        return
    config = dict(load_yaml(entry.yaml_path))
    if entry.kind is Kind.GROUP:
        yield from _expand_group(name, config, overrides, configs)
    else:
        configs[str(config["task"])] = {**config, **overrides}


def _expand_group(name: str, group: Config, overrides: Config, configs: dict[str, Config]) -> Iterator[GroupMean]:
    from lm_eval.config.group import GroupConfig

    structural = GroupConfig.__dataclass_fields__
    inherited = {**{k: v for k, v in group.items() if k not in structural}, **overrides}
    before = set(configs)
    means: list[GroupMean] = []
    members = group.get("task") or []
    for member in [members] if isinstance(members, str) else members:
        if isinstance(member, str):
            means += _expand(member, inherited, configs)
        elif "group" in member and member["group"] not in _index():
            means += _expand_group(member["group"], member, inherited, configs)
        elif "group" in member:
            means += _expand(member["group"], {**inherited, **_without(member, "group")}, configs)
        elif member["task"] in _index():
            means += _expand(member["task"], {**inherited, **_without(member, "task")}, configs)
        else:
            configs[f"{name}::{member['task']}"] = {**inherited, **member, "task": f"{name}::{member['task']}"}
    own = tuple(part for part in configs if part not in before)
    listed = group.get("aggregate_metric_list") or []
    for entry in [listed] if isinstance(listed, dict) else listed:
        yield from _means(name, entry, own)
    yield from means


def _means(name: str, entry: Config, parts: tuple[str, ...]) -> Iterator[GroupMean]:
    if entry.get("aggregation", "mean") != "mean":
        return  # a function of the parts' values, which no interval can be given for
    filters = entry.get("filter_list") or ["none"]
    for filter_name in [filters] if isinstance(filters, str) else filters:
        metric = entry["metric"] if filter_name == "none" else f"{entry['metric']},{filter_name}"
        yield GroupMean(name, metric, parts, bool(entry.get("weight_by_size", True)))


def _without(config: Config, key: str) -> Config:
    return {k: v for k, v in config.items() if k != key}


def _documents(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix == ".jsonl":
        for _, row in read_jsonl(file):
            yield row
        return
    import pyarrow.parquet as parquet

    try:
        yield from parquet.read_table(file).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise BadInput(f"{file}: not a parquet file ({' '.join(str(error).split())[:160]})") from error


def _whole(version: str) -> int:
    """A task's version as a whole number; the exact one is in the signature."""
    try:
        return max(1, int(float(version)))
    except ValueError:
        return 1
