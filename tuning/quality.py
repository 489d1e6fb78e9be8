"""What preference pairs are like: the cues other than truth by which a model could tell chosen from rejected.

A pair should differ in what it says of the image. Where rejected answers are longer, say yes more often, or have
nothing in common with the chosen one, training may learn that instead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, median
from typing import Any, Literal

from ..metrics.lexical import words as tokens
from .rows import Pair

MOST_WORDS = 350  # pairs with a longer answer are dropped before training (the released trainer)
_FIRST_WORD = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
Named = Callable[[str], tuple[str, ...]]
Find = Callable[[str], Iterable[str]]  # a text to the objects that it names, repeats included


def quality(pairs: Sequence[Pair], find: Find | None = None) -> dict[str, dict[str, Any]]:
    """Figures for each kind of negative, and for `all` where there are several.

    Lengths are in words between blanks. `overlap` is ROUGE-L F1 (longest common subsequence of words without case:
    2 L / (a + b)). `objects` count what the rejected answer names and the chosen one does not: hallucination as far as
    the annotation mentions everything, so an upper bound.

    Args:
        pairs: Any number; none gives no entry.
        find: Objects of a text (`ObjectTable.mentions`' categories); None: objects are not counted.
    """
    # a chosen answer stands in several pairs: it is looked at once
    words_of = lru_cache(maxsize=4096)(lambda text: tuple(tokens(text)))
    named = lru_cache(maxsize=4096)(lambda text: tuple(find(text))) if find else None
    looks = [_look(pair, words_of, named) for pair in pairs]
    kinds = list(dict.fromkeys(pair.kind for pair in pairs))
    found = {kind or "rejected": _figures([look for look in looks if look.pair.kind == kind]) for kind in kinds}
    return found if len(kinds) < 2 else {**found, "all": _figures(looks)}


@dataclass(frozen=True, slots=True)
class _Look:
    """What is measured of one pair.

    Attributes:
        pair: The pair.
        words: Of chosen and rejected answer.
        overlap: Of the two.
        objects: That each names, repeats included; None where they are not looked for.
    """

    pair: Pair
    words: tuple[int, int]
    overlap: float
    objects: tuple[tuple[str, ...], tuple[str, ...]] | None


def _look(pair: Pair, words_of: Named, named: Named | None) -> _Look:
    lengths = (len(pair.chosen.split()), len(pair.rejected.split()))
    shared = _f1(words_of(pair.chosen), words_of(pair.rejected))
    return _Look(pair, lengths, shared, (named(pair.chosen), named(pair.rejected)) if named else None)


def _figures(looks: Sequence[_Look]) -> dict[str, Any]:
    n = len(looks)
    chosen, rejected = ([look.words[side] for look in looks] for side in (0, 1))
    overlaps = [look.overlap for look in looks]
    figures: dict[str, Any] = {
        "n": n,
        "images": len({look.pair.image for look in looks}),
        "words": {"chosen": _length(chosen), "rejected": _length(rejected)},
        "rejected_longer": sum(r > c for c, r in zip(chosen, rejected, strict=True)) / n,
        "rejected_shorter": sum(r < c for c, r in zip(chosen, rejected, strict=True)) / n,
        "over_350_words": sum(max(look.words) > MOST_WORDS for look in looks) / n,
        "overlap": {"mean": fmean(overlaps), "median": median(overlaps)},
        "identical": sum(same(look.pair.chosen, look.pair.rejected) for look in looks) / n,
        "yes_no": _yes_no([look.pair for look in looks]),
        "sources": dict(Counter(look.pair.source for look in looks)),
    }
    mentions = [look.objects for look in looks if look.objects is not None]
    if mentions:
        figures["objects"] = _objects(mentions)
    return figures


def _length(counts: Sequence[int]) -> dict[str, float]:
    return {"mean": fmean(counts), "median": median(counts)}


def _yes_no(pairs: Sequence[Pair]) -> dict[str, int]:
    """Pairs whose chosen answer says yes, and no; and of the rejected ones."""
    chosen, rejected = Counter(says(pair.chosen) for pair in pairs), Counter(says(pair.rejected) for pair in pairs)
    return {
        "chosen_yes": chosen["yes"],
        "chosen_no": chosen["no"],
        "rejected_yes": rejected["yes"],
        "rejected_no": rejected["no"],
    }


def _objects(mentions: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> dict[str, Any]:
    """Mentions in rejected answers of objects that the chosen one does not name."""
    new = [sum(word not in chosen for word in rejected) for chosen, rejected in mentions]
    naming, total = sum(1 for _, rejected in mentions if rejected), sum(len(rejected) for _, rejected in mentions)
    kept = [len(set(chosen) & set(rejected)) / len(set(chosen)) for chosen, rejected in mentions if chosen]
    return {
        "naming": naming,  # rejected answers that name an object at all
        "with_new": sum(count > 0 for count in new) / naming if naming else None,  # of those
        "new": sum(new) / total if total else None,  # of the mentions
        "kept": fmean(kept) if kept else None,  # of the chosen answer's objects, how many the rejected one names
        "named_chosen": fmean(len(set(chosen)) for chosen, _ in mentions),
        "named_rejected": fmean(len(set(rejected)) for _, rejected in mentions),
    }


def says(text: str) -> Literal["yes", "no", ""]:
    """Whether an answer's first word is yes or no."""
    match = _FIRST_WORD.match(text)
    if not match:
        return ""
    return "yes" if match[1].lower() == "yes" else "no"


def same(one: str, other: str) -> bool:
    """Whether two answers are the same but for blanks and line breaks."""
    return one.split() == other.split()


def overlap(one: str, other: str) -> float:
    """ROUGE-L F1 of two answers' words, 0-1; 0 where either has none (Lin 2004, beta 1)."""
    return _f1(tokens(one), tokens(other))


def _f1(a: Sequence[str], b: Sequence[str]) -> float:
    return 2 * common(a, b) / (len(a) + len(b)) if a and b else 0.0


def common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a word of `b` in a few operations on numbers of `len(a)` bits.

    The bit-vector recurrence of Hyyro (2004): `row` has a 0 at every place of `a` at which the length grows by one.
    The plain table of `metrics.lexical` takes a hundred times as long, which is much for 300,000 pairs.
    """
    places: dict[str, int] = {}
    for at, word in enumerate(a):
        places[word] = places.get(word, 0) | (1 << at)
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        match = row & places.get(word, 0)
        row = ((row + match) | (row - match)) & full
    return len(a) - row.bit_count()


def lines(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Table rows of `quality`'s figures under `COLUMNS`."""
    return [
        (
            kind,
            f"{f['n']:,}",
            f"{f['words']['chosen']['mean']:.1f} ({f['words']['chosen']['median']:g})",
            f"{f['words']['rejected']['mean']:.1f} ({f['words']['rejected']['median']:g})",
            f"{f['rejected_longer']:.0%}",
            f"{f['overlap']['mean']:.2f}",
            f"{f['yes_no']['chosen_yes']}/{f['yes_no']['chosen_no']}",
            f"{f['yes_no']['rejected_yes']}/{f['yes_no']['rejected_no']}",
            *_shown(f.get("objects")),
        )
        for kind, f in figures.items()
    ]


COLUMNS = (
    *("rejected", "pairs", "words chosen", "words rejected", "longer", "overlap", "chosen yes/no"),
    *("rejected yes/no", "new objects", "answers with"),
)
NOTES = (
    "words: mean (median); longer: rejected answers with more words than the chosen one; overlap: ROUGE-L F1 of both",
    "new objects: of all objects that rejected answers mention, those that the chosen one does not; answers with: of "
    "the rejected answers that mention any object, those with a new one",
)


def _shown(objects: Mapping[str, Any] | None) -> tuple[str, str]:
    def shown(key: str) -> str:
        share = None if objects is None else objects[key]
        return "-" if share is None else f"{share:.0%}"

    return shown("new"), shown("with_new")
