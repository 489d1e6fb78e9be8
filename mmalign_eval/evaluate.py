"""Models x tasks to result files: plan, answer, score, write."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .data.source import DataChoice
from .engine import Engine, request_keys
from .errors import BadInput, MmevalError, did_you_mean
from .images import ImageCache, cached_in
from .judges.base import Judge
from .judges.opening import open_judge
from .models.base import ModelAdapter
from .models.opening import open_model
from .overlap import overlap
from .plan import PlanSize, TaskPlan, base_name, choose_protocols, open_task, plan_size, plan_task, rows_hash
from .provenance import earlier_runs, provenance
from .registry import TASKS
from .requests import Choose, Request
from .results import Result, digest_json_list, model_folder, read_result, result_stem, signature, write_result
from .scoring import described, judged, score, summarize
from .store import Store

LOCKS = ".locks"  # folder of one file for each model whose results are in the output folder


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
        judge: Who judges in tasks that have a role for it: a model spec, `rule` or empty for the offline stand-in.
        judge_runs: Verdicts on each answer.
        judge_budget: Most that judging may cost: dollars (`5`), calls (`500calls`) or both, comma-separated.
        corrupt_cache: Most that corrupted images kept beside the store may take (`5GB`); empty: none is kept.
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
    judge: str = ""
    judge_runs: int = 1
    judge_budget: str = ""
    corrupt_cache: str = ""


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


def evaluate(
    config: RunConfig, reporter: Reporter | None = None, *, dry_run: bool = False, profile: bool = False
) -> RunOutcome:
    """Scores every model on every task; answers are kept in the store as they come.

    Args:
        config: What to do.
        reporter: Hears about progress.
        dry_run: Only plan: no weight is loaded, nothing is asked or written.
        profile: Seconds by phase are exact on every device (`phases`), which costs a little speed.

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
    unknown = [t for t in data.tasks if t not in map(base_name, names)]
    if unknown:
        raise BadInput(f"--data {unknown[0]}=: task {unknown[0]!r} is not selected{_instead(unknown[0], names)}")
    adapters = [open_model(spec, config.model_options) for spec in specs]
    run = _Run(config, reporter, names, protocols, data, profile)
    if dry_run:
        run.dry(adapters)
        return RunOutcome([], [], 0)
    return run.real(adapters)


def _instead(task: str, names: Sequence[str]) -> str:
    """The name that `--data` takes: of `blank(NAME)` it is NAME."""
    return did_you_mean(base_name(task), list(map(base_name, names)))


