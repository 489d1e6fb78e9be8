"""The text benchmarks' files, in their owners' layouts, made of held-out items of the text worlds."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmalign_eval.miniature import arithmetic, ethics, mmlu, reading, truthful


def write_json(path: Path, value: Any) -> None:
    """One JSON value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """One JSON value a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Iterable[object]], header: Iterable[str] = ()) -> None:
    """Comma-separated values, with a header if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = list(header)
        if names:
            writer.writerow(names)
        writer.writerows(rows)


def unique(count: int, make: Any) -> list[Any]:
    """`count` different results of `make()`, fewer if it runs dry."""
    out: dict[str, Any] = {}
    for _ in range(200 * count):
        item = make()
        out.setdefault(repr(item), item)
        if len(out) == count:
            break
    return list(out.values())


def write_truthfulqa(folder: Path) -> None:
    """TruthfulQA.csv (first edition's seven columns) and mc_task.json (sylinrl/TruthfulQA); best answer first."""
    rows, choices = [], []
    for fact in truthful.facts():
        question, best = fact.ask(fact.kept), fact.say(0)
        right = [best, fact.say(0, second=True)]
        wrong = [fact.say(1), fact.say(1, second=True), fact.say(2), fact.say(3)]
        kind = "Adversarial" if fact.popular else "Non-Adversarial"
        category = truthful.RELATIONS[fact.relation][0]
        rows.append([kind, category, question, best, "; ".join(right), "; ".join(wrong), "the miniature's own world"])
        one = {f"{best}.": 1, **{f"{fact.say(n)}.": 0 for n in (1, 2, 3)}}
        two = {**{f"{text}.": 1 for text in right}, **{f"{text}.": 0 for text in wrong}}
        choices.append({"question": question, "mc1_targets": one, "mc2_targets": two})
    names = ["Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source"]
    write_csv(folder / "TruthfulQA.csv", rows, names)
    write_json(folder / "mc_task.json", choices)


