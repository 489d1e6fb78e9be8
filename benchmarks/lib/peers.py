"""The sides of the text benchmarks, each in a process of its own: the harness, its slow twin, and lm-eval's HF model.

All read the same checkpoint and the same requests (`requests.json`: a context and its options each) and are timed from
requests as text to log-likelihoods; bringing the weights (and hashing them) is not counted. This file runs in the
peer's virtual environment too: what only one side has is imported inside it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Requests = list[tuple[str, list[str]]]
Scores = list[list[float]]


def read_requests(work: Path) -> Requests:
    """What is asked."""
    return [(context, options) for context, options in json.loads((work / "requests.json").read_text("utf-8"))]


def peak_mib() -> float:
    """Most memory of this process so far.

    Not `ru_maxrss`: on Linux that begins with what the parent had when it started this one.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def timed(run: Callable[[], Scores], work: Path, out: str) -> dict[str, float]:
    """Seconds on the clock and of the processor; the scores go to a file."""
    wall, cpu = time.perf_counter(), time.process_time()
    scores = run()
    figures = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak_mib()}
    (work / out).write_text(json.dumps(scores))
    return figures


def ours(work: Path) -> dict[str, float]:
    """The harness as `mmeval run` drives it: keys, order, batches, the store's commits."""
    from mmalign_eval.engine import Engine, request_keys
    from mmalign_eval.models.opening import open_model
    from mmalign_eval.requests import RAW_TEMPLATE, Choose, Prompt
    from mmalign_eval.store import Store

    adapter: Any = open_model(f"hf:{work / 'model'}", {"device": "cpu", "dtype": "float32"})
    (work / "store.sqlite").unlink(missing_ok=True)
    store = Store(work / "store.sqlite")
    engine = Engine(adapter, store)
    adapter.fingerprint()
    engine._load()
    asked = [Choose(Prompt(c, template=RAW_TEMPLATE), tuple(options)) for c, options in read_requests(work)]
    rows: list[int] = []  # tokens of each pass through the model
    adapter._model.register_forward_pre_hook(
        lambda module, args, inputs: rows.append(inputs["input_ids"].numel()), with_kwargs=True
    )

    def run() -> Scores:
        responses, _ = engine.run(asked, request_keys(adapter, asked))
        assert all(response.status == "ok" for response in responses)
        return [list(response.logprobs) for response in responses]

    figures = timed(run, work, "ours.json")
    store.close()
    return figures | {"computed": float(sum(rows)), "passes": float(len(rows))}


def twin(work: Path) -> dict[str, float]:
    """The slow twin: each option in a row of its own, the longest first, 32 rows a batch, identical rows once."""
    from mmalign_eval.models.opening import open_model
    from mmalign_eval.models.prefix import score_separately
    from mmalign_eval.requests import RAW_TEMPLATE, Choose, Prompt

    adapter: Any = open_model(f"hf:{work / 'model'}", {"device": "cpu", "dtype": "float32"})
    adapter.load()
    asked = [Choose(Prompt(c, template=RAW_TEMPLATE), tuple(options)) for c, options in read_requests(work)]

    def run() -> Scores:
        rows: dict[bytes, Any] = {}
        keys = []
        for scored in map(adapter._scored, asked):
            own = [scored.context.tobytes() + b"|" + option.tobytes() for option in scored.options]
            keys.append(own)
            rows.update(zip(own, [(scored.context, option) for option in scored.options], strict=True))
        order = sorted(rows, key=len, reverse=True)
        found: dict[bytes, float] = {}
        for start in range(0, len(order), 32):
            some = order[start : start + 32]
            scores = score_separately(adapter._model, [rows[key] for key in some], adapter.max_length)
            found.update(zip(some, [score.logprob for score in scores], strict=True))
        return [[found[key] for key in own] for own in keys]

    return timed(run, work, "twin.json")


def lm_eval(work: Path, batch: str) -> dict[str, float]:
    """lm-eval's HF model, given all instances at once as `simple_evaluate` gives them."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    size: int | str = int(batch) if batch.isdigit() else batch
    model = HFLM(pretrained=str(work / "model"), device="cpu", dtype="float32", batch_size=size)
    assert next(model.model.parameters()).dtype == torch.float32
    requests = read_requests(work)
    asked = [
        Instance(request_type="loglikelihood", doc={}, arguments=(context, option), idx=number)
        for context, options in requests
        for number, option in enumerate(options)
    ]

    def run() -> Scores:
        left = iter(model.loglikelihood(asked, disable_tqdm=True))
        return [[float(next(left)[0]) for _ in options] for _, options in requests]

    return timed(run, work, "lm-eval.json")


def versions(peer: bool) -> dict[str, str]:
    """Of what a side stands on."""
    import platform
    from importlib.metadata import version

    names = ["torch", "transformers", *(["lm_eval"] if peer else [])]
    return {name: version(name) for name in names} | {"python": platform.python_version()}


def measure(side: str, work: Path, batch: str) -> dict[str, Any]:
    """One side's figures: seconds, cpu, peak (MiB), versions."""
    if side == "lm-eval":
        return {**lm_eval(work, batch), "versions": versions(peer=True)}
    return {**(ours if side == "ours" else twin)(work), "versions": versions(peer=False)}


if __name__ == "__main__":
    import sys

    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
