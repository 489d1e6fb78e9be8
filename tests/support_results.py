"""Result files of made-up models on made-up tasks: true ones, written as a run writes them, without a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmalign_eval.metrics.base import Metric, mean
from mmalign_eval.results import SCHEMA, Summary, digest_json, result_stem, signature, write_result
from mmalign_eval.stats import estimates_of, sums_of

ACCURACY = mean("accuracy", "x", proportion=True)


@dataclass(frozen=True)
class Facts:
    """What else a result file tells; the defaults are of equal, comparable runs."""

    protocol: str = "official"
    default_protocol: str = "official"
    version: int = 1
    judge: str = ""
    judge_runs: int = 1
    shots: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    modality: str = "image"
    headline: Sequence[str] = ()  # empty: all metrics are shown
    source: str = "dir"
    data_hash: str = "d" * 64
    rows: str = ""  # hash over the rows; empty: made of the ids, those that failed included
    limit: int | None = None
    prompt: str = "USER: <image>\nIs it? ASSISTANT:"
    prompt_hash: str = "a" * 64
    params: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0.0, "max_new_tokens": 8})
    tuned: Mapping[str, Any] | None = None
    weights: str = ""  # empty: made of the model's name
    peft: str = ""
    fingerprint: str = ""  # likewise
    contamination: Mapping[str, Any] | None = None
    failed: Sequence[str] = ()  # ids of samples without a record
    missing: int | None = None  # for answers made elsewhere: how many samples have none


def records(values: Iterable[float], clusters: Sequence[object] | None = None, **fields: Any) -> list[dict[str, Any]]:
    """Records with `x`, their ids `s000`, `s001`, ..., each its own cluster unless named."""
    return [
        {
            "id": f"s{i:03d}",
            "cluster": f"c{clusters[i] if clusters is not None else f'{i:03d}'}",
            "x": float(v),
            **fields,
        }
        for i, v in enumerate(values)
    ]


def write_run(
    folder: Path, model: str, task: str, metrics: Sequence[Metric], records: Sequence[Mapping[str, Any]], **facts: Any
) -> Path:
    """Writes `<folder>/<model>/<task>.json` with its sums and samples.

    Args:
        folder: What would be `--out`.
        model: Name of the model.
        task: Name of the task.
        metrics: Its metrics.
        records: Each with `id`, `cluster` and what the metrics need; `answer`, `reference`, `prompt`, `part`, `images`,
            `judged` go into the samples file if they are there.
        facts: See `Facts`.
    """
    known = Facts(**facts)
    scored = [dict(record) for record in records]
    sums = sums_of(metrics, scored)
    found = Summary(estimates_of(metrics, scored, sums), sums)
    ids = [str(record["id"]) for record in scored] + list(known.failed)
    rows = [_row(record) for record in scored]
    rows += [{**_row({"id": name}), "status": "error", "error": "broke", "record": None} for name in known.failed]
    result: dict[str, Any] = {
        "kind": "mmeval-result",
        "schema": SCHEMA,
        "task": {
            "name": task,
            "version": known.version,
            "protocol": known.protocol,
            "default_protocol": known.default_protocol,
            "modality": known.modality,
            "shots": known.shots,
            "headline": list(known.headline),
            "sources": [],
            "note": "",
            "judge": known.judge,
            "extra": dict(known.extra),
        },
        "judge": _judge(known),
        "counts": {
            "n": len(rows),
            "n_ok": len(scored),
            "n_truncated": 0,
            "n_error": len(known.failed),
            "n_refused": 0,
            **({} if known.missing is None else {"n_missing": known.missing}),
        },
        "errors": [f"{name}: broke" for name in known.failed][:5],
        "model": _model(model, known),
        "data": {
            "source": known.source,
            "hash": known.data_hash,
            "limit": known.limit,
            "rows": known.rows or digest_json(sorted(ids)),
        },
        "seed": 0,
        "params": dict(known.params),
        "prompt": known.prompt,
        "prompt_hash": known.prompt_hash,
        "metrics": found.as_json(),
        "provenance": {"date": "2026-01-01T00:00:00+00:00", "earlier_runs": []},
    }
    if known.contamination is not None:
        result["contamination"] = dict(known.contamination)
    result["signature"] = signature(result)
    stem = result_stem(task, known.protocol, known.default_protocol, known.judge)
    return write_result(folder / model, stem, result, rows, found.sums)


def overlap(shared: int, images: int) -> dict[str, Any]:
    """`contamination` as a result file has it."""
    return {
        **{"images": images, "samples": images, "by_coco_id": shared, "by_hash": 0},
        **{"shared": shared, "shared_samples": shared, "hashed": images, "first": []},
    }


def tuned_from(base: str, method: str = "mm-ft", **more: Any) -> dict[str, Any]:
    """`tuned` of a model whose base was written with the default weights."""
    return {"method": method, "base": {"name": base, "weights": digest_json(base), "peft": ""}, **more}


def _model(name: str, facts: Facts) -> dict[str, Any]:
    weights = facts.weights or digest_json(name)
    identity = {"kind": "hf", "part": "whole", "weights": weights, "peft": facts.peft, "template": "t" * 64}
    who = {"name": name, "fingerprint": facts.fingerprint or digest_json(identity), "identity": identity}
    return {**who, "tuned": dict(facts.tuned)} if facts.tuned else who


def _judge(facts: Facts) -> dict[str, Any]:
    if not facts.judge:
        return {}
    if facts.judge == "rule":
        return {"kind": "offline"}
    counts = {"n_verdicts": 1, "n_failed": 0, "calls": 1, "cached": 0, "dollars": None}
    return {"kind": "model", "name": facts.judge, "runs": facts.judge_runs, **counts}


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": str(record["id"]),
        "part": str(record.get("part", "")),
        "cluster": str(record.get("cluster", record["id"])),
        "status": "ok",
        "error": "",
        "images": list(record.get("images", ())),
        "prompts": [str(record.get("prompt", "Is it?"))],
        "answers": [{"text": str(record.get("answer", "")), "finish": "stop", "new_tokens": 1}],
        "reference": str(record.get("reference", "")),
        "judged": list(record.get("judged", ())),
        "record": dict(record),
    }
