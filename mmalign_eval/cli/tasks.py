"""`mmeval tasks`: list, show, new, check, overlap, docs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_WANTING, BadInput, did_you_mean

if TYPE_CHECKING:
    from ..check import Report
    from ..data.source import DataChoice

app = typer.Typer(help="List, show, make and check tasks.", no_args_is_help=True, rich_markup_mode=None)

Texts = list[str] | None
Include = Annotated[Texts, typer.Option(help="Task plugin FILE.py; repeatable")]
Data = Annotated[Texts, typer.Option(help="mini, hub, DIR or TASK=DIR [$MMEVAL_DATA, else mini]")]


@app.command("list")
def list_tasks(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable, with versions and origins")] = False,
    include: Include = None,
) -> int:
    """List all tasks and groups, and the plugins that did not load."""
    from ..derive import FORMS
    from ..registry import TASKS

    _include(include)
    rows = [_row(name) for name in TASKS.names()]
    if as_json:
        import json

        print(json.dumps({"tasks": rows, "groups": TASKS.groups(), "failures": TASKS.failures}, indent=1))
        return EXIT_OK
    table = [(r["name"], r["modality"], ", ".join(r["protocols"]), _about(r)) for r in rows]
    _columns([("task", "kind", "protocols", "about"), *table])
    for group, names in TASKS.groups().items():
        print(f"group {group}: {' '.join(names)}" if names else f"group {group}: empty")
    print("any task of lm-eval: lm_eval:NAME")
    print("an image task with other images: " + " ".join(FORMS.values()))
    for origin, cause in TASKS.failures.items():
        print(f"did not load: {origin}: {cause}")
    return EXIT_OK


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A task, lm_eval:NAME, or one made of another: blank(TASK)")],
    protocol: Annotated[str, typer.Option(help="Another protocol than the default")] = "",
    data: Data = None,
    include: Include = None,
) -> int:
    """Show a task: its prompt on one sample, the data it needs, metrics, protocols and sources."""
    from .tasks_show import lines

    _include(include)
    name = _one(name)
    for line in lines(name, protocol, _choice(data, [name])):
        print(line)
    return EXIT_OK


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Name of the task: small letters, digits and _")],
    image: Annotated[bool, typer.Option("--image/--text", help="About images [default], or text alone")] = True,
    folder: Annotated[str, typer.Option("--dir", help="Where to write NAME.py and test_NAME.py")] = ".",
) -> int:
    """Write a working task and its test, to be changed into yours."""
    from .tasks_new import write_task

    task_file, test_file, sample_file = write_task(name, folder, image=image)
    print(f"wrote    {task_file}")
    print(f"wrote    {test_file}")
    print(f"test     python -m pytest {test_file}")
    print(f"data     put your {sample_file} into a folder DIR, then")
    print(f"look     mmeval tasks show {name} --include {task_file} --data {name}=DIR")
    print(f"check    mmeval tasks check {name} --include {task_file} --data {name}=DIR")
    print(f"run      mmeval run --model hf:PATH --tasks {name} --include {task_file} --data {name}=DIR")
    return EXIT_OK


@app.command("docs")
def docs() -> int:
    """Print docs/tasks.md: every built-in task with its data, protocols, metrics and published numbers."""
    from .tasks_docs import lines

    for line in lines():
        print(line)
    return EXIT_OK


@app.command("overlap")
def overlap(
    name: Annotated[str, typer.Argument(help="An image task")],
    training: Annotated[str, typer.Option(help="Tuning file: JSON list, JSON lines or parquet with image names")],
    images: Annotated[str, typer.Option(help="Folder that these names are relative to, to compare files too")] = "",
    data: Data = None,
    as_json: Annotated[str, typer.Option("--json", help="FILE or -: the counts and first matches")] = "",
    include: Include = None,
) -> int:
    """Compare a tuning file's images with a task's: by COCO id, and by file hash where both are there."""
    from .tasks_overlap import compare

    _include(include)
    name = _one(name)
    for line in compare(name, training, images, _choice(data, [name]), as_json):
        print(line)
    return EXIT_OK


@app.command("build")
def build(
    name: Annotated[str, typer.Argument(help="A task whose questions can be made from object annotations (pope)")],
    annotations: Annotated[str, typer.Option(help="instances_*.json in COCO's layout")],
    out: Annotated[str, typer.Option(help="Folder for the question files")],
    images: Annotated[int, typer.Option(help="Images to ask about", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the draws")] = 0,
) -> int:
    """Make a benchmark's question files for images of your own."""
    from pathlib import Path

    from ..registry import TASKS

    if not Path(annotations).is_file():
        raise BadInput(f"--annotations {annotations}: no such file")
    for path in TASKS.get(name).data.build(Path(annotations), Path(out), images=images, seed=seed):
        print(f"wrote    {path}")
    print(f"run      mmeval run --model hf:PATH --tasks {name} --data {name}={out}   (with the images in {out}/images)")
    return EXIT_OK


