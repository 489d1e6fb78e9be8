"""Text to token ids word by word: what a tokenizer gives for the whole text, with each word taken through it once.

Requests repeat themselves (shots, subject headers, a question before each of its options), and a tokenizer goes through
every text anew. A byte-level BPE tokenizer first cuts a text into words by a regular expression and encodes each alone,
so the ids of a text are those of its words, one after the other. Two things follow, for the expressions known here:

- Each of their alternatives begins at the place where the one before ended and looks at no character before it, so what
  stands before a word has no say in it. A letter after a line break always begins a word (no alternative that takes a
  line break goes on with a letter), and what stands before it sees of it only that it is no blank. A text may be cut
  there.
- None of them takes a blank after something else than blanks, and only before blanks that nothing but the end follows
  does one look ahead: a text may also be cut before a blank that follows no blank.
- On the characters listed in `_KNOWN`, whose classes no version of Unicode changed, Python's expressions cut as theirs.

Whatever is not so (another kind of tokenizer, other characters) is left to the tokenizer itself.
"""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

_KEPT = 32 * 2**20  # bytes, about, of words that are remembered, as many of chunks, and so on
_ENTRY = 150  # bytes that an entry of a dict takes beside its text and ids
_TWO_BLANKS = ("  ", "\t ", "\n ", "\r ")  # where a text may not be cut before the second one
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


class _Unknown(Exception):
    """A text that is to be left to the tokenizer."""


class _Memory(dict[str, bytes]):
    """Ids of what was met before; what is missing is made. All is forgotten when it would take more than `_KEPT`."""

    def __init__(self, make: Callable[[str], bytes]) -> None:
        super().__init__()
        self.make, self.held = make, 0

    def __missing__(self, text: str) -> bytes:
        ids = self.make(text)
        size = len(text) + len(ids) + _ENTRY
        self.held += size
        if self.held > _KEPT:
            self.clear()
            self.held = size
        self[text] = ids
        return ids

    def joined(self, texts: Iterable[str]) -> bytes:
        """Ids of texts that follow one another."""
        return b"".join(map(self.__getitem__, texts))


class Words:
    """Ids of texts for one tokenizer, special tokens around them left out.

    Attributes:
        model: The tokenizer's model: ids of single words whose bytes are written as characters.
        steps: What cuts a text into words, one after the other.
        added: Expressions of the tokens that are found in a text before it is cut into words, in the order in which
            they are looked for, with their ids.
        strange: Finds tokens that take what stands around them.
        before: Special tokens before a text, where there are any.
    """

    def __init__(
        self, model: Any, steps: tuple[_Split, ...], added: tuple[tuple[re.Pattern[str], dict[str, bytes]], ...],
        strange: re.Pattern[str] | None, before: bytes,
    ) -> None:  # fmt: skip
        self.model, self.steps, self.added, self.strange, self.before = model, steps, added, strange, before
        self._ids, self._chunks = _Memory(self._word), _Memory(self._chunk)
        self._inner, self._last = _Memory(self._inner_paragraph), _Memory(self._paragraph)
        self._heads = _Memory(lambda text: self._inner.joined(_paragraphs(text)))

    def encode(self, text: str, inner: bool = False) -> bytes | None:
        """Ids of a text, 4 bytes each; None where that is to be left to the tokenizer.

        Args:
            text: Any text.
            inner: It ends in a line break, and a letter follows.
        """
        at = _last_paragraph(text)
        try:
            last = (self._inner if inner else self._last)[text[at:]]
            return self._heads[text[:at]] + last if at else last  # a head is what many texts have in common
        except _Unknown:
            return None

    def _inner_paragraph(self, text: str) -> bytes:
        return self._paragraph(text + _INNER)[: -len(self._ids[_INNER])]

    def _paragraph(self, text: str) -> bytes:
        if not _KNOWN.fullmatch(text) or (self.strange and self.strange.search(text)):
            raise _Unknown
        return self._segments(text, 0)

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
        """Ids of a text, chunk by chunk: what stands between two blanks comes again more often than a line does."""
        if any(blanks in text for blanks in _TWO_BLANKS):
            return self._ids.joined(self._split(text))
        first, *chunks = text.split(" ")
        return self._ids.joined(self._split(first)) + self._chunks.joined(chunks)

    def _chunk(self, chunk: str) -> bytes:
        """Ids of a blank with what follows it up to the next."""
        return self._ids.joined(self._split(" " + chunk))

    def _split(self, text: str) -> list[str]:
        pieces = [text]
        for step in self.steps:
            pieces = [word for piece in pieces for word in step(piece)]
        return pieces

    def _word(self, word: str) -> bytes:
        return _bytes([token.id for token in self.model.tokenize(word.translate(_byte_characters()))])


def _last_paragraph(text: str) -> int:
    """Where the last one begins."""
    at = len(text)
    while (at := text.rfind("\n\n", 0, at)) >= 0:
        if _starts_word(text[at + 2 : at + 3]):
            return at + 2
    return 0


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
    from tokenizers import Tokenizer

    alone = Tokenizer.from_str(json.dumps({"version": made["version"], "model": model, "added_tokens": []})).model
    strange = [t["content"] for t in tokens if t["lstrip"] or t["rstrip"] or t["single_word"]]
    added = [[t for t in tokens if t["normalized"] is normalized] for normalized in (False, True)]
    return Words(alone, steps, tuple(map(_finder, filter(None, added))), _any_of(strange) if strange else None, before)


@cache
def _byte_characters() -> dict[int, str]:
    """What a byte-level tokenizer writes for each of the known characters: a printable character a byte."""
    from tokenizers import pre_tokenizers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return {ord(c): level.pre_tokenize_str(c)[0][0] for c in _CHARACTERS}


def _finder(tokens: list[dict[str, Any]]) -> tuple[re.Pattern[str], dict[str, bytes]]:
    return _any_of([t["content"] for t in tokens]), {t["content"]: _bytes([t["id"]]) for t in tokens}


def _any_of(texts: list[str]) -> re.Pattern[str]:
    """The leftmost, and there the longest."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))


def _bytes(ids: list[int]) -> bytes:
    return array("i", ids).tobytes()


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
