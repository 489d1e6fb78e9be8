"""POPE: does the model see objects that are not there? (Li et al., 2023; scorer: RUCAIBox/POPE evaluate.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign_eval.tasks._profiles import sight_beyond_text

from mmalign_eval.data.files import Folder, need, read_jsonl
from mmalign_eval.data.source import HubRows, Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric, Record, by
from mmalign_eval.metrics.yes_no import BINARY_METRICS, mean_over, official_yes_no, yes_no
from mmalign_eval.requests import ImageRef, Response, greedy
from mmalign_eval.task import ImageTask, Protocol, Sample, task

SPLITS = ("random", "popular", "adversarial")  # how the objects that are not there were chosen
SHORT = "{question}\nAnswer the question using a single word or phrase."
PROTOCOLS = {
    "official": Protocol(
        ask="{question}",
        params=greedy(128),
        parse=official_yes_no,
        source="RUCAIBox/POPE: questions as released, evaluate.py",
    ),
    "paper": sight_beyond_text(
        "{question}",
        official_yes_no,
        note="sampled, at most 10 tokens; the paper's POPE columns are the accuracies",
    ),
    "lmms": Protocol(
        ask=SHORT,
        params=greedy(128),
        parse=official_yes_no,
        source="lmms-eval, tasks/pope; the prompt of LLaVA-1.5",
        note="official scorer; lmms-eval's own takes only an exact yes or no, and its yes_ratio from the labels",
    ),
}


class PopeFiles(TaskData):
    """The released question files, or the hub's rows."""

    folder = "pope"
    layout = "coco_pope_{random,popular,adversarial}.json (any of them) and the COCO val2014 images in val2014/"
    get = "github.com/RUCAIBox/POPE (output/coco) and images.cocodataset.org/zips/val2014.zip"
    hub = HubRows(
        ids=("lmms-lab-encoder/POPE", "lmms-lab/POPE"),
        split="test",
        columns=("question_id", "question", "answer", "image_source", "category"),
        image="image",
    )

    def native(self, folder: Folder) -> Iterator[Sample]:
        """Questions of the files that are there, in the order random, popular, adversarial."""
        files = {s: folder.maybe(*(f"{place}coco_pope_{s}.json" for place in ("", "output/coco/"))) for s in SPLITS}
        if not any(files.values()):
            folder.find("coco_pope_random.json")
        rows = [(split, *row) for split, file in files.items() if file for row in _questions(split, file)]
        images = folder.images(name for _, _, name, *_ in rows)
        for split, number, name, question, label, edition in rows:
            yield _sample(split, number, question, label, name, images[name], edition)

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """The hub's rows; its configuration `Full` has the same columns. An image is repeated in each of its rows."""
        images: dict[str, ImageRef] = {}
        for index, row in enumerate(rows):
            if (split := row["category"]) not in SPLITS:
                raise BadInput(f"pope: row {index}: category {split!r} is none of {', '.join(SPLITS)}")
            label = _label(row["answer"], f"pope: row {index}")
            name = row["image_source"]
            image = images.setdefault(name, row["image"])
            yield _sample(split, row["question_id"], row["question"], label, name, image)


@task("pope", version=1, protocols=PROTOCOLS, data=PopeFiles)
class Pope(ImageTask):
    """9,000 yes/no questions on 500 COCO images; accuracy, precision, recall, F1 and yes-ratio of each split."""

    headline = (*(f"{split}/accuracy" for split in SPLITS), "mean/f1", "adversarial/yes_ratio")
    sources = ("https://arxiv.org/abs/2305.10355", "https://github.com/RUCAIBox/POPE")
    edition = ""

    def samples(self, source: Source) -> Iterator[Sample]:
        """All questions; notes the edition of the files."""
        for sample in super().samples(source):
            self.edition = sample.data.get("edition", self.edition)
            yield sample

    def score(self, sample: Sample, answer: str) -> Record:
        """Split, label, parsed answer and cell of the confusion table."""
        return {"split": sample.data["split"], **yes_no(sample.data["label"], answer)}

    def metrics(self) -> Sequence[Metric]:
        """Each metric of each split, then the means of the three splits (LLaVA reports the mean F1)."""
        return [*by("split", SPLITS, BINARY_METRICS), *mean_over("split", SPLITS)]

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The label."""
        return (Response("ok", text=sample.data["label"].capitalize()),)

    def signature_extra(self) -> Mapping[str, Any]:
        """The edition of the question files, where it is not the current one."""
        return {"edition": self.edition} if self.edition else {}


def _questions(split: str, path: Path) -> list[tuple[Any, str, str, str, str]]:
    """(number, image, question, label, edition) of a file. Two editions are around; the text is asked as it is."""
    rows = []
    for line, row in read_jsonl(path):
        where = f"{path}:{line}"
        number, image, text, label = need(row, ("question_id", "image", "text", "label"), where)
        rows.append((number, image, text, _label(label, where)))
    old = (split == "random" and len(rows) == 2910) or any("imange" in text for _, _, text, _ in rows)
    edition = "old (2910 random questions)" if old else ""
    return [(*row, edition) for row in rows]


def _label(label: Any, where: str) -> str:
    if label not in ("yes", "no"):
        raise BadInput(f"{where}: the label must be yes or no, found {label!r}")
    return str(label)


def _sample(
    split: str, number: Any, question: str, label: str, name: str, image: ImageRef, edition: str = ""
) -> Sample:
    data = {"question": question, "label": label, "split": split, **({"edition": edition} if edition else {})}
    return Sample(f"{split}/{number}", data, (image,), cluster=Path(name).stem, part=split)
