"""What a result file holds: the parts, and their types, that tables, comparisons and reports rely on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

_NUMBER = (int, float, type(None))  # None: undefined
_FILE = {"file": (str,), "sha256": (str,)}
_METRIC: dict[str, Any] = {
    "value": _NUMBER, "low": _NUMBER, "high": _NUMBER, "stderr": _NUMBER, "n": (int,), "clusters": (int,),
    "unit": (str,), "better": (str,), "group": (int,), "formula": (str, type(None)), "proportion": (bool,),
}  # fmt: skip
_SHAPE: dict[str, Any] = {
    "task": {
        "name": (str,), "version": (int,), "protocol": (str,), "default_protocol": (str,), "modality": (str,),
        "shots": (int,), "headline": (list,), "judge": (str,), "extra": (dict,),
    },
    "model": {"name": (str,), "fingerprint": (str,), "identity": (dict,)},
    "data": {"source": (str,), "hash": (str,), "rows": (str,), "limit": (int, type(None))},
    "judge": (dict,),
    "counts": {"n": (int,), "n_ok": (int,), "n_truncated": (int,), "n_error": (int,), "n_refused": (int,)},
    "params": (dict,),
    "prompt": (str,),
    "prompt_hash": (str,),
    "metrics": {},
    "samples": _FILE,
    "sums": _FILE,
}  # fmt: skip
_ROW = {
    "id": (str,), "part": (str,), "cluster": (str,), "status": (str,), "error": (str,), "images": (list,),
    "prompts": (list,), "answers": (list,), "reference": (str,), "record": (dict, type(None)),
}  # fmt: skip
_OVERLAP = ("images", "samples", "by_coco_id", "by_hash", "shared", "shared_samples")
_NAMES = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", bool: "yes or no"}


def damage(result: dict[str, Any]) -> str:
    """What is wrong with the content of a result file, in a few words; empty if nothing is."""
    return next(_damage(result), "")


def row_damage(row: Any) -> str:
    """The same of a row of the samples file."""
    return next(_unlike(row, _ROW, ""), "")


def _damage(result: dict[str, Any]) -> Iterator[str]:
    yield from _unlike(result, _SHAPE, "")
    for name, metric in result["metrics"].items():
        where = f"metric {name!r}"
        yield from _unlike(metric, _METRIC, where)
        if metric["better"] not in ("higher", "lower", "neither"):
            yield f"{where}: better is {metric['better']!r:.40}"
        if not all(math.isfinite(metric[key] or 0) for key in ("value", "low", "high", "stderr")):
            yield f"{where}: a value is not finite"
        if (metric["low"] is None) != (metric["high"] is None):
            yield f"{where}: half an interval"
    if not all(isinstance(name, str) for name in result["task"]["headline"]):
        yield "task.headline names no metrics"
    for part in ("samples", "sums"):
        name = result[part]["file"]
        if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
            yield f"{part}.file is no name of a file beside it"
    tuned = result["model"].get("tuned")
    if tuned is not None:
        yield from _unlike(tuned, {"base": {"name": (str,)}}, "model.tuned")
    if "contamination" in result:
        yield from _unlike(result["contamination"], dict.fromkeys(_OVERLAP, (int,)), "contamination")


def _unlike(value: Any, shape: dict[str, Any] | tuple[type, ...], where: str) -> Iterator[str]:
    """Where a value differs from a shape: types, or an object's keys with theirs. The first decides: stop there."""
    types = shape if isinstance(shape, tuple) else (dict,)
    if type(value) not in types:
        yield f"{where or 'it'} is not {_NAMES[types[0]]}"
    if isinstance(shape, dict):
        for key, part in shape.items():
            inside = f"{where}.{key}" if where else key
            if key not in value:
                yield f"no {key!r}" + (f" in {where}" if where else "")
            yield from _unlike(value[key], part, inside)
