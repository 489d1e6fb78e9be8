"""Raw text to token ids, exactly as lm-eval's Hugging Face model does it (lm_eval 0.4.13, models/huggingface.py).

Special tokens are the tokenizer's habit unless the text already starts with the prefix token; trailing blanks of a
context belong to the continuation; an empty context is the prefix token; too long a context is cut on its left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from .words import Words, last_line, words_of

Ids = npt.NDArray[np.int32]

_RESTS = 256
_WORDS: WeakKeyDictionary[Any, Words | None] = WeakKeyDictionary()  # one a tokenizer, for what it remembers


@dataclass(frozen=True)
class Scored:
    """Token ids of a `Choose` request: one context and its options.

    Attributes:
        context: Ids that every option follows (never empty).
        options: Ids of each option; empty where there is nothing to score.
    """

    context: Ids
    options: tuple[Ids, ...]

    @property
    def size(self) -> int:
        """Token ids held."""
        return len(self.context) + sum(len(option) for option in self.options)


@dataclass(frozen=True)
class TextEncoder:
    """Encodes raw text for one tokenizer.

    Attributes:
        tokenizer: A transformers tokenizer.
        add_bos: Force special tokens on or off; None: as the tokenizer does it.
    """

    tokenizer: Any
    add_bos: bool | None = None

    @cached_property
    def prefix_id(self) -> int:
        """What stands before the first token of a text without context: BOS, or else EOS.

        Raises:
            ValueError: The tokenizer has neither.
        """
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise ValueError("the tokenizer has neither a BOS nor an EOS token to start an empty context with")

    @cached_property
    def _prefix_text(self) -> str:
        known = self.tokenizer.bos_token_id is not None or self.tokenizer.eos_token_id is not None
        return str(self.tokenizer.decode(self.prefix_id)) if known else ""

    @cached_property
    def _words(self) -> Words | None:
        if self.tokenizer not in _WORDS:
            _WORDS[self.tokenizer] = words_of(self.tokenizer)
        return _WORDS[self.tokenizer]

    @cached_property
    def _rests(self) -> BoundedCache:
        return BoundedCache(_RESTS)  # last lines of contexts, as they repeat themselves: "Answer:" with its letters

    def encode(self, texts: Sequence[str], special: bool | None = None) -> list[Ids]:
        """Ids of several texts that start alike (or none with the prefix token).

        Args:
            texts: The texts.
            special: Force special tokens on or off; None: lm-eval's rule.
        """
        return self._ids(texts, self._special(texts[0]) if special is None else special)

    def _special(self, text: str) -> bool | None:
        return False if self._prefix_text and text.startswith(self._prefix_text) else self.add_bos

    def _ids(self, texts: Sequence[str], special: bool | None) -> list[Ids]:
        if self._words is not None:
            before = b"" if special is False else self._words.before
            found = [self._words.encode(text) for text in texts]
            if None not in found:
                return [np.frombuffer(before + ids, np.int32) for ids in found if ids is not None]
        more = {} if special is None else {"add_special_tokens": special}
        return list(map(_array, self.tokenizer(list(texts), verbose=False, **more)["input_ids"]))

    def special_for(self, text: str) -> bool | None:
        """Whether a prompt gets special tokens: not if it brings its BOS; None: as the tokenizer does it."""
        bos = self.tokenizer.bos_token
        return False if bos is not None and text.startswith(bos) else self.add_bos

    def prompt(self, text: str) -> list[int]:
        """Ids of a text to go on from; an empty one is the prefix token."""
        return self.prompt_ids(text).tolist()

    def prompt_ids(self, text: str) -> Ids:
        """The same as an array."""
        ids = self._ids([text], self.special_for(text))[0]
        return ids if len(ids) else _array([self.prefix_id])

    def choose(self, context: str, options: Sequence[str]) -> Scored:
        """Ids of a context and of each continuation."""
        if not context:
            return self._without_context(options)
        bare = context.rstrip()
        moved = context[len(bare) :]
        at = last_line(bare)  # what stands before it is the same for all options
        start = self._start(bare, at)
        if start is None:
            head, ends = self._ends(self.encode, bare, moved, options)
            return Scored(head if len(head) else _array([self.prefix_id]), ends)
        rest = (bare[at:], moved, tuple(options))
        known = self._rests.get(rest)
        if known is None:
            known = self._ends(lambda texts: self._ids(texts, special=False), *rest)
            self._rests.put(rest, known, 1)
        asked = np.frombuffer(start + known[0].tobytes(), np.int32)
        return Scored(asked if len(asked) else _array([self.prefix_id]), known[1])

    def _ends(
        self, encode: Callable[[Sequence[str]], list[Ids]], bare: str, moved: str, options: Sequence[str]
    ) -> tuple[Ids, tuple[Ids, ...]]:
        """Ids of a text, and what each option adds to them."""
        head, *whole = encode([bare, *(bare + moved + option for option in options)])
        ends = [ids[len(head) :] if option or moved else ids[:0] for ids, option in zip(whole, options, strict=True)]
        return head, tuple(ends)

    def _start(self, bare: str, at: int) -> bytes | None:
        """Ids of what stands before a place where a text may be cut; None if it is to be encoded with the rest."""
        if self._words is None:
            return None
        before = b"" if self._special(bare) is False else self._words.before
        ids = self._words.encode(bare[:at], inner=True) if at else b""
        return None if ids is None else before + ids

    def _without_context(self, options: Sequence[str]) -> Scored:
        # An option that already starts with the prefix token has its first token taken as the context, which then is
        # the prefix token all the same.
        ids = self.encode(options, special=False) if options else []
        ends = [i[1:] if len(i) and i[0] == self.prefix_id else i for i in ids]
        return Scored(_array([self.prefix_id]), tuple(ends))

    def rolling(self, text: str, max_length: int) -> Iterator[Scored]:
        """Windows that score every token of a text once, each with as much context as the model's length leaves.

        A first window has the prefix token for context; later ones are full, and repeat what stood before
        (lm_eval.utils.get_rolling_token_windows with context_len 1, made disjoint).
        """
        ids = self.encode([text])[0]
        for start in range(0, len(ids), max_length):
            end = min(start + max_length, len(ids))
            before = ids[max(0, end - max_length - 1) : start]
            yield Scored(before if len(before) else _array([self.prefix_id]), (ids[start:end],))


def _array(ids: Sequence[int]) -> Ids:
    return np.asarray(ids, dtype=np.int32)


class BoundedCache:
    """Keeps the most recent values up to a total size, so that planning's token ids serve answering too."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable) -> Any | None:
        """The value, or None."""
        found = self._kept.get(key)
        return None if found is None else found[0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keeps a value of some size (in tokens); the oldest ones make room."""
        self.size += size - self._kept.pop(key, (None, 0))[1]
        self._kept[key] = (value, size)
        while self.size > self.limit and len(self._kept) > 1:
            self.size -= self._kept.popitem(last=False)[1][1]
        return value
