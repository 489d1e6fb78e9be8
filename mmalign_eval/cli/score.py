"""`mmeval score`: score answers that another tool made, or an earlier run anew; no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import EXIT_OK, BadInput
from .files import STDOUT, write_json
from .names import split_names

if TYPE_CHECKING:
    from ..answers import Scored
    from ..judges.base import Judge
    from ..roles import AnswerFiles
    from ..store import Store

Texts = list[str] | None


@dataclass(frozen=True)
class JudgeOptions:
    """What was said about the judge (`judges.opening.JudgeSettings`)."""

    judge: str = ""
    judge_runs: int = 1
    judge_budget: str = ""


def score(
    target: Annotated[str, typer.Argument(metavar="TASK|RUN_DIR", help="A task, or the folder of an earlier run")],
    answers: Annotated[
        Texts, typer.Option("--answers", "-a", help="File or folder of answers, or PART=PATH; repeatable")
    ] = None,
    data: Annotated[
        str, typer.Option(help="The benchmark's files: DIR, FILE, mini or hub [$MMEVAL_DATA]; images are not needed")
    ] = "",
    protocol: Annotated[
        Texts, typer.Option(help="Whose parser and aggregation: NAME or TASK=NAME [the task's default; the run's own]")
    ] = None,
    column: Annotated[str, typer.Option(help="Column of the answers in a csv")] = "",
    synonyms: Annotated[str, typer.Option(help="Synonyms file of object metrics, in the official format")] = "",
    na_probs: Annotated[str, typer.Option(help="JSON file of no-answer probabilities, id to number")] = "",
    judge: Annotated[str, typer.Option(help="Who judges what is not graded yet: a model, or rule [offline]")] = "",
    judge_runs: Annotated[int, typer.Option(help="Verdicts on each answer", min=1)] = 1,
    judge_budget: Annotated[str, typer.Option(help="Most that judging may cost: DOLLARS, CALLScalls or both")] = "",
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Score answers that are not complete")] = False,
    json_to: Annotated[str, typer.Option("--json", help="FILE or -: one object, metric name to value")] = "",
    out: Annotated[str, typer.Option(help="Folder for result files [none; RUN_DIR/rescored for a run]")] = "",
    name: Annotated[str, typer.Option(help="Whose answers they are, in result files [the file's name]")] = "",
    tasks: Annotated[Texts, typer.Option("--tasks", "-t", help="Of a run: names or globs [all]")] = None,
    store: Annotated[str, typer.Option(help="Where a judge's verdicts are kept [OUT/store.sqlite]")] = "",
    include: Annotated[Texts, typer.Option(help="Task plugin FILE.py; repeatable")] = None,
) -> int:
    """Score answers made elsewhere in the benchmark's own submission format, or an earlier run anew."""
    from ..registry import TASKS

    for path in include or ():
        TASKS.include(path)
    judging = JudgeOptions(judge, judge_runs, judge_budget)
    protocols = split_names(protocol or ())
    options = {"column": column, "synonyms": synonyms, "na_probs": na_probs}
    if not answers and Path(target).is_dir():
        for option, value in (*options.items(), ("name", name)):
            if value:
                raise BadInput(f"--{option.replace('_', '-')} {value}: is for answers made elsewhere, not for a run")
        return _run(target, data, protocols, split_names(tasks or ()), judging, allow_missing, json_to, out, store)
    if tasks:
        raise BadInput(f"--tasks {tasks[0]}: selects tasks of a run; {target!r} is no folder of one")
    if not answers:
        TASKS.resolve([target])  # an unknown task is the likelier mistake
        raise BadInput("--answers is missing: give the file or folder of answers, or the folder of a run to score anew")
    return _submission(target, answer_files(answers, options), data, protocols, judging, allow_missing, json_to,
                       out, name, store)  # fmt: skip


