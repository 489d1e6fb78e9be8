"""What a run of requests cost: how many were asked, which tokens that took, and where the time went."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from .models.base import ModelAdapter
from .models.encoding import Scored
from .models.tree_size import sizes
from .phases import ANSWERING, IMAGES, LOAD, Work
from .requests import Choose, Request


@dataclass
class RunStats:
    """What a run of requests cost.

    Tokens have images expanded. `computed_tokens` beyond `tree_tokens` are padding, tokens that did not fit into memory
    until they were needed again, and what a model's attention does not let be shared; below them stays a run that
    found a prefix held from the one before.

    Attributes:
        requests: Requests given.
        unique: Different ones among them.
        stored: Of those, answered before.
        asked: Asked now: the rest of those, and `along`.
        along: Requests of later tasks that were asked with them, because they are on the same images.
        load_seconds: Bringing the weights.
        seconds: Answering.
        prompt_tokens: Prompt tokens of what was asked now.
        new_tokens: Generated tokens of what was asked now.
        halvings: Batches halved because memory ran out.
        sequence_tokens: Tokens that have to go through the model for what was asked now if each prompt, and each option
            with its context, has a row of its own; None: the adapter does not tell.
        tree_tokens: The different ones among these, each shared prefix once.
        computed_tokens: Tokens of prompts and options that went through the model; None: the adapter does not know.
        decoded_tokens: Generated tokens that went through it.
        cache_hits: How often a row went on from tokens whose keys and values were held.
        cache_hit_tokens: Those tokens.
        images_encoded: Images that went through the vision tower.
        seconds_by_phase: Of loading and answering (`phases`); None: part of the rest.
    """

    requests: int = 0
    unique: int = 0
    stored: int = 0
    asked: int = 0
    along: int = 0
    load_seconds: float = 0.0
    seconds: float = 0.0
    prompt_tokens: int = 0
    new_tokens: int = 0
    halvings: int = 0
    sequence_tokens: int | None = None
    tree_tokens: int | None = None
    computed_tokens: int | None = None
    decoded_tokens: int | None = None
    cache_hits: int | None = None
    cache_hit_tokens: int | None = None
    images_encoded: int | None = None
    seconds_by_phase: dict[str, float | None] = field(default_factory=dict)

    def add_sizes(self, adapter: ModelAdapter, asked: Iterable[Request]) -> None:
        """Counts the tokens of what is asked."""
        needed: list[Scored] = []
        for request in asked:
            parts = adapter.laid_out(request)
            if parts is None:
                return
            needed += map(_fed, parts) if isinstance(request, Choose) else parts
        self.sequence_tokens, self.tree_tokens = sizes(needed)


def _fed(part: Scored) -> Scored:
    """What goes through the model: nobody asks what would follow an option's last token, or for an empty option."""
    return Scored(part.context, tuple(option[:-1] for option in part.options if len(option)))


class Meter:
    """What an adapter does from now on.

    Attributes:
        work: The adapter's, or one for the phases that the engine knows of.
        knows: It is the adapter's.
    """

    def __init__(self, work: Work, knows: bool) -> None:
        self.work, self.knows = work, knows
        self._counts, self._seconds = replace(self.work.counts), dict(self.work.seconds)

    def read(self, stats: RunStats) -> None:
        """Adds what was done since to the statistics."""
        spent = {name: self.work.seconds[name] - self._seconds[name] for name in ANSWERING}
        stats.seconds_by_phase = {
            name: seconds if self.knows or name in (LOAD, IMAGES) else None for name, seconds in spent.items()
        }
        if self.knows:
            done = self.work.counts - self._counts
            stats.computed_tokens, stats.decoded_tokens = done.computed_tokens, done.decoded_tokens
            stats.cache_hits, stats.cache_hit_tokens = done.hits, done.hit_tokens
            stats.images_encoded = done.images
