"""Requests to responses: dedupe, resume, order, batch, retry, progress.

The engine knows no benchmark and no model family. Whatever happens, each request ends with a typed response: an
answer (kept in the store) or an error (counted, asked again next time).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from .cycles import cycles_left
from .errors import BadInput, ImageError, MmevalError, OutOfMemory, Refused
from .image_ahead import ImagesAhead
from .images import ImagePool, digest
from .models.base import ModelAdapter
from .phases import IMAGES, LOAD, Work
from .requests import Choose, Request, Response, failure
from .run_stats import Meter, RunStats
from .store import Store, request_key

ALIKE = 16  # tokens with which requests begin that are asked one after the other
COMMIT_SECONDS = 0.2  # adapters that answer one by one (an API) commit at least this often
NOTHING: Mapping[str, Request] = MappingProxyType({})
Advance = Callable[[int, int], None]  # (answers, errors) since the last call


@dataclass
class _Limits:
    rows: int
    choose_rows: int
    tokens: int
    halvings: int = 0


@dataclass
class _Item:
    """A request to be asked.

    Attributes:
        key: In the store.
        request: What is asked.
        length: Tokens it takes in a batch.
        prefix: Those it begins with, as bytes in whose order requests that begin alike are neighbours.
        shared: First tokens that it shares with the item before.
    """

    key: str
    request: Request
    length: int
    prefix: bytes = b""
    shared: int = 0


def request_keys(adapter: ModelAdapter, requests: Sequence[Request]) -> list[str]:
    """Store keys of requests to an adapter, in order.

    Raises:
        BadInput: An image is missing, or the adapter refuses a request.
    """
    fingerprint, keys = adapter.fingerprint(), []
    for request in requests:
        try:
            keys.append(request_key(fingerprint, request))
            adapter.check(request)
        except (ImageError, Refused) as error:
            raise BadInput(str(error)) from error
    return keys


def _limits_of(adapter: ModelAdapter) -> _Limits:
    choose_rows = adapter.batch_rows if adapter.choose_rows is None else adapter.choose_rows
    return _Limits(adapter.batch_rows, choose_rows, adapter.batch_tokens)


class Engine:
    """Drives one adapter over one store; weights are loaded on the first request that is not stored.

    Attributes:
        work: What the adapter does, and the phases of it.
    """

    def __init__(self, adapter: ModelAdapter, store: Store) -> None:
        self.adapter, self.store = adapter, store
        self._limits = _limits_of(adapter)
        self._loaded = False
        self.work = adapter.work or Work()
        self._failed: set[str] = set()  # asked before their turn, in vain: asked again when it is their turn, only then

    def run(
        self,
        requests: Sequence[Request],
        keys: Sequence[str] | None = None,
        advance: Advance = lambda ok, bad: None,
        later: Mapping[str, Request] = NOTHING,
    ) -> tuple[list[Response], RunStats]:
        """Answers all requests.

        Args:
            requests: In any order, duplicates allowed.
            keys: Their `request_keys`, if computed before.
            advance: Called with (answers, errors) as they come, stored ones first.
            later: Requests that are to come, by their keys. Those on an image that is looked at now are asked with it,
                so that it is seen once; their answers wait in the store.

        Returns:
            Responses in the order of `requests`, and what it cost.
        """
        keys = keys or request_keys(self.adapter, requests)
        unique = dict(zip(keys, requests, strict=True))
        counts: dict[str, int] = {}
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
        answers = self.store.get_many(list(dict.fromkeys(keys)))
        stats = RunStats(len(requests), len(unique), len(answers))
        meter = Meter(self.work, knows=self.adapter.work is not None)
        advance(sum(counts[key] for key in answers), 0)
        with cycles_left():
            pending = [self._item(key, request) for key, request in unique.items() if key not in answers]
            along = self._along(pending, later)
        pending += along
        stats.asked, stats.along = len(pending), len(along)
        stats.add_sizes(self.adapter, [item.request for item in pending])
        if pending:
            stats.load_seconds = self._load()
            start, halvings = time.perf_counter(), self._limits.halvings
            for committed in self._ask(order(pending)):
                self._failed |= {item.key for item, response in committed if not response.answered}
                for item, response in committed:
                    answers[item.key] = response
                    stats.prompt_tokens += response.prompt_tokens
                    stats.new_tokens += response.new_tokens
                heard = sum(counts.get(item.key, 0) for item, _ in committed)
                good = sum(counts.get(item.key, 0) for item, response in committed if response.answered)
                advance(good, heard - good)
            stats.seconds, stats.halvings = time.perf_counter() - start, self._limits.halvings - halvings
        meter.read(stats)
        return [answers[key] for key in keys], stats

    def _along(self, pending: Sequence[_Item], later: Mapping[str, Request]) -> list[_Item]:
        """Of the requests to come, those on the images of what is asked now."""
        seen = {_shown(item.request) for item in pending} - {""}
        if not seen:
            return []
        found = {key: request for key, request in later.items() if key not in self._failed and _shown(request) in seen}
        known = {item.key for item in pending} | set(self.store.get_many(list(found)))
        return [self._item(key, request) for key, request in found.items() if key not in known]

    def _item(self, key: str, request: Request) -> _Item:
        prefix = self.adapter.prefix(request).astype(">u4").tobytes()
        return _Item(key, request, self.adapter.length(request), prefix)

    def _load(self) -> float:
        if self._loaded:
            return 0.0
        start = time.perf_counter()
        with self.work.phase(LOAD):
            self.adapter.load()
        self._limits = _limits_of(self.adapter)  # known once there are weights, from the memory that they leave
        self._loaded = True
        return time.perf_counter() - start

    def _ask(self, items: list[_Item]) -> Iterator[list[tuple[_Item, Response]]]:
        pool = ImagesAhead([item.request.prompt.images for item in items], self.adapter.preparer)
        try:
            start = 0
            while start < len(items):
                end = self._end(items, start)
                with self.work.phase(IMAGES):
                    pool.reach(start, end)
                yield from self._commit(self._batch(items[start:end], pool))
                start = end
        finally:
            pool.close()

    def _commit(self, results: Iterator[tuple[_Item, Response]]) -> Iterator[list[tuple[_Item, Response]]]:
        """Stores answers, at the end of a batch or every fraction of a second, before anything else hears of them."""
        waiting: list[tuple[_Item, Response]] = []
        last = time.perf_counter()
        try:
            for result in results:
                waiting.append(result)
                if time.perf_counter() - last > COMMIT_SECONDS:
                    self.store.put_many((item.key, response) for item, response in waiting)
                    yield waiting
                    waiting, last = [], time.perf_counter()
        finally:  # also when interrupted: what was answered is kept
            self.store.put_many((item.key, response) for item, response in waiting)
        yield waiting

    def _end(self, items: list[_Item], start: int) -> int:
        """Where the batch that begins at `start` ends; it cuts through requests that begin alike only if it must."""
        cost, choosing, whole = _Cost(), True, start
        for rows, index in enumerate(range(start, len(items)), start=1):
            if items[index].shared < ALIKE:
                whole = index
            cost.add(items[index], first=rows == 1)
            choosing = choosing and isinstance(items[index].request, Choose)
            most = self._limits.choose_rows if choosing else self._limits.rows
            too_many = most and rows > most
            if rows > 1 and (too_many or (self._limits.tokens and cost.tokens > self._limits.tokens)):
                return whole if 2 * (whole - start) >= index - start else index  # half a batch at least
        return len(items)

    def _batch(self, batch: list[_Item], pool: ImagePool) -> Iterator[tuple[_Item, Response]]:
        """Answers one batch, whatever happens in it."""
        good: list[_Item] = []
        for item in batch:
            with self.work.phase(IMAGES):
                problem = _image_problem(item, pool)
            if problem:
                yield item, failure(problem)
            else:
                good.append(item)
        if good:
            yield from self._try(good, pool)

    def _try(self, batch: list[_Item], pool: ImagePool) -> Iterator[tuple[_Item, Response]]:
        done: set[int] = set()
        full: OutOfMemory | None = None
        try:
            for index, response in self.adapter.answer([item.request for item in batch], pool):
                done.add(index)
                yield batch[index], _checked(batch[index].request, response)
        except OutOfMemory as error:
            full = OutOfMemory(str(error))  # not the error itself: its frames hold the batch that did not fit
        except MmevalError:
            raise
        except Exception as error:
            left = [b for i, b in enumerate(batch) if i not in done]
            if len(batch) == 1:
                for item in left:  # none if the answer was given before it raised
                    yield item, failure(f"{type(error).__name__}: {error}")
            else:  # one bad request must not take its neighbours with it
                for item in left:
                    yield from self._try([item], pool)
            return
        if full is not None:
            yield from self._halve([b for i, b in enumerate(batch) if i not in done], pool, full)
            return
        for index, item in enumerate(batch):
            if index not in done:
                yield item, failure("the model returned nothing for this request")

    def _halve(self, left: list[_Item], pool: ImagePool, error: OutOfMemory) -> Iterator[tuple[_Item, Response]]:
        if len(left) == 1:
            yield left[0], failure(f"out of memory even alone: {error}")
            return
        half = (len(left) + 1) // 2
        self._limits.halvings += 1
        if self._limits.tokens:  # the size that works is remembered, as tokens where length is known
            self._limits.tokens = _cost(left[:half])
        else:
            self._limits.rows = min(self._limits.rows or half, half)
            self._limits.choose_rows = min(self._limits.choose_rows or half, half)
        start = 0
        while start < len(left):
            end = min(self._end(left, start), start + half)
            yield from self._try(left[start:end], pool)
            start = end


@dataclass
class _Cost:
    """Tokens of a batch: rows times the longest for texts, as padding makes it; for options, what is not shared."""

    rows: int = 0
    longest: int = 0
    own: int = 0

    def add(self, item: _Item, first: bool) -> None:
        if isinstance(item.request, Choose):
            self.own += item.length - (0 if first else item.shared)
        else:
            self.rows, self.longest = self.rows + 1, max(self.longest, item.length)

    @property
    def tokens(self) -> int:
        return self.rows * self.longest + self.own


def _cost(items: Sequence[_Item]) -> int:
    cost = _Cost()
    for number, item in enumerate(items):
        cost.add(item, first=number == 0)
    return cost.tokens


@cycles_left()
def order(items: Sequence[_Item]) -> list[_Item]:
    """Requests on one image are neighbours, and so are those that begin alike.

    Otherwise the longest come first, so that memory runs out early or never.
    """
    groups: dict[tuple[str, bool], list[_Item]] = {}
    for item in items:
        image = _shown(item.request)
        groups.setdefault((image, isinstance(item.request, Choose)), []).append(item)
    units: dict[str, list[list[_Item]]] = {}  # clusters of an image stay together, those without one are one each
    for (image, _), group in groups.items():
        for cluster in _clusters(group):
            units.setdefault(image or cluster[0].key, []).append(cluster)
    for clusters in units.values():
        clusters.sort(key=_longest_first)
    inside = sorted(units.values(), key=lambda clusters: _longest_first(clusters[0]))
    return [item for clusters in inside for cluster in clusters for item in cluster]


def _longest_first(cluster: Sequence[_Item]) -> tuple[int, str]:
    return -max(item.length for item in cluster), cluster[0].key


def _shown(request: Request) -> str:
    """What a request shows first, as text; empty if it shows nothing."""
    images = request.prompt.images
    return digest(images[0]) + "|".join(images[0].transforms) if images else ""


def _clusters(group: Sequence[_Item]) -> list[list[_Item]]:
    """A group's requests by what they begin with; where nothing is known of that, the longest first."""
    clusters: list[list[_Item]] = []
    for item in sorted(group, key=lambda item: (item.prefix, item.key)):
        item.shared = _common(clusters[-1][-1].prefix, item.prefix) if clusters else 0
        if clusters and (item.shared >= ALIKE or not item.prefix):
            clusters[-1].append(item)
        else:
            clusters.append([item])
    if not group[0].prefix:
        clusters[0].sort(key=lambda item: (-item.length, item.key))
    return clusters


def _common(a: bytes, b: bytes) -> int:
    """First tokens that two prefixes share."""
    size = min(len(a), len(b)) // 4
    different = np.flatnonzero(np.frombuffer(a, np.uint32, size) != np.frombuffer(b, np.uint32, size))
    return int(different[0]) if len(different) else size


def _image_problem(item: _Item, pool: ImagePool) -> str:
    """Why an image of the request cannot be used; empty if all can."""
    try:
        for image in item.request.prompt.images:
            pool.check(image)
    except ImageError as error:
        return str(error)
    return ""


def _checked(request: Request, response: Response | None) -> Response:
    """An adapter's response, or the error that it is."""
    if not isinstance(response, Response):
        return failure(f"the model returned {type(response).__name__} instead of a response")
    if isinstance(request, Choose) and response.answered:
        if len(response.logprobs) != len(request.options):
            return failure(f"{len(response.logprobs)} log-likelihoods for {len(request.options)} options")
        if any(math.isnan(value) for value in response.logprobs):
            return failure("the model gave NaN log-likelihoods")
    return response
