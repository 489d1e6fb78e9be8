"""lm-eval's aggregations as our metrics: sums where there are sums, lm-eval's own function on all records elsewhere."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..metrics.base import Better, Metric, Record, Stat, ratio, whole
from ..metrics.formula import Formula, at, over

# metrics that lm-eval's own scoring makes 0 or 1 for each document (ConfigurableTask.process_results)
ZERO_ONE = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")
# of a sum of log-probabilities and how many (or how long) they are
PERPLEXITY = Formula("exp(-(s[0] / s[1]))")
BITS = Formula("-(s[0] / s[1]) / log(2)")


def to_metric(
    name: str,
    aggregation: Callable[[list[Any]], float],
    *,
    higher_is_better: bool | None,
    zero_one: bool,
    facts: Mapping[str, Any],
) -> Metric | None:
    """One lm-eval metric as ours; None for `bypass`, which measures nothing.

    Args:
        name: Our name, which is also the field of the record that holds the document's value.
        aggregation: lm-eval's function of the list of values.
        higher_is_better: As lm-eval says; None where it does not.
        zero_one: Every value is 0 or 1.
        facts: `Metric` fields that lm-eval does not state.
    """
    from lm_eval.api import metrics as lm

    better: Better = "neither" if higher_is_better is None else "higher" if higher_is_better else "lower"
    fields: dict[str, Any] = {
        "unit": "fraction" if zero_one else "points",
        "better": better,
        "proportion": zero_one and aggregation is lm.mean,
        "best": 1.0 if zero_one else None,
        "keep": _has(name),
        **facts,
    }
    if aggregation is lm.bypass_agg:
        return None
    sums: dict[Any, tuple[Stat, Formula]] = {
        lm.mean: (_total(name), ratio),
        lm.nanmean: (_total(name, skip_nan=True), ratio),
        lm.perplexity: (_total(name), PERPLEXITY),
        lm.weighted_perplexity: (_weighted(name), PERPLEXITY),
        lm.bits_per_byte: (_weighted(name), BITS),
    }
    if aggregation in sums:
        stat, value = sums[aggregation]
        return Metric(name, stat, value, **fields)

    def corpus(records: Sequence[Record]) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn remarks on every resample without one of the classes
            return float(aggregation([record[name] for record in records]))

    return whole(name, corpus, **fields)


def group_mean(name: str, members: Sequence[str], *, by_size: bool, better: Better, zero_one: bool) -> Metric:
    """lm-eval's mean of a metric over the tasks of a group.

    Args:
        name: Our name.
        members: Record fields of the group's tasks.
        by_size: Each document counts the same (lm-eval's `weight_by_size`); otherwise each task does.
        better: Which direction is better.
        zero_one: Every document's value is 0 or 1.
    """

    def keep(record: Record) -> bool:
        return any(member in record for member in members)

    def pooled(records: Sequence[Record]) -> Sequence[float]:
        values = [float(record[m]) for record in records for m in members if m in record]
        return (sum(values), float(len(values)))

    def each(records: Sequence[Record]) -> Sequence[float]:
        return [s for member in members for s in _total(member)([r for r in records if member in r])]

    fields: dict[str, Any] = {"better": better, "best": 1.0 if zero_one else None, "keep": keep}
    if by_size:
        return Metric(name, pooled, ratio, proportion=zero_one, **fields)
    # a task without answered documents is left out, as in lm-eval
    return Metric(name, each, over("mean_defined", [at(ratio, 2 * i) for i in range(len(members))]), **fields)


def _has(field: str) -> Callable[[Record], bool]:
    return lambda record: field in record  # lm-eval leaves a metric out of documents that it does not apply to


def _total(field: str, skip_nan: bool = False) -> Stat:
    def stat(records: Sequence[Record]) -> Sequence[float]:
        values = [float(r[field]) for r in records]
        values = [v for v in values if not (skip_nan and math.isnan(v))]
        return (sum(values), float(len(values)))

    return stat


def _weighted(field: str) -> Stat:
    def stat(records: Sequence[Record]) -> Sequence[float]:
        return (float(sum(r[field][0] for r in records)), float(sum(r[field][1] for r in records)))

    return stat
