"""How long paired tests take: two POPE-like results, captions-like ones, and a leaderboard of 50 models x 16 tasks.

The last line is JSON: seconds of processor time, and peak memory. `--quick` is a smaller leaderboard. Draws by kind
(the fast path of 0/1 outcomes) are timed against drawing each cluster, their slow twin.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mmalign_eval.metrics.formula import Formula
from mmalign_eval.stats import Group, MetricSums, Sums, draws, resample
from mmalign_eval.stats.paired import paired

RATIO = Formula("s[0] / s[1]")
F1 = Formula("2 * s[0] / (2 * s[0] + s[1] + s[3])")
EACH = 18  # questions on an image
PRECISION = Formula("s[0] / (s[0] + s[1])")


def questions(seed: int, clusters: int = 500, splits: int = 3) -> Sums:
    """Yes/no questions on images: ten metrics of each split and of all, as POPE has."""
    n, rng = EACH * clusters, np.random.default_rng(seed)
    cells = np.eye(4)[np.where(rng.random(n) < 0.85, 2 * (np.arange(n) % 2), 1 + 2 * (np.arange(n) % 2))]
    groups: list[Group] = []
    metrics: dict[str, MetricSums] = {}
    for split in range(splits + 1):
        rows = np.arange(n, dtype=np.int32)[slice(None) if split == splits else slice(split, None, splits)]
        right = np.column_stack([cells[rows, 0] + cells[rows, 2], np.ones(len(rows))])
        groups += [Group("sample", rows, right, len(rows)), Group("sample", rows, cells[rows], len(rows))]
        for i in range(5):
            metrics[f"{split}/accuracy{i}"] = MetricSums(2 * split, RATIO, True)
            metrics[f"{split}/f1{i}"] = MetricSums(2 * split + 1, (F1, PRECISION)[i % 2], False)
    names = [f"{i:06}" for i in range(clusters)]
    return Sums([str(i) for i in range(n)], names, np.repeat(np.arange(clusters), EACH), groups, metrics)


def singles(seed: int, n: int, outcomes: bool) -> Sums:
    """One number a sample: 0/1 outcomes, or scores of which no two are equal."""
    rng, names = np.random.default_rng(seed), [f"{i:06}" for i in range(n)]
    value = (rng.random(n) < 0.7).astype(float) if outcomes else rng.gamma(2.0, size=n)
    group = Group("sample", np.arange(n, dtype=np.int32), np.column_stack([value, np.ones(n)]), n)
    made = {f"m{i}": MetricSums(0, RATIO, outcomes) for i in range(3)}
    return Sums(names, names, np.arange(n), [group], made)


def compared(base: Sums, other: Sums, count: int, only: int = 99) -> float:
    """Seconds of one comparison."""
    return timed(lambda: paired(base, other, dict.fromkeys(list(base.metrics)[:only], "higher"), count))


def timed(what: Callable[[], Any]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    what()
    return time.process_time() - start


def leaderboard(models: int, tasks: int) -> float:
    """Seconds of every model against the first, on tasks of four shapes, three metrics each."""
    makers: list[Callable[[int, int], Sums]] = [
        lambda seed, task: questions(seed, 500 - 10 * task),
        lambda seed, task: singles(seed, 800 + 100 * task, outcomes=False),
        lambda seed, task: singles(seed, 5000 + 100 * task, outcomes=True),
        lambda seed, task: singles(seed, 5000 if task < 8 else 1000, outcomes=False),
    ]
    bases = [makers[task % 4](0, task) for task in range(tasks)]
    return sum(
        compared(base, makers[task % 4](model, task), 2000, 3)
        for model in range(1, models)
        for task, base in enumerate(bases)
    )


def twins(n: int = 5000, count: int = 10_000) -> tuple[float, float]:
    """Seconds of drawing 0/1 outcomes by kind, and cluster by cluster."""
    sums = next(iter(singles(1, n, outcomes=True).groups)).sums
    fast, kind = timed(lambda: resample(sums, count)), draws.KIND
    draws.KIND = sums.size + 1
    slow = timed(lambda: resample(sums, count))
    draws.KIND = kind
    return fast, slow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a leaderboard of 10 models")
    models = 10 if parser.parse_args().quick else 50
    from scipy import special, stats  # noqa: F401  not what is timed

    fast, slow = twins()
    found = {
        "questions_10000_draws_s": compared(questions(1), questions(2), 10_000),
        "captions_10000_draws_s": compared(singles(1, 5000, False), singles(2, 5000, False), 10_000),
        "leaderboard_s": leaderboard(models, 16),
        "by_kind_s": fast,
        "by_cluster_s": slow,
    }
    figures = {name: round(seconds, 3) for name, seconds in found.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            figures
            | {
                "ratio": round(slow / fast, 1),
                "models": models,
                "tasks": 16,
                "peak_mb": round(peak),
                "numpy": np.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