@dataclass
class _Run:
    """One run: what was asked for, opened and chosen."""

    config: RunConfig
    reporter: Reporter
    names: list[str]
    protocols: Mapping[str, str]
    data: DataChoice
    profile: bool = False

    def dry(self, adapters: Sequence[ModelAdapter]) -> None:
        """Reports plans only."""
        path = Path(self.config.store or Path(self.config.out) / "store.sqlite")
        store = Store(path) if path.exists() else None
        judge = open_judge(self.config, None)
        for adapter in adapters:
            for one, plans in _grouped(adapter, self.plans(adapter)):
                self.reporter.model(one)
                self.reporter.plan(one, _size(one, plans, store, judge))
        if store:
            store.close()

    def real(self, adapters: Sequence[ModelAdapter]) -> RunOutcome:
        """Answers and scores everything."""
        out = Path(self.config.out)
        with _locked(out, (adapter.name for adapter in adapters)):
            store = Store(self.config.store or out / "store.sqlite")
            try:
                judge = open_judge(self.config, store)
                judge.watch = self.reporter.task
                try:
                    outcome = RunOutcome([], [], 0)
                    with cached_in(_corrupt_cache(self.config, store)):
                        for adapter in adapters:
                            outcome = self.model(adapter, store, judge, outcome)
                    return outcome
                finally:
                    judge.close()
            finally:
                store.close()

    def plans(self, adapter: ModelAdapter) -> list[TaskPlan]:
        """Plans of all tasks for one model."""
        plans = []
        for name in self.names:
            task = open_task(name, self.protocols.get(name, ""), self._shots(name))
            if task.modality == "image" and not adapter.images:
                cure = "choose text tasks for it (or leave out backbone=true, if that is why)"
                raise BadInput(f"task {name} shows images, model {adapter.name} takes text only: {cure}")
            plans.append(plan_task(task, self.data, self.config.limit, self.config.seed))
        return plans

    def _shots(self, name: str) -> int | None:
        """`--few-shot` goes to the tasks that take shots; if none of those selected does, it is refused by the task."""
        if self.config.few_shot is None:
            return None
        takes = [n for n in self.names if open_task(n, self.protocols.get(n, "")).takes_shots]
        return self.config.few_shot if name in takes or not takes else None

    def model(self, adapter: ModelAdapter, store: Store, judge: Judge, outcome: RunOutcome) -> RunOutcome:
        """All tasks on one model, added to the outcome."""
        plans = self.plans(adapter)
        folder = _model_folder(Path(self.config.out), adapter)
        done: dict[str, tuple[Result, Path]] = {}
        errors = outcome.errors
        for one, group in _grouped(adapter, plans):
            engine = Engine(one, store)
            engine.work.exact = self.profile
            self.reporter.model(one)
            self.reporter.plan(one, _size(one, group, store, judge))
            try:
                for number, plan in enumerate(group):
                    later = dict(pair for to_come in group[number + 1 :] for pair in to_come.by_key())
                    result, path = self.task(one, engine, plan, judge, folder, later)
                    errors += result["counts"]["n_error"] + result["counts"]["n_refused"]
                    done[plan.task.name] = result, path
                    self.reporter.result(result, path)
            finally:
                one.close()
        ordered = [done[name] for name in self.names]
        results = [*outcome.results, *(result for result, _ in ordered)]
        return RunOutcome(results, [*outcome.paths, *(path for _, path in ordered)], errors)

    def task(
        self,
        adapter: ModelAdapter,
        engine: Engine,
        plan: TaskPlan,
        judge: Judge,
        folder: Path,
        later: Mapping[str, Request],
    ) -> tuple[Result, Path]:
        """One task on one model, to its result file; requests of later tasks on its images are asked with its own."""
        started = time.time()
        flat = plan.flat
        responses, stats = engine.run(flat, plan.keys, self.reporter.task(plan.task.name, len(flat)), later)
        begin = time.perf_counter()
        rows = score(plan, responses)
        judged(plan.task, rows, judge)
        found = summarize(plan.task, [row["record"] for row in rows if row["record"] is not None])
        result = {
            **described(plan.task, rows, judge=judge.describe() if plan.task.judge else None),
            **_asked(self.config, adapter, plan),
            **_contamination(adapter, plan),
            "metrics": found.as_json(),
            "provenance": provenance(self.config.seed, started, stats, time.perf_counter() - begin, adapter.describe()),
        }
        result["signature"] = signature(result)
        judged_by = plan.task.judged_by if plan.task.judge and plan.task.judged_by != plan.task.judge.stand_in else ""
        stem = result_stem(plan.task.name, plan.task.protocol_name, plan.task.default_protocol, judged_by)
        result["provenance"]["earlier_runs"] = earlier_runs(folder / f"{stem}.json", result)
        path = write_result(folder, stem, result, rows, found.sums)
        return read_result(path), path


def _corrupt_cache(config: RunConfig, store: Store) -> ImageCache | None:
    """The cache of corrupted images, beside the store, if one was asked for."""
    if not config.corrupt_cache:
        return None
    from .data.corruptions.cache import CorruptCache, bytes_of

    return CorruptCache(store.path.parent / "corrupt-cache", bytes_of(config.corrupt_cache))