@app.command("check")
def check(
    names: Annotated[list[str], typer.Argument(help="Tasks, groups, globs, lm_eval:NAME or blank(TASK)")],
    protocol: Annotated[str, typer.Option(help="Only this protocol [all that the task has]")] = "",
    data: Data = None,
    limit: Annotated[int, typer.Option(help="First N samples of each part", min=1)] = 20,
    include: Include = None,
) -> int:
    """Run scripted models through a task: right answers must score full marks, wrong and failing ones must not."""
    from ..check import check_task, protocols_of
    from ..registry import TASKS

    _include(include)
    chosen = TASKS.resolve(names)
    choice = _choice(data, chosen)
    jobs = [(name, one) for name in chosen for one in ([protocol] if protocol else protocols_of(name))]
    wanting, not_checked = 0, dict[str, str]()
    for name, one in jobs:
        try:
            report = check_task(name, one, choice, limit)
        except BadInput as error:
            not_checked[f"{name}  {one}"] = str(error)
            continue
        wanting += not report.passed
        _print_report(report)
        sys.stdout.flush()
    if len(not_checked) == len(jobs) and len(set(not_checked.values())) == 1:
        raise BadInput(next(iter(not_checked.values())))
    for job, cause in not_checked.items():
        print(f"\n{job}  not checked: {cause}")
    return EXIT_WANTING if wanting else EXIT_BAD_INPUT if not_checked else EXIT_OK


def _print_report(report: Report) -> None:
    from ..tables import shown_value

    verdict = "passed" if report.passed else "found wanting"
    print(f"\n{report.task}  {report.protocol}  {report.n} samples  {report.data or 'no data'}  {verdict}")
    if report.values:
        rows = [("answers", *report.headline)]
        for conduct, values in report.values.items():
            cells = [values.get(name) for name in report.headline]
            rows.append((conduct, *(shown_value(e.value, e.unit) if e else "-" for e in cells)))
        _columns(rows)
    for finding in report.findings:
        cause = f": {finding.cause}" if finding.cause else ""
        print(f"{'ok  ' if finding.passed else 'FAIL'}  {finding.what}{cause}")
        if finding.cure:
            print(f"      -> {finding.cure}")
    for note in report.notes:
        print(f"note  {note}")


def _include(files: Texts) -> None:
    from ..registry import TASKS

    for path in files or ():
        TASKS.include(path)


def _one(name: str) -> str:
    """A single task's name, checked."""
    from ..registry import TASKS

    if name.startswith("lm_eval:") or name.endswith(")"):
        return TASKS.resolve([name])[0]
    return str(TASKS.get(name).name)


def _choice(data: Texts, tasks: Sequence[str]) -> DataChoice:
    """Where samples come from: the miniature if nothing else is said, as these verbs score no real model."""
    from ..data.source import DataChoice
    from ..plan import base_name

    choice = DataChoice.parse(data or (), only_mini=True)
    bases = list(map(base_name, tasks))
    for name in choice.tasks:
        if name not in bases:
            raise BadInput(f"--data {name}=: task {name!r} is not selected{did_you_mean(base_name(name), bases)}")
    return choice


def _row(name: str) -> dict[str, Any]:
    from ..registry import TASKS, about

    cls, origin = TASKS.get(name), TASKS.origin(name)
    return {
        "name": name,
        "version": cls.version,
        "modality": cls.modality,
        "protocols": list(cls.protocols),
        "default_protocol": cls.default_protocol,
        "groups": list(cls.groups),
        "about": about(cls),
        "origin": origin,
        "built_in": origin.startswith("mmalign_eval."),
    }


def _about(row: dict[str, Any]) -> str:
    return row["about"] + ("" if row["built_in"] else f"  [{row['origin']}]")


def _columns(rows: Sequence[Sequence[str]]) -> None:
    """Prints left-aligned columns, two blanks apart; the last is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
