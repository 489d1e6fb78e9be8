"""COCO-C: do descriptions survive damaged images? (Sight Beyond Text, table 4; corruptions: Michaelis et al., 2019).

Four corruptions at three severities on the images of the captioning benchmark, and the clean images as a thirteenth
pass. Each pass is scored by CIDEr against the same references (scorer: pycocoevalcap, CIDEr-D); the benchmark's number
is the mean of the twelve damaged passes. The authors read ready-made folders; `imagecorruptions` at the images' own
size is the likely source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from mmalign_eval.tasks._captioning import CaptionTask, image_id, protocols, read_results
from mmalign_eval.tasks._coco_captions import LMMS, CocoCaptions

from mmalign_eval.data.answers import part_paths, said
from mmalign_eval.data.source import Source
from mmalign_eval.data.transforms import corrupted
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics import captions, ptb
from mmalign_eval.metrics.base import Metric, Record, by, mean
from mmalign_eval.metrics.formula import Formula, over
from mmalign_eval.requests import Response
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import Sample, task

KINDS = ("gaussian_noise", "defocus_blur", "contrast", "brightness")
SEVERITIES = (1, 3, 5)
CLEAN = "clean"
DAMAGED = tuple(f"{kind}/{severity}" for kind in KINDS for severity in SEVERITIES)
PARTS = (*DAMAGED, CLEAN)
MINI_IMAGES = 60  # of the miniature's 200: thirteen passes over all would take most of a demonstration's minutes
NOTE = "12 damaged passes and a clean one; SBT's table 4 prints the mean CIDEr x100 and its relative change"
AS_LMMS = replace(LMMS, note=f"{LMMS.note}; lmms-eval has no COCO-C, these are its caption prompts; {NOTE}")


@task("coco_c", version=1, protocols=protocols(AS_LMMS, note=NOTE), data=CocoCaptions)
class CocoC(CaptionTask):
    """CIDEr of captions under four corruptions at severities 1, 3 and 5, and its change relative to clean images."""

    headline = ("CIDEr", "clean/CIDEr", "relative_change", *(f"{part}/CIDEr" for part in DAMAGED))
    sources = ("https://arxiv.org/abs/2309.07120", "https://github.com/bethgelab/imagecorruptions")
    submission = "COCO results for each part: a folder of gaussian_noise_1.json ... brightness_5.json, clean.json"
    demo_key = "coco_caption"  # the demonstrations of the clean benchmark, the same in all passes

    def samples(self, source: Source) -> Iterator[Sample]:
        """Every image thirteen times."""
        clean = super().samples(source)
        for image in islice(clean, MINI_IMAGES) if source.kind == "mini" else clean:
            for part in PARTS:
                yield _damaged(image, part)

    def score(self, sample: Sample, answer: str) -> Record:
        """Caption and references, with the part and the image that they belong to."""
        return {**super().score(sample, answer), "part": sample.part, "image": image_id(sample)}

    def finish(self, records: Sequence[Record]) -> None:
        """CIDEr of each caption within its pass; references are tokenised once for all passes."""
        captions.score_passes(records, "part")

    def metrics(self) -> Sequence[Metric]:
        """Means over passes, with intervals over images (all passes of an image are drawn together), then the table."""
        return METRICS

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """A results file for each part; without one for the clean images there is no relative change.

        Raises:
            BadInput: Not COCO's results format, an image twice in a file, no or two files for a part.
        """
        paths = _part_files(files)
        samples = [s for s in self.samples(source) if s.part in paths or s.part != CLEAN]
        images = {image_id(s) for s in samples}
        found, unknown = {}, []
        for part, path in paths.items():
            found[part], others = read_results(path, images)
            unknown += [f"{part}/{name}" for name in others]
        answered = {s.id: found.get(s.part, {}).get(image_id(s)) for s in samples}
        responses: dict[str, Sequence[Response]] = {i: [said(text)] for i, text in answered.items() if text is not None}
        notes = [] if CLEAN in paths else ["no captions of the clean images: no relative change"]
        return Submission(samples, responses, unknown=unknown, notes=notes)

    def signature_extra(self) -> Mapping[str, Any]:
        """Tokeniser, scorer and where the corruptions come from."""
        return {"tokenizer": ptb.SIGNATURE, "scorer": "pycocoevalcap", "corruptions": "imagecorruptions 1.1.2"}


def _damaged(image: Sample, part: str) -> Sample:
    kind, _, severity = part.partition("/")
    refs = image.images if part == CLEAN else tuple(corrupted(i, kind, int(severity), image.id) for i in image.images)
    return Sample(f"{part}/{image.id}", image.data, refs, cluster=image.id, part=part)


def _by_pass(records: Sequence[Record]) -> Sequence[float]:
    """Sums of CIDEr by part `[13]`, then counts `[13]`."""
    sums = np.zeros((2, len(PARTS)))
    for record in records:
        sums[:, PARTS.index(record["part"])] += record["CIDEr"], 1
    return [float(x) for x in sums.ravel()]


def _means(*parts: str) -> Formula:
    """Mean of the parts' mean CIDEr, of `_by_pass`; undefined if a part has no caption."""
    return over("mean", [f"s[{(place := PARTS.index(part))}] / s[{len(PARTS) + place}]" for part in parts])


