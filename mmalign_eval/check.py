"""`mmeval tasks check`: does a task do what it says? Real samples, requests, engine, store, parser and aggregation.

Scripted models answer right, wrong and not at all; right answers must score full marks, wrong ones must not, and a
model that fails must not be scored at all.
"""

from __future__ import annotations

import copy
import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .conducts import CONDUCTS, EMPTY, FAILING, HALF_RIGHT, REFUSING, RIGHT, Conduct, nasty_texts
from .data.source import DataChoice
from .engine import Engine
from .errors import MmevalError, PluginError, located
from .judges.base import OfflineJudge
from .metrics.base import Metric
from .metrics.formula import Formula
from .plan import TaskPlan, asked, open_task, plan_task
from .registry import source_file
from .requests import Choose, Request, Response
from .scoring import aggregate, judged, score
from .stats import Estimate, estimates
from .store import Store, request_key
from .task import LmEvalTask, Record, Sample, Task
from .templates import check_name

TOLERANCE = 1e-9  # relative to the larger of 1 and the value
SHORT = 10_000  # characters


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        what: What should hold.
        cause: Why it does not; empty if it does.
        cure: What to do about it.
    """

    what: str
    cause: str = ""
    cure: str = ""

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return not self.cause


@dataclass
class Report:
    """What the check of one task under one protocol found.

    Attributes:
        task: Name of the task.
        protocol: Name of the protocol.
        data: Where the samples came from.
        n: Samples asked.
        headline: Metrics that the table shows.
        values: Conduct name to its estimates by metric name.
        findings: In the order in which they were checked.
        notes: What else to know.
    """

    task: str
    protocol: str
    data: str = ""
    n: int = 0
    headline: tuple[str, ...] = ()
    values: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything holds."""
        return all(finding.passed for finding in self.findings)

    def found(self, what: str, cause: str = "", cure: str = "") -> bool:
        """Notes a finding; returns whether it holds."""
        self.findings.append(Finding(what, cause, cure if cause else ""))
        return not cause


@dataclass(frozen=True)
class _Outcome:
    """What came of a conduct: rows as result files have them, records before and after `finish`, values by name."""

    rows: list[dict[str, Any]]
    raw: list[Record]
    records: list[Record]
    values: dict[str, Estimate]


Right = dict[Request, tuple[Response, int]]


def protocols_of(name: str) -> list[str]:
    """The protocols of a task, by name (or `lm_eval:NAME`), the default first.

    Raises:
        BadInput: Unknown task.
    """
    task = open_task(name)
    return sorted(task.protocols, key=lambda protocol: protocol != task.default_protocol)


def check_task(name: str, protocol: str, data: DataChoice, limit: int = 20) -> Report:
    """Checks a task under one protocol.

    Args:
        name: A task name, or `lm_eval:NAME`.
        protocol: Name of the protocol; empty: the default.
        data: Where its samples come from.
        limit: First samples of each part.

    Raises:
        BadInput: Unknown task or protocol, or its data cannot be opened.
    """
    task = open_task(name, protocol)
    report = Report(task.name, task.protocol_name)
    step = "samples and requests can be made"
    try:
        plan = plan_task(task, data, limit, seed=0)
        report.data, report.n = str(plan.source), len(plan.samples)
        report.found(f"{step} ({report.n} samples, {len(plan.flat)} requests)")
        step = "requests are frozen and repeatable"
        if not _requests(plan, report):
            return report
        step = "right_answer() gives one response for each request"
        plan, right = _right_responses(plan, report)
        if right is None:
            return report
        step = "scripted models can be scored"
        outcomes = _conducts(plan, right, report)
        step = "scores mean what they say"
        for examine in (_metrics, _answered, _full_marks, _wrong, _failed, _records, _order):
            examine(plan, outcomes, report)
        step = "odd texts can be parsed and scored"
        _parser(plan, report)
    except PluginError as error:
        report.found(step, str(error), "the line named is where to look")
    except MmevalError:
        raise
    except Exception as error:
        report.found(step, located(error, source_file(type(task))), "the line named is where to look")
    return report


