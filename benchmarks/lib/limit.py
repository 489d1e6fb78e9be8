"""How far from the limit: the operations that distinct tokens need, at the rate the machine multiplies matrices."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .text_models import Shape


@dataclass(frozen=True)
class Tokens:
    """What a benchmark's requests come to, in tokens.

    Attributes:
        sequences: In all sequences (context and option without its last token), one an option.
        distinct_sequences: The same, identical sequences once.
        tree: Distinct ones.
        looked_at: Sum, over the distinct ones, of the tokens each looks at: its path and itself.
        asked: Distinct ones that logits are needed of.
        expected: Log-probabilities read.
    """

    sequences: int
    distinct_sequences: int
    tree: int
    looked_at: int
    asked: int
    expected: int

    @property
    def ratio(self) -> float:
        """R: how many times fewer tokens the tree has; identical sequences count once, as both sides ask them once."""
        return self.distinct_sequences / self.tree


def count(requests: Sequence[Any]) -> Tokens:
    """Counts requests (`encoding.Scored`)."""
    from mmalign_eval.models.tree import build

    pairs = [(len(r.context), [*r.context.tolist(), *o.tolist()]) for r in requests for o in r.options if len(o)]
    import numpy as np

    fed = [np.array(ids[:-1], np.int32) for _, ids in pairs]
    tree = build(fed)
    asked = {int(slot) for (first, _), path in zip(pairs, tree.paths, strict=True) for slot in path[first - 1 :]}
    distinct = {ids.tobytes(): len(ids) for ids in fed}
    return Tokens(
        sequences=sum(map(len, fed)),
        distinct_sequences=sum(distinct.values()),
        tree=len(tree),
        looked_at=int((tree.position + 1).sum()),
        asked=len(asked),
        expected=sum(len(ids) - first for first, ids in pairs),
    )


def operations(shape: Shape, tokens: Tokens) -> float:
    """Floating-point operations that the distinct tokens need.

    A multiplication and an addition for each number of the matrices a token goes through; in attention, for each token
    looked at, as many for its key and its value; the output matrix where logits are needed.
    """
    layers = shape.layers * (2 * shape.layer * tokens.tree + 4 * shape.hidden * tokens.looked_at)
    return float(layers + 2 * shape.hidden * shape.vocabulary * tokens.asked)


def matmul_rate(shape: Shape, rows: int, least: float = 3.0) -> float:
    """Operations a processor second on a layer's matrices and the output matrix, each on so many rows at once.

    Weighted as one token goes through them: the time of one whole pass over all of them, median over `least` seconds.
    """
    import torch

    torch.manual_seed(0)
    sizes = [(shape.hidden, shape.hidden)] * 4 + [(shape.mlp, shape.hidden)] * 2 + [(shape.hidden, shape.mlp)]
    linears = [torch.randn(size) for size in sizes] + [torch.randn(shape.vocabulary, shape.hidden)]
    weights = [shape.layers] * len(sizes) + [1]
    inputs = {width: torch.randn(rows, width) for width in (shape.hidden, shape.mlp)}
    rates: list[float] = []
    begun = time.process_time()
    with torch.inference_mode():
        while time.process_time() - begun < least or len(rates) < 3:
            spent = 0.0
            for matrix, weight in zip(linears, weights, strict=True):
                start = time.process_time()
                torch.nn.functional.linear(inputs[matrix.shape[1]], matrix)
                spent += weight * (time.process_time() - start)
            numbers = sum(weight * matrix.numel() for matrix, weight in zip(linears, weights, strict=True))
            rates.append(2 * rows * numbers / spent)
    return statistics.median(rates[1:])


def measure(work: Path, shape: Shape, rows: int) -> dict[str, Any]:
    """Tokens, operations and the machine's rate for the requests of a work folder."""
    from mmalign_eval.models.opening import open_model
    from mmalign_eval.requests import RAW_TEMPLATE, Choose, Prompt

    from .peers import read_requests

    adapter: Any = open_model(f"hf:{work / 'model'}", {"device": "cpu", "dtype": "float32"})
    asked = [Choose(Prompt(c, template=RAW_TEMPLATE), tuple(options)) for c, options in read_requests(work)]
    tokens = count([adapter._scored(request) for request in asked])
    rate = matmul_rate(shape, rows)
    return {**tokens.__dict__, "R": tokens.ratio, "operations": operations(shape, tokens), "rate": rate, "rows": rows}
