"""Which preference pairs are trained on and which are kept for evaluation, and their token ids."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import BadInput
from ..requests import ImageRef
from .choice import held_out, too_long, words
from .config import Data, Preference
from .encoding import Encoder
from .logprobs import PairIds
from .rows import Pair

_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A pair as the trainer takes it.

    Attributes:
        pair: What was read.
        ids: Its tokens.
        image: Its image.
        key: What its reference log-probabilities are kept under.
    """

    pair: Pair
    ids: PairIds
    image: ImageRef
    key: str


@dataclass
class Selection:
    """Pairs that are used, and how many were not, by reason.

    Attributes:
        train: In the file's order.
        held_out: Of images that no training pair shows.
        counts: Reason to number of pairs; `read`, `train` and `held out` among them.
    """

    train: list[Pair]
    held_out: list[Pair]
    counts: dict[str, int] = field(default_factory=dict)


def select(pairs: Sequence[Pair], preference: Preference, data: Data, seed: int) -> Selection:
    """Drops, holds out, balances and samples, in this order.

    Long pairs and pairs of equal answers go first (BPO, released trainer: more than 350 whitespace words). Then images
    are held out, so that arms which differ in the rest are evaluated on the same pairs.

    Args:
        pairs: As read.
        preference: What to match and to balance.
        data: Which to drop and to hold out; `samples` are drawn over the sources in proportion to what each has left.
        seed: Of all choices.

    Raises:
        BadInput: Nothing is left to train on, or the recipe asks for what pairs do not have.
    """
    if data.kinds or data.text_only:
        raise BadInput("data.kinds and data.text_only choose conversations; preference pairs have neither")
    counts: Counter[str] = Counter(read=len(pairs))

    def drop(some: Iterable[Pair], reason: str, wrong: Callable[[Pair], bool]) -> list[Pair]:
        some = list(some)
        kept = [pair for pair in some if not wrong(pair)]
        counts[reason] += len(some) - len(kept)
        return kept

    tolerance = preference.match_length
    kept = usable(pairs, data, counts)
    apart = held_out((pair.image for pair in kept), data.held_out, seed)
    aside = [pair for pair in kept if pair.image in apart]
    train = [pair for pair in kept if pair.image not in apart]
    if tolerance:
        train = drop(train, "lengths too different", lambda p: _length_gap(p) > tolerance)
    if preference.balance:
        surplus = _surplus(train, seed)
        train = drop(train, "yes/no balance", lambda p: p.id in surplus)
    if data.samples:
        if data.samples > len(train):
            raise BadInput(f"data.samples={data.samples}: only {len(train)} pairs are left to draw from")
        drawn = (_drawn_in_balance if preference.balance else _drawn)(train, data.samples, seed)
        train = drop(train, "not drawn", lambda p: p.id not in drawn)
    if not train:
        raise BadInput(f"no pair is left to train on: {said(counts)}")
    counts.update({"train": len(train), "held out": len(aside)})
    return Selection(train, aside, {reason: count for reason, count in counts.items() if count})


def usable(pairs: Iterable[Pair], data: Data, counts: Counter[str]) -> list[Pair]:
    """Pairs without those that have a too long answer or equal answers, which are counted."""
    kept = []
    for pair in pairs:
        if too_long((pair.chosen, pair.rejected), data.max_words):
            counts[f"over {data.max_words} words"] += 1
        elif pair.chosen.strip() == pair.rejected.strip():
            counts["equal answers"] += 1
        else:
            kept.append(pair)
    return kept


def said(counts: dict[str, int]) -> str:
    """Counts in one line."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)


def _length_gap(pair: Pair) -> float:
    """By how much the rejected answer's words differ from the chosen one's, as a share of these."""
    return abs(words(pair.rejected) - words(pair.chosen)) / max(1, words(pair.chosen))


def _order(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}|{text}".encode()).digest()


def _surplus(pairs: Sequence[Pair], seed: int) -> set[str]:
    """Ids of pairs to leave out so that as many chosen answers say yes as say no."""
    said_so = [[pair.id for pair in some] for kind, some in _by_what_is_said(pairs).items() if kind]
    fewest = min(map(len, said_so))
    return {name for ids in said_so for name in sorted(ids, key=lambda i: _order(i, seed))[fewest:]}


def _by_what_is_said(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Pairs by what their chosen answer begins with: `yes`, `no`, or neither (under the empty text)."""
    found: dict[str, list[Pair]] = {"yes": [], "no": [], "": []}
    for pair in pairs:
        word = _YES_NO.match(pair.chosen)
        found[word[1].lower() if word else ""].append(pair)
    return found


def _drawn_in_balance(pairs: Sequence[Pair], count: int, seed: int) -> set[str]:
    """Ids of a sample from pairs in balance that is in balance again, each kind of answer with about its share.

    Raises:
        BadInput: An odd number of pairs that all say yes or no.
    """
    kinds = _by_what_is_said(pairs)
    each = count * len(kinds["yes"]) // len(pairs)
    each += max(0, -((2 * each + len(kinds[""]) - count) // 2))  # as many more as the others are too few
    if 2 * each > count:
        raise BadInput(f"data.samples={count}: preference.balance takes as many yes as no: give an even number")
    shares = {"yes": each, "no": each, "": count - 2 * each}
    return {name for kind, some in kinds.items() for name in _drawn(some, shares[kind], seed)}


def _drawn(pairs: Sequence[Pair], count: int, seed: int) -> set[str]:
    """Ids of a sample, from each source in proportion (largest remainders get what is left over)."""
    by_source: dict[str, list[str]] = {}
    for pair in pairs:
        by_source.setdefault(pair.source, []).append(pair.id)
    exact = {source: count * len(ids) / len(pairs) for source, ids in by_source.items()}
    shares = {source: int(share) for source, share in exact.items()}
    left = sorted(exact, key=lambda source: (shares[source] - exact[source], source))
    for source in left[: count - sum(shares.values())]:
        shares[source] += 1
    numbers = random.Random(f"pairs {seed}")
    return {name for source, ids in sorted(by_source.items()) for name in numbers.sample(ids, shares[source])}


def encode(
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRef],
    encoder: Encoder,
    key: Callable[[PairIds, ImageRef], str],
    counts: dict[str, int],
) -> list[Item]:
    """Token ids of pairs; answers are cut at the encoder's `max_length`, images never.

    Args:
        pairs: Selected ones.
        images: By the names that pairs have for them.
        encoder: Of the model's tokenizer and the recipe's template.
        key: Of tokens and image.
        counts: What is cut or dropped is counted there.

    Raises:
        BadInput: An answer or a prompt that holds the image token.
    """
    prompts: dict[str, tuple[int, ...]] = {}
    items = []
    for pair in pairs:
        if pair.prompt not in prompts:
            prompts[pair.prompt] = encoder.prompt(pair.prompt, image=True)
        prompt = prompts[pair.prompt]
        room = encoder.max_length - len(prompt)
        answers = encoder.response(pair.chosen), encoder.response(pair.rejected)
        chosen, rejected = answers[0][: max(0, room)], answers[1][: max(0, room)]
        if room < 1 or chosen == rejected:
            reason = "no room for answers" if room < 1 else "equal where cut"
            counts[reason] = counts.get(reason, 0) + 1
            continue
        if (chosen, rejected) != answers:
            counts["answer cut"] = counts.get("answer cut", 0) + 1
        ids, image = PairIds(prompt, chosen, rejected), images[pair.image]
        items.append(Item(pair, ids, image, key(ids, image)))
    return items