def _requests(plan: TaskPlan, report: Report) -> bool:
    what = "requests are frozen and repeatable"
    ids = [sample.id for sample in plan.samples]
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        return report.found("sample ids are unique", f"{twice!r} occurs twice", "make ids of what tells samples apart")
    for sample, group in zip(plan.samples, plan.requests, strict=True):
        for request in group:
            check_name(request.prompt.template, f"task {plan.task.name}")
            try:
                hash(request)
            except TypeError as error:
                return report.found(what, f"sample {sample.id}: {error}", "use tuples, not lists, inside requests")
            if isinstance(request, Choose) and not request.options:
                return report.found(what, f"sample {sample.id}: Choose without options")
    for sample, group in reversed(list(zip(plan.samples, plan.requests, strict=True))):
        if asked(plan.task, sample, 0) != group:
            cure = "draw from random.Random(seed of the sample's id), not from a generator that moves on"
            return report.found(what, f"sample {sample.id}: asked again, requests() gives others", cure)
    if plan.task.modality == "image" and not any(request.prompt.images for request in plan.flat):
        return report.found("requests show images", "none does in an image task", "pass sample.images on")
    return report.found(what)


def _right_responses(plan: TaskPlan, report: Report) -> tuple[TaskPlan, Right | None]:
    """The right response of every request; samples that repeat another's requests with another answer are left out."""
    what = "right_answer() gives one response for each request"
    right: Right = {}
    by_content: dict[str, Response] = {}
    kept: list[tuple[Sample, tuple[Request, ...]]] = []
    for sample, group in zip(plan.samples, plan.requests, strict=True):
        given = list(plan.task.right_answer(sample))
        cause = _mismatch(group, given)
        if cause:
            report.found(what, f"sample {sample.id}: {cause}")
            return plan, None
        keys = [request_key("", request) for request in group]
        if all(by_content.setdefault(key, answer) == answer for key, answer in zip(keys, given, strict=True)):
            kept.append((sample, group))
            right.update((request, (answer, len(kept))) for request, answer in zip(group, given, strict=True))
    left_out = len(plan.samples) - len(kept)
    if left_out:
        report.notes.append(f"{left_out} samples left out: they ask what another asks, with another right answer")
    report.found(what)
    return replace(plan, samples=[s for s, _ in kept], requests=[g for _, g in kept]), right


def _mismatch(group: Sequence[Request], given: Sequence[Response]) -> str:
    if len(given) != len(group):
        return f"{len(group)} requests, {len(given)} right responses"
    for request, response in zip(group, given, strict=True):
        if not isinstance(response, Response) or not response.answered:
            return f"{response!r:.80} is not an answered Response"
        if isinstance(request, Choose) and len(response.logprobs) != len(request.options):
            return f"{len(request.options)} options, {len(response.logprobs)} log-likelihoods"
    return ""


def _conducts(plan: TaskPlan, right: Right, report: Report) -> dict[str, _Outcome]:
    with tempfile.TemporaryDirectory(prefix="mmeval-check-") as folder:
        store = Store(Path(folder) / "store.sqlite")
        try:
            outcomes = {conduct.name: _outcome(plan, conduct, right, store) for conduct in CONDUCTS}
        finally:
            store.close()
    report.values = {name: outcome.values for name, outcome in outcomes.items()}
    names = [metric.name for metric in plan.task.metrics()]
    report.headline = plan.task.headline or tuple(names)
    return outcomes


def _outcome(plan: TaskPlan, conduct: Conduct, right: Right, store: Store) -> _Outcome:
    engine = Engine(conduct.model(right), store)
    responses, _ = engine.run(plan.flat)
    try:
        rows = score(plan, responses)
        judged(plan.task, rows, OfflineJudge())
        records = [row["record"] for row in rows if row["record"] is not None]
        return _Outcome(rows, copy.deepcopy(records), records, _values(plan.task, records))
    except Exception as error:
        cause = str(error) if isinstance(error, MmevalError) else located(error, source_file(type(plan.task)))
        raise PluginError(f"conduct {conduct.name!r}: {cause}") from error


