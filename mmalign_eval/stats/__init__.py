"""Statistics of metrics: intervals and paired tests that respect clusters. Pure functions with result dataclasses."""

from .intervals import RESAMPLES, SEED, Estimate, estimate, estimates, estimates_of, resample
from .sums import Group, MetricSums, Sums, sums_of

__all__ = [
    "RESAMPLES", "SEED", "Estimate", "Group", "MetricSums", "Sums", "estimate", "estimates", "estimates_of", "resample",
    "sums_of",
]  # fmt: skip
