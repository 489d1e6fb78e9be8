"""What scoring an option gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Likelihood:
    """One option's result.

    Attributes:
        logprob: Natural-log likelihood, summed over its tokens; NaN if the model gave NaN.
        greedy: Whether each of its tokens is the likeliest one.
    """

    logprob: float
    greedy: bool


EMPTY = Likelihood(0.0, True)