def answer_files(values: Sequence[str], options: dict[str, str]) -> AnswerFiles:
    """`--answers` values and what else was said about them.

    Raises:
        BadInput: Files that do not exist, several without part names, a part named twice.
    """
    from ..answers import ReadOptions
    from ..roles import AnswerFiles

    paths: dict[str, Path] = {}
    for value in values:
        part, equals, place = value.partition("=")
        if not equals or Path(value).exists():
            part, place = "", value
        if part in paths:
            cure = f"part {part!r} is given twice" if part else "give one file or folder, or PART=PATH for each part"
            raise BadInput(f"--answers {value}: {cure}")
        if not Path(place).exists():
            raise BadInput(f"--answers {place}: no such file or folder")
        paths[part] = Path(place)
    if "" in paths and len(paths) > 1:
        raise BadInput(f"--answers {paths['']}: stands beside PART=PATH; give each file its part")
    for option in ("synonyms", "na_probs"):
        if options[option] and not Path(options[option]).is_file():
            raise BadInput(f"--{option.replace('_', '-')} {options[option]}: no such file")
    return AnswerFiles(paths, ReadOptions({key: value for key, value in options.items() if value}))


def _submission(
    name_of_task: str, files: AnswerFiles, data: str, protocols: list[str], judging: JudgeOptions, allow_missing: bool,
    json_to: str, out: str, name: str, store: str,
) -> int:  # fmt: skip
    from ..answers import score_source, score_submission
    from ..plan import choose_protocols, open_task

    task = open_task(name_of_task, choose_protocols(protocols, [name_of_task]).get(name_of_task, ""))
    if judging.judge and task.judge is None:
        raise BadInput(f"--judge {judging.judge}: nothing is judged in {task.name}")
    source, given = score_source(task, data, files)
    with _Judging(judging, store or (f"{out}/store.sqlite" if out else "")) as judge:
        found = score_submission(
            task, files, source, judge, allow_missing=allow_missing, data_given=given, name=name
        )  # fmt: skip
    paths = [write_scored(found, Path(out))] if out else []
    _report([found], paths, json_to)
    return EXIT_OK


def _run(
    folder: str, data: str, protocols: list[str], tasks: Sequence[str], judging: JudgeOptions, allow_missing: bool,
    json_to: str, out: str, store: str,
) -> int:  # fmt: skip
    from ..plan import choose_protocols
    from ..rescore import find_runs, has_role, rescore, task_of

    runs = find_runs(Path(folder), tasks)
    chosen = choose_protocols(protocols, [task_of(path) for path in runs])
    if judging.judge and not any(has_role(path) for path in runs):
        raise BadInput(f"--judge {judging.judge}: nothing is judged in {folder}")
    place = Path(out) if out else Path(folder) / "rescored"
    found, paths = [], []
    with _Judging(judging, store or f"{place}/store.sqlite") as judge:
        for path in runs:
            protocol = chosen.get(task_of(path), "")
            found.append(rescore(path, data=data, protocol=protocol, judge=judge, allow_missing=allow_missing))
    for one, path in zip(found, runs, strict=True):
        paths.append(write_scored(one, place / path.parent.relative_to(folder), flat=True))
    _report(found, paths, json_to)
    return EXIT_OK


def write_scored(found: Scored, out: Path, *, flat: bool = False) -> Path:
    """Result and samples files, under a folder of their model unless `out` is that."""
    from ..results import model_folder, write_result

    folder = out if flat else out / model_folder(found.result["model"]["name"])
    return write_result(folder, found.stem, found.result, found.rows, found.sums)


def _report(found: Sequence[Scored], paths: Sequence[Path], json_to: str) -> None:
    from .table import print_scores

    print_scores(found, paths, to_stderr=json_to == STDOUT)
    if json_to:
        several = len(found) > 1
        write_json(json_to, {_label(one, name, several): value for one in found for name, value in one.values.items()})


def _label(one: Scored, metric: str, several: bool) -> str:
    """A metric's name in `--json`; of several tasks, after the task's (and its model's, where these are several)."""
    return f"{one.label}/{metric}" if several else metric


class _Judging:
    """The judge and the store that keeps its verdicts, opened only for a judge that is a model."""

    def __init__(self, options: JudgeOptions, place: str) -> None:
        self._options, self._place = options, place
        self._store: Store | None = None

    def __enter__(self) -> Judge:
        from ..judges.opening import OFFLINE, open_judge

        if self._options.judge not in OFFLINE:
            from ..store import Store

            place = Path(self._place or "results/store.sqlite")
            place.parent.mkdir(parents=True, exist_ok=True)
            self._store = Store(place)
        self._judge = open_judge(self._options, self._store)
        return self._judge

    def __exit__(self, *error: object) -> None:
        self._judge.close()
        if self._store is not None:
            self._store.close()
