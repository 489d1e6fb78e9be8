"""From positives to a preference file with its report: what `mmeval tune negatives` does, and where what lies.

`<out>` is the preference file, `<out>.report.json` says how it was made and what its pairs are like, and
`<out>.store.sqlite` (or `--store`) keeps every answer, so that the same command again asks nothing twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..files import write_whole
from ..metrics.chair.objects import ObjectTable, default_table, parse_table
from ..store import Store
from .negatives import How, Made, Plan, check_plan, make_negatives
from .pairs import Form, check_place, write_pairs
from .positives import load_positives
from .quality import Find, quality
from .rows import Pair

if TYPE_CHECKING:
    from ..evaluate import Reporter

_VERSIONS = ("mmalign-eval", "torch", "transformers")


@dataclass(frozen=True)
class Order:
    """One call of `mmeval tune negatives`.

    Attributes:
        positives: File of positives.
        images: Folder that their images' names start from.
        model: Model spec of the LLaVA that negatives are bootstrapped from.
        out: Preference file to write.
        options: `-M` options of the model.
        plan: What to generate.
        form: Of the preference file.
        store: Where answers are kept; None: beside `out`.
        synonyms: Table of objects for the report; None: the built-in one.
    """

    positives: Path
    images: Path
    model: str
    out: Path
    options: Mapping[str, str] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    form: Form = "bpo"
    store: Path | None = None
    synonyms: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What it left.

    Attributes:
        pairs: Of the file.
        made: What became of each kind of negatives.
        figures: `quality` of the pairs.
        report: The report file.
    """

    pairs: list[Pair]
    made: dict[How, Made]
    figures: dict[str, dict[str, Any]]
    report: Path

    @property
    def errors(self) -> int:
        """Requests without an answer."""
        return sum(made.errors for made in self.made.values())


def write_negatives(order: Order, reporter: Reporter) -> Outcome:
    """Generates negatives and writes the preference file and its report, each whole or not at all.

    Where no pair is left, only the report is written.

    Raises:
        BadInput: As `make_negatives`; a file that cannot be read or written.
        MmevalError: The disk is full.
    """
    check_plan(order.plan, order.model, order.options)
    check_place(order.out)
    find = object_finder(order.synonyms)  # opened before hours of work, not after
    positives = load_positives(order.positives)
    store = Store(order.store or order.out.with_name(f"{order.out.name}.store.sqlite"))
    try:
        pairs, made = make_negatives(positives, order.images, order.model, order.options, order.plan, store, reporter)
    finally:
        store.close()
    figures = quality(pairs, find)
    report = order.out.with_name(f"{order.out.name}.report.json")
    content: dict[str, Any] = {
        "file": {"pairs": len(pairs), "form": order.form},
        "positives": {"sha256": hashlib.sha256(order.positives.read_bytes()).hexdigest(), "rows": len(positives)},
        "plan": asdict(order.plan),
        "made": {how: asdict(of) for how, of in made.items()},
        "quality": figures,
        "versions": {name: version(name) for name in _VERSIONS},
    }
    if pairs:
        content["file"]["sha256"] = write_pairs(order.out, pairs, order.form)
    try:
        write_whole(report, [json.dumps(content, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace")])
    except OSError as error:
        raise BadInput(f"{report}: cannot be written: {error.strerror or error}") from error
    return Outcome(pairs, made, figures, report)


def object_finder(synonyms: Path | None) -> Find:
    """Finds the categories that a text mentions, by a table of synonyms (`metrics.chair`, RLHF-V's way).

    Raises:
        BadInput: The table cannot be read, or is none.
    """
    table = _table(synonyms)
    return lambda text: [category for _, category in table.mentions(text)]


def _table(synonyms: Path | None) -> ObjectTable:
    if synonyms is None:
        return default_table("rlhfv")
    try:
        table = parse_table(synonyms.read_text(encoding="utf-8-sig"), "rlhfv")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--synonyms {synonyms}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not any(len(line) > 1 for line in table.lines):
        raise BadInput(f"--synonyms {synonyms}: no synonyms; expected a category a line, 'person, man, woman, ...'")
    return table


def losses(made: Mapping[How, Made]) -> list[str]:
    """One line a kind: how many answers became pairs, and why others did not."""
    lines = []
    for how, of in made.items():
        reasons = [
            (of.errors, "failed"), (of.identical, "equal to the annotation"), (of.empty, "empty"),
            (of.repeated, "repeated"), (of.cut, "to a prompt too long for the model"), (of.marked, "with <image>"),
        ]  # fmt: skip
        lost = ", ".join(f"{count:,} {reason} ({count / of.asked:.1%})" for count, reason in reasons if count)
        unfinished = f"; {of.unfinished:,} unfinished at the last token allowed" if of.unfinished else ""
        lines.append(f"{how:<9} {of.pairs:,} pairs of {of.asked:,} answers{': ' + lost if lost else ''}{unfinished}")
        if of.first_error:
            lines.append(f"          first failure: {of.first_error}")
    return lines
