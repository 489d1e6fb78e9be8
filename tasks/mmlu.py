"""MMLU: four-choice exams in 57 subjects (Hendrycks et al., 2021; code: hendrycks/test; definitions: lm-eval's mmlu).

`lm_eval` and `official` compare the log-likelihoods of the four letters, `paper` (Sight Beyond Text's own script)
generates two tokens and looks for the letter at the start.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from mmalign_eval.tasks._mmlu_answers import LETTERS, authors_table, subject_in
from mmalign_eval.tasks._mmlu_subjects import SUBJECTS, accuracies
from mmalign_eval.tasks._old_harness import likeliest

from mmalign_eval.data.answers import choices, keyed_texts, part_paths, said
from mmalign_eval.data.files import Folder
from mmalign_eval.data.source import HubRows, Source, TaskData
from mmalign_eval.errors import BadInput
from mmalign_eval.metrics.base import Metric
from mmalign_eval.requests import RAW_TEMPLATE, Choose, Generate, Prompt, Request, Response, greedy
from mmalign_eval.roles import AnswerFiles, Submission
from mmalign_eval.task import LmEvalTask, Protocol, Record, Sample, task

ASK = "{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\nAnswer:"
# hendrycks/test drops demonstrations from the end until a prompt has 2,048 tokens. A task sees no tokenizer: tokens
# are taken to be 4 characters each, which errs by a few per cent on English prose.
MOST_CHARACTERS = 4 * 2048
CUT = "demonstrations are dropped from the end above 8,192 characters, which stand for the script's 2,048 tokens"

PROTOCOLS = {
    "lm_eval": Protocol(
        ask=ASK,
        params=greedy(1),
        template=RAW_TEMPLATE,
        shots=5,
        source="lm-eval 0.4.13, mmlu (v1): mmlu/default",
        note="5 shots as is usual (lm-eval itself sets no number); lm-eval counts anatomy as STEM, here it is health",
    ),
    "official": Protocol(
        ask=ASK,
        params=greedy(1),
        template=RAW_TEMPLATE,
        shots=5,
        source="hendrycks/test, evaluate.py: argmax over ' A', ' B', ' C', ' D'",
        note=f"two blanks before the subject in the header; {CUT}",
    ),
    "paper": Protocol(
        ask=ASK,
        params=greedy(2),
        template=RAW_TEMPLATE,
        shots=5,
        source="Sight Beyond Text (Tu et al., 2023), its MMLU script on hendrycks/test's prompt",
        note="two tokens, right if the text starts with the letter; greedy, where the script leaves sampling to the "
        f"model's own configuration; BOS as the tokenizer has it; {CUT}",
    ),
}


class MmluFiles(TaskData):
    """The authors' CSV files, or the hub's configuration `all`; subjects without a test file are left out."""

    folder = "mmlu"
    layout = "{test,dev}/{subject}_{test,dev}.csv (also below data/; no header: question, A, B, C, D, letter)"
    get = "https://people.eecs.berkeley.edu/~hendrycks/data.tar"
    hub = HubRows(
        ids=("cais/mmlu",),
        config=("all",),
        split="test",
        more_splits=("dev",),
        columns=("question", "subject", "choices", "answer"),
    )

    def native(self, folder: Folder) -> Iterator[Sample]:
        """Test questions, then the development questions that shots come from; a single file given is the former."""
        if folder.given:
            yield from _questions(folder.given, _subject_of(folder.given), "test")
            return
        found = {(s, split): _file(folder, s, split) for split in ("test", "dev") for s in SUBJECTS}
        if not any(found[subject, "test"] for subject in SUBJECTS):
            folder.find(f"test/{SUBJECTS[0]}_test.csv")
        for (subject, split), path in found.items():
            if path:
                yield from _questions(path, subject, split)

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[Sample]:
        """The hub's rows, of all subjects or of some."""
        numbers: dict[tuple[str, str], int] = {}
        for index, row in enumerate(rows):
            where = f"mmlu: {row['_split']} row {index}"
            subject, split = row["subject"], row["_split"]
            if subject not in SUBJECTS:
                raise BadInput(f"{where}: {subject!r} is none of the 57 subjects")
            if row["answer"] not in range(4) or len(row["choices"]) != 4:
                raise BadInput(f"{where}: expected four choices and an answer from 0 to 3, found {row['answer']!r}")
            number = numbers[subject, split] = numbers.get((subject, split), -1) + 1
            yield _sample(subject, split, number, row["question"], row["choices"], int(row["answer"]))


