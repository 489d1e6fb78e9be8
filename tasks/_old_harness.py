"""The text protocol of Sight Beyond Text: lm-evaluation-harness as it was before 0.4, on our plan and store.

Source: EleutherAI/lm-evaluation-harness, the `master` branch of 2023: `lm_eval/evaluator.py` (documents and their
order), `lm_eval/base.py` (`fewshot_context`, `greedy_until`). What a part asks is declared in an `OldPart`; which
documents and which demonstrations is the same for all of them and stands here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric
from mmalign_eval.requests import RAW_TEMPLATE, Choose, Generate, Prompt, Request, Response, greedy
from mmalign_eval.task import LmEvalTask, Record, Sample

SEED = 42  # of the generator that shuffles the documents and then draws every document's demonstrations
MAX_NEW_TOKENS = 256  # base.py, `max_gen_toks` of its Hugging Face models
EVALUATED = ("test", "validation")  # the first of these splits that there is
TRAINING = "train"
GOLD, UNLIKELY = -1.0, -1000.0  # log-likelihoods of a model that answers right

OLD_SOURCE = "lm-evaluation-harness before 0.4 (master of 2023), as run by Sight Beyond Text (Tu et al., 2023)"
Doc = Mapping[str, Any]


@dataclass(frozen=True)
class OldPart:
    """One task of the old harness.

    Attributes:
        text: A document's prompt (`doc_to_text`).
        target: What follows it in a demonstration, leading blank included (`doc_to_target`).
        options: The continuations whose log-likelihoods are asked for, without their leading blank.
        gold: Number of the right option.
        stop: Strings that end the generation; None: nothing is generated.
    """

    text: Callable[[Doc], str]
    target: Callable[[Doc], str]
    options: Callable[[Doc], Sequence[str]] | None = None
    gold: Callable[[Doc], int] | None = None
    stop: tuple[str, ...] | None = None


class OldHarness:
    """Stands in for lm-eval (`LmEvalTask.own_binding`): the old harness's documents, demonstrations and requests.

    The documents are shuffled, and then each one's demonstrations are drawn with the same generator as it moves on.
    All draws are made at once in that order, so that neither `--limit` nor sharding changes a prompt; the samples
    themselves keep the order, the ids and the clusters of the data.
    """

    def __init__(
        self,
        task: LmEvalTask,
        parts: Mapping[str, OldPart],
        source: Source | None,
        *,
        score: Callable[[Sample, Sequence[Response]], Record],
        metrics: Callable[[], Sequence[Metric]],
    ) -> None:
        """A binding.

        Args:
            task: The task; its shots are those of every part.
            parts: What each part asks, in order.
            source: Where the documents come from; None: metrics only.
            score: A sample and its responses to a record.
            metrics: The metrics of the records.

        Raises:
            BadInput: A part without documents, or too few to draw the demonstrations from.
        """
        self._task, self._parts, self._score, self._metrics = task, parts, score, metrics
        self._samples: list[Sample] = []
        self._shots: dict[str, list[Doc]] = {}
        if source is not None:
            self._load(source)

    def _load(self, source: Source) -> None:
        """Reads the documents; where answers are only scored, parts may be missing and nothing is demonstrated."""
        scoring = not source.images
        found: dict[str, dict[str, list[Sample]]] = {}
        for row in self._task.data.samples(source):
            found.setdefault(row.part, {}).setdefault(row.data["split"], []).append(row)
        for part in self._parts:
            where = f"{self._task.name}/{part}" if len(self._parts) > 1 else self._task.name
            splits = found.get(part, {})
            rows = next((splits[name] for name in EVALUATED if name in splits), None)
            if rows is None and scoring:
                continue
            if rows is None:
                raise BadInput(f"{where}: no documents in {source.path or source}; expected {self._task.data.layout}")
            training = [row.data["doc"] for row in splits.get(TRAINING, ())]
            drawn = draw(len(rows), training, 0 if scoring else self._task.shots, where)
            for number, (row, shots) in enumerate(zip(rows, drawn, strict=True)):
                self._shots[row.id] = shots
                asked = {"index": number, "doc": row.data["doc"]}
                self._samples.append(Sample(row.id, asked, cluster=row.cluster, part=part))

    def samples(self) -> Iterable[Sample]:
        """The evaluated documents, in the order of the data."""
        return list(self._samples)

    def requests(self, sample: Sample) -> Sequence[Request]:
        """A `Generate`, a `Choose`, or one after the other; the tokenizer adds no BOS."""
        part, doc = self._parts[sample.part], sample.data["doc"]
        prompt = Prompt(self.context(sample), template=RAW_TEMPLATE, special_tokens=False)
        asked: list[Request] = []
        if part.stop is not None:
            asked.append(Generate(prompt, greedy(MAX_NEW_TOKENS, stop=part.stop)))
        if part.options is not None:
            asked.append(Choose(prompt, tuple(f" {option}" for option in part.options(doc))))
        return asked

    def context(self, sample: Sample) -> str:
        """The demonstrations with their targets, each followed by a blank line, and the question."""
        part = self._parts[sample.part]
        labelled = [part.text(doc) + part.target(doc) + "\n\n" for doc in self._shots[sample.id]]
        return "".join([*labelled, part.text(sample.data["doc"])])

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """The task's own score."""
        return self._score(sample, responses)

    def metrics(self) -> Sequence[Metric]:
        """The task's own metrics."""
        return self._metrics()

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The target generated, the right option likeliest."""
        part, doc = self._parts[sample.part], sample.data["doc"]
        given: list[Response] = []
        if part.stop is not None:
            given.append(Response("ok", text=part.target(doc).strip(), finish="stop"))
        if part.options is not None:
            gold = part.gold(doc) if part.gold else -1
            right = tuple(number == gold for number in range(len(part.options(doc))))
            given.append(Response("ok", logprobs=tuple(GOLD if r else UNLIKELY for r in right), greedy=right))
        return given

    def signature(self) -> Mapping[str, Any]:
        """Which harness, and its seed."""
        return {"harness": "lm-eval before 0.4 (old master)", "harness_seed": SEED, "add_bos": False}


def draw(documents: int, training: Sequence[Doc], shots: int, where: str) -> list[list[Doc]]:
    """Each document's demonstrations, in the order of the documents.

    Args:
        documents: How many documents there are.
        training: What demonstrations are drawn from.
        shots: How many for each; 0 draws nothing.
        where: Task and part, for the message.

    Raises:
        BadInput: Fewer training documents than shots.
    """
    if shots > len(training):
        raise BadInput(f"{where}: {shots} shots asked for, {len(training)} training documents to draw them from")
    rng = random.Random(SEED)
    order = list(range(documents))
    rng.shuffle(order)
    drawn: list[list[Doc]] = [[] for _ in order]
    for number in order if shots else ():
        drawn[number] = rng.sample(training, shots)
    return drawn


def likeliest(response: Response) -> int:
    """Number of the likeliest option; the first of equals."""
    return max(range(len(response.logprobs)), key=response.logprobs.__getitem__)
