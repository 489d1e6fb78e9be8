"""Models x tasks to result files: plan, answer, score, write."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .data.source import DataChoice
from .engine import Engine, request_keys
from .errors import BadInput, MmevalError, PluginError, did_you_mean, located
from .models.base import ModelAdapter
from .plan import PlanSize, TaskPlan, choose_protocols, open_task, plan_size, plan_task
from .provenance import earlier_runs, provenance
from .registry import MODELS, TASKS, load_model_entry_points, source_file
from .requests import Choose, Request, Response
from .results import SCHEMA, Result, digest_json, metrics_json, read_result, result_stem, signature, write_result
from .stats import Estimate, estimates
from .store import Store
from .task import Record, Sample, Task

INLINE_OPTION = re.compile(r",(?=[a-z_]+=)")


@dataclass(frozen=True)
class RunConfig:
    """What `mmeval run` was asked to do; the keys of `--config FILE.yaml` are these fields.

    Attributes:
        models: `mini`, `hf:PATH_OR_ID`, `openai:NAME`, `scripted:FILE`; `,key=value` appends options for one model.
        tasks: Names, groups or globs.
        model_options: `-M key=value` for every model.
        limit: First samples of each part of a task; None: all.
        seed: Seed of the run; per-sample seeds derive from it.
        few_shot: Shots for tasks that have shots; None: the protocol's own.
        protocol: A protocol for all tasks, and `TASK=NAME` for one.
        data: `mini`, `hub`, a folder, and `TASK=DIR` for one.
        out: Folder of the result files.
        store: The response store; empty: `<out>/store.sqlite`.
        max_errors: Sample errors above which the exit code is 4.
        include: Task plugin files.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...] = ("all",)
    model_options: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    seed: int = 0
    few_shot: int | None = None
    protocol: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    out: str = "results"
    store: str = ""
    max_errors: int = 0
    include: tuple[str, ...] = ()


class Reporter:
    """Hears what happens in a run; the base class is silent."""

    def model(self, adapter: ModelAdapter) -> None:
        """A model was opened (weights not loaded)."""

    def plan(self, adapter: ModelAdapter, size: PlanSize) -> None:
        """What will be asked of it."""

    def task(self, name: str, total: int) -> Callable[[int, int], None]:
        """A task begins; returns what is called with (answers, errors) as they come."""
        return lambda ok, bad: None

    def result(self, result: Result, path: Path) -> None:
        """A result file was written."""


@dataclass(frozen=True)
class RunOutcome:
    """What a run leaves.

    Attributes:
        results: The results, in the order of models and tasks.
        paths: Their files.
        errors: Failed samples over all of them.
    """

    results: list[Result]
    paths: list[Path]
    errors: int


def evaluate(config: RunConfig, reporter: Reporter | None = None, *, dry_run: bool = False) -> RunOutcome:
    """Scores every model on every task; answers are kept in the store as they come.

    Args:
        config: What to do.
        reporter: Hears about progress.
        dry_run: Only plan: no weight is loaded, nothing is asked or written.

    Raises:
        MmevalError: With one line for the user; finished answers are kept.
    """
    reporter = reporter or Reporter()
    for path in config.include:
        TASKS.include(path)
    names = TASKS.resolve(config.tasks)
    if not names:
        raise BadInput(f"--tasks {','.join(config.tasks)}: nothing selected")
    protocols = choose_protocols(config.protocol, names)
    specs = list(dict.fromkeys(config.models))
    data = DataChoice.parse(config.data, only_mini=all(spec.split(":")[0].split(",")[0] == "mini" for spec in specs))
    unknown = [t for t in data.tasks if t not in names]
    if unknown:
        raise BadInput(f"--data {unknown[0]}=: task {unknown[0]!r} is not selected{did_you_mean(unknown[0], names)}")
    adapters = [open_model(spec, config.model_options) for spec in specs]
    if dry_run:
        return _dry_run(config, reporter, adapters, names, protocols, data)
    out = Path(config.out)
    with _locked(out):
        store = Store(config.store or out / "store.sqlite")
        try:
            outcome = RunOutcome([], [], 0)
            for adapter in adapters:
                outcome = _run_model(config, reporter, adapter, names, protocols, data, store, outcome)
            return outcome
        finally:
            store.close()


def open_model(spec: str, options: Mapping[str, str]) -> ModelAdapter:
    """Opens an adapter from `KIND:TARGET[,key=value...]`; options in the spec win over `options`.

    Raises:
        BadInput: Unknown kind or option, or a target that is not there.
    """
    load_model_entry_points()
    head, *inline = INLINE_OPTION.split(spec)
    kind, colon, target = head.partition(":")
    if head and kind not in MODELS.names() and Path(head).exists():
        raise BadInput(f"unknown model kind in {spec!r} - did you mean hf:{head}?")
    factory = MODELS.get(kind)
    own = dict(item.split("=", 1) for item in inline)
    adapter: ModelAdapter = factory(target if colon else "", {**options, **own})
    return adapter