def _values(task: Task, records: list[Record]) -> dict[str, Estimate]:
    return _by_name(aggregate(task, records))


def _by_name(found: Sequence[Estimate]) -> dict[str, Estimate]:
    return {estimate.name: estimate for estimate in found}


def _metrics(plan: TaskPlan, outcomes: dict[str, _Outcome], report: Report) -> None:
    names = [metric.name for metric in plan.task.metrics()]
    unknown = [name for name in plan.task.headline if name not in names]
    cause = "there is none" if not names else ""
    if len(set(names)) < len(names):
        cause = f"{next(n for n in names if names.count(n) > 1)!r} occurs twice"
    if unknown:
        cause = f"headline names {unknown[0]!r}, which is none of {', '.join(names)}"
    unwritten = [m.name for m in plan.task.metrics() if m.corpus is None and not isinstance(m.value, Formula)]
    if unwritten:
        report.notes.append(f"no Formula, so no paired test in comparisons: {_some(unwritten)}")
    report.found("metrics have unique names, the headline's among them", cause, "see metrics() and headline")


def _answered(plan: TaskPlan, outcomes: dict[str, _Outcome], report: Report) -> None:
    what = "every conduct but the failing one is scored on every sample"
    for name, outcome in outcomes.items():
        failed = [row for row in outcome.rows if row["record"] is None]
        if failed and name != FAILING.name:
            report.found(what, f"conduct {name!r}, sample {failed[0]['id']}: {failed[0]['error']}")
            return
    report.found(what)


def _full_marks(plan: TaskPlan, outcomes: dict[str, _Outcome], report: Report) -> None:
    right = outcomes[RIGHT.name].values
    below = REFUSING if _only_chooses(plan) else EMPTY  # the conduct that an unbounded metric must rank lower
    causes: list[str] = []
    uncounted: list[str] = []
    for metric in plan.task.metrics():
        value = right.get(metric.name)
        if value is None or value.n == 0:
            uncounted.append(metric.name)
        elif metric.better != "neither":
            causes += _short_of_full(metric, value, outcomes[below.name].values.get(metric.name), below.name)
    if uncounted:
        report.notes.append(f"no sample counts for {_some(uncounted)}")
    if len(uncounted) >= len(right):
        causes = ["no metric counts any sample"]
    cure = "correct right_answer(), the parser or the score; a metric without a known best value says best=None"
    report.found("right answers score full marks", _some(causes), cure)


def _some(causes: Sequence[str], most: int = 5) -> str:
    more = f"; and {len(causes) - most} more" if len(causes) > most else ""
    return "; ".join(causes[:most]) + more


def _short_of_full(metric: Metric, right: Estimate, other: Estimate | None, name: str) -> Iterator[str]:
    if right.value is None:
        yield f"{metric.name} is undefined on {right.n} right answers (more samples: --limit)"
    elif metric.best is not None:
        if not _equal(right.value, metric.best):
            yield f"{metric.name} is {right.value:.9g}, best is {metric.best:g}"
    elif other is not None and other.value is not None and not _beats(right, other):
        yield f"{metric.name} is {right.value:.6g} for right answers, {other.value:.6g} for {name} ones"


def _wrong(plan: TaskPlan, outcomes: dict[str, _Outcome], report: Report) -> None:
    right = outcomes[RIGHT.name].values
    for conduct in (c for c in CONDUCTS if c.wrong):
        values = outcomes[conduct.name].values
        better = [n for n in report.headline if n in values and n in right and _beats(values[n], right[n])]
        cause = "; ".join(f"{n} is {values[n].value:.6g}, {right[n].value:.6g} for right answers" for n in better)
        report.found(f"{conduct.name} answers never beat right ones", cause, "does the Metric say which way is better?")
        if conduct.indifferent and _only_chooses(plan):
            continue  # an option that wins by its place may be the right one
        cause = "" if _changed(right, values) else f"every metric is as for right answers ({len(plan.samples)} samples)"
        cure = "is the parser too generous, or do all samples share one right answer (more samples: --limit)?"
        report.found(f"metrics tell {conduct.name} answers from right ones", cause, cure)


