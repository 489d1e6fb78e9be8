"""Rows of samples files as the page's script gets them: short keys, long texts cut, words marked; nothing is HTML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..requests import ImageRef
from ..runs import Run
from ..scores import Score, likeliest
from ..tables import shown_value
from .marks import marked

LONGEST = 4000  # characters that the page shows of a text
FULL = {"fraction": 1.0, "percent": 100.0}  # value of a right answer where fewer is not better
NEAR = 1e-9
SCORED = ("ok", "truncated")  # statuses of answers that count
Row = dict[str, Any]


def trimmed(row: Row) -> Row:
    """What the page shows of a sample, with texts cut to the longest that it ever shows."""
    record = row.get("record") if isinstance(row.get("record"), dict) else None
    answers = [_trimmed_answer(answer) for answer in row.get("answers", [])]
    for answer in answers:
        if "text" in answer and record and record.get("hallucinated"):
            answer["pieces"] = marked(answer["text"]["text"], record)
    return {
        "part": str(row.get("part") or ""),
        "cluster": str(row.get("cluster") or ""),
        "status": str(row["status"]),
        "error": _cut(str(row.get("error") or "")),
        "images": row.get("images") or [],
        "prompts": [_cut(str(text), tail=True) for text in dict.fromkeys(row.get("prompts") or [])],
        "reference": _cut(str(row.get("reference") or "")),
        "answers": answers,
        "judged": [
            {
                "text": _cut(str(one.get("text") or "")),
                "verdict": _cut(_as_text(one.get("verdict"))),
                "silent": one.get("verdict") is None,
            }
            for one in row.get("judged") or []
        ],
    }


def _trimmed_answer(answer: Row) -> Row:
    if "logprobs" in answer:
        logprobs = answer["logprobs"] or []
        options = answer.get("options") or [f"option {i + 1}" for i in range(len(logprobs))]
        return {
            "options": [_cut(str(option).strip()) for option in options],
            "logprobs": [None if value is None else round(value, 3) for value in logprobs],
            "chosen": likeliest(logprobs),
        }
    return {"text": _cut(str(answer.get("text") or ""))}


def _cut(text: str, tail: bool = False) -> Row:
    """A text with its length; of a long one the beginning, or the end where the end is what matters (a prompt)."""
    return {"text": text[-LONGEST:] if tail else text[:LONGEST], "n": len(text)}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def sample_of(
    rows: Sequence[Row | None], runs: Sequence[Run | None], scores: Sequence[Score | None], metrics: Sequence[str],
    images: dict[ImageRef, int], length: int,
) -> Row:  # fmt: skip
    """One sample: `p` part, `c` cluster, `g` images, `q` prompts, `r` reference, `a` answers; without what is empty.

    A text is a string, or `[beginning, characters]` where it was cut (of a prompt the end: there is the question).

    Args:
        rows: Trimmed rows of each model; None where it has no such sample.
        runs: The models' results.
        scores: Their scores of it.
        metrics: Names that scores are told by.
        images: Places of the images so far; new ones are added.
        length: Most characters of a text.
    """
    first = next(row for row in rows if row)
    asked, seen = _asked(first, images, length)
    sample = {
        "p": first["part"],
        "c": first["cluster"],
        "g": seen,
        "q": asked,
        "r": _text(first["reference"], length),
    }
    answers = [
        _answer(row, run, score, metrics, length) if row and run else None
        for row, run, score in zip(rows, runs, scores, strict=True)
    ]
    for row, answer in zip(rows, answers, strict=True):
        if row and answer:  # what a model was asked or shown stands with its answer where others had something else
            answer |= {"q": _asked(row, images, length)[0]} if row["prompts"] != first["prompts"] else {}
            answer |= {"g": _asked(row, images, length)[1]} if row["images"] != first["images"] else {}
    return {**{key: value for key, value in sample.items() if value}, "a": answers}


def _asked(row: Row, images: dict[ImageRef, int], length: int) -> tuple[list[Any], list[int]]:
    """Prompts, and places of the images."""
    prompts = [_text(prompt, length, tail=True) for prompt in row["prompts"]]
    return prompts, [images.setdefault(_ref(image), len(images)) for image in row["images"]]


def _answer(row: Row, run: Run, score: Score | None, metrics: Sequence[str], length: int) -> Row:
    """One answer, in short keys.

    `x` what was said, `o` outcome, `v` value (more is better; 1 is full marks where the unit has such), `w` value as
    tables show it, `m` metric, `s` status and `e` error if not ok, `j` judge's words and verdicts.
    """
    answer: Row = {"x": [_piece(piece, length) for piece in row["answers"]], "o": "none"}
    if row["status"] != "ok":
        answer |= {"s": row["status"], "e": _text(row["error"], length)}
    if row["status"] not in SCORED:
        answer["o"] = "failed"
    elif row["judged"] and all(one["silent"] for one in row["judged"]):  # its score is what such a failure counts as
        answer |= {"o": "failed", "s": "not judged", "e": "the judge's words hold no verdict"}
    elif score is not None:
        metric = run.result["metrics"][score.metric]
        value = round(score.value / FULL.get(metric["unit"], 1.0), 6)
        answer |= {"o": outcome(score.value, metric), "v": -value if metric["better"] == "lower" else value}
        answer |= {"w": shown_value(score.value, metric["unit"]), "m": metrics.index(score.metric)}
    if row["judged"]:
        answer["j"] = [
            [_text(one["text"], length), "no verdict" if one["silent"] else _text(one["verdict"], length)]
            for one in row["judged"]
        ]
    return answer


def outcome(value: float, metric: Mapping[str, Any]) -> str:
    """`right`, `wrong` or `partial`; `scored` where the unit does not tell what a right answer would have."""
    full = FULL.get(metric["unit"])
    if full is None or metric["better"] == "neither":
        return "scored"
    right, wrong = (0.0, full) if metric["better"] == "lower" else (full, 0.0)
    if abs(value - right) < NEAR or (value > full and right):
        return "right"
    return "wrong" if abs(value - wrong) < NEAR else "partial"


def _piece(piece: Row, length: int) -> Row:
    if "options" in piece:
        options = [_text(option, length) for option in piece["options"]]
        return {"k": options, "l": piece["logprobs"], "c": piece["chosen"]}
    text = _text(piece["text"], length)
    if len(piece.get("pieces", ())) < 2:
        return {"t": text}
    found: Row = {"h": _shortened(piece["pieces"], length)}  # the text in pieces: the page's script joins them
    return found if isinstance(text, str) else {**found, "n": text[1]}


def _shortened(pieces: Iterable[str], length: int) -> list[str]:
    out = []
    for piece in pieces:
        out.append(piece[:length])
        length -= len(out[-1])
    return out


def _text(text: Row, length: int, tail: bool = False) -> str | list[Any]:
    """The text, or `[text, characters]` if it is not the whole."""
    if text["n"] <= min(length, LONGEST):
        return str(text["text"])
    return [text["text"][-length:] if tail else text["text"][:length], text["n"]]


def _ref(image: Mapping[str, Any]) -> ImageRef:
    return ImageRef(image["path"], image.get("row", -1), image.get("column", ""), tuple(image.get("transforms", ())))
