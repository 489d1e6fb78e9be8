"""Statistics of metrics: intervals and paired tests that respect clusters. Pure functions with result dataclasses."""

from .draws import SEED, resample
from .intervals import RESAMPLES, Estimate, estimate, estimates, estimates_of
from .sums import Group, MetricSums, Sums, sums_of

__all__ = [
    "RESAMPLES", "SEED", "Estimate", "Group", "MetricSums", "Sums", "estimate", "estimates", "estimates_of", "resample",
    "sums_of",
]  # fmt: skip
