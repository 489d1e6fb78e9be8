"""MME's files: the released folders, the results template, and answers made elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmalign_eval.data.answers import one_path, part_paths, text_of
from mmalign_eval.data.files import Folder, need
from mmalign_eval.data.logged import llava_rows
from mmalign_eval.data.source import HubRows, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.mme import SUBTASKS
from mmalign_eval.requests import ImageRef
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.task import Sample

SUFFIX = " Please answer yes or no."
SHORT = "\nAnswer the question using a single word or phrase."


class Row(NamedTuple):
    """A question of a file: subtask, name of its image (without ending), text, label, image, file and line."""

    subtask: str
    image: str
    question: str
    label: str
    ref: ImageRef | None
    where: str


class MmeFiles(TaskData):
    """The released folder in either layout, the results template (`<subtask>.txt`), or hub rows."""

    folder = "mme"
    layout = (
        "<subtask>/images/*.jpg with <subtask>/questions_answers_YN/*.txt, or <subtask>/*.jpg with <subtask>/*.txt, or "
        "(to score answers only) <subtask>.txt with image, question, label"
    )
    get = "github.com/BradyFU/Awesome-Multimodal-Large-Language-Models/tree/Evaluation (images on request)"
    hub = HubRows(
        ids=("lmms-lab-encoder/MME", "lmms-lab/MME"),
        split="test",
        columns=("question_id", "question", "answer", "category"),
        image="image",
    )

    def native(self, folder: Folder) -> Iterator[Sample]:
        """All subtasks that are there, in MME's order.

        Raises:
            BadInput: None is there, a file is in another layout, or an image is missing.
        """
        bases = [place / sub for place in folder.places for sub in ("", "MME_Benchmark_release_version")]
        base = next((b for b in bases if any(_files(b, name) for name in SUBTASKS)), None)
        if base is None:
            folder.find(f"{SUBTASKS[0]}.txt", f"{SUBTASKS[0]}/questions_answers_YN/*.txt")
            return
        rows = [row for name in SUBTASKS for row in _questions(base, name)]
        missing = list(dict.fromkeys(f"{r.subtask}/{r.image}" for r in rows if r.ref is None))
        if missing and folder.need_images:
            raise folder.without(missing, len({(r.subtask, r.image) for r in rows}))
        yield from samples_of(rows)

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """Hub rows; the two questions of an image share its `question_id` (`subtask/file name`)."""
        refs: dict[str, ImageRef] = {}
        found = []
        for index, row in enumerate(rows):
            where, name = f"mme: row {index}", row["question_id"]
            if row["category"] not in SUBTASKS:
                raise BadInput(f"{where}: category {row['category']!r} is none of {', '.join(SUBTASKS)}")
            ref = refs.setdefault(name, row["image"])
            label = _label(row["answer"], where)
            found.append(Row(row["category"], Path(name).stem, row["question"], label, ref, where))
        return samples_of(found)


def samples_of(rows: Iterable[Row]) -> Iterator[Sample]:
    """Samples of questions, those of an image in pairs.

    Raises:
        BadInput: An image of a subtask has an odd number of questions.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.subtask, row.image), []).append(row)
    for (subtask, image), group in groups.items():
        if len(group) % 2:
            raise BadInput(f"{group[-1].where}: image {image} has {len(group)} questions; MME asks two about each")
        for n, row in enumerate(group):
            pair = image if n < 2 else f"{image}#{n // 2 + 1}"
            twice = any(other.label == row.label for other in group[n - n % 2 : n])
            data = {"question": row.question, "bare": row.question.replace(SUFFIX, ""), "label": row.label,
                    "subtask": subtask, "image": image}  # fmt: skip
            number = f"{subtask}/{pair}/{row.label}{'2' * twice}"
            images = (row.ref or ImageRef(f"{subtask}/{image}"),)
            yield Sample(number, data, images, cluster=f"{subtask}/{pair}", part=subtask)


def _files(base: Path, subtask: str) -> list[Path]:
    """The question files of a subtask: its template, or one an image."""
    template = base / f"{subtask}.txt"
    if template.is_file():
        return [template]
    return sorted((base / subtask / "questions_answers_YN").glob("*.txt")) or sorted((base / subtask).glob("*.txt"))


def _questions(base: Path, subtask: str) -> Iterator[Row]:
    images = {}
    for folder in (base / subtask, base / subtask / "images"):
        inside = sorted(folder.iterdir()) if folder.is_dir() else ()
        images.update({path.stem: ImageRef(str(path.resolve())) for path in inside if path.suffix != ".txt"})
    for path in _files(base, subtask):
        template = path.parent == base
        lines = _lines(path, 3 if template else 2)
        if not template and len(lines) != 2:
            raise BadInput(f"{path}: expected two lines (question, tab, Yes or No), found {len(lines)}")
        for where, cells in lines:
            image = Path(cells.pop(0)).stem if template else path.stem
            yield Row(subtask, image, cells[0].strip(), _label(cells[1], where), images.get(image), where)


def read_answers(files: AnswerFiles) -> Iterator[tuple[Row, str]]:
    """(question, answer text) of a submission; LLaVA's has no label."""
    if set(files.paths) == {""}:
        path = one_path(files)
        if path.is_dir():
            paths = {name: path / f"{name}.txt" for name in SUBTASKS if (path / f"{name}.txt").is_file()}
        else:
            paths = {path.stem: path} if path.suffix == ".txt" and path.stem in SUBTASKS else {}
        if not paths and path.is_dir():
            raise BadInput(f"--answers {path}: no <subtask>.txt there; subtasks: {', '.join(SUBTASKS)}")
        if not paths:
            yield from _llava(path)
    else:
        paths = part_paths(files, SUBTASKS)
    for subtask, path in paths.items():
        for where, (image, question, label, *answer) in _lines(path, 4):
            yield Row(subtask, Path(image).stem, question, _label(label, where), None, where), "\t".join(answer)


def _llava(path: Path) -> Iterator[tuple[Row, str]]:
    for where, row in llava_rows(path):
        if not isinstance(row, dict):
            raise BadInput(f"{where}: expected an object with question_id, prompt and text")
        number, prompt, text = need(row, ("question_id", "prompt", "text"), where)
        subtask = str(number).partition("/")[0]
        yield Row(subtask, Path(str(number)).stem, text_of(prompt, where), "", None, where), text_of(text, where)


def _lines(path: Path, cells: int) -> list[tuple[str, list[str]]]:
    """(where, cells) of a tab-separated file; blank lines are skipped. Line ends are those that Python's open knows."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [(f"{path}:{n}", line.rstrip("\n").split("\t")) for n, line in enumerate(file, 1) if line.strip()]
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    for where, found in lines:
        if len(found) < cells:
            raise BadInput(f"{where}: expected {cells} tab-separated cells, found {len(found)}; is the file complete?")
    return lines


def _label(text: Any, where: str) -> str:
    label = str(text).strip().lower()
    if label not in ("yes", "no"):
        raise BadInput(f"{where}: the label must be Yes or No, found {text!r}")
    return label


def bare(question: str) -> str:
    """A question without the suffixes that harnesses add or replace, blanks evened out."""
    return " ".join(question.replace(SUFFIX.strip(), " ").replace(SHORT.strip(), " ").split())
