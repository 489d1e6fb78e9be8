"""SQuAD 2.0: answers that stand in a paragraph, and questions that none answers (Rajpurkar et al., 2018).

Scorer: the official evaluate-v2.0.py (`metrics/squad.py`), which Hugging Face's `squad_v2` metric, lm-eval and the old
harness all rest on; it has no rule of its own for running a model, so there is no `official` protocol. Data in the
layout of SQuAD 1.1 are read as well.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from mmalign_eval.tasks._old_harness import OLD_SOURCE, OldHarness, OldPart

from mmalign_eval.data.answers import TEXT_FIELDS, by_id, one_path, read_rows, said, text_of, unique_object
from mmalign_eval.data.files import Folder, need, read_json
from mmalign_eval.data.rows import whole_object
from mmalign_eval.data.source import HubRows, Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric
from mmalign_eval.metrics.squad import scores, squad_metrics
from mmalign_eval.requests import RAW_TEMPLATE, Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import LmEvalTask, Protocol, Record, Sample, task

ASK = "Title: {title}\n\nBackground: {context}\n\nQuestion: {question}\n\nAnswer:"
UNANSWERABLE = "unanswerable"
DEV = ("dev-v2.0.json", "dev-v1.1.json")
NOTE = (
    "the text 'unanswerable' is no empty answer and scores 0 where nothing answers; the probability of "
    "' unanswerable' only makes best_exact and best_f1"
)
PROTOCOLS = {
    "lm_eval": Protocol(
        ask=ASK,
        params=greedy(256, stop=("\n",)),
        template=RAW_TEMPLATE,
        source="lm-eval 0.4.13, squadv2 (v3); metric squad_v2 = evaluate-v2.0.py",
        note=NOTE,
    ),
    "paper": Protocol(
        ask=ASK,
        params=greedy(256, stop=("\n",)),
        template=RAW_TEMPLATE,
        source=OLD_SOURCE,
        note=f"no BOS; the paper reports f1; {NOTE}",
    ),
}


class SquadFiles(TaskData):
    """The released JSON, or the hub's rows; without shots only the development questions are needed."""

    folder = "squad"
    layout = "dev-v2.0.json (or dev-v1.1.json) and, for shots, train-v2.0.json"
    get = "https://rajpurkar.github.io/SQuAD-explorer/"
    hub = HubRows(
        ids=("lighteval/squad_v2", "rajpurkar/squad_v2", "squad_v2"),
        split="validation",
        more_splits=("train",),
        columns=("id", "title", "context", "question", "answers"),
    )

    def native(self, folder: Folder) -> Iterator[Sample]:
        """Development questions, then training ones if they are there; a single file given is the former."""
        yield from _questions(folder.given or folder.find_or_only("dev*.json", *DEV), "validation")
        train = None if folder.given or not folder.need_images else folder.maybe("train-v2.0.json", "train-v1.1.json")
        if train:
            yield from _questions(train, "train")

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """The hub's rows."""
        for number, row in enumerate(rows):
            doc = {name: row[name] for name in ("id", "title", "context", "question")}
            yield _sample(row["_split"], {**doc, "answers": {"text": list(row["answers"]["text"])}, "order": number})