def _plans(
    config: RunConfig, adapter: ModelAdapter, names: Sequence[str], protocols: Mapping[str, str], data: DataChoice
) -> list[TaskPlan]:
    """Plans of all tasks for one model; text tasks first, so that a backbone is gone before the whole model comes."""
    plans = []
    for name in names:
        task = open_task(name, protocols.get(name, ""), _shots(config, name, names, protocols))
        if task.modality == "image" and not adapter.images:
            cure = "choose text tasks for it (or leave out backbone=true, if that is why)"
            raise BadInput(f"task {name} shows images, model {adapter.name} takes text only: {cure}")
        plans.append(plan_task(task, data, config.limit, config.seed))
    return plans


def _shots(config: RunConfig, name: str, names: Sequence[str], protocols: Mapping[str, str]) -> int | None:
    """`--few-shot` goes to the tasks that take shots; if none of those selected does, it is refused by the task."""
    if config.few_shot is None:
        return None
    takes = [n for n in names if open_task(n, protocols.get(n, "")).takes_shots]
    return config.few_shot if name in takes or not takes else None


def _grouped(adapter: ModelAdapter, plans: Sequence[TaskPlan]) -> Iterator[tuple[ModelAdapter, list[TaskPlan]]]:
    text = [plan for plan in plans if plan.task.modality == "text"]
    image = [plan for plan in plans if plan.task.modality == "image"]
    if text:
        yield adapter.for_text(), text
    if image:
        yield adapter, image


def _dry_run(
    config: RunConfig,
    reporter: Reporter,
    adapters: Sequence[ModelAdapter],
    names: Sequence[str],
    protocols: Mapping[str, str],
    data: DataChoice,
) -> RunOutcome:
    path = Path(config.store or Path(config.out) / "store.sqlite")
    store = Store(path) if path.exists() else None
    for adapter in adapters:
        for one, plans in _grouped(adapter, _plans(config, adapter, names, protocols, data)):
            reporter.model(one)
            reporter.plan(one, plan_size(plans, one, _answered_before(one, plans, store)))
    if store:
        store.close()
    return RunOutcome([], [], 0)


def _answered_before(adapter: ModelAdapter, plans: Sequence[TaskPlan], store: Store | None) -> int:
    """Gives the plans their keys (refusing what cannot be asked) and counts the requests that the store answers."""
    for plan in plans:
        plan.keys = request_keys(adapter, plan.flat)
    keys = list(dict.fromkeys(key for plan in plans for key in plan.keys))
    return len(store.get_many(keys)) if store else 0


def _run_model(
    config: RunConfig,
    reporter: Reporter,
    adapter: ModelAdapter,
    names: Sequence[str],
    protocols: Mapping[str, str],
    data: DataChoice,
    store: Store,
    outcome: RunOutcome,
) -> RunOutcome:
    plans = _plans(config, adapter, names, protocols, data)
    folder = _model_folder(Path(config.out), adapter)
    done: dict[str, tuple[Result, Path]] = {}
    errors = outcome.errors
    for one, group in _grouped(adapter, plans):
        engine = Engine(one, store)
        reporter.model(one)
        reporter.plan(one, plan_size(group, one, _answered_before(one, group, store)))
        try:
            for plan in group:
                result, path = _run_task(config, reporter, one, engine, plan, folder)
                errors += result["counts"]["n_error"] + result["counts"]["n_refused"]
                done[plan.task.name] = result, path
                reporter.result(result, path)
        finally:
            one.close()
    ordered = [done[name] for name in names]
    return RunOutcome([*outcome.results, *(r for r, _ in ordered)], [*outcome.paths, *(p for _, p in ordered)], errors)


def _run_task(
    config: RunConfig, reporter: Reporter, adapter: ModelAdapter, engine: Engine, plan: TaskPlan, folder: Path
) -> tuple[Result, Path]:
    started = time.time()
    flat = plan.flat
    advance = reporter.task(plan.task.name, len(flat))
    responses, stats = engine.run(flat, plan.keys, advance)
    begin = time.perf_counter()
    rows = score(plan, responses)
    records = [row["record"] for row in rows if row["record"] is not None]
    found = aggregate(plan.task, records)
    result = {
        **_describe(config, adapter, plan, rows),
        "metrics": metrics_json(found),
        "provenance": provenance(config.seed, started, stats, time.perf_counter() - begin, adapter.describe()),
    }
    result["signature"] = signature(result)
    stem = result_stem(plan.task.name, plan.task.protocol_name, plan.task.default_protocol)
    result["provenance"]["earlier_runs"] = earlier_runs(folder / f"{stem}.json", result)
    path = write_result(folder, stem, result, rows)
    return read_result(path), path


