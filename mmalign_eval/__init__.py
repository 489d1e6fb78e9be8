"""mmalign-eval: what did the tuning do - to the language model inside, and to what the model sees?

The public Python API. Names load on first use, so importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compare import Comparison, compare
    from .derive import blank, corrupt, noise, shuffle
    from .evaluate import Reporter, RunConfig, RunOutcome, evaluate
    from .frames import Results, load_results
    from .leaderboard.pages import Board, leaderboard
    from .models.opening import open_model as load_model
    from .requests import Choose, Generate, GenParams, ImageRef, Prompt, Response
    from .results import read_result, read_samples
    from .task import ImageTask, Protocol, Sample, Task, task

_WHERE = {
    "Board": "leaderboard.pages",
    "Choose": "requests",
    "Comparison": "compare",
    "GenParams": "requests",
    "Generate": "requests",
    "ImageRef": "requests",
    "ImageTask": "task",
    "Prompt": "requests",
    "Protocol": "task",
    "Reporter": "evaluate",
    "Response": "requests",
    "Results": "frames",
    "RunConfig": "evaluate",
    "RunOutcome": "evaluate",
    "Sample": "task",
    "Task": "task",
    "blank": "derive",
    "compare": "compare",
    "corrupt": "derive",
    "evaluate": "evaluate",
    "leaderboard": "leaderboard.pages",
    "load_model": "models.opening:open_model",
    "load_results": "frames",
    "noise": "derive",
    "read_result": "results",
    "read_samples": "results",
    "shuffle": "derive",
    "task": "task",
}

__all__ = [
    "Board", "Choose", "Comparison", "GenParams", "Generate", "ImageRef", "ImageTask", "Prompt", "Protocol", "Reporter",
    "Response", "Results", "RunConfig", "RunOutcome", "Sample", "Task", "blank", "compare", "corrupt", "evaluate",
    "leaderboard", "load_model", "load_results", "noise", "read_result", "read_samples", "shuffle", "task",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(f".{module}", __name__), attribute or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `mmalign_eval.evaluate`, `mmalign_eval.task` and the like the function, the decorator.

    Importing a submodule makes Python bind it to its name on the package, which would hide the public object that has
    the same name; `from mmalign_eval.evaluate import ...` does not go through that binding and works as ever
    (`import mmalign_eval.leaderboard.pages as pages` does: write `from mmalign_eval.leaderboard import pages`).
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