@task("squad2", version=1, protocols=PROTOCOLS, data=SquadFiles)
class Squad2(LmEvalTask):
    """Reading comprehension with unanswerable questions: exact match and token F1, and by kind of question."""

    parts: ClassVar = {"squad2": "squadv2/squadv2.yaml"}
    headline = ("exact", "f1", "HasAns_f1", "NoAns_f1")
    sources = (
        "https://arxiv.org/abs/1806.03822",
        "https://worksheets.codalab.org/worksheets/0x6b567e1cf2e041ec80d7098f031c5c9e (evaluate-v2.0.py)",
    )
    submission = (
        "JSON {id: answer text} (empty: no answer), --na-probs JSON {id: no-answer probability}; or json or jsonl of "
        "{id, prediction_text, no_answer_probability}; or lm-eval's samples file"
    )

    @property
    def takes_shots(self) -> bool:
        """The old harness can show demonstrations (its protocol uses none); the class in lm-eval 0.4.13 cannot."""
        return self.protocol_name == "paper"

    def own_binding(self, source: Source | None) -> OldHarness | None:
        """The old harness; it also reads the documents of answers that are only scored."""
        if self.protocol_name != "paper" and (source is None or source.images):
            return None
        return OldHarness(self, {"squad2": OLD}, source, score=self.record, metrics=self.metrics)

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """The official scores of one answer; without a second response no no-answer probability is known."""
        doc = sample.data["doc"]
        na_prob = no_answer_probability(responses[1]) if len(responses) > 1 else None
        return {**scores(doc["answers"]["text"], responses[0].text, na_prob), "order": doc["order"]}

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """The official prediction file, and its file of no-answer probabilities."""
        path, option = one_path(files), files.options.get("na_probs", "")
        said_of, na_probs = _predictions(path)
        na_probs = _na_probs(Path(option)) if option else na_probs
        order = {name: number for number, name in enumerate(na_probs)}  # the official tool keeps it among equals
        found = Submission([_ordered(sample, order) for sample in self.samples(source)], {})
        asked = {sample.id for sample in found.samples}
        found.unknown = [name for name in said_of if name not in asked]
        for name in (name for name in said_of if name in asked):
            answer = said(text_of(said_of[name], f"{path}: {name!r}"))
            if na_probs and name not in na_probs:
                raise BadInput(f"{option or path}: no no-answer probability for {name!r}, which {path.name} answers")
            found.responses[name] = (answer, said(repr(na_probs[name]))) if na_probs else (answer,)
        return found

    def metrics(self) -> Sequence[Metric]:
        """The official tool's numbers, 0-100."""
        return squad_metrics()

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The first answer, or none with 'unanswerable' likely."""
        texts = sample.data["doc"]["answers"]["text"]
        withheld = Response("ok", logprobs=(-1000.0 if texts else -1.0,), greedy=(not texts,))
        return (Response("ok", text=texts[0] if texts else "", finish="stop"), withheld)


def no_answer_probability(response: Response) -> float:
    """That of ' unanswerable' as continuation, or a number from a file as it stands there."""
    return math.exp(response.logprobs[0]) if response.logprobs else float(response.text)


def _predictions(path: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Id to text, and to no-answer probability, if the file says it.

    The official object, or a list of what Hugging Face's metrics take (`id`, `prediction_text`,
    `no_answer_probability`), or lm-eval's own samples file.
    """
    rows = read_rows(path)
    if whole_object(path, rows):
        return unique_object(path), {}
    texts: list[tuple[str, Any, str]] = []
    probabilities: dict[str, Any] = {}
    for where, row in rows:
        doc = row.get("doc") if isinstance(row, dict) else None
        held = {**row, "id": doc["id"]} if isinstance(doc, dict) and "id" in doc else row
        if not isinstance(held, dict) or "id" not in held:
            raise BadInput(f"{where}: expected {{id: text}}, or objects with id and prediction_text")
        name, resps = str(held["id"]), held.get("filtered_resps")
        fields = [field for field in ("prediction_text", *TEXT_FIELDS) if field in held]
        if not resps and not fields:
            raise BadInput(f"{where}: none of prediction_text, {', '.join(TEXT_FIELDS)} beside the id")
        texts.append((name, resps[0] if resps else held[fields[0]], where))
        if "no_answer_probability" in held:
            probabilities[name] = held["no_answer_probability"]
    return by_id(texts), _numbers(probabilities, path)


def _na_probs(path: Path) -> dict[str, float]:
    if not path.is_file():
        raise BadInput(f"--na-probs {path}: no such file")
    return _numbers(unique_object(path), path)


def _numbers(found: Mapping[str, Any], path: Path) -> dict[str, float]:
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadInput(f"{path}: {name!r}: expected a number, found {value!r}")
    return {name: float(value) for name, value in found.items()}


def _ordered(sample: Sample, order: Mapping[str, int]) -> Sample:
    doc = {**sample.data["doc"], "order": order.get(sample.id, sample.data["doc"]["order"])}
    return replace(sample, data={**sample.data, "doc": doc})


def _questions(path: Path, split: str) -> Iterator[Sample]:
    """Questions of a file in SQuAD's layout, 1.1 (every question has an answer) or 2.0."""
    number = 0
    for where, paragraph, title in _paragraphs(path):
        context, questions = need(paragraph, ("context", "qas"), where)
        for at, row in enumerate(questions):
            here = f"{where}.qas[{at}]"
            name, question, answers = need(_object(row, here), ("id", "question", "answers"), here)
            texts = [need(_object(a, here), ("text",), f"{here}.answers")[0] for a in answers]
            doc = {"id": str(name), "title": title, "context": context, "question": question}
            yield replace(_sample(split, {**doc, "answers": {"text": texts}, "order": number}), where=here)
            number += 1


def _paragraphs(path: Path) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(where, paragraph, title of its article)."""
    (articles,) = need(_object(read_json(path), str(path)), ("data",), str(path))
    for at, article in enumerate(articles):
        here = f"{path}: data[{at}]"
        (paragraphs,) = need(_object(article, here), ("paragraphs",), here)
        for number, paragraph in enumerate(paragraphs):
            inside = f"{here}.paragraphs[{number}]"
            yield inside, _object(paragraph, inside), str(article.get("title", ""))


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: expected a JSON object as in SQuAD's own files, found {type(value).__name__}")
    return value


def _sample(split: str, doc: dict[str, Any]) -> Sample:
    """A question; those on one paragraph are a cluster."""
    paragraph = hashlib.sha256(f"{doc['title']}\0{doc['context']}".encode()).hexdigest()[:12]
    name = doc["id"] if split == "validation" else f"{split}/{doc['id']}"
    return Sample(name, {"split": split, "doc": doc}, cluster=paragraph, part="squad2")


OLD = OldPart(
    text=ASK.format_map,
    target=lambda doc: f" {doc['answers']['text'][0] if doc['answers']['text'] else UNANSWERABLE}",
    options=lambda doc: (UNANSWERABLE,),
    stop=("\n",),
)
