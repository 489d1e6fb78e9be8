"""`mmeval tasks docs`: docs/tasks.md, made of what the built-in tasks say of themselves."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from ..derive import FORMS
from ..metrics.base import Metric
from ..plan import open_task
from ..registry import TASKS, about
from ..task import LmEvalTask, Task
from .tasks_show import decoding

Row = Sequence[str]
HEAD = """# Tasks

Made by `mmeval tasks docs > docs/tasks.md` from the tasks themselves; change them, not this file.
`mmeval tasks show TASK` adds the exact prompt of a protocol, rendered on one sample.

Numbers of different protocols are different measurements. The first protocol of each task is its default;
`--protocol TASK=NAME` chooses another. Under *unit*, a fraction is a number from 0 to 1 (tables show it in percent),
`percent` and `points` are what the official tool prints. Every metric stands under its name in result files and in the
`--json` of `mmeval score`. Papers' numbers are copied from their tables; they were got with the papers' own protocols
and checkpoints, and nothing here says that this harness reproduces them.
"""


def lines() -> Iterator[str]:
    """The document, line by line."""
    yield from HEAD.rstrip().split("\n")
    names = TASKS.groups()["all"]
    published = list(_published())
    yield from _overview([TASKS.get(name) for name in names])
    for name in names:
        yield from _task(open_task(name), published)
    yield from _derived()


def _overview(tasks: Sequence[type[Task]]) -> Iterator[str]:
    yield ""
    rows = [(f"[{t.name}](#{t.name})", t.modality, ", ".join(t.protocols), about(t)) for t in tasks]
    yield from _table(("task", "kind", "protocols", "measures"), rows)


def _task(task: Task, published: Sequence[_Paper]) -> Iterator[str]:
    yield from ("", f"## {task.name}", "", _prose(type(task).__doc__), "", _prose(_module(task).__doc__), "")
    sources = (f"<{source}>" if _plain_url(source) else _text(source) for source in task.sources)
    yield f"- Version {task.version}. Sources: {', '.join(sources)}"
    yield f"- Data: {_text(task.data.layout)}. In `--data DIR`, or below it in `{task.data.folder}/`."
    yield f"- Get it: {_text(task.data.get)}"
    if hub := task.data.hub:
        config = "" if hub.config == ("default",) else f", configuration {_few(hub.config)}"
        yield f"- On the hub: {' or '.join(f'`{i}`' for i in hub.ids)}, split `{hub.split}`{config}"
    if task.submission:
        yield f"- `mmeval score {task.name} --answers` reads: {_text(task.submission)}"
    if task.judge:
        yield (
            f"- Judge: the benchmark's own is `{task.judge.official}` (`--judge openai:{task.judge.official}`); "
            f"without one, the offline stand-in `{task.judge.stand_in}`, whose numbers are not comparable"
        )
    yield ""
    rows = [_protocol(name, task) for name in task.protocols]
    yield from _table(("protocol", "source", "decoding", "to know when comparing"), rows)
    yield ""
    yield from _metrics(task)
    yield from (line for paper in published for line in paper.lines(task.name))


def _protocol(name: str, task: Task) -> Row:
    protocol = task.protocols[name]
    said = [decoding(protocol.params), f"template {protocol.template}"]
    said += [f"{protocol.shots} shots"] if protocol.shots else []
    said += [f"image {' '.join(protocol.image)}"] if protocol.image else []
    return f"`{name}`", _text(protocol.source), "; ".join(said), _text(protocol.note)


def _metrics(task: Task) -> Iterator[str]:
    """Metrics under the official judge, those alike in one row; then what the stand-in's are called."""
    if isinstance(task, LmEvalTask):
        from ..lmeval import bind

        bind(task)
    if task.judge:
        stand_in = {m.name for m in task.metrics()}
        task.judged_by = task.judge.official
    found = list(task.metrics())
    groups: dict[tuple[str, str, str], list[Metric]] = {}
    for metric in found:
        groups.setdefault((metric.unit, metric.better, metric.help), []).append(metric)
    rows = [(", ".join(f"`{m.name}`" for m in group), *map(_text, key)) for key, group in groups.items()]
    yield from _table(("metric", "unit", "better", "is"), rows)
    if task.judge and (own := [name for name in sorted(stand_in) if name not in {m.name for m in found}]):
        yield from ("", f"Of the offline stand-in: {', '.join(f'`{name}`' for name in own)}.")


def _derived() -> Iterator[str]:
    from .. import derive

    yield from ("", "## Tasks made of image tasks", "")
    text = inspect.cleandoc(derive.__doc__ or "").split("\n")
    yield from (line.rstrip() for line in text)
    yield from ("", f"On the command line: {', '.join(f'`{form}`' for form in FORMS.values())}.")


class _Paper:
    """The printed tables of one paper; `metrics` in its file says which metric of which task a column is."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self.cite = tables["about"]["cite"]
        self.metrics: Mapping[str, Mapping[str, str]] = tables["metrics"]
        self.tables = [t for t in tables.values() if isinstance(t, dict) and "rows" in t]

    def lines(self, task: str) -> Iterator[str]:
        """Its tables with the columns of one task."""
        for table in self.tables:
            keys = [key for key in table["keys"] if self.metrics[key]["task"] == task]
            if not keys:
                continue
            yield from ("", f"Published: {self.cite}, {table['title']} ({table['note']}).", "")
            yield from _table(("model", *(f"`{self.metrics[key]['metric']}`" for key in keys)), self._rows(table, keys))

    def _rows(self, table: Mapping[str, Any], keys: Sequence[str]) -> Iterator[Row]:
        for row in table["rows"]:
            values = dict(zip(table["keys"], row["values"], strict=True))
            if any(values[key] is not None for key in keys):
                name = row["model"] + ("" if row.get("tuning", "none") == "none" else f", {row['tuning']}")
                yield name, *("-" if values[key] is None else f"{values[key]:.1f}" for key in keys)


def _published() -> Iterator[_Paper]:
    import yaml

    folder = files("mmalign_eval.leaderboards").joinpath("published")
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            yield _Paper(yaml.safe_load(file.read_text(encoding="utf-8")))


def _table(head: Row, rows: Iterator[Row] | Sequence[Row]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(' --- ' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in row)} |"


def _prose(text: str | None) -> str:
    return inspect.cleandoc(text or "")


def _text(text: str) -> str:
    """Text as it is: Markdown would take `<part>` for HTML and a star for emphasis."""
    return text.replace("<", "\\<").replace("*", "\\*")


def _module(task: Task) -> Any:
    return sys.modules[type(task).__module__]


def _plain_url(text: str) -> bool:
    return text.startswith("http") and " " not in text


def _few(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"`{name}`" for name in names[:most]) + more
