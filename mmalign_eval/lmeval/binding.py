"""Attaches lm-eval's code to an `LmEvalTask`: documents in, requests out, responses in, records out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ..data.source import Source
from ..errors import BadInput
from ..requests import Choose, Request, Response
from ..task import LmEvalTask, Record, Sample
from .aggregate import ZERO_ONE, group_mean, to_metric
from .convert import Slot, answer, to_requests
from .parts import Doc, Part, PartSpec, load_config

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import ConfigurableTask

    from ..metrics.base import Metric

UNLIKELY = -1000.0  # log-likelihood of what a model that answers right does not say; right options get -1
GOLD = -1.0


def bind(task: LmEvalTask, source: Source | None = None) -> None:
    """Makes `task` ready: reads its documents and builds lm-eval's task objects on them.

    Args:
        task: The task; what was bound before is replaced.
        source: Where its documents come from; None: metrics and versions only, which need no data.

    Raises:
        BadInput: Data missing or in another layout, shots that the task does not take, a task file that the
            installed lm-eval does not have.
    """
    task.signed = None
    if own := task.own_binding(source):
        task.binding = own
        if not task.own_binding(None):  # it only reads documents and scores: the protocol is still lm-eval's
            task.signed = Binding(task).signature
        return
    binding = Binding(task)
    if source is not None:
        binding.load(source)
    task.binding = binding


class Binding:
    """What `LmEvalTask` delegates to."""

    def __init__(self, task: LmEvalTask) -> None:
        self._task = task
        self._scoring = False
        self._parts: dict[str, Part] = {}
        self._samples: list[Sample] = []
        self._slots: dict[str, tuple[Slot, ...]] = {}
        self._seen: dict[str, tuple[str, str]] = {}  # our metric name -> (part, lm-eval's key), from records

    @cached_property
    def specs(self) -> dict[str, PartSpec]:
        """Part name to its lm-eval definition."""
        shots = 0 if self._scoring else self._task.part_shots  # scoring renders prompts for their options only
        return {
            name: PartSpec(name, load_config(given) if isinstance(given, str) else given, shots)
            for name, given in self._task.parts.items()
        }

    def load(self, source: Source) -> None:
        """Reads the documents of a source; to score only, it may lack parts and the splits that shots come from."""
        self._scoring = not source.images
        given = None if self._task.downloads(source) else self._documents(source)
        for name, spec in self.specs.items():
            where = f"{self._task.name}/{name}" if len(self.specs) > 1 else self._task.name
            if given is not None and name not in given:
                if self._scoring:
                    continue
                raise BadInput(f"{where}: no documents in {source.path or source}; expected {self._task.data.layout}")
            own = None if given is None else given[name]
            splits = None if own is None else {s: [r.data["doc"] for r in rows] for s, rows in own.items()}
            part = self._parts[name] = Part(spec, splits, where)
            self._samples += self._sampled(name, part, own)

    def _documents(self, source: Source) -> dict[str, dict[str, list[Sample]]]:
        """Part to split to documents, in the order of the source."""
        found: dict[str, dict[str, list[Sample]]] = {}
        for row in self._task.data.samples(source):
            if row.part not in self.specs:
                raise RuntimeError(f"the data of task {self._task.name} gives the part {row.part!r} it does not have")
            found.setdefault(row.part, {}).setdefault(row.data["split"], []).append(row)
        return found

    def _sampled(self, name: str, part: Part, rows: Mapping[str, Sequence[Sample]] | None) -> list[Sample]:
        """The evaluated documents as samples; ids and clusters are the data's where lm-eval kept every document."""
        own = list(rows[part.split]) if rows is not None and part.split in rows else []
        if len(own) != len(part.docs):  # lm-eval's own `process_docs` dropped some, or downloaded them itself
            own = [Sample(f"{name}/{part.split}/{number}", {}) for number in range(len(part.docs))]
        return [
            Sample(row.id, {"index": number, "doc": doc}, cluster=row.cluster, part=name)
            for number, (row, doc) in enumerate(zip(own, part.docs, strict=True))
        ]

    def samples(self) -> Iterable[Sample]:
        """The evaluated documents, part by part."""
        if not self._samples:
            raise RuntimeError(f"task {self._task.name} was bound without a source")
        return list(self._samples)

    def requests(self, sample: Sample) -> Sequence[Request]:
        """lm-eval's instances of one document, regrouped."""
        requests, self._slots[sample.id] = to_requests(self._instances(sample), self._part(sample).where)
        return requests

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """Every filter's `process_results`, under our metric names."""
        import numpy as np
        from lm_eval.api.instance import Instance

        if sample.id not in self._slots:
            self.requests(sample)
        part, doc = self._part(sample), sample.data["doc"]
        instances = []
        for slot in self._slots[sample.id]:
            resps = [answer(slot, responses)] * slot.repeats
            instances.append(Instance(slot.kind, doc, (), slot.idx, resps=resps))
        instances.sort(key=lambda instance: instance.idx)
        part.task._instances = instances
        part.task.apply_filters()
        record: Record = {"part": sample.part}
        for filter_name in instances[0].filtered_resps:
            results = [instance.filtered_resps[filter_name] for instance in instances]
            values = self._task.score(sample.part, doc, results)
            if values is None:
                with np.errstate(all="ignore"):  # an undefined ratio is nan in the record, and shown as undefined
                    values = part.task.process_results(doc, results)
            for key, value in values.items():
                name = self._task.metric_name(sample.part, key, filter_name)
                self._seen[name] = sample.part, key
                record[name] = _plain(value)
        return record

    def metrics(self) -> Sequence[Metric]:
        """One metric for each of lm-eval's, and the means of its groups."""
        found: dict[str, Metric | None] = {}
        zero_one: dict[str, bool] = {}
        for name, (part, key) in {**self._declared(), **self._seen}.items():
            zero_one[name] = self._zero_one(part, key)
            found[name] = self._metric(name, part, key, zero_one[name])
        groups = []
        for mean in self._task.group_means:
            fields = [f for f in (f"{part}/{mean.metric}" for part in mean.parts) if found.get(f) is not None]
            if fields:
                flags = all(zero_one[field] for field in fields)
                better = found[fields[0]].better  # type: ignore[union-attr]
                name = f"{mean.group}/{mean.metric}"
                groups.append(group_mean(name, fields, by_size=mean.by_size, better=better, zero_one=flags))
        return [*groups, *(metric for metric in found.values() if metric is not None)]

    def _declared(self) -> dict[str, tuple[str, str]]:
        """Metrics that the task files announce; some add more only as they score."""
        named = {}
        for part, spec in self.specs.items():
            filters = [f["name"] for f in spec.declared.config.filter_list or ()] or ["none"]
            for key in spec.declared.aggregation():
                for filter_name in filters:
                    named[self._task.metric_name(part, key, filter_name)] = part, key
        return named

    def _metric(self, name: str, part: str, key: str, zero_one: bool) -> Metric | None:
        from lm_eval.api.metrics import mean

        declared = self._lm_task(part)
        return to_metric(
            name,
            declared.aggregation().get(key, mean),  # lm-eval's evaluator falls back to the mean as well
            higher_is_better=declared.higher_is_better().get(key),
            zero_one=zero_one,
            facts=self._task.metric_facts.get(name, {}),
        )

    def _zero_one(self, part: str, key: str) -> bool:
        """Known only for lm-eval's own scoring; a task file with its own scorer may call any fraction `acc`."""
        from lm_eval.api.task import ConfigurableTask

        spec = self.specs[part]
        own = spec.config.get("process_results") is None and spec.cls is ConfigurableTask
        return own and key in ZERO_ONE

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """Gold options get log-likelihood -1 and every other option -1000; a generation is the target text."""
        part, doc = self._part(sample), sample.data["doc"]
        instances = self._instances(sample)
        requests, slots = to_requests(instances, part.where)
        gold = _gold(part.task, doc, len(instances))
        chosen: dict[int, dict[int, float]] = {}
        for position, slot in enumerate(slots):
            chosen.setdefault(slot.request, {})[slot.option] = GOLD if gold is None or position in gold else UNLIKELY
        out = []
        for number, request in enumerate(requests):
            if isinstance(request, Choose):
                logprobs = tuple(chosen[number][option] for option in range(len(request.options)))
                out.append(Response("ok", logprobs=logprobs, greedy=tuple(value == GOLD for value in logprobs)))
            else:
                out.append(Response("ok", text=_target(part.task, doc), finish="stop"))
        return out

    def signature(self) -> Mapping[str, Any]:
        """lm-eval's version and those of the task files (one number where all parts share it)."""
        versions = {name: spec.version for name, spec in self.specs.items()}
        shared = set(versions.values())
        text = shared.pop() if len(shared) == 1 else " ".join(f"{name}={v}" for name, v in versions.items())
        return {"lm_eval": version("lm_eval"), "lm_eval_task": text}

    def _lm_task(self, part: str) -> ConfigurableTask:
        """The task on its documents if there are any: scoring may have added aggregations to it."""
        return self._parts[part].task if part in self._parts else self.specs[part].declared

    def _part(self, sample: Sample) -> Part:
        if sample.part not in self._parts:
            raise RuntimeError(f"task {self._task.name} was bound without a source")
        return self._parts[sample.part]

    def _instances(self, sample: Sample) -> list[Instance]:
        return self._part(sample).instances(sample.data["index"], sample.data["doc"])


def _gold(task: ConfigurableTask, doc: Doc, instances: int) -> set[int] | None:
    """Positions of the right options among the instances; None: there is nothing to choose between."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    choices = task.doc_to_choice(doc)
    target = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    targets = target if isinstance(target, list) else [target]
    right = {choices.index(t) if isinstance(t, str) else int(t) for t in targets}
    # beyond the choices stand acc_mutual_info's unconditional options: all equally likely
    return right | set(range(len(choices), instances))


def _target(task: ConfigurableTask, doc: Doc) -> str:
    target = task.doc_to_target(doc)
    if task.config.doc_to_choice is not None and isinstance(target, int):
        target = task.doc_to_choice(doc)[target]
    return str(target[0] if isinstance(target, list) and target else target)


def _plain(value: Any) -> Any:
    """The value as JSON has it."""
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    return value
