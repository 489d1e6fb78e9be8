"""POPE for other images: question files from any COCO-layout object annotations, sampled as RUCAIBox/POPE does.

Source: POPE (Li et al., 2023, arXiv:2305.10355), section 4.1, and the `pope` function of its utilities. Random numbers
come from seeds of image names, so that the same annotations give the same files everywhere.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign_eval.data.files import need, read_json
from mmalign_eval.errors import BadInput

SPLITS = ("random", "popular", "adversarial")  # how the objects that are not there were chosen
TEMPLATE = "Is there {article} {object} in the image?"
QUESTIONS = 3  # objects asked about that are there, and as many that are not

Objects = Mapping[str, Sequence[str]]


def build(instances: Path, out: Path, *, images: int = 500, seed: int = 0, name: str = "coco") -> list[Path]:
    """Writes `<name>_pope_{random,popular,adversarial}.json`, which the task reads beside the images.

    Args:
        instances: Annotations in COCO's layout (`instances_val2017.json`): images, annotations, categories.
        out: Folder to write to; made if it is not there.
        images: How many to ask about, drawn from those with three objects or more.
        seed: Of the draws.
        name: What the files' names begin with.

    Returns:
        The files, in the order random, popular, adversarial.

    Raises:
        BadInput: Not that layout, or too few images with enough objects.
    """
    objects = read_objects(instances)
    vocabulary = {thing for own in objects.values() for thing in own}
    # three objects that are there, and as many left over to ask about that are not
    fit = [image for image, own in objects.items() if QUESTIONS <= len(own) <= len(vocabulary) - QUESTIONS]
    if len(fit) < images:
        raise BadInput(f"{instances}: {len(fit)} images have {QUESTIONS} objects or more, {images} were asked for")
    drawn = random.Random(f"pope|{seed}").sample(sorted(fit), images)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for split in SPLITS:
        lines = [json.dumps(row) for row in questions(objects, drawn, split, seed)]
        paths.append(out / f"{name}_pope_{split}.json")
        paths[-1].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return paths


def questions(objects: Objects, images: Iterable[str], split: str, seed: int = 0) -> Iterator[dict[str, Any]]:
    """The questions of a split: for each of an image's first three objects one about it, then one about another.

    The other object is neither in the image nor asked about before: any (`random`), the most frequent one (`popular`),
    or the one that occurs most often with the object just asked about (`adversarial`); any, where there is none such.

    Args:
        objects: File name to the objects in the image, of all images: frequencies are counted over them.
        images: Those to ask about.
        split: One of `SPLITS`.
        seed: Of the draws.
    """
    frequent = Counter(thing for own in objects.values() for thing in own)
    together: dict[str, Counter[str]] = {thing: Counter() for thing in frequent}
    for own in objects.values():
        for thing in own:
            together[thing].update(other for other in own if other != thing)
    number = 0
    for image in images:
        rng = random.Random(f"pope|{seed}|{split}|{image}")
        excluded = set(objects[image])
        for thing in objects[image][:QUESTIONS]:
            ranked = {"random": Counter[str](), "popular": frequent, "adversarial": together[thing]}[split]
            best = next((other for other, _ in ranked.most_common() if other not in excluded), None)
            absent = best or rng.choice([other for other in frequent if other not in excluded])
            excluded.add(absent)
            for asked, label in ((thing, "yes"), (absent, "no")):
                number += 1
                article = "an" if asked[0] in "aeiou" else "a"
                text = TEMPLATE.format(article=article, object=asked)
                yield {"question_id": number, "image": image, "text": text, "label": label}


def read_objects(instances: Path) -> dict[str, list[str]]:
    """File name to the names of the object categories in the image, each once, in the order of the annotations.

    Raises:
        BadInput: Not COCO's layout, or an annotation of an unknown image or category.
    """
    data = read_json(instances)
    if not isinstance(data, dict):
        raise BadInput(f"{instances}: expected an object with images, annotations and categories")
    images, annotations, categories = need(data, ("images", "annotations", "categories"), str(instances))
    names = dict(need(row, ("id", "name"), f"{instances}: categories[{i}]") for i, row in enumerate(categories))
    files = dict(need(row, ("id", "file_name"), f"{instances}: images[{i}]") for i, row in enumerate(images))
    found: dict[str, dict[str, None]] = {file: {} for file in files.values()}
    for index, row in enumerate(annotations):
        where = f"{instances}: annotations[{index}]"
        image, category = need(row, ("image_id", "category_id"), where)
        if image not in files or category not in names:
            raise BadInput(f"{where}: image {image} or category {category} is not in the file")
        found[files[image]][names[category]] = None
    return {file: list(own) for file, own in found.items()}
