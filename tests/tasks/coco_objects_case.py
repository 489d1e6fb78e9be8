"""A small COCO folder for the tests of the two tasks of hallucinated objects."""

import json

from tests.data.hub_files import picture

CATEGORIES = {1: "person", 6: "bus", 17: "cat", 18: "dog", 62: "chair", 67: "dining table"}
OFFICIAL_LIKE = "\n".join(
    [
        "person, man, woman, people",
        "bus",
        "cat",
        "dog, puppy",
        "chair, seat",
        "dining table, table",
        "cake,  cheesecake",
    ]
)
# image: categories of its instances, human captions
IMAGES = {
    42: ([1, 18], ["A man walks his dog.", "somebody near a table"]),
    73: ([17, 17, 62], ["A cat on a chair"]),
    139: ([], ["A street, empty."]),
}


def name(number, split="val2014"):
    return f"{number:012d}.jpg" if split.endswith("2017") else f"COCO_{split}_{number:012d}.jpg"


def write_annotations(folder, images=IMAGES, split="val2014"):
    folder.mkdir(parents=True, exist_ok=True)
    listed = [{"id": number, "file_name": name(number, split), "width": 16, "height": 12} for number in images]
    instances = [
        {
            "id": f"{number}{i}",
            "image_id": number,
            "category_id": kind,
            "segmentation": [[0, 1, 2]],
            "bbox": [1, 2, 3, 4],
        }
        for number, (kinds, _) in images.items()
        for i, kind in enumerate(kinds)
    ]
    captions = [
        {"id": n, "image_id": number, "caption": c} for number, (_, cs) in images.items() for n, c in enumerate(cs)
    ]
    categories = [{"id": key, "name": text, "supercategory": "x"} for key, text in CATEGORIES.items()]
    for kind, rows in (("instances", instances), ("captions", captions)):
        data = {"info": {}, "licenses": [], "images": listed, "annotations": rows, "categories": categories}
        (folder / f"{kind}_{split}.json").write_text(json.dumps(data))


def write_coco(root, images=IMAGES):
    write_annotations(root / "coco" / "annotations", images)
    (root / "coco" / "val2014").mkdir(parents=True)
    for number in images:
        (root / "coco" / "val2014" / name(number)).write_bytes(picture((number, 7, 9), "JPEG"))
