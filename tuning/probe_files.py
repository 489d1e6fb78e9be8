"""What a probe leaves: probabilities as CSV, the curves as SVG, answers as Markdown, and what was asked as JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from ..data.transforms import diffusion_scales
from ..errors import MmevalError
from ..files import write_whole
from ..images import label
from ..report.figures.plot import Line, Panel, Point, point_chart
from ..tables import TextTable, escaped, markdown
from .probe import Plan, Probe

COLUMNS = ("step", "image_factor", "noise_factor", "image", "word", "tokens", "logprob", "probability")
MOST_MARKED = 30  # steps: up to so many a point has its mark


def write(probe: Probe, model: dict[str, Any], name: str, folder: Path) -> list[Path]:
    """Writes all of it into a folder; the same probe gives the same bytes.

    Args:
        probe: What was found.
        model: The model's identity.
        name: The model's name, for titles.
        folder: Made if it is not there.

    Raises:
        MmevalError: It cannot be written.
    """
    texts = {"probe.json": _json(probe.plan, model, name)}
    if probe.words:
        texts |= {"probabilities.csv": _csv(probe), "probabilities.svg": drawn(probe, name)}
    if probe.responses:
        texts["responses.md"] = _responses(probe, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            write_whole(folder / file, [text.encode("utf-8")])
    except OSError as error:
        raise MmevalError(f"--out {folder}: cannot be written: {error.strerror or error}") from error
    return [folder / file for file in texts]


def table(probe: Probe) -> TextTable:
    """Mean probabilities in percent, a line a step."""
    plan = probe.plan
    rows = tuple((str(step), *(f"{100 * probe.mean(step, word):.2f}" for word in plan.words)) for step in plan.steps)
    columns = ("step", *plan.words)
    return TextTable(columns, rows, right=frozenset(range(len(columns))), notes=(_about(plan),))


def drawn(probe: Probe, name: str) -> str:
    """Means over the images, as probability and as its logarithm."""
    plan = probe.plan
    panels = []
    for title, log in (("probability", False), ("log-probability (nats)", True)):
        lines = []
        for place, word in enumerate(plan.words):
            means = [(step, probe.mean(step, word, log)) for step in plan.steps]
            points = tuple(Point(step, mean, text=f"{word}, step {step}: {mean:.4g}") for step, mean in means)
            lines.append(Line(place, points, marked=len(points) <= MOST_MARKED))
        panels.append(Panel(title, tuple(lines)))
    return point_chart(
        f"Next words as the image weakens: {name}",
        _about(plan),
        panels,
        plan.words,
        x_label=f"noise step of {plan.of_steps}",
        same_y=False,
        whole_x=True,
    )


def _about(plan: Plan) -> str:
    images = "one image" if len(plan.images) == 1 else f"mean of {len(plan.images)} images"
    after = f'after "{plan.prefix.strip()}"' if plan.prefix.strip() else "as the answer's first"
    width = "each image's own standard deviation" if plan.scale == "std" else plan.scale
    noise = f"noise on {plan.target}, {width} wide, seed {plan.seed}"
    return f'{images}; "{plan.question}", the next word {after}; {noise}'


def _csv(probe: Probe) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    names = [label(image) for image in probe.plan.images]
    for word in probe.words:
        scales = (f"{x:.6f}" for x in diffusion_scales(word.step, probe.plan.of_steps))
        numbers = (f"{word.logprob:.9g}", f"{word.probability:.9g}")
        writer.writerow((word.step, *scales, names[word.image], word.word, word.tokens or "", *numbers))
    return out.getvalue()


def _responses(probe: Probe, name: str) -> str:
    plan = probe.plan
    lines = [f"# Answers as the image weakens: {escaped(name)}", "", f"{escaped(_about(plan))}. Greedy decoding.", ""]
    for place, image in enumerate(plan.images):
        rows = tuple((str(step), probe.responses[step, place]) for step in plan.steps)
        found = TextTable((f"step of {plan.of_steps}", "answer"), rows, right=frozenset({0}))
        lines += [f"## {escaped(Path(label(image)).name)}", "", markdown(found)]
    return "\n".join(lines)


def _json(plan: Plan, model: dict[str, Any], name: str) -> str:
    asked = {
        "model": {"name": name, "identity": model},
        "images": [label(image) for image in plan.images],
        **{key: getattr(plan, key) for key in Plan.__dataclass_fields__ if key != "images"},
    }
    return json.dumps(asked, indent=1, ensure_ascii=False) + "\n"
