"""Log-likelihoods of options over a prefix tree: each distinct token goes through the model once.

The sequences of a batch (context and option, of all its requests) are one tree. A subtree of at most `pack` tokens is
one row: a block mask lets each token see its own path and nothing else, and its positions are those of its path. The
path above is in a cache. A larger subtree's first node joins that path, and its children are packed in turn. The slow
twin is `prefix.score_separately`; both return the same numbers (|a-b| <= 1e-5 max(1, |b|) in float32).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from .encoding import Scored
from .kv import Path, Pictures
from .likelihood import EMPTY, Likelihood
from .tree import Node, Slots, Tree, build, packs

_ROWS = 512  # logits that are read at once
_NONE: Slots = np.empty(0, np.int64)


def pack_tokens(hidden: int, most: int = 0) -> int:
    """Tokens of a row at which a block mask's waste is about an eighth of the arithmetic.

    A layer of width h does 24 h^2 operations a token in its matrices and 4 h for each token looked at; in a packed row
    of n tokens about n/2 of those looked at are masked (causal attention over one's own path needs only a few):
    2 n h / 24 h^2 = n / 12 h, an eighth at n = 1.5 h. Rows under 256 tokens leave the matrices' speed unused.

    Args:
        hidden: Width of the language model.
        most: Upper limit; 0: none.
    """
    wanted = max(256, hidden + hidden // 2)
    return min(wanted, most) if most else wanted


class TreeScorer:
    """Scores batches of `Choose` requests; the path of the last batch is kept for the next one."""

    def __init__(self, path: Path, pack: int) -> None:
        self.path, self.pack = path, pack

    def score(
        self, requests: Sequence[Scored], pictures: Pictures | None = None
    ) -> Iterator[tuple[int, list[Likelihood]]]:
        """All options of all requests; a request comes as soon as its last token is there.

        Args:
            requests: That fit the model's length as they are; images as stand-ins.
            pictures: Of these.

        Yields:
            A request's index, and its options' results in order.
        """
        work = _Work(requests)
        yield from work.unasked()
        try:
            for asked, logits in self._visit(work, work.tree.roots, _NONE, pictures):
                yield from work.read(asked, logits)
        except BaseException:  # what is in the cache is not known then
            self.path.forget()
            raise

    def _visit(
        self, work: _Work, nodes: Sequence[Node], above: Slots, pictures: Pictures | None
    ) -> Iterator[tuple[Slots, torch.Tensor]]:
        """Asked slots and their logits, depth first."""
        tree = work.tree
        for some in packs(nodes, self.pack):
            start, stop = some[0].start, some[-1].end
            if stop - start <= self.pack and not (tree.ids[start:stop] < 0).any():
                yield work.asked(start, stop), self._pack(work, above, start, stop)
                continue
            for node in some:
                path = np.concatenate([above, np.arange(node.start, node.stop)])
                asked = tree.position[work.asked(node.start, node.stop)]
                for found, logits in self.path.hold(tree.ids[path], asked, pictures):
                    yield path[found], logits
                yield from self._visit(work, node.children, path, pictures)

    def _pack(self, work: _Work, above: Slots, start: int, stop: int) -> torch.Tensor:
        """Logits of the asked slots of a range, which hangs below a path."""
        tree, held = work.tree, len(above)
        assert self.path.shared(tree.ids[above]) == held
        self.path.back_to(held)
        self.path.work.hit(held)
        slots, end = torch.arange(start, stop), torch.from_numpy(tree.end[start:stop])
        sees = (slots[None, :] <= slots[:, None]) & (end[None, :] > slots[:, None])
        mask = torch.cat([torch.ones(stop - start, held, dtype=torch.bool), sees], dim=1)
        kept = torch.from_numpy(work.asked(start, stop) - start)
        logits = self.path.forward(tree.ids[start:stop], tree.position[start:stop], kept, mask)
        self.path.back_to(held)
        return logits


class _Work:
    """What is asked of a batch's tree, and what is answered already."""

    def __init__(self, requests: Sequence[Scored]) -> None:
        self.requests = requests
        options = [(r, o) for r, request in enumerate(requests) for o, ids in enumerate(request.options) if len(ids)]
        fed = [np.concatenate([requests[r].context, requests[r].options[o][:-1]]) for r, o in options]
        self.tree: Tree = build(fed)
        firsts = [len(requests[r].context) - 1 for r, _ in options]
        sizes = [len(requests[r].options[o]) for r, o in options]
        none = np.empty(0, np.int64)
        slots = np.concatenate([none, *(p[first:] for p, first in zip(self.tree.paths, firsts, strict=True))])
        targets = np.concatenate([none, *(requests[r].options[o] for r, o in options)])
        order = np.argsort(slots, kind="stable")
        self._slots, self._targets, self._order = slots[order], targets[order], order
        self._asked = np.unique(slots)
        self._owner = np.repeat([r for r, _ in options], sizes)[order] if options else none
        self._values, self._hits = np.full(len(slots), np.nan), np.zeros(len(slots), bool)
        self._left = np.bincount(self._owner, minlength=len(requests))
        bounds = np.cumsum([0, *sizes])
        self._places: list[list[slice | None]] = [[None] * len(request.options) for request in requests]
        for (r, o), a, b in zip(options, bounds, bounds[1:], strict=False):
            self._places[r][o] = slice(a, b)

    def asked(self, start: int, stop: int) -> Slots:
        """The slots of a range whose logits are asked for."""
        a, b = np.searchsorted(self._asked, [start, stop])
        found: Slots = self._asked[a:b]
        return found

    def unasked(self) -> Iterator[tuple[int, list[Likelihood]]]:
        """Requests with nothing to score."""
        for index in np.flatnonzero(self._left == 0).tolist():
            yield index, [EMPTY] * len(self.requests[index].options)

    def read(self, asked: Slots, logits: torch.Tensor) -> Iterator[tuple[int, list[Likelihood]]]:
        """Takes the logits `[asked, vocabulary]` of all asked slots of a range; gives requests complete with them."""
        if not len(asked):
            return
        a, b = np.searchsorted(self._slots, [asked[0], asked[-1] + 1])
        rows = np.searchsorted(asked, self._slots[a:b])
        for first in range(0, len(asked), _ROWS):
            x, y = a + np.searchsorted(rows, [first, first + _ROWS])
            if x == y:
                continue
            some = logits[first : first + _ROWS].float()
            at = torch.from_numpy(rows[x - a : y - a] - first).to(some.device)
            tokens = torch.from_numpy(self._targets[x:y]).to(some.device)
            place = self._order[x:y]
            self._values[place] = (some[at, tokens] - torch.logsumexp(some, dim=-1)[at]).double().cpu().numpy()
            self._hits[place] = (some.argmax(dim=-1)[at] == tokens).cpu().numpy()
        self._left -= np.bincount(self._owner[a:b], minlength=len(self._left))
        for index in np.unique(self._owner[a:b]):
            if self._left[index] == 0:
                yield int(index), [self._likelihood(place) for place in self._places[index]]

    def _likelihood(self, place: slice | None) -> Likelihood:
        if place is None:
            return EMPTY
        return Likelihood(math.fsum(self._values[place].tolist()), bool(self._hits[place].all()))
