"""Text to token ids word by word: what a tokenizer gives for the whole text, with each word taken through it once.

Requests repeat themselves (shots, subject headers, a question before each of its options), and a tokenizer goes through
every text anew. A byte-level BPE tokenizer first cuts a text into words by a regular expression and encodes each alone,
so the ids of a text are those of its words, one after the other. Two things follow, for the expressions known here:

- Each of their alternatives begins at the place where the one before ended and looks at no character before it, so what
  stands before a word has no say in it. A letter after a line break always begins a word (no alternative that takes a
  line break goes on with a letter), and what stands before it sees of it only that it is no blank. A text may be cut
  there.
- On the characters listed in `_KNOWN`, whose classes no version of Unicode changed, Python's expressions cut as theirs.

Whatever is not so (another kind of tokenizer, other characters) is left to the tokenizer itself.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_KEPT = 32 * 2**20  # bytes, about, of words that are remembered, and as many of paragraphs
_ENTRY = 150  # bytes that an entry of a dict takes beside its text and ids
_FEW = 16  # words that are sooner encoded one by one than the tokenizer's threads are woken
_INNER = "a"  # any letter: stands for the text that goes on after a line break

# Latin letters with and without accents, digits, punctuation. All are their own NFC form.
_LONG_S = 0x17F  # an "s" to those who ignore case, and to some of them not
_CODES = (9, 10, 13, *range(0x20, 0x7F), *range(0xA1, _LONG_S), *range(_LONG_S + 1, 0x250), *range(0x2010, 0x2028))
_CHARACTERS = [*map(chr, _CODES)]
_LETTERS = re.escape("".join(c for c in _CHARACTERS if unicodedata.category(c)[0] == "L"))
_NUMBERS = re.escape("".join(c for c in _CHARACTERS if unicodedata.category(c)[0] == "N"))
_KNOWN = re.compile(f"[{re.escape(''.join(_CHARACTERS))}]*")

# Expressions of GPT-2 (also GPT-NeoX, OPT), LLaMA 3 and Qwen 2, as their tokenizer files have them.
GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
_Split = Callable[[str], list[str]]


def _expression(pattern: str) -> re.Pattern[str]:
    """An expression over the known characters for Python, which has no classes of Unicode."""
    inside = re.sub(r"\[\^[^]]*\]", lambda m: m[0].replace(r"\p{L}", _LETTERS).replace(r"\p{N}", _NUMBERS), pattern)
    return re.compile(inside.replace(r"\p{L}", f"[{_LETTERS}]").replace(r"\p{N}", f"[{_NUMBERS}]"))


_EXPRESSIONS = {pattern: _expression(pattern).findall for pattern in (GPT_2, LLAMA_3, QWEN_2)}
_DIGITS_APART = re.compile(f"[{_NUMBERS}]|[^{_NUMBERS}]+").findall
_DIGITS_TOGETHER = re.compile(f"[{_NUMBERS}]+|[^{_NUMBERS}]+").findall


@dataclass
class Words:
    """Ids of texts for one tokenizer, special tokens around them left out.

    Attributes:
        words: The tokenizer, of single words.
        steps: What cuts a text into words, one after the other.
        added: Expressions of the tokens that are found in a text before it is cut into words, in the order in which
            they are looked for, with their ids.
        strange: Finds tokens that take what stands around them.
        before: Special tokens before a text, where there are any.
    """

    words: Any
    steps: tuple[_Split, ...]
    added: tuple[tuple[re.Pattern[str], dict[str, bytes]], ...]
    strange: re.Pattern[str] | None
    before: bytes
    _ids: dict[str, bytes] = field(default_factory=dict)
    _paragraphs: dict[tuple[str, bool], bytes] = field(default_factory=dict)
    _held: int = 0
    _held_paragraphs: int = 0

    def encode(self, text: str, inner: bool = False) -> bytes | None:
        """Ids of a text, 4 bytes each; None where that is to be left to the tokenizer.

        Args:
            text: Any text.
            inner: It ends in a line break, and a letter follows.
        """
        found: list[bytes] = []
        paragraphs = _paragraphs(text)
        last = len(paragraphs) - 1
        for number, paragraph in enumerate(paragraphs):
            key = (paragraph, inner or number < last)
            ids = self._paragraphs.get(key)
            if ids is None:
                ids = self._paragraph(*key)
                if ids is None:
                    return None
            found.append(ids)
        return b"".join(found)

    def _paragraph(self, text: str, inner: bool) -> bytes | None:
        if not _KNOWN.fullmatch(text) or (self.strange and self.strange.search(text)):
            return None
        whole = text + _INNER if inner else text
        ids = self._segments(whole, 0)
        if inner:
            ids = ids[: -len(self._ids[_INNER])]
        size = len(text) + len(ids) + _ENTRY
        self._held_paragraphs += size
        if self._held_paragraphs > _KEPT:
            self._paragraphs, self._held_paragraphs = {}, size
        self._paragraphs[text, inner] = ids
        return ids

    def _segments(self, text: str, at: int) -> bytes:
        """Ids of a text whose added tokens are to be found from the `at`-th expression on."""
        if at == len(self.added):
            return self._cut(text)
        expression, known = self.added[at]
        found, start = [], 0
        for match in expression.finditer(text):
            found += [self._segments(text[start : match.start()], at + 1), known[match[0]]]
            start = match.end()
        return b"".join([*found, self._segments(text[start:], at + 1)])

    def _cut(self, text: str) -> bytes:
        pieces = [text]
        for step in self.steps:
            pieces = [word for piece in pieces for word in step(piece)]
        try:
            return b"".join(map(self._ids.__getitem__, pieces))
        except KeyError:
            self._learn(pieces)
            return b"".join(map(self._ids.__getitem__, pieces))

    def _learn(self, pieces: Iterable[str]) -> None:
        new = list(dict.fromkeys([word for word in (*pieces, _INNER) if word not in self._ids]))
        self._held += _size(new)
        if self._held > _KEPT:
            self._ids, new = {}, list(dict.fromkeys([*pieces, _INNER]))
            self._held = _size(new)
        if len(new) < _FEW:
            made = [self.words.encode(word, add_special_tokens=False) for word in new]
        else:
            made = self.words.encode_batch_fast(new, add_special_tokens=False)
        for word, encoded in zip(new, made, strict=True):
            self._ids[word] = _bytes(encoded.ids)


def _size(words: list[str]) -> int:
    return sum(len(word) + _ENTRY for word in words)


def _paragraphs(text: str) -> list[str]:
    """A text in pieces, each of which begins with a letter after an empty line."""
    lines = text.split("\n\n")
    found = [lines[0]]
    for line in lines[1:]:
        found[-1] += "\n\n"
        if _starts_word(line):
            found.append(line)
        else:
            found[-1] += line
    return found


def _starts_word(text: str) -> bool:
    return text[:1].isascii() and text[:1].isalpha()


def last_line(text: str) -> int:
    """Where the last line begins that starts with a letter; 0 if there is none."""
    at = len(text)
    while (at := text.rfind("\n", 0, at)) >= 0:
        if _starts_word(text[at + 1 : at + 2]):
            return at + 1
    return 0


def words_of(tokenizer: Any) -> Words | None:
    """What takes texts through a tokenizer word by word; None if it is not of a kind for which that is the same."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or getattr(tokenizer, "split_special_tokens", False):
        return None
    made = json.loads(backend.to_str())
    model, steps, before = made["model"], _steps(made["pre_tokenizer"]), _before(made["post_processor"])
    if steps is None or before is None or made["normalizer"] not in (None, {"type": "NFC"}):
        return None
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "unk_token")
    if model["type"] != "BPE" or any(model.get(name) for name in odd):
        return None
    tokens = made["added_tokens"]
    if any("\n" in token["content"] or _starts_word(token["content"]) for token in tokens):
        return None  # the text before such a token would see no letter follow, or no end of its line
    alone = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    bare: dict[str, Any] = {"normalizer": None, "pre_tokenizer": alone, "post_processor": None, "added_tokens": []}
    from tokenizers import Tokenizer

    words = Tokenizer.from_str(json.dumps({**made, **bare, "truncation": None, "padding": None}))
    strange = [t["content"] for t in tokens if t["lstrip"] or t["rstrip"] or t["single_word"]]
    added = [[t for t in tokens if t["normalized"] is normalized] for normalized in (False, True)]
    return Words(words, steps, tuple(map(_finder, filter(None, added))), _any_of(strange) if strange else None, before)


