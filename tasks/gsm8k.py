"""GSM8K: grade-school sums in words, solved step by step (Cobbe et al., 2021; definitions: lm-eval's gsm8k).

Two readings of an answer: `strict` wants the data's own ending `#### 18`, `flexible` takes the last number there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmalign_eval.tasks._old_harness import OLD_SOURCE, OldHarness, OldPart

from mmalign_eval.data.answers import keyed_texts, one_path, said
from mmalign_eval.data.files import Folder, need, read_jsonl
from mmalign_eval.data.source import HubRows, Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric, mean
from mmalign_eval.requests import RAW_TEMPLATE, Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import LmEvalTask, Protocol, Record, Sample, task

ASK = "Question: {question}\nAnswer:"
# lm-eval's gsm8k.yaml, its two filters; the first is OpenAI's own (grade_school_math/dataset.py)
ENDING = re.compile(r"#### (\-?[0-9\.\,]+)")
NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
INVALID = "[invalid]"  # what every reading of a text without a number gives; equal to no right answer
MODEL_SOLUTION = re.compile(r"^A: *-?[$0-9]", re.MULTILINE)  # how OpenAI's file of example solutions ends its answers
SHOWN = 60  # characters of a reading that a record keeps

PROTOCOLS = {
    "lm_eval": Protocol(
        ask=ASK,
        params=greedy(256, stop=("Question:", "</s>", "<|im_end|>")),
        template=RAW_TEMPLATE,
        shots=5,
        source="lm-eval 0.4.13, gsm8k (v3), filters strict-match and flexible-extract",
        note="commas, dollar signs and a final full stop do not count",
    ),
    "paper": Protocol(
        ask=ASK,
        params=greedy(256, stop=(":", "Question:", "Question")),
        template=RAW_TEMPLATE,
        shots=8,
        source=OLD_SOURCE,
        note="no BOS; a colon ends the answer; '#### 18.' with its full stop is wrong; strict only",
    ),
}


class GsmFiles(TaskData):
    """The released JSON lines, or the hub's configuration `main`; only shots need the training questions."""

    folder = "gsm8k"
    layout = "test.jsonl and, for shots, train.jsonl (question, answer ending '#### number')"
    get = "https://github.com/openai/grade-school-math (grade_school_math/data)"
    hub = HubRows(
        ids=("openai/gsm8k", "gsm8k"),
        config=("main",),
        split="test",
        more_splits=("train",),
        columns=("question", "answer"),
    )

    def native(self, folder: Folder) -> Iterator[Sample]:
        """Test questions, then training ones if they are there; a single file given is the former."""
        yield from _questions(folder.given or folder.find_or_only("test*.jsonl", "test.jsonl"), "test")
        train = None if folder.given or not folder.need_images else folder.maybe("train.jsonl")
        if train:
            yield from _questions(train, "train")

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """The hub's rows."""
        for row in rows:
            split, number = row["_split"], row["_row"]
            yield _sample(split, number, row, f"gsm8k: {split} row {number}")


@task("gsm8k", version=1, protocols=PROTOCOLS, data=GsmFiles)
class Gsm8k(LmEvalTask):
    """1,319 sums in words: share with the right final number."""

    parts: ClassVar = {"gsm8k": "gsm8k/gsm8k.yaml"}
    sources = ("https://arxiv.org/abs/2110.14168", "https://github.com/openai/grade-school-math")
    submission = (
        "jsonl in the data's order or with the `question` (or `id`, its row number from 0): a text, or an object with "
        "response, prediction, completion, text, answer or --column's field; lm-eval's samples file; json {id: text}"
    )

    def own_binding(self, source: Source | None) -> OldHarness | None:
        """The old harness; it also reads the documents of answers that are only scored."""
        if self.protocol_name != "paper" and (source is None or source.images):
            return None
        old = OldPart(ASK.format_map, lambda doc: f" {doc['answer']}", stop=PROTOCOLS["paper"].params.stop)
        return OldHarness(self, {"gsm8k": old}, source, score=self.record, metrics=self.metrics)

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """What each reading finds, and whether that is the reference's number."""
        text, reference = responses[0].text, sample.data["doc"]["answer"]
        if self.protocol_name == "paper":
            found, gold = old_strict(text), old_strict(reference)
            return {"strict": int(found == gold), "gold": gold, "strict_said": found[:SHOWN]}
        found, last, gold = plain(strict(text)), plain(flexible(text)), plain(reference)
        right = {"strict": int(found == gold), "flexible": int(last == gold)}
        return {**right, "gold": gold, "strict_said": found[:SHOWN], "flexible_said": last[:SHOWN]}

    def metrics(self) -> Sequence[Metric]:
        """Both accuracies; the old harness has the strict one alone."""
        ending = mean("strict", "strict", proportion=True, help="the number after '#### ' is the reference's")
        last = mean("flexible", "flexible", proportion=True, help="the last number is the reference's")
        return [ending] if self.protocol_name == "paper" else [ending, last]

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The reference solution."""
        return (said(sample.data["doc"]["answer"]),)

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Solutions, matched by question, id or order."""
        samples = list(self.samples(source))
        questions = [sample.data["doc"]["question"] for sample in samples]
        texts, unknown = keyed_texts(one_path(files), samples, questions, files.options.get("column", ""))
        found = Submission(samples, {name: (said(text),) for name, text in texts.items()}, unknown=unknown)
        other = sum(not ENDING.search(text) and bool(MODEL_SOLUTION.search(text)) for text in texts.values())
        if other:
            found.notes.append(
                f"{other} answers end 'A: number', not '#### number': strict counts them as wrong, flexible reads them"
            )
        return found


def strict(text: str) -> str:
    """The number after the first `#### `, as it stands (lm-eval's filter strict-match)."""
    match = ENDING.search(text)
    return match[1].strip() if match else INVALID


def flexible(text: str) -> str:
    """The last number, as it stands (lm-eval's filter flexible-extract)."""
    found = None
    for match in NUMBER.finditer(text):
        found = match
    return found[0].strip() if found else INVALID


def plain(text: str) -> str:
    """What lm-eval compares: no commas and dollar signs, nothing up to the last `#### `, no final full stop."""
    ending = text.replace(",", "").replace("$", "").rpartition("#### ")[2]
    return re.sub(r"\.$", "", ending).lower()


def old_strict(text: str) -> str:
    """The old harness's reading (and OpenAI's): a final full stop stays and makes the number another one."""
    return strict(text).replace(",", "")


def _questions(path: Path, split: str) -> Iterator[Sample]:
    for number, (line, row) in enumerate(read_jsonl(path)):
        yield _sample(split, number, row, f"{path}:{line}")


def _sample(split: str, number: int, row: Mapping[str, Any], where: str) -> Sample:
    question, answer = need(dict(row), ("question", "answer"), where)
    if not ENDING.search(answer):
        raise BadInput(f"{where}: the reference answer does not end with '#### number'")
    name = str(number) if split == "test" else f"{split}/{number}"
    return Sample(name, {"split": split, "doc": {"question": question, "answer": answer}}, part="gsm8k")