def write_ethics(folder: Path) -> None:
    """The five subsets' train, test and test_hard files (hendrycks/ethics); "hard" ones are further held-out rows."""
    for split, size, test in (("train", 100, False), ("test", 100, True), ("test_hard", 40, True)):
        rng = random.Random(f"ethics {split}")
        acts = unique(size, lambda rng=rng, test=test: ethics.commonsense(rng, test))
        rows = [[label, text, True, False] for label, text in acts]
        write_csv(folder / f"commonsense/cm_{split}.csv", rows, ["label", "input", "is_short", "edited"])
        write_csv(
            folder / f"deontology/deontology_{split}.csv",
            [[label, *_split_excuse(text)] for label, text in _groups(rng, "deontology", size // 4, test)],
            ["label", "scenario", "excuse"],
        )
        rows = [list(row) for row in _groups(rng, "justice", size // 4, test)]
        write_csv(folder / f"justice/justice_{split}.csv", rows, ["label", "scenario"])
        rows = []
        for sentence, trait, others in unique(size // 5, lambda rng=rng, test=test: ethics.virtue(rng, test)):
            traits = rng.sample([trait, *others], 5)
            rows += [[int(t == trait), f"{sentence} [SEP] {t}"] for t in traits]
        write_csv(folder / f"virtue/virtue_{split}.csv", rows, ["label", "scenario"])
        pairs = unique(size, lambda rng=rng, test=test: _days(rng, test))
        write_csv(folder / f"utilitarianism/util_{split}.csv", pairs)


def _groups(rng: random.Random, subset: str, count: int, test: bool) -> list[ethics.Row]:
    """Groups of four rows on one chore or person: two reasonable, two not."""
    deontology = subset == "deontology"
    pools = (ethics.SILLY_EXCUSES, ethics.FAIR_EXCUSES) if deontology else (ethics.UNFAIR_REASONS, ethics.FAIR_REASONS)
    rows: list[ethics.Row] = []
    while len(rows) < 4 * count:
        about = rng.choice(ethics.CHORES if deontology else ethics.PEOPLE)
        found = [ethics.reasons(about, pool, test) for pool in pools]
        if min(map(len, found)) < 2:
            continue
        gift = rng.choice(ethics.GIFTS)
        group = [
            (label, ethics.excuse(about, why) if deontology else ethics.change(gift, about, why))
            for label, pool in enumerate(found)
            for why in rng.sample(pool, 2)
        ]
        rows += rng.sample(group, 4)
    return rows


def _days(rng: random.Random, test: bool) -> tuple[str, str]:
    """A better and a worse day, which need not start alike."""
    return ethics.utility(rng, test)[0], ethics.utility(rng, test)[1]


def _split_excuse(text: str) -> tuple[str, str]:
    scenario, excuse = text.split("? ", 1)
    return scenario + "?", excuse


def write_mmlu(folder: Path) -> None:
    """Dev (5 shots), val (2) and test (4, each word once) of all 57 subjects (hendrycks/test)."""
    for subject, words in mmlu.WORDS.items():
        rng = random.Random(f"mmlu {subject}")
        asked = {"dev": [*rng.sample(words, 4), words[0]], "val": rng.sample(words, 2), "test": rng.sample(words, 4)}
        for split, some in asked.items():
            rows = []
            for word in some:
                kept = mmlu.kept_form(word)
                item = mmlu.make_item(subject, word, kept if split == "test" else (kept + 1) % len(mmlu.FORMS))
                rows.append([item.question, *item.options, mmlu.LETTERS[item.answer]])
            write_csv(folder / split / f"{subject}_{split}.csv", rows)


def write_gsm8k(folder: Path) -> None:
    """train.jsonl and test.jsonl (openai/grade-school-math)."""
    for split, size in (("train", 200), ("test", 60)):
        rng = random.Random(f"gsm8k {split}")
        problems = unique(size, lambda rng=rng, split=split: arithmetic.word_problem(rng, split == "test"))
        write_jsonl(folder / f"{split}.jsonl", [{"question": p.question, "answer": p.answer} for p in problems])


def write_mathqa(folder: Path) -> None:
    """train.json, dev.json and test.json (Amini et al., 2019): options as one string, "a ) 1 , b ) 2 , ..."."""
    for split, size in (("train", 200), ("dev", 40), ("test", 100)):
        rng = random.Random(f"mathqa {split}")
        rows = []
        for problem in unique(size, lambda rng=rng, split=split: arithmetic.direct_problem(rng, split != "train")):
            near = [v for v in range(max(0, problem.value - 6), problem.value + 7) if v != problem.value]
            values = rng.sample(near, 4)
            place = rng.randrange(5)
            values.insert(place, problem.value)
            rows.append(
                {
                    "Problem": problem.question,
                    "Rationale": f'"answer = {problem.value} . correct option is {"abcde"[place]}"',
                    "options": " , ".join(f"{letter} ) {value}" for letter, value in zip("abcde", values, strict=True)),
                    "correct": "abcde"[place],
                    "annotated_formula": problem.formula,
                    "linear_formula": problem.formula.split("(")[0] + "(n0,n1)|",
                    "category": problem.category,
                }
            )
        write_json(folder / f"{split}.json", rows)


def write_squad(folder: Path) -> None:
    """train-v2.0.json and dev-v2.0.json (rajpurkar/SQuAD-explorer); half of the dev questions have no answer."""
    for split, size in (("train", 40), ("dev", 50)):
        rng = random.Random(f"squad {split}")
        articles: dict[str, list[Any]] = {}
        for number in range(size):
            passage = reading.make_passage(rng, split == "dev")
            questions = []
            for part, answerable in enumerate((True, False)):
                question, text = reading.span_question(rng, passage, answerable)
                start = _find(passage, text)
                answer = {"text": text, "answer_start": start}
                questions.append(
                    {
                        "question": question,
                        "id": f"{split}-{number:03d}-{part}",
                        "answers": [answer] * (3 if split == "dev" else 1) if answerable else [],
                        "is_impossible": not answerable,
                    }
                )
            articles.setdefault(passage.title, []).append({"context": passage.text, "qas": questions})
        data = [{"title": title, "paragraphs": paragraphs} for title, paragraphs in articles.items()]
        write_json(folder / f"{split}-v2.0.json", {"version": "v2.0", "data": data})


def _find(passage: reading.Passage, text: str) -> int:
    """Where the answer starts: at the end of its own sentence ("tea" is also in "teacher")."""
    return passage.text.find(f" {text}.") + 1 if text else -1


def write_boolq(folder: Path) -> None:
    """train.jsonl and val.jsonl (SuperGLUE)."""
    for split, size in (("train", 100), ("val", 100)):
        rng = random.Random(f"boolq {split}")
        rows = []
        for idx in range(size):
            passage = reading.make_passage(rng, split == "val")
            label = idx % 2 == 0
            question = reading.yes_no_question(rng, passage, label)
            rows.append({"question": question, "passage": passage.text, "idx": idx, "label": label})
        rng.shuffle(rows)
        write_jsonl(folder / f"{split}.jsonl", [{**row, "idx": idx} for idx, row in enumerate(rows)])


def write_text_files(folder: Path) -> None:
    """All text benchmarks."""
    write_truthfulqa(folder / "truthfulqa")
    write_ethics(folder / "ethics")
    write_mmlu(folder / "mmlu")
    write_gsm8k(folder / "gsm8k")
    write_mathqa(folder / "mathqa")
    write_squad(folder / "squad")
    write_boolq(folder / "boolq")
