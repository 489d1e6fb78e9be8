"""The report as one HTML file that needs nothing else: no network, no font, no library."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..compare.tables import comparison_table
from ..errors import MmevalError
from ..files import write_whole
from ..runs import Run
from .browser import Browser, browse, to_json
from .collect import Material
from .figures import Figure
from .grid import blocks, cards, legend, signatures
from .thumbnails import Thumbnails, Watch, thumbnails

MOST = 14_000_000  # bytes that a page is made to stay under, with some left for what is only estimated
TEXTS = 8_000_000  # of these for the samples' texts
SIDE = 160  # pixels of a thumbnail's longest side
# Invisible, turning text round, or no character at all: shown by its number.
_ODD = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        html: The file's content.
        problems: One line for each damaged file; the page shows the others, and these lines.
    """

    html: str
    problems: list[str]


def _silent(what: str, total: int) -> Callable[[int, int], None]:
    return lambda good, bad: None


def page(
    material: Material,
    figures: Sequence[Figure] = (),
    *,
    with_samples: bool = True,
    per_task: int | None = None,
    side: int = SIDE,
    watch: Watch = _silent,
) -> Page:
    """Makes the page; equal results give equal bytes.

    Args:
        material: The results.
        figures: To be shown between tables and samples.
        with_samples: Whether samples can be looked at.
        per_task: Most samples of a task; None: so many that the page keeps its size.
        side: Longest side of thumbnails in pixels.
        watch: Hears about progress.
    """
    frame = _render(material, figures, Browser(), Thumbnails(), [])
    browser = browse(material.models, per_task, TEXTS, watch) if with_samples else Browser()
    problems = list(dict.fromkeys([*material.problems, *browser.problems]))
    room = MOST - len(frame.encode("utf-8")) - len(to_json(browser.samples).encode("utf-8"))
    pictures = thumbnails(browser.images, side, max(room, 0), watch)
    return Page(_render(material, figures, browser, pictures, problems), problems)


def write_page(made: Page, path: Path) -> None:
    """Writes the file, whole or not at all.

    Raises:
        MmevalError: It cannot be written there, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, [made.html.encode("utf-8")])
    except OSError as error:
        raise MmevalError(f"cannot write {path}: {error.strerror or error}") from error


def visible(text: object) -> str:
    """A text whose control characters can be seen: `U+202E` in angle brackets instead of the character."""
    return _ODD.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", str(text))


def _render(
    material: Material, figures: Sequence[Figure], browser: Browser, pictures: Thumbnails, problems: Sequence[str]
) -> str:
    models = list(material.models)
    css, script = _asset("page.css"), _asset("page.js")
    styles = [css, *re.findall(r"<style>(.*?)</style>", "".join(figure.svg for figure in figures), re.S)]
    runs = [run for own in material.models.values() for run in own]
    compared = {comparison.other for comparison in material.comparisons}
    return str(
        _template().render(
            title=_title(models),
            policy=_policy(styles, script),
            css=css,
            script=script,
            models=models,
            compared={name: name in compared for name in models},
            cards=cards(material.models),
            miniature=_miniature(runs),
            problems=problems,
            blocks=blocks(material.models, material.comparisons),
            notes=[*material.notes, *legend(material.models, material.comparisons)],
            comparisons=[
                {"base": c.base, "other": c.other, "table": comparison_table(c)} for c in material.comparisons
            ],
            signatures=list(signatures(material.models)),
            figures=figures,
            samples=_data(models, browser, pictures) if browser.samples else "",
            sample_notes=[*browser.notes, *pictures.notes],
        )
    )


def _data(models: Sequence[str], browser: Browser, pictures: Thumbnails) -> str:
    whole = {"models": models, "tasks": browser.tasks, "samples": browser.samples}
    return to_json({**whole, "pictures": pictures.pictures, "sizes": pictures.sizes})


def _title(models: Sequence[str]) -> str:
    if len(models) == 1:
        return f"Results of {models[0]}"
    others = ", ".join(models[1:]) if len(models) < 5 else f"{len(models) - 1} models"
    return f"{others} against {models[0]}"


def _miniature(runs: Sequence[Run]) -> str:
    toys = [run.miniature for run in runs]
    return "all" if all(toys) else "some" if any(toys) else ""


def _policy(styles: Sequence[str], script: str) -> str:
    """What the browser may load: pictures inside the page, these very styles, this very script."""
    allowed = " ".join(dict.fromkeys(map(_hash, styles)))
    return (
        f"default-src 'none'; img-src data:; style-src {allowed}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


@cache
def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shown"] = visible
    return environment.from_string(_asset("page.html.jinja"))
