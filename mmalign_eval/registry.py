"""Names to plugins: built-in, from entry points and from files; lazy, with did-you-mean and causes of failure."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import operator
import pkgutil
import re
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from .errors import BadInput, did_you_mean, located

T = TypeVar("T")
TASK_ENTRY_POINTS = "mmalign_eval.tasks"
MODEL_ENTRY_POINTS = "mmalign_eval.models"


@dataclass(frozen=True)
class Carried:
    """An entry as another process can make it.

    Attributes:
        name: Its name.
        module: Where its value stands.
        attribute: As what.
        file: The module's, if it may be known by its file only.
    """

    name: str
    module: str
    attribute: str
    file: str = ""


class LazyRegistry(Generic[T]):
    """Names to values; a value may be a `module:attribute` string that is imported on first use."""

    def __init__(self, kind: str, entries: dict[str, T | str]) -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._own = frozenset(entries)
        self._loaded: dict[str, T] = {}
        self._clashes: dict[str, str] = {}

    def add(self, name: str, value: T | str) -> None:
        """Adds an entry; a name is never taken over silently."""
        if name in self._entries and self._entries[name] != value:
            raise BadInput(f"two plugins define the {self.kind} {name!r}: rename one")
        self._entries[name] = value

    def offer(self, name: str, value: str, origin: str) -> None:
        """Adds what an installed package offers; a clash is an error only for those who use the name."""
        if self._entries.setdefault(name, value) != value:
            self._clashes[name] = f"{self.kind} {name!r} is also defined by {origin}: uninstall or rename one"

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def get(self, name: str) -> T:
        """The value.

        Raises:
            BadInput: Unknown name, two plugins of that name, or its module does not import (with the cause).
        """
        if name in self._clashes:
            raise BadInput(self._clashes[name])
        if name in self._loaded:
            return self._loaded[name]
        if name not in self._entries:
            raise BadInput(f"unknown {self.kind} {name!r}{did_you_mean(name, self._entries)}; known: {_join(self)}")
        value = self._entries[name]
        if isinstance(value, str):
            module, _, attribute = value.partition(":")
            try:
                value = operator.attrgetter(attribute.strip())(importlib.import_module(module.strip()))
            except (Exception, SystemExit) as error:
                cause = f"cannot be imported from {module}: {located(error)}"
                raise BadInput(f"{self.kind} {name!r} {cause}") from error
        self._loaded[name] = value
        return value

    def carried(self, names: Iterable[str]) -> list[Carried]:
        """Those of some names that a fresh process does not know."""
        found = []
        for name in names:
            value = self._entries.get(name)
            if name in self._own or value is None:
                continue
            if isinstance(value, str):
                module, _, attribute = value.partition(":")
                found.append(Carried(name, module.strip(), attribute.strip()))
            else:
                module = getattr(value, "__module__", None) or ""
                file = getattr(sys.modules.get(module), "__file__", None) or ""
                found.append(Carried(name, module, getattr(value, "__qualname__", ""), file))
        return found

    def adopt(self, carried: Iterable[Carried]) -> dict[str, str]:
        """Takes over another process's entries; returns the names of which that could not be done, and why."""
        missing = {}
        for one in carried:
            try:
                value = operator.attrgetter(one.attribute)(_module(one.module, one.file))
            except (Exception, SystemExit) as error:
                missing[one.name] = located(error)
            else:
                self._entries[one.name] = self._loaded[one.name] = value
        return missing


def _module(name: str, file: str) -> Any:
    """A module by its name or, where that says nothing, of its file."""
    if name == "__main__":  # it would be another one there
        raise ImportError("it is defined in the program itself")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] or not file:
            raise
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _join(registry: LazyRegistry[Any]) -> str:
    return ", ".join(registry.names())


IMAGE_TRANSFORMS: LazyRegistry[Any] = LazyRegistry(
    "image transform",
    {
        "blank": "mmalign_eval.data.transforms:blank",
        "center_crop": "mmalign_eval.data.transforms:center_crop",
        "corrupt": "mmalign_eval.data.transforms:corrupt",
        "noise": "mmalign_eval.data.transforms:noise",
        "pad_square": "mmalign_eval.data.transforms:pad_square",
    },
)

MODELS: LazyRegistry[Any] = LazyRegistry(
    "model kind",
    {
        "hf": "mmalign_eval.models.hf:open_model",
        "mini": "mmalign_eval.miniature.model:open_model",
        "openai": "mmalign_eval.models.openai:open_model",
        "scripted": "mmalign_eval.models.scripted:open_model",
        "vllm": "mmalign_eval.models.vllm:open_model",
    },
)


