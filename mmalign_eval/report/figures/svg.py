"""SVG as text: escaped, equal bytes on every machine, legible in light and dark, with or without colour vision.

No ids, so that several figures stand on one page without a clash; colours are classes below `svg.mmfig`, whose rules
(`STYLE`) are the same text in every figure. A page may set `data-theme` (`light`, `dark`) on its root element; without
it the reader's setting holds. Print is always light.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence

WIDTH = 760  # of every drawing, in its own units; shown at whatever width the page has
SIZE = 12  # font size
SMALL = 11
BOLD = 1.08  # how much wider bold is
LINE = 16  # from one line of text to the next

# Colours that people with any of the common colour deficiencies tell apart: Okabe and Ito, "Color universal design"
# (2008), without their yellow, which white paper swallows; each mark has an outline in the text's colour as well.
LIGHT = {"bg": "#ffffff", "text": "#1a1a1a", "muted": "#595959", "grid": "#dcdcdc"}
DARK = {"bg": "#14171a", "text": "#e8e8e8", "muted": "#b4b4b4", "grid": "#3a4047"}
SERIES_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")
SERIES_DARK = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#ffffff", "#e69f00", "#56b4e9")
DASHES = ("", "6 3", "2 3", "8 3 2 3")  # beside the colour, as are the shapes; 4 and 5 have no factor in common with 7
SHAPES = (
    "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z",  # circle
    "M-3.6 -3.6H3.6V3.6H-3.6Z",  # square
    "M0 -4.6L4.4 3.4H-4.4Z",  # triangle
    "M0 -5L5 0L0 5L-5 0Z",  # diamond
    "M0 4.6L4.4 -3.4H-4.4Z",  # triangle on its tip
)
MARK = 5  # half of a mark's width and height, at most


def _rules(colours: dict[str, str], series: Iterable[str], root: str = "") -> str:
    scope = f"{root} svg.mmfig".strip()
    rules = [
        f"{scope} .bg{{fill:{colours['bg']}}}",
        f"{scope} text{{fill:{colours['text']}}}",
        f"{scope} .muted{{fill:{colours['muted']}}}",
        f"{scope} .grid{{stroke:{colours['grid']}}}",
        f"{scope} .value{{stroke:{colours['bg']}}}",
        f"{scope} .axis,{scope} .whisker,{scope} .mark,{scope} .bar{{stroke:{colours['text']}}}",
    ]
    for i, colour in enumerate(series):
        rules.append(f"{scope} .s{i}{{fill:{colour}}}{scope} .l{i}{{stroke:{colour}}}")
    return "".join([*rules, f"{scope} .open{{fill:{colours['bg']}}}"])


_DARK_MEDIA = "@media screen and (prefers-color-scheme:dark)"
STYLE = (
    "svg.mmfig{max-width:860px;font-family:system-ui,'Segoe UI',Helvetica,Arial,sans-serif;"
    "font-variant-numeric:tabular-nums}"
    "svg.mmfig .grid,svg.mmfig .axis{stroke-width:1}"
    "svg.mmfig .whisker{stroke-width:1.4;fill:none}"
    "svg.mmfig .mark{stroke-width:1}svg.mmfig .open{stroke-width:1.8}"
    "svg.mmfig .bar{stroke-width:.6}"
    "svg.mmfig .line{stroke-width:1.8;fill:none}"
    "svg.mmfig .strong{font-weight:600}"
    "svg.mmfig .value{paint-order:stroke;stroke-width:3;stroke-linejoin:round}"
    + _rules(LIGHT, SERIES_LIGHT)
    + f"{_DARK_MEDIA}{{{_rules(DARK, SERIES_DARK)}}}"
    + f"@media screen{{{_rules(LIGHT, SERIES_LIGHT, ':root[data-theme=light]')}"
    + f"{_rules(DARK, SERIES_DARK, ':root[data-theme=dark]')}}}"
)

_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}  # could turn round what stands beside
_NARROW = frozenset("iIjlftr.,:;|'!()[]/ ")
_WIDE = frozenset("mwMW@%…—")


def plain(text: str) -> str:
    """One line without characters that XML forbids or that turn text round: each is shown as U+FFFD."""
    out = []
    for char in " ".join(text.split()):
        code = ord(char)
        bad = unicodedata.category(char) in ("Cc", "Cs") or code in _BIDI or code & 0xFFFE == 0xFFFE
        out.append("\ufffd" if bad else char)
    return "".join(out)


def escape(text: str) -> str:
    """Text as it may stand in an element or an attribute."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("'", "&#39;")


def number(value: float) -> str:
    """A coordinate: one decimal, no negative zero."""
    text = f"{value:.1f}"
    return "0.0" if text == "-0.0" else text


