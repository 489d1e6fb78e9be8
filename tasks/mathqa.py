"""MathQA: mathematical word problems with five options (Amini et al., 2019; definitions: lm-eval's mathqa)."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmalign_eval.tasks._old_harness import OLD_SOURCE, OldHarness, OldPart, likeliest

from mmalign_eval.data.answers import choices, one_path
from mmalign_eval.data.files import Folder, need, read_json
from mmalign_eval.data.source import HubRows, Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric, mean
from mmalign_eval.requests import RAW_TEMPLATE, Choose, Prompt, Request, Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import LmEvalTask, Protocol, Record, Sample, task

log = logging.getLogger(__name__)
LETTERS = "abcde"
ASK = "Question: {Problem}\nAnswer:"
OPTION = re.compile(r"[abcd] \) .*?, |e \) .*?$")  # lm-eval's mathqa/utils.py; the old harness has the same
NOTE = "acc_norm divides by the characters of the option; rows that do not parse to five options count as wrong"
PROTOCOLS = {
    "lm_eval": Protocol(
        ask=ASK,
        params=greedy(1),
        template=RAW_TEMPLATE,
        source="lm-eval 0.4.13, mathqa (v1)",
        note=NOTE,
    ),
    "paper": Protocol(
        ask=ASK,
        params=greedy(1),
        template=RAW_TEMPLATE,
        shots=4,
        source=OLD_SOURCE,
        note=f"no BOS; the paper does not say whether it reports acc or acc_norm, acc is inferred; {NOTE}",
    ),
}


class MathFiles(TaskData):
    """The released JSON, or the hub's rows; only shots need the training problems."""

    folder = "mathqa"
    layout = "test.json and, for shots, train.json (lists of Problem, options, correct)"
    get = "https://math-qa.github.io/math-QA/data/MathQA.zip"
    hub = HubRows(
        ids=("regisss/math_qa", "allenai/math_qa", "math_qa"),
        split="test",
        more_splits=("train",),
        columns=("Problem", "options", "correct"),
    )

    def native(self, folder: Folder) -> Iterator[Sample]:
        """Test problems, then training ones if they are there; a single file given is the former."""
        yield from _problems(folder.given or folder.find_or_only("test*.json", "test.json"), "test")
        train = None if folder.given or not folder.need_images else folder.maybe("train.json")
        if train:
            yield from _problems(train, "train")

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """The hub's rows."""
        for row in rows:
            split, number = row["_split"], row["_row"]
            yield _sample(split, number, row, f"mathqa: {split} row {number}")


@task("mathqa", version=1, protocols=PROTOCOLS, data=MathFiles)
class MathQA(LmEvalTask):
    """2,985 word problems: the option with the largest log-likelihood, as it is and by its length."""

    parts: ClassVar = {"mathqa": "mathqa/mathqa.yaml"}
    headline = ("acc", "acc_norm")
    sources = ("https://arxiv.org/abs/1905.13319", "https://math-qa.github.io")
    submission = "json {row number from 0: a..e}, or jsonl with a choice or five log-likelihoods a line, in order"

    @property
    def takes_shots(self) -> bool:
        """Both harnesses draw shots from the training problems; lm-eval's default is none."""
        return True

    def own_binding(self, source: Source | None) -> OldHarness | None:
        """The old harness; it also reads the documents of answers that are only scored."""
        if self.protocol_name != "paper" and (source is None or source.images):
            return None
        return OldHarness(self, {"mathqa": OLD}, source, score=self.record, metrics=self.metrics)

    def requests(self, sample: Sample) -> Sequence[Request]:
        """Of a row in which no option is found something is asked that scores as wrong, like its right answer."""
        if options_of(sample.data["doc"]):
            return super().requests(sample)
        return (Choose(Prompt(ASK.format_map(sample.data["doc"]), template=RAW_TEMPLATE), (" ",)),)

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """Both choices and whether they are right; ties go to the first option."""
        (response,) = responses
        options, gold = options_of(sample.data["doc"]), gold_of(sample.data["doc"])
        # one option alone possible: a choice that was made elsewhere, which says nothing of weights by length
        by_length = -math.inf not in response.logprobs
        if len(options) != len(LETTERS):
            log.warning("mathqa: row %s has %d options, not 5: counted as wrong", sample.id, len(options))
            return {"acc": 0, "gold": gold, "choice": -1, **({"acc_norm": 0} if by_length else {})}
        choice = likeliest(response)
        found: Record = {"acc": int(choice == gold), "gold": gold, "choice": choice}
        if by_length:
            normed = [ll / max(len(option), 1) for ll, option in zip(response.logprobs, options, strict=True)]
            found["acc_norm"] = int(normed.index(max(normed)) == gold)
        return found

    def metrics(self) -> Sequence[Metric]:
        """Accuracy by log-likelihood, and by log-likelihood per character."""
        return (
            mean("acc", "acc", proportion=True, help="the likeliest option is the right one"),
            mean(
                "acc_norm",
                "acc_norm",
                proportion=True,
                keep=_normed,
                help="the same, log-likelihoods divided by characters; unknown where only choices were submitted",
            ),
        )

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The right option likeliest, by far."""
        options, gold = options_of(sample.data["doc"]) or [""], gold_of(sample.data["doc"])
        right = tuple(number == gold for number in range(len(options)))
        return (Response("ok", logprobs=tuple(-1.0 if r else -1e6 for r in right), greedy=right),)

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Letters or log-likelihoods."""
        samples = list(self.samples(source))
        responses, unknown = choices(
            one_path(files),
            samples,
            lambda sample: LETTERS,
            lambda sample: len(options_of(sample.data["doc"])),
            question=lambda sample: sample.data["doc"]["Problem"],
        )
        return Submission(samples, {name: (given,) for name, given in responses.items()}, unknown=unknown)


def _normed(record: Record) -> bool:
    return "acc_norm" in record


def options_of(doc: Mapping[str, Any]) -> list[str]:
    """The options of a problem; not always five."""
    return [found[4:].rstrip(" ,") for found in OPTION.findall(doc["options"])]


def gold_of(doc: Mapping[str, Any]) -> int:
    """Number of the right option."""
    return LETTERS.index(doc["correct"])


def _target(doc: Mapping[str, Any]) -> str:
    options, gold = options_of(doc), gold_of(doc)
    return f" {options[gold] if gold < len(options) else doc['correct']}"


OLD = OldPart(ASK.format_map, _target, options_of, gold_of)


def _problems(path: Path, split: str) -> Iterator[Sample]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise BadInput(f"{path}: expected a list of problems, found {type(rows).__name__}")
    for number, row in enumerate(rows):
        where = f"{path}: [{number}]"
        if not isinstance(row, dict):
            raise BadInput(f"{where}: expected a JSON object, found {type(row).__name__}")
        yield _sample(split, number, row, where)


def _sample(split: str, number: int, row: Mapping[str, Any], where: str) -> Sample:
    problem, options, correct = need(dict(row), ("Problem", "options", "correct"), where)
    if not isinstance(correct, str) or correct not in tuple(LETTERS):
        raise BadInput(f"{where}: correct must be one of a, b, c, d, e; found {correct!r}")
    doc = {"Problem": problem, "options": options, "correct": correct}
    name = str(number) if split == "test" else f"{split}/{number}"
    return Sample(name, {"split": split, "doc": doc}, part="mathqa")
