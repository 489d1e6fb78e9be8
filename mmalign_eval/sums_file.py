"""The file of sums beside a result: numpy's zip of arrays, compressed, nothing pickled."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import BadInput, Damaged
from .metrics.formula import Formula
from .stats import Group, MetricSums, Sums

LEVELS = ("sample", "cluster")


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


def sums_from(data: bytes, metrics: Mapping[str, Mapping[str, Any]], where: str) -> Sums:
    """Reads it back, with the metrics of the result file.

    Raises:
        Damaged: Not such a file, or it and the metrics do not belong together.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            groups = [
                Group(LEVELS[level], file[f"rows{g}"], file[f"sums{g}"], int(n))
                for g, (level, n) in enumerate(zip(file["levels"], file["counts"], strict=True))
            ]
            made = {
                name: MetricSums(m["group"], Formula(m["formula"]) if m["formula"] else None, m["proportion"])
                for name, m in metrics.items()
            }
            if any(not 0 <= one.group < len(groups) for one in made.values()):
                raise ValueError("a metric of no group")
            return Sums(file["samples"].tolist(), file["clusters"].tolist(), file["cluster"], groups, made)
    except (BadInput, ValueError, KeyError, IndexError, TypeError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise Damaged(
            f"{where}: its sums cannot be read ({error}); run the same command again to rewrite it"
        ) from error
