"""Log-likelihoods of options over a prefix tree: each distinct token goes through the model once.

The sequences of a batch (context and option, of all its requests) are one tree, laid out depth first. It goes through
the model in rows of about `pack` tokens, wherever they are cut: a block mask lets each token see its own path and
nothing else, and its positions are those of its path. Of what came before, a cache keeps the path of the last token,
which is all that later ones can look at. The slow twin is `prefix.score_separately`; both return the same numbers
(|a-b| <= 1e-5 max(1, |b|) in float32).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from .encoding import Scored
from .kv import Path, Pictures
from .likelihood import EMPTY, Likelihood
from .tree import Node, Slots, Tree, build

_IN_CACHE = 2**21  # logits that are read at once on a processor: its cache holds them, which makes it 3 times as fast
_ROWS = 512  # rows of logits elsewhere
_NONE: Slots = np.empty(0, np.int64)


def pack_tokens(hidden: int, most: int = 0) -> int:
    """Tokens of a row that are enough for the matrices and not too many for the attention.

    A layer of width h does 24 h^2 operations a token in its matrices and 4 h for each token looked at; in a packed row
    of n tokens nearly all of those looked at are masked (causal attention over one's own path needs only a few):
    4 n h / 24 h^2 = n / 6 h, a twelfth at n = h / 2. Rows under 256 tokens leave the matrices' speed unused.

    Args:
        hidden: Width of the language model.
        most: Upper limit; 0: none.
    """
    wanted = max(256, hidden // 2)
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
        """Asked slots and their logits, depth first; down to the images, nodes go through one by one."""
        tree = work.tree
        for shows, some in itertools.groupby(nodes, lambda node: bool((tree.ids[node.start : node.end] < 0).any())):
            run = list(some)
            if not shows:
                yield from self._rows(work, above, run[0].start, run[-1].end)
                continue
            for node in run:
                path = np.concatenate([above, np.arange(node.start, node.stop)])
                asked = tree.position[work.asked(node.start, node.stop)]
                for found, logits in self.path.hold(tree.ids[path], asked, pictures):
                    yield path[found], logits
                yield from self._visit(work, node.children, path, pictures)

    def _rows(self, work: _Work, above: Slots, start: int, stop: int) -> Iterator[tuple[Slots, torch.Tensor]]:
        """Takes a range of slots, which hangs below a path, through the model in rows of about equal length.

        Of a row, the path of its last token stays held: that is all that later rows can look at.
        """
        tree = work.tree
        held = self._held(work, above, start, stop)
        start += len(held) - len(above)
        count = -(-(stop - start) // self.pack)
        bounds = [start + number * (stop - start) // count for number in range(count + 1)]
        for first, last in itertools.pairwise(bounds):
            held = held[tree.end[held] > first]
            self.path.back_to(len(held))
            asked = work.asked(first, last)
            logits = self._row(tree, held, first, last, asked)
            held = np.concatenate([held, np.arange(first, last)])
            stays = np.flatnonzero(tree.end[held] >= last)
            self.path.keep(stays)
            held = held[stays]
            yield asked, logits

    def _held(self, work: _Work, above: Slots, start: int, stop: int) -> Slots:
        """The path above a range, and what is held of the range's first path before a token that is asked for."""
        tree = work.tree
        (branches,) = np.nonzero(np.diff(tree.position[start:stop]) != 1)
        ends = start + int(branches[0]) + 1 if len(branches) else stop
        path = np.concatenate([above, np.arange(start, ends)])
        same = self.path.shared(tree.ids[path])
        assert same >= len(above)
        asked = work.asked(start, ends)
        return path[: min(same, int(tree.position[asked[0]]))]  # where a sequence ends a token is asked for

    def _row(self, tree: Tree, held: Slots, start: int, stop: int, asked: Slots) -> torch.Tensor:
        """Logits of the asked slots of a row, each of whose tokens sees its own path only."""
        self.path.work.hit(len(held))
        slots, end = np.arange(start, stop), tree.end[start:stop]
        sees = (slots[None, :] <= slots[:, None]) & (end[None, :] > slots[:, None])
        mask = torch.from_numpy(np.concatenate([tree.end[held][None, :] > slots[:, None], sees], axis=1))
        return self.path.forward(tree.ids[start:stop], tree.position[start:stop], torch.from_numpy(asked - start), mask)


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
        size = max(1, _IN_CACHE // logits.shape[-1]) if logits.device.type == "cpu" else _ROWS
        for first in range(0, len(asked), size):
            x, y = a + np.searchsorted(rows, [first, first + size])
            if x == y:
                continue
            some = logits[first : first + size].float()
            at = torch.from_numpy(rows[x - a : y - a] - first).to(some.device)
            tokens = torch.from_numpy(self._targets[x:y]).to(some.device)
            place = self._order[x:y]
            self._values[place] = torch.log_softmax(some, dim=-1)[at, tokens].double().cpu().numpy()
            self._hits[place] = (some.argmax(dim=-1)[at] == tokens).cpu().numpy()
        self._left -= np.bincount(self._owner[a:b], minlength=len(self._left))
        for index in np.unique(self._owner[a:b]):
            if self._left[index] == 0:
                yield int(index), [self._likelihood(place) for place in self._places[index]]

    def _likelihood(self, place: slice | None) -> Likelihood:
        if place is None:
            return EMPTY
        return Likelihood(math.fsum(self._values[place].tolist()), bool(self._hits[place].all()))
