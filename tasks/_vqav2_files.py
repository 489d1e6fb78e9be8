"""VQAv2's files: questions and annotations of any split, hub rows, and results files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmalign_eval.data.answers import by_id, text_of, unique_object, whole_object
from mmalign_eval.data.files import Folder, need, read_json
from mmalign_eval.data.logged import llava_rows
from mmalign_eval.data.source import HubRows, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.requests import ImageRef
from mmalign_eval.task import Sample

# Below the folder: as it is, as the official tool lays it out, and below a root under the usual names.
PLACES = tuple(f"{own}{sub}" for own in ("", "VQAv2/", "vqa/", "VQA/") for sub in ("", "annotations/", "Annotations/"))


class VqaFiles(TaskData):
    """The released questions and annotations, or hub rows."""

    folder = "vqav2"
    layout = (
        "v2_mscoco_val2014_annotations.json, v2_OpenEnded_mscoco_val2014_questions.json (not needed to score answers) "
        "and the COCO images in val2014/"
    )
    get = "visualqa.org/download.html and images.cocodataset.org/zips/val2014.zip"
    hub = HubRows(
        ids=("lmms-lab-encoder/VQAv2", "lmms-lab/VQAv2"),
        split="validation",
        columns=("question_id", "image_id", "question", "answers", "answer_type", "question_type"),
        image="image",
    )

    def native(self, folder: Folder) -> Iterator[Sample]:
        """The questions of the validation set, in the order of its annotations."""
        name = "v2_mscoco_val2014_annotations.json"
        places = [f"{sub}{name}" for sub in PLACES if sub]
        return self.annotated(folder, folder.given or folder.maybe(name, *places) or folder.find(name))

    def annotated(self, folder: Folder, path: Path) -> Iterator[Sample]:
        """The questions of one annotation file.

        Raises:
            BadInput: Not that layout, a question without text where it has to be asked, or an image that is missing.
        """
        data = read_json(path)
        rows = data.get("annotations") if isinstance(data, dict) else None
        if not isinstance(rows, list):
            raise BadInput(f"{path}: expected an object with a list of annotations")
        subset = data.get("data_subtype") or "val2014"
        texts = _questions(folder, path)
        found = []
        for index, row in enumerate(rows):
            where = f"{path}: annotations[{index}]"
            number, _ = need(_object(row, where), ("question_id", "answers"), where)
            image_id, question = texts.get(str(number), (row.get("image_id"), ""))
            if folder.need_images and str(number) not in texts:
                raise BadInput(f"{where}: question {number} has no text among the questions")
            known = isinstance(image_id, int)
            name = f"COCO_{subset}_{image_id:012d}.jpg" if known else f"question {number}"
            found.append((_data(row, question, where), str(number), str(image_id) if known else "", name, where))
        images = folder.images([(name, where) for *_, name, where in found])
        for fields, number, image, name, where in found:
            yield Sample(number, fields, (images[name],), cluster=image, where=where)

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """Hub rows; an image is repeated in each of its rows."""
        images: dict[str, ImageRef] = {}
        for index, row in enumerate(rows):
            number = str(row["image_id"])
            fields = _data(row, row["question"], f"vqav2: row {index}")
            yield Sample(str(row["question_id"]), fields, (images.setdefault(number, row["image"]),), cluster=number)

    def holding(self, folder: Folder, ids: set[str]) -> list[Sample]:
        """The samples of the annotation file that holds the most of some question ids.

        Raises:
            BadInput: There is no annotation file, or one is in another layout.
        """
        places = [place / sub for place in folder.places for sub in PLACES]
        paths = _matching(places, "*mscoco_val2014_annotations*.json", "*mscoco_*annotations*.json")
        paths = paths or _matching(places, "*annotations*.json")
        best: list[Sample] = []
        most = -1
        for path in [folder.given] if folder.given else paths:
            samples = list(self.annotated(folder, path))
            held = len(ids.intersection(s.id for s in samples))
            if held > most:
                best, most = samples, held
            if held == len(ids):
                break
        if most < 0:
            folder.find("v2_mscoco_val2014_annotations.json")
        return best


def _matching(places: Sequence[Path], *patterns: str) -> list[Path]:
    return list(dict.fromkeys(path for p in patterns for place in places for path in sorted(place.glob(p))))


def _questions(folder: Folder, annotations: Path) -> dict[str, tuple[Any, str]]:
    """Question id to (image id, text); empty where answers are only scored and the file is not there."""
    name = annotations.name.replace("annotations", "questions")
    names = [name.replace("mscoco", "OpenEnded_mscoco", 1), name]
    beside = (annotations.parent, annotations.parent.parent / "Questions", annotations.parent.parent / "questions")
    path = next((place / n for place in beside for n in names if (place / n).is_file()), None)
    if path is None or path == annotations:
        if folder.need_images:
            folder.find(names[0])
        return {}
    data = read_json(path)
    found = {}
    for index, row in enumerate(need(_object(data, str(path)), ("questions",), str(path))[0]):
        where = f"{path}: questions[{index}]"
        number, image, text = need(_object(row, where), ("question_id", "image_id", "question"), where)
        found[str(number)] = image, text
    return found


def _data(row: dict[str, Any], question: str, where: str) -> dict[str, Any]:
    answers = row["answers"]
    if not isinstance(answers, list) or not answers:
        raise BadInput(f"{where}: expected a list of human answers")
    texts = [text_of(need(_object(a, where), ("answer",), where)[0], where) for a in answers]
    types = {name: row.get(name) or "" for name in ("answer_type", "question_type")}
    return {"question": question, "answers": texts, **types}


def read_answers(path: Path) -> dict[str, str]:
    """Question id to answer of a results file, or of the one in a folder; LLaVA's files call the answer `text`.

    Raises:
        BadInput: Another format, a question answered twice; names file and line.
    """
    if path.is_dir():
        path = _results_in(path)
    rows = llava_rows(path)
    if whole_object(path, rows) and "question_id" not in rows[0][1]:
        return {number: text_of(answer, f"{path}: {number}") for number, answer in unique_object(path).items()}
    found = []
    for where, row in rows:
        said = "text" if "text" in _object(row, where) and "answer" not in row else "answer"
        number, answer = need(row, ("question_id", said), where)
        found.append((str(number), text_of(answer, where), where))
    return by_id(found)


def _results_in(folder: Path) -> Path:
    """The results file of a folder: the official tool writes what it made of it beside it."""
    inside = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".jsonl") and not p.name.startswith("."))
    named = [p for p in inside if p.stem.endswith("_results")]
    found = named or inside
    if len(found) != 1:
        raise BadInput(f"--answers {folder}: expected one results file, found {len(found)}; name the file")
    return found[0]


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value
