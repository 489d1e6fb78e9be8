"""The file of sums beside a result: numpy's zip of arrays, compressed, nothing pickled."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .errors import BadInput, Damaged
from .metrics.formula import Formula
from .stats import Group, MetricSums, Sums

LEVELS = ("sample", "cluster")
HEAD = ("samples", "clusters", "cluster", "levels", "counts")  # arrays that are not of a group
LISTS = 40  # of names kept for the next result: two a benchmark
LARGEST = 2**30  # bytes unpacked; 200,000 samples with 100 sums each have 160 MB


def sums_to(sums: Sums) -> bytes:
    """The content of a `.sums.npz` file; equal sums give equal bytes.

    Arrays: `samples` `[n]` and `clusters` (names), `cluster` `[n]`; for each group g `rows<g>` `[m]` and `sums<g>`
    `[m, k]`; `levels` and `counts`, one each a group. What is a metric's group and formula stands in the result file.
    """
    arrays: dict[str, np.ndarray] = {
        "samples": np.array(sums.samples, dtype=np.str_),
        "clusters": np.array(sums.clusters, dtype=np.str_),
        "cluster": sums.cluster,
        "levels": np.array([LEVELS.index(g.level) for g in sums.groups], dtype=np.int8),
        "counts": np.array([g.n for g in sums.groups], dtype=np.int64),
    }
    for number, group in enumerate(sums.groups):
        arrays[f"rows{number}"], arrays[f"sums{number}"] = group.rows, group.sums
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def sums_from(
    data: bytes, metrics: Mapping[str, Mapping[str, Any]], where: str, only: Collection[str] | None = None
) -> Sums:
    """Reads it back, with the metrics of the result file.

    Args:
        data: The file's content.
        metrics: Of the result file.
        where: The result file, for messages.
        only: Metrics wanted: groups of others are not even unpacked; None: all.

    Raises:
        Damaged: Not such a file, or it and the metrics do not belong together.
    """
    wanted = {name: metric for name, metric in metrics.items() if only is None or name in only}
    try:
        used = None if only is None else {metric["group"] for metric in wanted.values()}
        arrays = _arrays(data, used)
        samples, clusters, cluster = _names(arrays)
        levels, counts = _integers(arrays, "levels", top=len(LEVELS)), _integers(arrays, "counts")
        if len(levels) != len(counts):
            raise ValueError(f"levels of {len(levels)} groups, counts of {len(counts)}")
        groups: list[Group] = []
        places: dict[int, int] = {}
        for number, (level, n) in enumerate(zip(levels.tolist(), counts.tolist(), strict=True)):
            if used is None or number in used:
                places[number] = len(groups)
                groups.append(_group(arrays, number, LEVELS[level], n, len(samples), len(clusters)))
        made = {name: _metric(name, metric, groups, places) for name, metric in wanted.items()}
    except (BadInput, ValueError, KeyError) as error:
        raise Damaged(
            f"{where}: its sums cannot be read ({error}); run the same command again to rewrite it"
        ) from error
    return Sums(samples, clusters, cluster, groups, made)


def _arrays(data: bytes, groups: Collection[int] | None) -> dict[str, np.ndarray]:
    """The arrays of a file, of some groups or of all; nothing in it is ever unpickled."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            if sum(entry.file_size for entry in file.infolist()) > LARGEST:
                raise ValueError(f"more than {LARGEST} bytes unpacked")
            names = {name.removesuffix(".npy") for name in file.namelist()}
            if groups is not None:
                names &= {*HEAD, *(f"{kind}{group}" for group in groups for kind in ("rows", "sums"))}
            return {name: _array(file.read(f"{name}.npy")) for name in names}
    except Exception as error:  # a broken archive can make zipfile and numpy raise nearly anything
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _array(data: bytes) -> np.ndarray:
    """An array of numpy's format; of its three parts the header takes longest, and most have the same."""
    end = 10 + int.from_bytes(data[8:10], "little")
    shape, fortran, dtype = _header(data[:end])
    if dtype.hasobject:
        raise ValueError("pickled objects")
    return np.frombuffer(data, dtype, offset=end).reshape(shape, order="F" if fortran else "C")


@functools.lru_cache(1024)
def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    file = io.BytesIO(data)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("another version of numpy's format")
    return np.lib.format.read_array_header_1_0(file)


def _names(arrays: Mapping[str, np.ndarray]) -> tuple[list[str], list[str], np.ndarray]:
    samples, clusters = (_different(arrays[name], name) for name in ("samples", "clusters"))
    cluster = _integers(arrays, "cluster", top=len(clusters))
    if len(cluster) != len(samples):
        raise ValueError(f"{len(samples)} samples, clusters of {len(cluster)}")
    return samples, clusters, cluster


def _different(names: np.ndarray, what: str) -> list[str]:
    """Names as a list: the same one for all results that have the same, as those of one benchmark do."""
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(f"{what} are not different names")
    key = hashlib.sha256(names.dtype.str.encode() + names.tobytes()).digest()
    if key not in _listed:
        found = names.tolist()
        if len(set(found)) < len(found):
            raise ValueError(f"{what} are not different names")
        if len(_listed) >= LISTS:
            del _listed[next(iter(_listed))]
        _listed[key] = found
    return _listed[key]


_listed: dict[bytes, list[str]] = {}


def _group(
    arrays: Mapping[str, np.ndarray], number: int, level: str, n: int, samples: int, clusters: int
) -> Group:  # fmt: skip
    rows = _integers(arrays, f"rows{number}", top=samples if level == "sample" else clusters)
    sums = arrays[f"sums{number}"]
    if sums.ndim != 2 or sums.dtype != np.float64 or not np.isfinite(sums).all():
        raise ValueError(f"sums{number} is not a table of finite numbers")
    if len(rows) != len(sums) or (np.bincount(rows) > 1).any():
        raise ValueError(f"sums{number} and rows{number} do not belong together")
    if not len(rows) <= n <= samples or (level == "sample" and n != len(rows)):
        raise ValueError(f"sums{number} is of {len(rows)} {level}s, {n} samples are counted")
    return Group(level, rows, sums, n)


def _metric(
    name: str, metric: Mapping[str, Any], groups: Sequence[Group], places: Mapping[int, int]
) -> MetricSums:  # fmt: skip
    if metric["group"] not in places:
        raise ValueError(f"{name!r} is made of group {metric['group']}, which is not there")
    place = places[metric["group"]]
    group = groups[place]
    formula = Formula(metric["formula"]) if metric["formula"] is not None else None
    width = max(formula.width if formula is not None else 0, 2 * metric["proportion"])
    if len(group.rows) and group.sums.shape[1] < width:
        raise ValueError(f"{name!r} needs {width} sums, its group has {group.sums.shape[1]}")
    return MetricSums(place, formula, metric["proportion"])


def _integers(arrays: Mapping[str, np.ndarray], name: str, top: int | None = None) -> np.ndarray:
    """An array of whole numbers from 0 to below `top`."""
    found = arrays[name]
    if found.ndim != 1 or found.dtype.kind != "i" or (found < 0).any() or (top is not None and (found >= top).any()):
        raise ValueError(f"{name} is out of range")
    return found