def _relative_change() -> Formula:
    """(damaged - clean) / clean in percent."""
    damaged, clean = _means(*DAMAGED), _means(CLEAN)
    return Formula(f"where({clean} > 0, 100 * ({damaged} - {clean}) / {clean}, nan)")


def _mean(name: str, parts: Sequence[str], what: str) -> Metric:
    text = f"CIDEr-D, 0-10 (papers print it x100), {what}; pycocoevalcap"
    return Metric(name, _by_pass, _means(*parts), unit="points", best=None, help=text)


ONE_PASS = mean("CIDEr", "CIDEr", unit="points", best=None, help="CIDEr-D of one pass, 0-10; pycocoevalcap")
METRICS = (
    _mean("CIDEr", DAMAGED, "mean of the twelve damaged passes"),
    *by("part", (CLEAN,), [ONE_PASS]),
    Metric(
        "relative_change",
        _by_pass,
        _relative_change(),
        unit="percent",
        best=None,
        help="(mean of the twelve - clean) / clean on the same images, in percent (SBT, table 4, in brackets)",
    ),
    *(_mean(f"{kind}/CIDEr", [f"{kind}/{s}" for s in SEVERITIES], f"{kind}, mean of severities") for kind in KINDS),
    *by("part", DAMAGED, [ONE_PASS]),
)


def _part_files(files: AnswerFiles) -> dict[str, Path]:
    """Part to results file: `PART=PATH` pairs, or a folder; `/` in a part may be written `_` or `-`, or be a folder."""
    spelled = {_spelling(part): part for part in PARTS}
    if set(files.paths) != {""}:
        return part_paths(AnswerFiles({spelled.get(_spelling(n), n): p for n, p in files.paths.items()}), PARTS)
    folder = files.paths[""]
    if not folder.is_dir():
        raise BadInput(f"--answers {folder}: coco_c has {len(PARTS)} parts: give a folder, or PART=PATH for each part")
    inside = sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".jsonl") and p.is_file())
    names = {path: _spelling(str(path.relative_to(folder).with_suffix(""))) for path in inside}
    found = {}
    for spelling, part in spelled.items():
        named = [p for p, name in names.items() if f"_{spelling}_" in f"_{name}_"]
        exact = [p for p in named if names[p] == spelling] or named
        if len(exact) > 1:
            raise BadInput(f"--answers {folder}: {exact[0].name} and {exact[1].name} are both named after {part}")
        if exact:
            found[part] = exact[0]
    if not found:
        raise BadInput(f"--answers {folder}: no file there is named after a part, like {next(iter(spelled))}.json")
    return found


def _spelling(name: str) -> str:
    """Words and numbers joined by `_`; `severity_3`, `sev3` and `s3` are `3`."""
    plain = re.sub(r"[^0-9A-Za-z]+", "_", name).strip("_")
    return re.sub(r"(?<=_)(?:severity|sev|s)_?(?=[1-5](?:_|$))", "", plain)