def _finder(tokens: list[dict[str, Any]]) -> tuple[re.Pattern[str], dict[str, bytes]]:
    return _any_of([t["content"] for t in tokens]), {t["content"]: _bytes([t["id"]]) for t in tokens}


def _any_of(texts: list[str]) -> re.Pattern[str]:
    """The leftmost, and there the longest."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))


def _bytes(ids: list[int]) -> bytes:
    return np.asarray(ids, np.int32).tobytes()


def _steps(made: dict[str, Any] | None) -> tuple[_Split, ...] | None:
    """What a tokenizer file's `pre_tokenizer` does to a text; None if that is not known here."""
    if made is None:
        return None
    parts = made["pretokenizers"] if made["type"] == "Sequence" else [made]
    if not parts:
        return None
    found: list[_Split] = []
    for part in parts[:-1]:
        step = _split(part)
        if step is None:
            return None
        found.append(step)
    last = parts[-1]
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return None
    if last.get("use_regex", True):
        found.append(_EXPRESSIONS[GPT_2])
    return tuple(found) if found else None


def _split(made: dict[str, Any]) -> _Split | None:
    if made["type"] == "Digits":
        return _DIGITS_APART if made["individual_digits"] else _DIGITS_TOGETHER
    if made["type"] == "Split" and made["behavior"] == "Isolated" and not made["invert"]:
        return _EXPRESSIONS.get(made["pattern"].get("Regex", ""))
    return None


def _before(made: dict[str, Any] | None) -> bytes | None:
    """Special tokens before a text; None if it is not known, or some come after it."""
    found: list[int] = []
    for part in made["processors"] if made and made["type"] == "Sequence" else [made] if made else []:
        if part["type"] == "ByteLevel":
            continue
        if part["type"] != "TemplateProcessing" or found:
            return None
        *specials, text = part["single"]
        if "Sequence" not in text or any("SpecialToken" not in special for special in specials):
            return None
        found = [i for s in specials for i in part["special_tokens"][s["SpecialToken"]["id"]]["ids"]]
    return _bytes(found)