def element(name: str, content: str = "", /, **attributes: str | float | None) -> str:
    """An element. Numbers are coordinates; a trailing `_` of a name falls away and others become `-`; None is left out.

    Args:
        name: Of the element.
        content: Markup, escaped already.
        attributes: Escaped here.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{number(value) if isinstance(value, float) else escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def text_width(text: str, size: float = SIZE) -> float:
    """About how wide a text is, rather too wide than too narrow: fonts differ from machine to machine."""
    return size * sum(map(_em, text))


def _em(char: str) -> float:
    if unicodedata.combining(char):
        return 0.0
    if unicodedata.east_asian_width(char) in "WF":
        return 1.05
    if char in _NARROW:
        return 0.4
    if char in _WIDE:
        return 1.0
    return 0.72 if char.isupper() else 0.63


def fit(text: str, width: float, size: float = SIZE) -> str:
    """The text if it fits, else its start and its end with `…` between: names differ at either."""
    text = plain(text)
    if text_width(text, size) <= width:
        return text
    left, right, keep_left = "", "", True
    room = width - text_width("…", size)
    start, end = 0, len(text)
    while start < end:
        char = text[start] if keep_left else text[end - 1]
        room -= text_width(char, size)
        if room < 0:
            break
        if keep_left:
            left, start = left + char, start + 1
        else:
            right, end = char + right, end - 1
        keep_left = not keep_left
    return f"{left}…{right}"


def label(
    text: str,
    x: float,
    y: float,
    *,
    width: float | None = None,
    anchor: str = "start",
    kind: str = "",
    size: int = SIZE,
) -> str:
    """A text on the base line `y`; cut to `width`, then with the whole of it in its `<title>`."""
    measured = size * BOLD if "strong" in kind else size
    shown = plain(text) if width is None else fit(text, width, measured)
    title = element("title", escape(text)) if shown != plain(text) else ""
    return element(
        "text",
        title + escape(shown),
        x=float(x),
        y=float(y),
        font_size=str(size),
        text_anchor=None if anchor == "start" else anchor,
        class_=kind or None,
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str, dash: str = "") -> str:
    """A straight line."""
    return element(
        "line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=kind, stroke_dasharray=dash or None
    )


def mark(x: float, y: float, series: int, *, is_open: bool = False, title: str = "") -> str:
    """The mark of a series, by colour and shape; open: drawn as outline."""
    colour = f"l{series % len(SERIES_LIGHT)} open" if is_open else f"s{series % len(SERIES_LIGHT)}"
    return element(
        "path",
        element("title", escape(title)) if title else "",
        class_=f"mark {colour}",
        transform=f"translate({number(x)} {number(y)})",
        d=SHAPES[series % len(SHAPES)],
    )


def stroke(series: int) -> str:
    """Class of a series' lines."""
    return f"line l{series % len(SERIES_LIGHT)}"


def whisker(x1: float, y1: float, x2: float, y2: float, kind: str = "whisker", cap: float = 4) -> str:
    """An interval with its two caps, horizontal or vertical."""
    across = (0.0, cap) if y1 == y2 else (cap, 0.0)
    parts = [f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}"]
    for x, y in ((x1, y1), (x2, y2)):
        parts.append(
            f"M{number(x - across[0])} {number(y - across[1])}L{number(x + across[0])} {number(y + across[1])}"
        )
    return element("path", class_=kind, d="".join(parts))


def document(title: str, description: str, height: float, body: Iterable[str]) -> str:
    """A whole drawing: `WIDTH` wide, scaled by where it is shown, named and described for those who do not see it."""
    size = f"{WIDTH} {math.ceil(height)}"
    head = [
        element("title", escape(title)),
        element("desc", escape(description)),
        f"<style>{STYLE}</style>",
        element("rect", class_="bg", x="0", y="0", width=str(WIDTH), height=str(math.ceil(height))),
    ]
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" class="mmfig" role="img" viewBox="0 0 {size}">'
    return "\n".join([opened, *head, *body, "</svg>"]) + "\n"


def heading(title: str, note: str = "") -> tuple[list[str], float]:
    """Title and note of a drawing; returns them and where what follows may begin."""
    body = [label(title, 12, 22, width=WIDTH - 24, kind="strong", size=14)]
    lines = wrapped(note, WIDTH - 24, SMALL)
    body += [label(text, 12, 40 + i * 14, kind="muted", size=SMALL) for i, text in enumerate(lines)]
    return body, 34 + 14.0 * len(lines)


def wrapped(text: str, width: float, size: float = SIZE) -> list[str]:
    """A text in lines of at most a width, broken between words; a word that is too long is cut."""
    lines: list[str] = []
    for word in plain(text).split(" ") if text else []:
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(fit(word, width, size))
    return lines


def legend(
    names: Iterable[str],
    top: float,
    *,
    left: float = 12.0,
    right: float = WIDTH - 12.0,
    lines: bool = False,
    marks: Sequence[bool] = (),
) -> tuple[list[str], float]:
    """Names of series with their marks, side by side in as many lines as they need.

    Args:
        names: Of series 0, 1, ...
        top: Where it begins.
        left: Edge.
        right: Edge.
        lines: With a piece of each series' line.
        marks: Whether each has a mark; all have if not given.

    Returns:
        The markup, and where what follows may begin.
    """
    body: list[str] = []
    sign = 26.0 if lines else 10.0
    x, y = left, top + 12
    for i, name in enumerate(names):
        wide = min(text_width(plain(name), SMALL), 220.0, right - left - sign - 6)
        if x > left and x + sign + 6 + wide > right:
            x, y = left, y + LINE
        if lines:
            body.append(line(x, y - 4, x + sign, y - 4, stroke(i), DASHES[i % len(DASHES)]))
        if not marks or marks[i]:
            body.append(mark(x + sign / 2, y - 4, i))
        body.append(label(name, x + sign + 6, y, width=wide, size=SMALL))
        x += sign + wide + 20
    return body, y + 8
