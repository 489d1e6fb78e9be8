"""Penn-Treebank tokenisation of captions: Stanford CoreNLP 3.4.1's tokeniser, as the COCO caption tools use it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .java import JavaLines, jar

JAR = ("tokenizer", "stanford-corenlp-3.4.1.jar")
SIGNATURE = "ptb-corenlp-3.4.1"
# the tokens that coco-caption's ptbtokenizer.py drops; its four brackets are upper case while the output is lower
# case, so brackets in fact stay
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
# a blank for each: every kind of line break (the tokeniser ends a line at \r and at U+2028) and of blank
_WHITESPACE = re.compile(r"\s")


def tokenize(captions: Sequence[str]) -> list[str]:
    """Each caption as lower-case tokens joined by blanks, punctuation dropped; empty if nothing is left.

    One Java process for all of them. A caption never moves another: line breaks of every kind are blanks before the
    text is handed over, and as many lines must come back.

    Raises:
        BadInput: No Java or no pycocoevalcap.
        MmevalError: The tokeniser failed.
    """
    lines = [_WHITESPACE.sub(" ", caption) for caption in captions]
    arguments = ["-cp", jar(*JAR), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    with JavaLines("the PTB tokeniser", arguments, lines) as run:
        return [" ".join(w for w in line.rstrip().split(" ") if w not in PUNCTUATION) for line in run.result()]