@task("mmlu", version=1, protocols=PROTOCOLS, data=MmluFiles)
class Mmlu(LmEvalTask):
    """14,042 exam questions in 57 subjects: accuracy over all, by group, category and subject."""

    parts: ClassVar = {subject: f"mmlu/default/mmlu_{subject}.yaml" for subject in SUBJECTS}
    headline = ("micro", "macro", "group/stem", "group/humanities", "group/social_sciences", "group/other")
    sources = ("https://arxiv.org/abs/2009.03300", "https://github.com/hendrycks/test")
    submission = (
        "json {'subject/row': letter}, rows from 0, or {subject: letters}; or a folder of files named after their "
        "subject, or subject=FILE: json {row: letter}, jsonl with a letter or four log-likelihoods a line, in order, "
        "or the csv that the authors' script writes; paper: texts for letters"
    )

    def own_binding(self, source: Source | None) -> HendrycksTest | None:
        """The authors' own prompt; it also reads the questions of answers that are only scored."""
        if self.protocol_name == "lm_eval" and (source is None or source.images):
            return None
        return HendrycksTest(self, source)

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """The letter chosen (the first of equals) or written, and whether it is right."""
        (response,) = responses
        gold = LETTERS[sample.data["doc"]["answer"]]
        choice = LETTERS[likeliest(response)] if response.logprobs else response.text.strip()[:1]
        found = {"part": sample.part, "acc": int(choice == gold), "gold": gold, "choice": choice}
        return {**found, "cluster": sample.part}  # `macro` is of whole subjects, wherever the samples are from

    def metrics(self) -> Sequence[Metric]:
        """Means over all questions, subjects, groups, categories; each subject."""
        return accuracies()

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The right letter."""
        gold = sample.data["doc"]["answer"]
        if self.protocol_name == "paper":
            return (Response("ok", text=f" {LETTERS[gold]}", finish="length"),)
        right = tuple(number == gold for number in range(4))
        return (Response("ok", logprobs=tuple(-1.0 if r else -1000.0 for r in right), greedy=right),)

    def submitted(self, files: AnswerFiles, source: Source) -> Submission:
        """Letters, log-likelihoods, or (paper) texts, in one file or one a subject."""
        paths = part_paths(files, SUBJECTS)
        if "" in paths and (subject := subject_in(paths[""].stem)):
            paths = {subject: paths[""]}
        found = Submission([s for s in self.samples(source) if "" in paths or s.part in paths], {})
        if "" not in paths:
            found.notes.append(f"{len(paths)} of {len(SUBJECTS)} subjects are answered: micro and macro are over these")
        for subject, path in paths.items():
            samples = [sample for sample in found.samples if not subject or sample.part == subject]
            if self.protocol_name == "paper":
                texts, unknown = keyed_texts(path, samples, [s.data["doc"]["question"] for s in samples])
                given = {name: said(text) for name, text in texts.items()}
            elif path.suffix == ".csv" and (probabilities := authors_table(path, samples)):
                given, unknown = probabilities, []
            else:
                given, unknown = choices(path, samples, lambda sample: LETTERS, question=_asked)
            found.responses |= {name: (response,) for name, response in given.items()}
            found.unknown += [f"{subject}: {name}" if subject else name for name in unknown]
        return found


class HendrycksTest:
    """Stands in for lm-eval: the prompt of hendrycks/test, the first development questions as demonstrations."""

    def __init__(self, task: Mmlu, source: Source | None) -> None:
        """Reads the questions of a source; where answers are only scored, demonstrations need not be there.

        Raises:
            BadInput: Fewer development questions than shots.
        """
        self._task, self._samples, self._shots = task, list[Sample](), dict[str, list[str]]()
        if source is None:
            return
        rows = list(task.data.samples(source))
        counts: Counter[str] = Counter()
        for row in rows:
            if row.data["split"] == "test":
                self._samples.append(replace(row, data={"index": counts[row.part], "doc": row.data["doc"]}))
                counts[row.part] += 1
        scoring = not source.images
        for subject in dict.fromkeys(sample.part for sample in self._samples):
            dev = [row.data["doc"] for row in rows if row.part == subject and row.data["split"] == "dev"]
            if len(dev) < task.shots and not scoring:
                raise BadInput(
                    f"mmlu/{subject}: {task.shots} shots asked for, {len(dev)} dev questions to take them from"
                )
            self._shots[subject] = [f"{_question(doc)} {LETTERS[doc['answer']]}\n\n" for doc in dev[: task.shots]]

    def samples(self) -> Iterable[Sample]:
        """The test questions."""
        return list(self._samples)

    def requests(self, sample: Sample) -> Sequence[Request]:
        """The four letters as options, or two tokens to be written."""
        prompt = Prompt(self.context(sample), template=RAW_TEMPLATE)
        if self._task.protocol_name == "paper":
            return (Generate(prompt, self._task.protocol.params),)
        return (Choose(prompt, tuple(f" {letter}" for letter in LETTERS)),)

    def context(self, sample: Sample) -> str:
        """Header, as many demonstrations as fit, and the question."""
        words = "".join(f" {word}" for word in sample.part.split("_"))  # each word with its blank: two after "about"
        header = f"The following are multiple choice questions (with answers) about {words}.\n\n"
        question, shots = _question(sample.data["doc"]), list(self._shots[sample.part])
        while shots and len(header) + sum(map(len, shots)) + len(question) > MOST_CHARACTERS:
            shots.pop()
        return "".join([header, *shots, question])

    def record(self, sample: Sample, responses: Sequence[Response]) -> Record:
        """The task's own."""
        return self._task.record(sample, responses)

    def metrics(self) -> Sequence[Metric]:
        """The task's own."""
        return self._task.metrics()

    def right_answer(self, sample: Sample) -> Sequence[Response]:
        """The task's own."""
        return self._task.right_answer(sample)

    def signature(self) -> Mapping[str, Any]:
        """How demonstrations are bounded."""
        return {"prompt": "hendrycks/test", "most_characters": MOST_CHARACTERS}


