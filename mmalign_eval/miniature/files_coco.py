"""COCO's files (images, captions, instances, Karpathy's list) and POPE's, of held-out scenes."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from mmalign_eval.miniature.captions import article, short_caption
from mmalign_eval.miniature.files_text import write_json, write_jsonl
from mmalign_eval.miniature.render import draw, jpeg, silhouette
from mmalign_eval.miniature.world import CLASSES, IMAGE_SIZE, NAMES, Scene, make_scene

HELD_OUT_SEED = 10_000_000  # training scenes have seeds from 0, scenes told in the corpus from 10^9
FIRST_IMAGE_ID = 100_001
CAPTIONS_PER_IMAGE = 5
TRAINING_ROWS = (
    24  # captions of training scenes in Karpathy's files, without images: demonstrations are drawn from them
)


def held_out_scenes(start: int, count: int, at_least: int = 2) -> list[Scene]:
    """Scenes from a block of seeds that no training step sees, with at least so many objects."""
    scenes: list[Scene] = []
    seed = HELD_OUT_SEED + start
    while len(scenes) < count:
        scene = make_scene(seed)
        if len(scene.things) >= at_least:
            scenes.append(scene)
        seed += 1
    return scenes


def coco_scenes(count: int) -> dict[int, Scene]:
    """Image id -> scene of the COCO folder; three objects at least, as POPE's builder asks."""
    return dict(enumerate(held_out_scenes(0, count, at_least=3), start=FIRST_IMAGE_ID))


def file_name(image_id: int) -> str:
    """COCO 2014's name of a validation image."""
    return f"COCO_val2014_{image_id:012d}.jpg"


def references(scene: Scene) -> list[str]:
    """Five different human-like captions."""
    rng = random.Random(f"captions {scene.seed}")
    found: dict[str, None] = {}
    while len(found) < CAPTIONS_PER_IMAGE:
        found.setdefault(short_caption(rng, scene))
    return list(found)


def save_image(scene: Scene, path: Path) -> None:
    """Write the scene's JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(draw(scene)))


def _instances(scenes: dict[int, Scene]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for image_id, scene in scenes.items():
        for thing in scene.things:
            points = silhouette(thing)
            xs, ys = [x for x, _ in points], [y for _, y in points]
            turns = zip(points, [*points[1:], points[0]], strict=True)
            area = abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in turns)) / 2
            out.append(
                {
                    "id": len(out) + 1,
                    "image_id": image_id,
                    "category_id": CLASSES[thing.name][0],
                    "segmentation": [[round(value, 2) for point in points for value in point]],
                    "area": round(area, 2),
                    "bbox": [round(v, 2) for v in (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))],
                    "iscrowd": 0,
                }
            )
    return out


def write_coco(folder: Path, scenes: dict[int, Scene]) -> None:
    """COCO 2014's validation layout (cocodataset.org, "data format") and Karpathy's dataset_coco.json."""
    for image_id, scene in scenes.items():
        save_image(scene, folder / "val2014" / file_name(image_id))
    images = [
        {"id": i, "file_name": file_name(i), "width": IMAGE_SIZE, "height": IMAGE_SIZE, "license": 1} for i in scenes
    ]
    info = {"description": "mmalign-eval miniature, drawn scenes", "version": "1", "year": 2014}
    licenses = [{"id": 1, "name": "Apache-2.0", "url": "http://www.apache.org/licenses/LICENSE-2.0"}]
    head = {"info": info, "licenses": licenses, "images": images}
    texts = [(i, text) for i, scene in scenes.items() for text in references(scene)]
    captions = [{"image_id": i, "id": n, "caption": text} for n, (i, text) in enumerate(texts, start=1)]
    write_json(folder / "annotations/captions_val2014.json", {**head, "annotations": captions})
    categories = [{"supercategory": above, "id": n, "name": name} for name, (n, above) in CLASSES.items()]
    instances = {**head, "annotations": _instances(scenes), "categories": categories}
    write_json(folder / "annotations/instances_val2014.json", instances)
    names = {i: file_name(i) for i in scenes}
    rows = karpathy_rows(scenes, names, {"filepath": "val2014"})
    shown = {seed + 1: make_scene(seed) for seed in range(TRAINING_ROWS)}
    shown_names = {number: f"COCO_train2014_{number:012d}.jpg" for number in shown}
    rows += karpathy_rows(shown, shown_names, {"filepath": "train2014"}, split="train", first=len(rows))
    for row, image_id in zip(rows, [*scenes, *shown], strict=True):
        row["cocoid"] = image_id
    write_json(folder / "dataset_coco.json", {"images": rows, "dataset": "coco"})


def karpathy_rows(
    scenes: dict[int, Scene], names: dict[int, str], extra: dict[str, Any], split: str = "test", first: int = 0
) -> list[dict[str, Any]]:
    """Rows of Karpathy's caption files (cs.stanford.edu/people/karpathy/deepimagesent), numbered from `first`."""
    rows = []
    for number, (image_id, scene) in enumerate(scenes.items(), start=first):
        sentids = [CAPTIONS_PER_IMAGE * number + n for n in range(CAPTIONS_PER_IMAGE)]
        sentences = [
            {"tokens": text.lower().replace(",", "").rstrip(".").split(), "raw": text, "imgid": number, "sentid": n}
            for n, text in zip(sentids, references(scene), strict=True)
        ]
        rows.append(
            {
                **extra,
                "filename": names[image_id],
                "imgid": number,
                "split": split,
                "sentids": sentids,
                "sentences": sentences,
            }
        )
    return rows


def write_pope(folder: Path, scenes: dict[int, Scene]) -> None:
    """POPE's three files by the rules of its builder (RUCAIBox/POPE main.py), six questions an image."""
    counts = Counter(name for scene in scenes.values() for name in scene.names)
    together = {name: Counter[str]() for name in NAMES}
    for scene in scenes.values():
        for name in scene.names:
            together[name].update(n for n in scene.names if n != name)
    for split in ("random", "popular", "adversarial"):
        rng = random.Random(f"pope {split}")
        rows: list[dict[str, Any]] = []
        for image_id, scene in scenes.items():
            used = set(scene.names)
            for positive in scene.names[:3]:
                ranked = counts if split == "popular" else together[positive]
                free = [n for n, _ in sorted(ranked.items(), key=lambda kv: (-kv[1], kv[0])) if n not in used]
                if split == "random" or not free:
                    negative = rng.choice([n for n in NAMES if n not in used])
                else:
                    negative = free[0]
                used.add(negative)
                for name, label in ((positive, "yes"), (negative, "no")):
                    text = f"Is there {article(name)} in the image?"
                    row = {"question_id": len(rows) + 1, "image": file_name(image_id), "text": text, "label": label}
                    rows.append(row)
        write_jsonl(folder / f"coco_pope_{split}.json", rows)