class TaskRegistry:
    """Every task by name. Plugins that fail to import are kept with their cause, never shown as unknown."""

    def __init__(self) -> None:
        self._tasks: dict[str, Any] = {}
        self._origin: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self._loading = ""
        self._discovered = False

    def register(self, cls: Any) -> None:
        """Called by `@task`; the same class from the same file may register again."""
        origin = self._loading or cls.__module__
        if cls.name in self._tasks and self._origin[cls.name] != origin:
            raise BadInput(f"task {cls.name!r} is defined by {self._origin[cls.name]} and by {origin}: rename one")
        self._tasks[cls.name], self._origin[cls.name] = cls, origin

    def include(self, path: str) -> None:
        """Loads a task file given by `--include`.

        Raises:
            BadInput: The file does not exist or does not import (with the cause and its line).
        """
        file = Path(path).resolve()
        if not file.is_file():
            raise BadInput(f"--include {path}: no such file")
        self._discover()
        name = f"mmeval_plugin_{file.stem}_{zlib.crc32(str(file).encode()):08x}"
        if any(source_file(cls) == str(file) and cls.__module__ != name for cls in self._tasks.values()):
            return  # a built-in or installed task: a second import would define it twice
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise BadInput(f"--include {path}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        known = set(self._tasks)
        self._guarded(str(file), lambda: spec.loader.exec_module(module))
        if str(file) in self.failures:
            raise BadInput(f"--include {path}: {self.failures[str(file)]}")
        if set(self._tasks) == known and str(file) not in self._origin.values():
            raise BadInput(f"--include {path}: it defines no task (decorate a Task class with @task)")

    def names(self) -> list[str]:
        """All task names, sorted."""
        self._discover()
        return sorted(self._tasks)

    def origin(self, name: str) -> str:
        """Where a task came from: a module, a file or an entry point."""
        return self._origin[name]

    def get(self, name: str) -> Any:
        """The task class.

        Raises:
            BadInput: Unknown; if a plugin of that name failed to import, its cause.
        """
        self._discover()
        if name in self._tasks:
            return self._tasks[name]
        for origin, cause in self.failures.items():
            if name in origin.replace("/", ".").split(".") or origin.endswith(f"={name}"):
                raise BadInput(f"task {name!r} did not load from {origin}: {cause}")
        broken = self._broken()
        known = [*self._tasks, *self.groups()]
        known_as = f"no task {name!r} among those that loaded" if broken else f"unknown task {name!r}"
        raise BadInput(f"{known_as}{did_you_mean(name, known)}; `mmeval tasks list` shows all{broken}")

    def groups(self) -> dict[str, list[str]]:
        """Group name to its tasks: `all`, `text`, `image`, and those that tasks declare."""
        self._discover()
        groups: dict[str, list[str]] = {"all": []}
        for name in sorted(self._tasks):
            cls = self._tasks[name]
            if self._origin[name].startswith("mmalign_eval."):
                groups["all"].append(name)
            for group in (cls.modality, *cls.groups):
                groups.setdefault(group, []).append(name)
        return groups

    def resolve(self, patterns: Iterable[str]) -> list[str]:
        """Names, groups and globs to task names, in the order given, each once."""
        found: dict[str, None] = {}
        groups = self.groups()
        for pattern in patterns:
            if pattern in groups:
                self._whole(pattern)
                matches = groups[pattern]
            elif any(c in pattern for c in "*?["):
                matches = fnmatch.filter(self.names(), pattern)
                if not matches:
                    raise BadInput(f"no task matches {pattern!r}; `mmeval tasks list` shows all{self._broken()}")
            elif pattern.startswith("lm_eval:"):
                matches = [pattern]
            elif pattern.endswith(")"):  # a task made of another, `blank(NAME)`: made when it is opened
                inner = re.search(r"\(([^(),]+)[,)]", pattern)
                if inner and not inner[1].strip().startswith("lm_eval:"):
                    self.get(inner[1].strip())
                matches = ["".join(pattern.split())]
            else:
                matches = [self.get(pattern).name]
            found.update(dict.fromkeys(matches))
        return list(found)

    def _whole(self, group: str) -> None:
        """Refuses a group while a built-in task, which may belong to it, does not load."""
        for origin, cause in self.failures.items():
            if origin.startswith("mmalign_eval."):
                raise BadInput(f"{group}: {origin} did not load: {cause}; name single tasks to leave it out")

    def _broken(self) -> str:
        return f" (did not load: {'; '.join(f'{k}: {v}' for k, v in self.failures.items())})" if self.failures else ""

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        package = importlib.import_module("mmalign_eval.tasks")
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
            if not info.name.startswith("_"):
                name = f"mmalign_eval.tasks.{info.name}"
                self._guarded(name, lambda name=name: importlib.import_module(name))
        for point in sorted(entry_points(group=TASK_ENTRY_POINTS), key=lambda p: p.name):
            self._guarded(f"{point.value}={point.name}", point.load)

    def _guarded(self, origin: str, load: Any) -> None:
        previous, self._loading = self._loading, origin
        try:
            load()
            self.failures.pop(origin, None)
        except (Exception, SystemExit) as error:
            self.failures[origin] = located(error, origin)
        finally:
            self._loading = previous


def about(cls: type) -> str:
    """The first line of a task's docstring, or of its module's."""
    text = cls.__doc__ or getattr(sys.modules.get(cls.__module__), "__doc__", None) or ""
    return text.strip().split("\n")[0]


def source_file(cls: type) -> str:
    """The file that defines a task class; empty if it has none."""
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or ""


TASKS = TaskRegistry()


def load_model_entry_points() -> None:
    """Adds model kinds that installed packages offer; none is imported before it is used."""
    for point in entry_points(group=MODEL_ENTRY_POINTS):
        MODELS.offer(point.name, point.value, f"{point.dist.name if point.dist else 'a package'} ({point.value})")