def _question(doc: Mapping[str, Any]) -> str:
    return ASK.format_map({"question": doc["question"], **dict(zip(LETTERS, doc["choices"], strict=True))})


def _asked(sample: Sample) -> str:
    return str(sample.data["doc"]["question"])


def _file(folder: Folder, subject: str, split: str) -> Path | None:
    name = f"{split}/{subject}_{split}.csv"
    return folder.maybe(name, f"data/{name}") if split == "test" or folder.need_images else None


def _subject_of(path: Path) -> str:
    subject = path.stem.removesuffix("_test").removesuffix("_val").removesuffix("_dev")
    if subject not in SUBJECTS:
        raise BadInput(f"{path}: the file name is no subject's ({SUBJECTS[0]}_test.csv ...); or name the folder of all")
    return subject


def _questions(path: Path, subject: str, split: str) -> Iterator[Sample]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for number, row in enumerate(row for row in reader if row):
                where = f"{path}:{reader.line_num}"
                if len(row) != 6 or row[5] not in tuple(LETTERS):
                    raise BadInput(f"{where}: expected six cells (question, four options, A-D), found {len(row)}")
                yield _sample(subject, split, number, row[0], row[1:5], LETTERS.index(row[5]))
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _sample(subject: str, split: str, number: int, question: str, options: Sequence[str], answer: int) -> Sample:
    doc = {"question": question, "subject": subject, "choices": list(options), "answer": answer}
    name = f"{subject}/{number}" if split == "test" else f"{subject}/{split}/{number}"
    return Sample(name, {"split": split, "doc": doc}, cluster=subject, part=subject)
