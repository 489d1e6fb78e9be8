"""Words of a text as CHAIR's official code got them: nltk 3.6.7 to 3.9.1, `word_tokenize` of the lower-cased text.

Own rules, since nltk 3.10 splits leading apostrophes and dashes (U+2012-2015) that the releases before it left alone,
which moves scores by up to 0.35 points, and since nltk's sentence splitter needs data that is not shipped. Order
matters: a later rule sees what earlier ones set apart. They are the Penn Treebank's conventions with nltk's additions.
"""

from __future__ import annotations

import re

# A sentence ends at . ! ? with its closing quotes and brackets where a blank follows, and at a line break.
_SENTENCE = re.compile(r"(?<=[.!?])[\"'”’»)\]}]*\s+|\n+")

_APART = r" \g<0> "
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[«“‘„]|``?", _APART),
        (r"^\"", " `` "),
        (r"(?<=[ (\[{<])(?:\"|'')", " `` "),  # opening
        (r"'(?!re|ve|ll|[mtsdn])(\w)\b", r"' \1"),  # only a one-letter word is freed from a leading quote
        (r"([^.])\.([\])}>\"'»”’ ]*)\s*$", r"\1 . \2 "),  # the full stop of the sentence and no other
        (r"([:,])(\D)", r" \1 \2"),  # 3,000 and 10:30 stay whole
        (r"[:,]$", _APART),
        (r"\.{2,}|[;@#$%&?!]", _APART),
        (r"([^'])' ", r"\1 ' "),
        (r"[][(){}<>*]|--", _APART),
        (r"^|$", " "),
        (r"[»”’]", _APART),
        (r"\"|''", " '' "),
        (r"\s+", " "),
        (r"([^' ])('[smd]?) ", r"\1 \2 "),
        (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
        (r"\b(can)(not)\b|\b(d)('ye)\b|\b(gim|lem)(me)\b|\b(gon)(na)\b|\b(got)(ta)\b|\b(more)('n)\b", None),
        (r"\b(wan)(na)(?=\s)", None),
        (r" ('t)(is)\b", None),
        (r" ('t)(was)\b", None),
    )
)


def tokenise(text: str) -> list[str]:
    """Lower-case words, numbers and punctuation of a text, in order.

    `'s 'm 'd 'll 're 've n't` and quotes stand alone; `a-b`, `a/b` and `a—b` stay one token each.
    """
    return [word for sentence in _sentences(text.lower()) for word in _words(sentence)]


def _sentences(text: str) -> list[str]:
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    return [text[start:end].strip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def _words(sentence: str) -> list[str]:
    for pattern, replacement in _RULES:
        sentence = pattern.sub(replacement or _two, sentence)
    return sentence.split()


def _two(match: re.Match[str]) -> str:
    """Two words written as one (cannot, gonna, 'tis), apart."""
    return " " + " ".join(group for group in match.groups() if group) + " "