def _grouped(adapter: ModelAdapter, plans: Sequence[TaskPlan]) -> Iterator[tuple[ModelAdapter, list[TaskPlan]]]:
    """Text tasks first, so that a backbone is gone before the whole model comes."""
    text = [plan for plan in plans if plan.task.modality == "text"]
    image = [plan for plan in plans if plan.task.modality == "image"]
    if text:
        yield adapter.for_text(), text
    if image:
        yield adapter, image


def _size(adapter: ModelAdapter, plans: Sequence[TaskPlan], store: Store | None, judge: Judge) -> PlanSize:
    """What the plans ask of a model and, at most and at the first attempt, of the judge."""
    verdicts = sum(len(plan.samples) for plan in plans if plan.task.judge) * judge.runs
    return replace(plan_size(plans, adapter, _answered_before(adapter, plans, store)), judge_calls=verdicts)


def _answered_before(adapter: ModelAdapter, plans: Sequence[TaskPlan], store: Store | None) -> int:
    """Gives the plans their keys (refusing what cannot be asked) and counts the requests that the store answers."""
    for plan in plans:
        plan.keys = request_keys(adapter, plan.flat)
    keys = list(dict.fromkeys(key for plan in plans for key in plan.keys))
    return len(store.get_many(keys)) if store else 0


def _asked(config: RunConfig, adapter: ModelAdapter, plan: TaskPlan) -> Result:
    """The part of a result file that tells of model, data and prompts."""
    params = next((r.params for r in plan.flat if not isinstance(r, Choose)), None)
    return {
        "model": _model(adapter),
        "data": {
            "source": str(plan.source),
            "hash": plan.data_hash(),
            "limit": config.limit,
            "rows": rows_hash(plan.samples),
        },
        "seed": config.seed,
        "params": adapter.effective(params) if params else {},
        "prompt": adapter.render(plan.flat[0]),
        "prompt_hash": digest_json_list(request.canonical for request in plan.flat),
    }


def _model(adapter: ModelAdapter) -> Result:
    """Who it is, and how it was made where that is on record: tables find its base by it."""
    who = {"name": adapter.name, "fingerprint": adapter.fingerprint(), "identity": adapter.identity()}
    tuned = adapter.tuned()
    return {**who, "tuned": tuned} if tuned else who


def _contamination(adapter: ModelAdapter, plan: TaskPlan) -> Result:
    """How many of the task's images a checkpoint of our tuning was trained on, where that is on record."""
    trained = adapter.training_record() if plan.task.modality == "image" else None
    return {"contamination": overlap(plan.samples, trained).as_json()} if trained is not None else {}


def _model_folder(out: Path, adapter: ModelAdapter) -> Path:
    """`<out>/<name>`, or with the fingerprint appended when another model of that name has results there."""
    name = model_folder(adapter.name)
    mine = {adapter.fingerprint(), adapter.for_text().fingerprint()}
    for file in sorted((out / name).glob("*.json")):
        with contextlib.suppress(MmevalError):  # a damaged file there is rewritten, not a reason to stop
            if read_result(file)["model"]["fingerprint"] not in mine:
                return out / f"{name}-{adapter.fingerprint()[:8]}"
    return out / name


@contextlib.contextmanager
def _locked(out: Path, models: Iterable[str]) -> Iterator[None]:
    """Holds the models' places in the output folder for this process; a lock goes with the process, however it ends."""
    import fcntl

    with contextlib.ExitStack() as held:
        for name in sorted(set(map(model_folder, models))):
            try:
                (out / LOCKS).mkdir(parents=True, exist_ok=True)
                file = held.enter_context((out / LOCKS / name).open("a+"))
            except OSError as error:
                raise BadInput(f"--out {out}: cannot write there ({error.strerror})") from error
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                raise BadInput(
                    f"--out {out}: another run (process {file.read().strip() or 'unknown'}) is writing results of "
                    f"{name} there; wait for it or give another --out (--store can be shared)"
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield
