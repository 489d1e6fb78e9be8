"""Whether two results may be compared: which belong together, in what they differ, and what a reader has to know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BadInput
from ..results import Result, digest_json
from ..runs import Run
from ..tables import counted

NO_PROMPTS = digest_json([])  # the hash over the prompts of answers that were made elsewhere
MODELS_OWN = ("eos_token_ids",)  # parameters that follow from the model's tokenizer
SHORT = 8  # shown characters of a hash
LINE = 60  # characters that are shown of a value


@dataclass(frozen=True)
class Pair:
    """Results of two models that are compared with each other.

    Attributes:
        base: Of the one compared with.
        other: Of the other.
        unlike: In what the two differ so that a difference between them is not the models' alone.
        marked: In what else they differ: effective decoding, which is the model's or its server's.
    """

    base: Run
    other: Run
    unlike: tuple[str, ...]
    marked: tuple[str, ...]

    @property
    def label(self) -> str:
        """The task, as tables call it."""
        return self.other.label


def pair_up(base: Sequence[Run], other: Sequence[Run]) -> tuple[list[Pair], list[Run], list[Run]]:
    """Pairs results by task, protocol and judge, in the order of the other's.

    A task that both have, but never with the same protocol and judge, is paired as near as it comes: `unlike` says so.

    Returns:
        The pairs, then what only the base has, then what only the other has.

    Raises:
        BadInput: Two results of one side with the same task, protocol and judge.
    """
    bases, others = _by_key(base), _by_key(other)
    found = {key: bases[key] for key in others if key in bases}
    settled = {run.task for run in found.values()}
    for key, run in others.items():
        free = [b for b in base if b.task == run.task and b not in found.values() and b.task not in settled]
        if key not in found and free:
            found[key] = min(free, key=lambda b: (b.protocol != run.protocol) + (b.judge != run.judge))
    pairs = [
        Pair(found[key], run, *_unlike(found[key].result, run.result)) for key, run in others.items() if key in found
    ]
    paired = [pair.base for pair in pairs]
    return pairs, [b for b in base if b not in paired], [run for key, run in others.items() if key not in found]


def refuse_unlike(pairs: Iterable[Pair], base: str, other: str) -> None:
    """Stops at results that are not of the same thing.

    Raises:
        BadInput: Naming each task and in what its results differ.
    """
    found = [f"{pair.label}: {', '.join(pair.unlike)}" for pair in pairs if pair.unlike]
    if found:
        raise BadInput(
            f"{base} and {other} were not asked or scored alike: {'; '.join(found)} - leave out with --tasks, "
            f"or compare all the same, marked, with --force"
        )


def _by_key(runs: Sequence[Run]) -> dict[tuple[str, str, str], Run]:
    found: dict[tuple[str, str, str], Run] = {}
    for run in runs:
        if run.key in found:
            raise BadInput(f"{run.path} and {found[run.key].path}: two results of {run.label}; give one of them")
        found[run.key] = run
    return found


def _unlike(base: Result, other: Result) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """In what two results of one task differ: what makes them incomparable, and what is only marked."""
    one, two = base["task"], other["task"]
    found = [
        _against(words, a, b)
        for words, a, b in (
            ("task version", one["version"], two["version"]),
            ("protocol", one["protocol"], two["protocol"]),
            ("judge", one.get("judge") or "none", two.get("judge") or "none"),
            ("verdicts on an answer", _runs(base), _runs(other)),
            ("shots", one["shots"], two["shots"]),
        )
        if a != b
    ]
    first, second = one.get("extra", {}), two.get("extra", {})
    found += [
        _against(key, first.get(key, "none"), second.get(key, "none"))
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    ]
    found += [*_other_samples(base, other), *_other_metrics(base["metrics"], other["metrics"])]
    return tuple(found), tuple(_other_decoding(base, other))


def _other_samples(base: Result, other: Result) -> list[str]:
    """Whether the two were asked the same: of a part of the data nothing more can be told than that it is one."""
    a, b = base["data"], other["data"]
    if a["limit"] != b["limit"]:
        first, second = (f"the first {limit}" if limit else "all" for limit in (a["limit"], b["limit"]))
        return [_against("samples", first, second)]
    if base["counts"].get("n_missing") or other["counts"].get("n_missing"):
        return []  # the hashes are of the answered samples; a note says so
    found = []
    if a["rows"] != b["rows"]:
        found.append(_against("data", a["rows"][:SHORT], b["rows"][:SHORT]))
    elif a["hash"] != b["hash"] and _has_images(a) and _has_images(b):
        found.append(_against("images", a["hash"][:SHORT], b["hash"][:SHORT]))
    if not found and base["prompt_hash"] != other["prompt_hash"] and knows_prompts(base) and knows_prompts(other):
        found.append(_against("prompts", base["prompt_hash"][:SHORT], other["prompt_hash"][:SHORT]))
    return found


def _other_metrics(base: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The first metric of one name that is not one thing: another unit, direction or formula."""
    for name in (name for name in other if name in base):
        for part in ("unit", "better", "formula"):
            one, two = base[name][part], other[name][part]
            if one != two and None not in (one, two):  # without a formula it is not tested anyway
                return [_against(f"{part} of {name}", one, two)]
    return []


def _has_images(data: dict[str, Any]) -> bool:
    return bool(data["hash"] != data["rows"])  # answers made elsewhere are scored without them


def knows_prompts(result: Result) -> bool:
    """Whether the prompts are on record: not of answers made elsewhere."""
    return bool(result["prompt_hash"] != NO_PROMPTS)


def _other_decoding(base: Result, other: Result) -> list[str]:
    """Effective parameters that differ, as far as both sides know theirs."""
    a, b = base["params"], other["params"]
    if not a or not b:
        return []
    return [
        _against(f"decoding {key}", a.get(key, "none"), b.get(key, "none"))
        for key in sorted({*a, *b})
        if key not in MODELS_OWN and a.get(key) != b.get(key)
    ]


def _runs(result: Result) -> int:
    return int(result.get("judge", {}).get("runs", 1))


def _against(what: str, base: Any, other: Any) -> str:
    return f"{what} {_brief(base)} against {_brief(other)}"


def _brief(value: Any) -> str:
    """A value as one line can hold it: a mean over 57 subjects has a formula of 900 characters."""
    text = str(value)
    return text if len(text) <= LINE else f"{text[: LINE - 1]}…"


def notes_on(pair: Pair, base: str, other: str) -> list[str]:
    """What a reader of a comparison has to know about one task.

    Args:
        pair: The two results.
        base: What to call the one compared with.
        other: What to call the other.
    """
    label, one, two = pair.label, pair.base.result, pair.other.result
    notes = []
    if pair.unlike or pair.marked:
        notes.append(f"{label}: {', '.join((*pair.unlike, *pair.marked))}")
    for name, result in ((base, one), (other, two)):
        failed = result["counts"]["n_error"] + result["counts"]["n_refused"]
        if failed:
            notes.append(f"{label}: {failed} of {counted(result['counts']['n'], 'sample')} of {name} failed")
        if missing := result["counts"].get("n_missing"):
            unknown = "that the data are equal cannot be told"
            notes.append(f"{label}: {name} has no answer to {counted(missing, 'sample')}; {unknown}")
    elsewhere = [name for name, result in ((base, one), (other, two)) if not knows_prompts(result)]
    if len(elsewhere) == 1:
        notes.append(f"{label}: the answers of {elsewhere[0]} were made elsewhere; their prompts are not known")
    elif not elsewhere and one["prompt_hash"] == two["prompt_hash"] and one["prompt"] != two["prompt"]:
        notes.append(f"{label}: the same prompts, each in its model's own chat template")
    mine, theirs = set(pair.base.sums.samples), set(pair.other.sums.samples)
    if not mine & theirs:
        notes.append(f"{label}: there is no sample that both have scored")
    elif lone := len(mine ^ theirs):
        notes.append(f"{label}: left out: {counted(lone, 'sample')} that only one of the two has scored")
    return [*notes, *_trained_on(pair, base, other)]


def _trained_on(pair: Pair, base: str, other: str) -> list[str]:
    """How many of the task's images each was trained on, where that is on record for one of them at least."""
    known = [(name, run.result.get("contamination")) for name, run in ((base, pair.base), (other, pair.other))]
    if not any(found for _, found in known):
        return []
    told = [f"{found['shared']} of {found['images']} were in the tuning of {name}" for name, found in known if found]
    told += [f"what {name} was tuned on is not on record" for name, found in known if not found]
    return [f"{pair.label}: of the task's images, {'; '.join(told)}"]
