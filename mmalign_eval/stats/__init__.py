"""Statistics of metrics: intervals and paired tests that respect clusters. Pure functions with result dataclasses."""

from .draws import SEED, resample
from .intervals import RESAMPLES, Estimate, estimate, estimates, estimates_of
from .paired import Paired, holm, mcnemar
from .seeds import Seeds, over_seeds, paired_over_seeds
from .sums import Group, MetricSums, Sums, sums_of

__all__ = [
    "RESAMPLES", "SEED", "Estimate", "Group", "MetricSums", "Paired", "Seeds", "Sums", "estimate", "estimates",
    "estimates_of", "holm", "mcnemar", "over_seeds", "paired_over_seeds", "resample", "sums_of",
]  # fmt: skip