def _failed(plan: TaskPlan, outcomes: dict[str, _Outcome], report: Report) -> None:
    outcome = outcomes[FAILING.name]
    errors = sum(row["status"] == "error" for row in outcome.rows)
    valued = [name for name, e in outcome.values.items() if e.value is not None or e.n]
    cause = f"{errors} of {len(plan.samples)} samples count as errors" if errors < len(plan.samples) else ""
    if valued:
        cause = f"{valued[0]} has a value although nothing was answered"
    report.found("a failing model counts as errors and is never scored", cause, "let stat use the records it is given")


def _records(plan: TaskPlan, outcomes: dict[str, _Outcome], report: Report) -> None:
    outcome, what = outcomes[HALF_RIGHT.name], "records survive being written and read"
    try:
        read = [json.loads(json.dumps(record)) for record in outcome.records]
    except (TypeError, ValueError) as error:
        cure = "records hold JSON values only: str, int, float, bool, None, list, dict"
        report.found(what, " ".join(str(error).split()), cure)
        return
    cause = _changed(outcome.values, _by_name(estimates(plan.task.metrics(), read)))
    report.found(what, cause, "in a file, keys become strings and tuples become lists")


def _order(plan: TaskPlan, outcomes: dict[str, _Outcome], report: Report) -> None:
    outcome = outcomes[HALF_RIGHT.name]  # half right: the values are no extremes, where many a wrong formula is right
    shuffled = copy.deepcopy(outcome.raw)
    random.Random(0).shuffle(shuffled)
    cause = _changed(outcome.values, _values(plan.task, shuffled))
    report.found("metrics do not depend on the order of records", cause, "let stat and finish() use sums, not places")


def _parser(plan: TaskPlan, report: Report) -> None:
    task, what = plan.task, "nasty texts (control characters, odd scripts, a million characters) can be scored"
    asking = [(s, g) for s, g in zip(plan.samples, plan.requests, strict=True) if not _chooses(g)]
    texts = nasty_texts() if asking else []
    if isinstance(task, LmEvalTask):  # lm-eval's own scorers: theirs to make fast
        texts = [text for text in texts if len(text) < SHORT]
    for number, text in enumerate(texts):
        sample, group = asking[number % len(asking)]
        right = task.right_answer(sample)
        given = [a if isinstance(q, Choose) else Response("ok", text=text) for q, a in zip(group, right, strict=True)]
        try:
            json.dumps(task.record(sample, given))
        except Exception as error:
            cause = f"sample {sample.id}, text {text[:40]!r}: {located(error, source_file(type(task)))}"
            report.found(what, cause, "a parser gives a wrong answer for what it cannot read; it never raises")
            return
    if texts:
        report.found(f"{len(texts)} {what}")


def _only_chooses(plan: TaskPlan) -> bool:
    return all(_chooses(group) for group in plan.requests)


def _chooses(group: Sequence[Request]) -> bool:
    return all(isinstance(request, Choose) for request in group)


def _beats(a: Estimate, b: Estimate) -> bool:
    """Whether `a` is better than `b` by more than rounding; undefined values beat nothing."""
    if a.better == "neither" or a.value is None or b.value is None or _equal(a.value, b.value):
        return False
    return a.value > b.value if a.better == "higher" else a.value < b.value


def _changed(before: Mapping[str, Estimate], after: Mapping[str, Estimate]) -> str:
    """The first metric whose value differs, with both values; empty if none does."""
    for name, estimate in before.items():
        a, b = estimate.value, after[name].value if name in after else None
        if a is None or b is None:
            if a is not b:
                return f"{name} is {a} and then {b}"
        elif not _equal(a, b):
            return f"{name} is {a:.9g} and then {b:.9g}"
    return ""


def _equal(a: float, b: float) -> bool:
    return abs(a - b) <= TOLERANCE * max(1.0, abs(b))
