"""BoolQ: does a passage answer a yes/no question with yes? (Clark et al., 2019; definitions: lm-eval's boolq).

The questions are natural ones; the evaluated file is the development set, whose labels are public.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmalign_eval.tasks._old_harness import OLD_SOURCE, OldHarness, OldPart, likeliest

from mmalign_eval.data.answers import choices, one_path
from mmalign_eval.data.files import Folder, need, read_jsonl
from mmalign_eval.data.source import HubRows, Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric, mean
from mmalign_eval.requests import RAW_TEMPLATE, Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import LmEvalTask, Protocol, Record, Sample, task

ASK = "{passage}\nQuestion: {question}?\nAnswer:"
OPTIONS = ("no", "yes")  # the number of an option is the label
NATIVE = {"validation": ("val.jsonl", "dev.jsonl"), "train": ("train.jsonl",)}  # SuperGLUE's names, BoolQ's own

PROTOCOLS = {
    "lm_eval": Protocol(
        ask=ASK,
        params=greedy(1),
        template=RAW_TEMPLATE,
        source="lm-eval 0.4.13, boolq (v2)",
        note="the likelier of ' no' and ' yes'; a tie is a no",
    ),
    "paper": Protocol(
        ask=ASK,
        params=greedy(1),
        template=RAW_TEMPLATE,
        source=OLD_SOURCE,
        note="0 shots, no BOS; the likelier of ' yes' and ' no', a tie is a no",
    ),
}


class BoolQFiles(TaskData):
    """SuperGLUE's `val.jsonl`, the original `dev.jsonl`, or the hub's configuration `boolq`."""

    folder = "boolq"
    layout = "val.jsonl (SuperGLUE: question, passage, idx, label) or dev.jsonl (question, passage, answer)"
    get = "https://dl.fbaipublicfiles.com/glue/superglue/data/v2/BoolQ.zip or github.com/google-research-datasets/boolean-questions"  # noqa: E501
    hub = HubRows(
        ids=("aps/super_glue", "super_glue"),
        split="validation",
        more_splits=("train",),
        config=("boolq",),
        columns=("question", "passage", "label"),
    )

    def native(self, folder: Folder) -> Iterator[Sample]:
        """The evaluated file, then the training file if there is one: only demonstrations need it."""
        yield from _questions("validation", folder.given or self._evaluated(folder))
        training = None if folder.given else folder.maybe(*_names("train"))
        if training:
            yield from _questions("train", training)

    def _evaluated(self, folder: Folder) -> Path:
        """The development set, or a part of it (`dev_*.jsonl`), when that is all there is."""
        found = folder.maybe(*_names("validation"))
        parts = [p for place in folder.places for stem in ("val", "dev") for p in sorted(place.glob(f"{stem}_*.jsonl"))]
        return found or (parts[0] if len(parts) == 1 else folder.find(*_names("validation")))

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """The hub's rows."""
        for row in rows:
            split, number = row["_split"], row["_row"]
            yield _sample(split, number, row, row["label"], f"boolq: {split} row {number}")


def _names(split: str) -> list[str]:
    return [f"{place}{name}" for place in ("", "BoolQ/") for name in NATIVE[split]]


def _questions(split: str, path: Path) -> Iterator[Sample]:
    for number, (line, row) in enumerate(read_jsonl(path)):
        where = f"{path}:{line}"
        need(row, ("question", "passage"), where)
        (label,) = need(row, ("label" if "label" in row else "answer",), where)
        yield _sample(split, number, row, label, where)


def _sample(split: str, number: int, row: Mapping[str, Any], label: Any, where: str) -> Sample:
    if label not in (0, 1):  # False and True, too
        raise BadInput(f"{where}: the label must be true or false, found {label!r} (a test set has none)")
    doc = {"question": row["question"], "passage": row["passage"], "label": int(label)}
    return Sample(f"{split}/{number}", {"split": split, "doc": doc}, part="boolq")


def prompt(doc: Mapping[str, Any]) -> str:
    """Passage and question as both harnesses show them."""
    return ASK.format_map(doc)


@task("boolq", version=1, protocols=PROTOCOLS, data=BoolQFiles)
class BoolQ(LmEvalTask):
    """3,270 yes/no questions, each on a passage of Wikipedia; accuracy."""

    parts: ClassVar = {"boolq": "super_glue/boolq/default.yaml"}
    headline = ("acc",)
    sources = (
        "https://arxiv.org/abs/1905.10044",
        "https://github.com/EleutherAI/lm-evaluation-harness/tree/main/lm_eval/tasks/super_glue",
    )
    submission = (
        "json {id: choice} or jsonl with a choice or [log-likelihood of no, of yes] a line, in the data's order "
        "(choice: no/yes, false/true, 0/1; id: row number from 0)"
    )

    @property
    def takes_shots(self) -> bool:
        """Both harnesses take demonstrations from the training split; the protocols use none."""
        return True

    def own_binding(self, source: Source | None) -> OldHarness | None:
        """The old harness under `paper`."""
        if self.protocol_name != "paper":
            return None
        part = OldPart(prompt, lambda doc: f" {OPTIONS[doc['label']]}", lambda doc: OPTIONS, lambda doc: doc["label"])
        return OldHarness(self, {"boolq": part}, source, score=self.record, metrics=self.metrics)

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """Label, the likelier option (a tie is a no, in both harnesses) and whether they agree."""
        label, choice = sample.data["doc"]["label"], likeliest(responses[0])
        return {"label": label, "choice": choice, "correct": int(choice == label)}

    def metrics(self) -> Sequence[Metric]:
        """Accuracy, and how often the model says yes (62 % of the development set are yes)."""
        return (
            mean("acc", "correct", proportion=True, help="share of questions whose likelier option is the label"),
            mean(
                "yes_ratio",
                "choice",
                proportion=True,
                better="neither",
                best=None,
                help="share of yes",
            ),
        )

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Choices or log-likelihoods of the development set."""
        samples = list(self.samples(source))
        responses, unknown = choices(
            one_path(files), samples, lambda sample: OPTIONS, question=lambda sample: sample.data["doc"]["question"]
        )
        return Submission(samples, {name: (given,) for name, given in responses.items()}, unknown=unknown)
