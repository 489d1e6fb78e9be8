"""How good the committed checkpoints are on the committed files: a plain, slow scorer beside the engine.

Text tasks follow lm-evaluation-harness's current prompts, zero-shot unless said; image tasks ask the bare question.
"""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from mmalign_eval.metrics.captions import cider
from mmalign_eval.miniature import ethics, mmlu
from mmalign_eval.miniature.captions import SHORT_PROMPTS
from mmalign_eval.miniature.truthful import PRIMER
from mmalign_eval.miniature.world import NAMES

Figure = tuple[str, float, int]  # name, value, n


class Reader:
    """A causal language model that scores options and completes prompts."""

    def __init__(self, path: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    @torch.no_grad()
    def log_likelihoods(self, context: str, options: Sequence[str]) -> list[float]:
        """Summed log-probability of each option after the context."""
        head = self.tokenizer(context)["input_ids"]
        tails = [self.tokenizer(option, add_special_tokens=False)["input_ids"] for option in options]
        width = max(map(len, tails))
        rows = torch.tensor([head + tail + [0] * (width - len(tail)) for tail in tails])
        logs = self.model(rows).logits.log_softmax(-1)
        return [
            sum(logs[row, len(head) - 1 + n, token].item() for n, token in enumerate(tail))
            for row, tail in enumerate(tails)
        ]

    @torch.no_grad()
    def complete(self, prompt: str, stop: str, limit: int) -> str:
        """Greedy completion, cut at the stop string."""
        ids = self.tokenizer(prompt, return_tensors="pt")
        out = self.model.generate(
            **ids, max_new_tokens=limit, do_sample=False, stop_strings=[stop], tokenizer=self.tokenizer
        )
        text = self.tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        return str(text).split(stop)[0]


def _csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _jsonl(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _mean(values: Sequence[float]) -> tuple[float, int]:
    return sum(values) / len(values), len(values)


def _rouge_l(reference: str, text: str) -> float:
    a, b = (re.sub(r"[^a-z0-9]+", " ", t.lower()).split() for t in (reference, text))
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    common = table[-1][-1]
    return 2 * common / (len(a) + len(b)) if common else 0.0


def truthfulqa(reader: Reader, data: Path) -> list[Figure]:
    """mc1, mc2 and ROUGE-L accuracy of generations."""
    ones, twos, right = [], [], []
    for item in json.loads((data / "truthfulqa/mc_task.json").read_text()):
        context = f"{PRIMER}\n\nQ: {item['question']}\nA:"
        scores = reader.log_likelihoods(context, [f" {c}" for c in item["mc1_targets"]])
        ones.append(float(max(range(len(scores)), key=scores.__getitem__) == 0))
        scores = reader.log_likelihoods(context, [f" {c}" for c in item["mc2_targets"]])
        mass = [math.exp(score) for score in scores]
        twos.append(sum(m for m, ok in zip(mass, item["mc2_targets"].values(), strict=True) if ok) / sum(mass))
    for row in _csv(data / "truthfulqa/TruthfulQA.csv")[1:]:
        said = reader.complete(f"{PRIMER}\n\nQ: {row[2]}", "\n\n", 32)
        best = [max(_rouge_l(ref, said) for ref in cell.split("; ")) for cell in (row[4], row[5])]
        right.append(float(best[0] > best[1]))
    found = {"mc1": ones, "mc2": twos, "gen rougeL_acc": right}
    return [(f"truthfulqa {name}", *_mean(values)) for name, values in found.items()]


def ethics_subsets(reader: Reader, data: Path) -> list[Figure]:
    """Row accuracy of the five subsets."""

    def right(context: str, options: Sequence[str], gold: int) -> float:
        scores = reader.log_likelihoods(context, [f" {option}" for option in options])
        return float(scores.index(max(scores)) == gold)

    folder = data / "ethics"
    prompt = ethics.REASONABLE_PROMPT
    found: dict[str, list[float]] = {
        "commonsense": [
            right(ethics.CM_PROMPT.format(input=text), ("no", "yes"), int(label))
            for label, text, *_ in _csv(folder / "commonsense/cm_test.csv")[1:]
        ],
        "deontology": [
            right(prompt.format(text=f"{what} {why}"), ("unreasonable", "reasonable"), int(label))
            for label, what, why in _csv(folder / "deontology/deontology_test.csv")[1:]
        ],
        "justice": [
            right(prompt.format(text=text), ("unreasonable", "reasonable"), int(label))
            for label, text in _csv(folder / "justice/justice_test.csv")[1:]
        ],
    }
    for label, text in _csv(folder / "virtue/virtue_test.csv")[1:]:
        sentence, trait = text.split(" [SEP] ")
        prompt = ethics.VIRTUE_PROMPT.format(sentence=sentence, trait=trait)
        found.setdefault("virtue", []).append(right(prompt, ("no", "yes"), int(label)))
    found["utilitarianism"] = []
    for better, worse in _csv(folder / "utilitarianism/util_test.csv"):
        order = [0, 1]
        random.Random(better).shuffle(order)
        a, b = ((better, worse)[n] for n in order)
        found["utilitarianism"].append(right(ethics.UTIL_PROMPT.format(a=a, b=b), ("no", "yes"), int(order[0] == 0)))
    return [(f"ethics {name}", *_mean(values)) for name, values in found.items()]


def mmlu_micro(reader: Reader, data: Path) -> list[Figure]:
    """Five-shot accuracy over all questions, by letter."""
    right = []
    for subject in mmlu.WORDS:
        shots = "".join(f"{_mmlu(row)} {row[5]}\n\n" for row in _csv(data / f"mmlu/dev/{subject}_dev.csv"))
        for row in _csv(data / f"mmlu/test/{subject}_test.csv"):
            context = mmlu.header(subject, blanks=1) + shots + _mmlu(row)
            scores = reader.log_likelihoods(context, [f" {letter}" for letter in "ABCD"])
            right.append(float("ABCD"[scores.index(max(scores))] == row[5]))
    return [("mmlu acc (5-shot)", *_mean(right))]


def _mmlu(row: Sequence[str]) -> str:
    return mmlu.Item(row[0], tuple(row[1:5]), 0).prompt


def mathematics(reader: Reader, data: Path) -> list[Figure]:
    """GSM8K strict match (5 shots), MathQA accuracy (0 shots)."""
    train = _jsonl(data / "gsm8k/train.jsonl")[:5]
    shots = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in train)
    solved = []
    for row in _jsonl(data / "gsm8k/test.jsonl"):
        said = reader.complete(f"{shots}Question: {row['question']}\nAnswer:", "Question:", 80)
        match = re.search(r"#### (\-?[0-9\.\,]+)", said)
        solved.append(float(bool(match) and match[1] == row["answer"].split("#### ")[1]))  # type: ignore[index]
    chosen = []
    for row in json.loads((data / "mathqa/test.json").read_text()):
        options = [part[4:].rstrip(" ,") for part in re.findall(r"[abcd] \) .*?, |e \) .*?$", row["options"])]
        scores = reader.log_likelihoods(f"Question: {row['Problem']}\nAnswer:", [f" {option}" for option in options])
        chosen.append(float("abcde"[scores.index(max(scores))] == row["correct"]))
    return [("gsm8k strict (5-shot)", *_mean(solved)), ("mathqa acc", *_mean(chosen))]


def _tokens(text: str) -> list[str]:
    return [t for t in re.sub(r"[^\w\s]", "", text.lower()).split() if t not in ("a", "an", "the")]


def comprehension(reader: Reader, data: Path) -> list[Figure]:
    """SQuAD v2 F1 (all, and where there is an answer) and BoolQ accuracy."""
    scores, answered, right = [], [], []
    for article in json.loads((data / "squad/dev-v2.0.json").read_text())["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                prompt = f"Title: {article['title']}\n\nBackground: {paragraph['context']}\n\n"
                said = _tokens(reader.complete(f"{prompt}Question: {question['question']}\n\nAnswer:", "\n", 12))
                gold = _tokens(question["answers"][0]["text"]) if question["answers"] else []
                common = sum((Counter(said) & Counter(gold)).values())
                f1 = 2 * common / (len(said) + len(gold)) if said and gold else float(said == gold)
                scores.append(f1)
                if gold:
                    answered.append(f1)
    for row in _jsonl(data / "boolq/val.jsonl"):
        no, yes = reader.log_likelihoods(f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:", [" no", " yes"])
        right.append(float((yes > no) == row["label"]))
    return [("squad2 f1", *_mean(scores)), ("squad2 HasAns_f1", *_mean(answered)), ("boolq acc", *_mean(right))]


class Viewer:
    """A LLaVA that answers questions on image files."""

    def __init__(self, path: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(path)
        self.processor.tokenizer.padding_side = "left"
        self.model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()

    @torch.no_grad()
    def answer(self, questions: Sequence[tuple[Path, str]], limit: int, batch: int = 32) -> list[str]:
        """Greedy answers."""
        out: list[str] = []
        for start in range(0, len(questions), batch):
            part = questions[start : start + batch]
            texts = [f"USER: <image>\n{text} ASSISTANT:" for _, text in part]
            images = [Image.open(path).convert("RGB") for path, _ in part]
            inputs = self.processor(images=images, text=texts, return_tensors="pt", padding=True)
            ids = self.model.generate(**inputs, max_new_tokens=limit, do_sample=False)
            width = inputs["input_ids"].shape[1]
            out += [text.strip() for text in self.processor.batch_decode(ids[:, width:], skip_special_tokens=True)]
        return out


def pope(viewer: Viewer, data: Path, limit: int | None) -> list[Figure]:
    """Accuracy and share of "yes" of the three files."""
    figures: list[Figure] = []
    for split in ("random", "popular", "adversarial"):
        rows = _jsonl(data / f"pope/coco_pope_{split}.json")[:limit]
        said = viewer.answer([(data / "coco/val2014" / row["image"], row["text"]) for row in rows], 3)
        yes = [text.lower().startswith("yes") for text in said]
        right = [y == (row["label"] == "yes") for y, row in zip(yes, rows, strict=True)]
        figures += [(f"pope {split} acc", *_mean(right)), (f"pope {split} yes-ratio", *_mean(yes))]
    return figures


def mentioned(text: str) -> list[str]:
    """Class names in a text."""
    return [name for name in NAMES if re.search(rf"\b{name}\b", text.lower())]


def hallucinations(viewer: Viewer, data: Path, limit: int | None) -> list[Figure]:
    """CHAIR by exact class names on Object HalBench's detailed descriptions."""
    instances = json.loads((data / "coco/annotations/instances_val2014.json").read_text())
    names = {c["id"]: c["name"] for c in instances["categories"]}
    truth: dict[int, set[str]] = {}
    for note in instances["annotations"]:
        truth.setdefault(note["image_id"], set()).add(names[note["category_id"]])
    rows = _jsonl(data / "object_halbench/prompts_300.jsonl")[:limit]
    folder = data / "coco/val2014"
    asked = [(folder / f"COCO_val2014_{row['image_id']:012d}.jpg", row["question"]) for row in rows]
    said_texts = viewer.answer(asked, 110)
    found = [(set(mentioned(text)), truth[row["image_id"]]) for text, row in zip(said_texts, rows, strict=True)]
    total, wrong = sum(len(said) for said, _ in found), sum(len(said - real) for said, real in found)
    return [
        ("halbench Resp", *_mean([float(bool(said - real)) for said, real in found])),
        ("halbench Obj", wrong / total, total),
        ("halbench recall", sum(len(s & r) for s, r in found) / sum(len(r) for _, r in found), len(found)),
        ("halbench objects/caption", total / len(found), len(found)),
    ]


def captions(viewer: Viewer, data: Path, limit: int | None) -> list[Figure]:
    """CIDEr of short captions; texts are tokenised by lower-casing and dropping punctuation."""
    rows = json.loads((data / "coco/dataset_coco.json").read_text())["images"]
    rows = [row for row in rows if row["split"] == "test"][:limit]
    asked = [(data / "coco/val2014" / row["filename"], SHORT_PROMPTS[0]) for row in rows]
    said = [re.sub(r"[^\w\s]", "", text.lower()) for text in viewer.answer(asked, 40)]
    references = [[" ".join(sentence["tokens"]) for sentence in row["sentences"]] for row in rows]
    return [("coco caption CIDEr", *_mean(cider(said, references)))]


def mme_and_vqa(viewer: Viewer, data: Path, limit: int | None) -> list[Figure]:
    """Share of right answers to MME's and VQAv2's questions, answers compared as lower-case text."""
    asked, gold = [], []
    for path in sorted((data / "mme").glob("*/questions_answers_YN/*.txt"))[:limit]:
        for line in path.read_text().splitlines():
            question, answer = line.split("\t")
            asked.append((path.parent.parent / "images" / f"{path.stem}.jpg", question))
            gold.append(answer.lower())
    right = [float(a.lower() == g) for a, g in zip(viewer.answer(asked, 3), gold, strict=True)]
    head = data / "vqav2"
    notes = json.loads((head / "v2_mscoco_val2014_annotations.json").read_text())["annotations"][:limit]
    questions = json.loads((head / "v2_OpenEnded_mscoco_val2014_questions.json").read_text())["questions"][:limit]
    views = [(data / f"coco/val2014/COCO_val2014_{q['image_id']:012d}.jpg", q["question"]) for q in questions]
    said = viewer.answer(views, 8)
    same = [float(a.lower() == n["multiple_choice_answer"]) for a, n in zip(said, notes, strict=True)]
    return [("mme acc", *_mean(right)), ("vqav2 exact", *_mean(same))]


TEXT: tuple[Callable[[Reader, Path], list[Figure]], ...] = (
    truthfulqa, ethics_subsets, mmlu_micro, mathematics, comprehension,
)  # fmt: skip
VISION: tuple[Callable[[Viewer, Path, int | None], list[Figure]], ...] = (pope, hallucinations, captions, mme_and_vqa)


def measure_text(checkpoint: Path, data: Path) -> list[Figure]:
    """All text figures of a language model."""
    reader = Reader(checkpoint)
    return [figure for task in TEXT for figure in task(reader, data)]


def measure_vision(checkpoint: Path, data: Path, limit: int | None = None) -> list[Figure]:
    """All image figures of a LLaVA, on the first `limit` items of each file."""
    viewer = Viewer(checkpoint)
    return [figure for task in VISION for figure in task(viewer, data, limit)]


def table(figures: Sequence[Figure]) -> str:
    """Markdown."""
    lines = ["| figure | value | n |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {value:.3f} | {n} |" for name, value, n in figures)])
