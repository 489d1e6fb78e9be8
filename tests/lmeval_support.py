"""What tests of lm-eval's tasks share: invented documents, a scripted model for both harnesses, both ways to run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmalign_eval.data.files import Folder
from mmalign_eval.data.source import Source, TaskData
from mmalign_eval.lmeval import bind
from mmalign_eval.requests import RAW_TEMPLATE, Choose, Generate, Request, Response, greedy
from mmalign_eval.stats import estimates
from mmalign_eval.task import LmEvalTask, Protocol, Sample

Docs = dict[str, list[dict[str, Any]]]  # split -> documents
NOWHERE = Source("dir", "")
SENTENCES = ("The answer is 7.", "", "Nobody knows, 41 or $1,234.", "A: Moths do not fly. #### 5.")
# right by both of gsm8k's filters, by the flexible one alone, by the strict one alone
SUMS = {"2 pears and buys 10": "A: 2 + 10. #### 12", "600 pears": "It is $1,234.", "20 pears": "#### 41\nin 2 rows"}


def number(*texts: str) -> int:
    """A number that only the texts decide."""
    return int.from_bytes(hashlib.sha256("\0".join(texts).encode()).digest()[:4], "big")


def loglikelihood(context: str, continuation: str) -> tuple[float, bool]:
    """The scripted model's log-likelihood, -30 to 0, and whether it would be greedy."""
    drawn = number(context, continuation)
    return -(drawn % 30_000) / 1000, drawn % 3 == 0


def generated(context: str) -> str:
    asked = context.rpartition("Question:")[2]
    known = next((answer for key, answer in SUMS.items() if f" {key}" in asked), None)
    return SENTENCES[number(context) % len(SENTENCES)] if known is None else known


def scripted(request: Request) -> Response:
    """The scripted model for our requests."""
    if isinstance(request, Generate):
        return Response("ok", text=generated(request.prompt.text), finish="stop")
    pairs = [loglikelihood(request.prompt.text, option) for option in request.options]
    return Response("ok", logprobs=tuple(ll for ll, _ in pairs), greedy=tuple(g for _, g in pairs))


def scripted_lm() -> Any:
    """The same model for lm-eval, written against its interface alone."""
    from lm_eval.api.model import LM

    class Scripted(LM):
        def loglikelihood(self, requests: Any) -> Any:
            return [loglikelihood(*r.args) for r in requests]

        def loglikelihood_rolling(self, requests: Any) -> Any:
            return [loglikelihood("", r.args[0])[0] for r in requests]

        def generate_until(self, requests: Any) -> Any:
            return [generated(r.args[0]) for r in requests]

    return Scripted()


class GivenDocs(TaskData):
    """Documents from memory."""

    folder = layout = get = "given by the test"

    def __init__(self, parts: Mapping[str, Docs]) -> None:
        self.parts = parts

    def native(self, folder: Folder) -> Iterator[Sample]:
        raise AssertionError("not read from files")

    def _open(self, source: Source) -> Iterator[Sample]:
        for part, splits in self.parts.items():
            for split, docs in splits.items():
                for at, doc in enumerate(docs):
                    yield Sample(f"{part}/{split}/{at}", {"split": split, "doc": doc}, part=part)


def declare(parts: Mapping[str, Any], docs: Mapping[str, Docs], shots: int = 0) -> LmEvalTask:
    """A bound task of the given lm-eval parts."""
    protocol = Protocol(ask="", params=greedy(1), template=RAW_TEMPLATE, shots=shots)
    cls: type[LmEvalTask] = type(
        "Given",
        (LmEvalTask,),
        {"name": "given", "version": 1, "protocols": {"lm_eval": protocol}, "default_protocol": "lm_eval",
         "data": GivenDocs(docs), "parts": parts},
    )  # fmt: skip
    task = cls()
    bind(task, NOWHERE)
    return task


def run(task: LmEvalTask) -> tuple[dict[str, float | None], dict[str, list[Request]]]:
    """Our way: metric values, and the requests of each sample."""
    records, asked = [], {}
    for sample in task.samples(NOWHERE):
        requests = asked[sample.id] = list(task.requests(sample))
        record = json.loads(json.dumps(task.record(sample, [scripted(r) for r in requests])))
        records.append({**record, "cluster": "all"})  # one cluster: values only, no resampling
    return {e.name: e.value for e in estimates(task.metrics(), records)}, asked


def write_local(folder: Path, name: str, given: str | dict[str, Any], docs: Docs, **more: Any) -> None:
    """A task file for lm-eval's own evaluator: `given` (a path below its tasks, or a configuration) on local files."""
    import lm_eval

    base = Path(lm_eval.__file__).parent / "tasks"
    config: dict[str, Any] = {"include": str(base / given)} if isinstance(given, str) else dict(given)
    files = {}
    for split, rows in docs.items():
        files[split] = str(folder / f"{name}_{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    local = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    config |= {"task": name, **local, **more}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))


def simple_evaluate(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """lm-eval's way, on the task files of a folder."""
    from lm_eval.evaluator import simple_evaluate as evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = evaluate(model=scripted_lm(), tasks=list(names), task_manager=manager, bootstrap_iters=0, verbosity="ERROR")
    assert found is not None
    return dict(found)


def flattened(requests: Sequence[Request]) -> set[tuple[Any, ...]]:
    """Our requests as lm-eval's (context, continuation) pairs, (context,) of generations, (text,) of rolling ones."""
    pairs: set[tuple[Any, ...]] = set()
    for request in requests:
        assert request.prompt.template == RAW_TEMPLATE
        if not isinstance(request, Choose):
            pairs.add((request.prompt.text,))
        elif request.rolling:
            pairs.add((request.options[0],))
        else:
            pairs |= {(request.prompt.text, option) for option in request.options}
    return pairs


def their_pairs(sample: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    """The same of a sample that lm-eval logged."""
    return {tuple(a for a in arguments if isinstance(a, str)) for arguments in sample["arguments"]}