def score(plan: TaskPlan, responses: Sequence[Response]) -> list[dict[str, Any]]:
    """One row a sample: what was asked, what came back, and the record if it could be scored.

    Raises:
        PluginError: The task's code fails on an answer (with its cause and line).
    """
    rows, at = [], 0
    for sample, requests in zip(plan.samples, plan.requests, strict=True):
        answers = responses[at : at + len(requests)]
        at += len(requests)
        rows.append(_row(plan, sample, requests, answers))
    return rows


def aggregate(task: Task, records: Sequence[Record]) -> list[Estimate]:
    """Metrics of scored records; corpus-level fields are added to the records.

    Raises:
        PluginError: The task's code fails (with its cause and line).
    """
    try:
        if records:
            task.finish(records)
        return estimates(task.metrics(), records)
    except MmevalError:
        raise
    except Exception as error:
        cause = located(error, source_file(type(task)))
        raise PluginError(f"task {task.name} cannot aggregate: {cause} (the answers are kept in the store)") from error


def _row(plan: TaskPlan, sample: Sample, requests: Sequence[Request], answers: Sequence[Response]) -> dict[str, Any]:
    failed = next((a for a in answers if not a.answered), None)
    truncated = any(a.status == "truncated" for a in answers)
    record: Record | None = None
    if failed is None:
        try:
            record = plan.task.record(sample, answers)
        except MmevalError:
            raise
        except Exception as error:
            raise PluginError(
                f"task {plan.task.name} cannot score sample {sample.id}: "
                f"{located(error, source_file(type(plan.task)))} (the answers are kept in the store)"
            ) from error
        record.setdefault("id", sample.id)
        record.setdefault("cluster", sample.cluster or sample.id)
    return {
        "id": sample.id,
        "part": sample.part,
        "cluster": sample.cluster or sample.id,
        "status": failed.status if failed else "truncated" if truncated else "ok",
        "error": failed.error if failed else "",
        "prompts": [request.prompt.text for request in requests],
        "answers": [_answer(q, a) for q, a in zip(requests, answers, strict=True)],
        "record": record,
    }


def _answer(request: Request, response: Response) -> dict[str, Any]:
    if isinstance(request, Choose):
        return {"options": request.options, "logprobs": response.logprobs}
    return {"text": response.text, "finish": response.finish, "new_tokens": response.new_tokens}


def _describe(config: RunConfig, adapter: ModelAdapter, plan: TaskPlan, rows: Sequence[dict[str, Any]]) -> Result:
    task, statuses = plan.task, [row["status"] for row in rows]
    first = plan.flat[0]
    params = next((r.params for r in plan.flat if not isinstance(r, Choose)), None)
    return {
        "kind": "mmeval-result",
        "schema": SCHEMA,
        "task": {
            "name": task.name,
            "version": task.version,
            "protocol": task.protocol_name,
            "default_protocol": task.default_protocol,
            "modality": task.modality,
            "shots": task.shots,
            "headline": list(task.headline),
            "sources": list(task.sources),
            "note": task.protocol.note,
            "extra": dict(task.signature_extra()),
        },
        "model": {"name": adapter.name, "fingerprint": adapter.fingerprint(), "identity": adapter.identity()},
        "data": {"source": str(plan.source), "hash": plan.data_hash(), "limit": config.limit},
        "counts": {
            "n": len(rows),
            "n_ok": statuses.count("ok"),
            "n_truncated": statuses.count("truncated"),
            "n_error": statuses.count("error"),
            "n_refused": statuses.count("refused"),
        },
        "errors": list(dict.fromkeys(f"{row['id']}: {row['error']}" for row in rows if row["error"]))[:5],
        "seed": config.seed,
        "params": adapter.effective(params) if params else {},
        "prompt": adapter.render(first),
        "prompt_hash": digest_json([request.canonical for request in plan.flat]),
    }


def _model_folder(out: Path, adapter: ModelAdapter) -> Path:
    """`<out>/<name>`, or with the fingerprint appended when another model of that name has results there."""
    name = "".join(c if c.isalnum() or c in "._-+" else "-" for c in adapter.name) or "model"
    mine = {adapter.fingerprint(), adapter.for_text().fingerprint()}
    for file in sorted((out / name).glob("*.json")):
        with contextlib.suppress(MmevalError):  # a damaged file there is rewritten, not a reason to stop
            if read_result(file)["model"]["fingerprint"] not in mine:
                return out / f"{name}-{adapter.fingerprint()[:8]}"
    return out / name


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Holds the output folder for this process; the lock goes with the process, however it ends."""
    import fcntl

    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("a+")
    except OSError as error:
        raise BadInput(f"--out {out}: cannot write there ({error.strerror})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise BadInput(
                f"--out {out}: another run (process {file.read().strip() or 'unknown'}) is writing there; "
                f"wait for it or give another --out (--store can be shared)"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
