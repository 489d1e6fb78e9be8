"""MMLU: 57 subjects and their groups, three ways to ask and score, submissions by subject and in one file."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from mmalign_eval.tasks._mmlu_subjects import CATEGORIES, GROUPS, SUBJECTS
from mmalign_eval.tasks.mmlu import MOST_CHARACTERS, Mmlu

from mmalign_eval.data.source import DataChoice, Source
from mmalign_eval.errors import BadInput
from mmalign_eval.lmeval import bind
from mmalign_eval.plan import plan_task
from mmalign_eval.requests import Choose, Generate, GenParams, Response
from mmalign_eval.scoring import row as scored_row
from mmalign_eval.stats import estimates
from mmalign_eval.task import Sample

from ..lmeval_support import flattened, run, simple_evaluate, their_pairs, write_local
from ..support import shared_data
from ..support_score import scored

LETTERS = "ABCD"


def row(subject: str, split: str, number: int, question: str = "") -> list[str]:
    """question, four options, letter; invented."""
    letter = LETTERS[(number + len(subject)) % 4]
    return [question or f" What, of {subject} {split} {number}? ", "one", 'two, "2"', "three\n3", f"{number}", letter]


def write_subject(folder: Path, subject: str, split: str, rows: Iterable[list[str]]) -> None:
    (folder / split).mkdir(parents=True, exist_ok=True)
    with (folder / split / f"{subject}_{split}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_all(folder: Path, tests: int = 3) -> Path:
    for subject in SUBJECTS:
        write_subject(folder, subject, "dev", (row(subject, "dev", i) for i in range(5)))
        write_subject(folder, subject, "test", (row(subject, "test", i) for i in range(tests)))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_all(root / "mmlu" / "data")
    return root


def opened(folder: Path, protocol: str = "", few_shot: int | None = None) -> tuple[Mmlu, list[Sample]]:
    task = Mmlu(protocol, few_shot)
    source = Source("dir", str(folder))
    bind(task, source)
    return task, list(task.samples(source))


def values(task: Mmlu, found: Iterable[Sample], right: Any) -> dict[str, float | None]:
    records = []
    for sample in found:
        response = task.right_answer(sample)[0] if right(sample) else Response("ok", logprobs=(-5.0, -5.0, -5.0, -5.0))
        records.append({**task.record(sample, [response]), "id": sample.id})
    return {e.name: e.value for e in estimates(task.metrics(), records)}


def test_57_subjects_in_17_categories_and_4_groups() -> None:
    assert (len(SUBJECTS), len(set(SUBJECTS)), len(CATEGORIES), len(GROUPS)) == (57, 57, 17, 4)
    assert sorted(c for categories in GROUPS.values() for c in categories) == sorted(CATEGORIES)
    sizes = {name: sum(len(CATEGORIES[c]) for c in categories) for name, categories in GROUPS.items()}
    assert sizes == {"stem": 18, "humanities": 13, "social_sciences": 12, "other": 14}


def test_lm_evals_groups_differ_by_anatomy_alone() -> None:
    from mmalign_eval.lmeval.parts import load_config

    tags = {s: load_config(f"mmlu/default/mmlu_{s}.yaml")["tag"] for s in SUBJECTS}
    for name, categories in GROUPS.items():
        ours = {subject for category in categories for subject in CATEGORIES[category]}
        theirs = {s for s, tag in tags.items() if tag in (f"mmlu_{name}_tasks", [f"mmlu_{name}_tasks"])}
        assert ours ^ theirs == ({"anatomy"} if name in ("stem", "other") else set())


def test_prompts_and_accuracies_equal_lm_evals_own(data: Path, tmp_path: Path) -> None:
    few = ("anatomy", "high_school_us_history", "virology")
    splits = {
        subject: {
            split: [
                {"question": r[0], "choices": r[1:5], "answer": LETTERS.index(r[5]), "subject": subject}
                for r in (row(subject, split, i) for i in range(count))
            ]
            for split, count in (("dev", 5), ("test", 3))
        }
        for subject in few
    }
    for subject in few:
        name = f"local_{subject}"
        write_local(tmp_path, name, f"mmlu/default/mmlu_{subject}.yaml", splits[subject], num_fewshot=5)
    theirs = simple_evaluate(tmp_path, [f"local_{subject}" for subject in few])
    ours, asked = run(opened(data)[0])
    for subject in few:
        for sample in theirs["samples"][f"local_{subject}"]:
            assert flattened(asked[f"{subject}/{sample['doc_id']}"]) == their_pairs(sample)
        assert ours[f"{subject}/acc"] == theirs["results"][f"local_{subject}"]["acc,none"]


def test_the_authors_prompt(data: Path) -> None:
    task, found = opened(data, "official", 2)
    sample = next(s for s in found if s.id == "abstract_algebra/1")
    (request,) = task.requests(sample)
    assert isinstance(request, Choose)
    assert request.options == (" A", " B", " C", " D")
    d0, d1, t = (row("abstract_algebra", *at) for at in (("dev", 0), ("dev", 1), ("test", 1)))

    def block(r: list[str]) -> str:
        return f"{r[0]}\nA. {r[1]}\nB. {r[2]}\nC. {r[3]}\nD. {r[4]}\nAnswer:"

    head = "The following are multiple choice questions (with answers) about  abstract algebra.\n\n"  # two blanks
    assert request.prompt.text == f"{head}{block(d0)} {d0[5]}\n\n{block(d1)} {d1[5]}\n\n{block(t)}"
    lm_eval, _ = opened(data, "lm_eval", 2)
    (other,) = lm_eval.requests(next(s for s in lm_eval.samples(Source("dir", "")) if s.id == sample.id))
    assert "(with answers) about abstract algebra.\n\nWhat, of" in other.prompt.text


def test_the_papers_request_is_two_tokens_on_the_same_prompt(data: Path) -> None:
    (paper, found), (official, others) = opened(data, "paper"), opened(data, "official")
    (request,), (choose,) = paper.requests(found[0]), official.requests(others[0])
    assert isinstance(request, Generate)
    assert request.params == GenParams(max_new_tokens=2) == paper.protocol.params
    assert request.prompt == choose.prompt
    assert request.prompt.special_tokens is None  # the tokenizer's own BOS stays


def test_long_demonstrations_are_dropped_from_the_end(tmp_path: Path) -> None:
    long = ["x" * 3000, "y" * 3000, "z" * 3000]
    write_subject(tmp_path, "virology", "dev", [row("virology", "dev", i, q) for i, q in enumerate(long)])
    write_subject(tmp_path, "virology", "test", [row("virology", "test", 0), row("virology", "test", 1, "w" * 9000)])
    task, found = opened(tmp_path, "official", 3)
    texts = [task.requests(sample)[0].prompt.text for sample in found]
    assert [(t.count("x" * 3000), t.count("y" * 3000), t.count("z" * 3000)) for t in texts] == [(1, 1, 0), (0, 0, 0)]
    assert len(texts[0]) <= MOST_CHARACTERS < len(texts[1])
    assert texts[1].endswith("D. 1\nAnswer:")


def test_means_over_questions_subjects_groups_and_categories(tmp_path: Path) -> None:
    sizes = {"anatomy": 4, "virology": 2, "astronomy": 3, "management": 1}
    for subject, size in sizes.items():
        write_subject(tmp_path, subject, "test", [row(subject, "test", i) for i in range(size)])
    task, found = opened(tmp_path, "official", 0)
    got = values(task, found, lambda s: s.part in ("virology", "astronomy"))
    by_tie = {s: sum(row(s, "test", i)[5] == "A" for i in range(n)) for s, n in sizes.items()}  # a tie is an A
    right = {"virology": 2, "astronomy": 3, "anatomy": by_tie["anatomy"], "management": by_tie["management"]}
    accs = {s: right[s] / sizes[s] for s in sizes}
    assert {n: v for n, v in got.items() if v is not None} == pytest.approx({
        "micro": sum(right.values()) / 10,
        "macro": sum(accs.values()) / 4,
        "group/stem": 1.0, "category/physics": 1.0,
        "group/other": (right["anatomy"] + 2 + right["management"]) / 7,
        "category/health": (right["anatomy"] + 2) / 6,
        "category/business": accs["management"],
        **{f"{s}/acc": acc for s, acc in accs.items()},
    })  # fmt: skip
    assert got["group/humanities"] is got["sociology/acc"] is None
    assert set(task.headline) <= set(got)


@pytest.mark.parametrize("protocol", ["lm_eval", "official", "paper"])
def test_the_right_answer_scores_full_marks(data: Path, protocol: str) -> None:
    task, found = opened(data, protocol)
    assert len(found) == 57 * 3
    assert set(values(task, found, lambda sample: True).values()) == {1.0}


@pytest.mark.parametrize(
    ("text", "right"), [(" B", 1), ("B.", 1), ("\nB", 1), ("Because", 1), ("b", 0), ("(B", 0), ("", 0), ("AB", 0)]
)
def test_the_papers_parser(tmp_path: Path, text: str, right: int) -> None:
    write_subject(tmp_path, "virology", "test", [["?", "1", "2", "3", "4", "B"]])
    task, (sample,) = opened(tmp_path, "paper", 0)
    assert task.record(sample, [Response("ok", text=text)])["acc"] == right


def test_hub_rows_and_native_files_give_equal_requests(data: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    for split, count in (("test", 3), ("dev", 5)):
        rows = [
            {"question": r[0], "subject": s, "choices": r[1:5], "answer": LETTERS.index(r[5])}
            for s in SUBJECTS for r in (row(s, split, i) for i in range(count))
        ]  # fmt: skip
        path = tmp_path / "mmlu" / "all" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    for protocol in ("official", "lm_eval"):
        (ours, found), (theirs, given) = opened(data, protocol), opened(tmp_path, protocol)
        assert [(s.id, s.part) for s in found] == [(s.id, s.part) for s in given]
        assert [ours.requests(s) for s in found[:9]] == [theirs.requests(s) for s in given[:9]]


def gold(folder: Path) -> dict[str, list[str]]:
    """Subject to letters, read from the files without our reader."""
    found = {}
    for path in sorted((folder / "test").glob("*_test.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            found[path.stem.removesuffix("_test")] = [r[5] for r in csv.reader(file)]
    return found


def write_answers(folder: Path, made: dict[str, list[str]]) -> tuple[Path, Path, Path]:
    """The same answers as one file, as a folder of choices, as a folder of log-likelihoods."""
    one, choices, logs = folder / "all.json", folder / "choices", folder / "logs"
    choices.mkdir()
    logs.mkdir()
    one.write_text(json.dumps({f"{s}/{i}": letter for s, said in made.items() for i, letter in enumerate(said)}))
    for subject, said in made.items():
        (choices / f"{subject}.json").write_text(json.dumps({str(i): letter for i, letter in enumerate(said)}))
        lines = [json.dumps([-0.5 if c == letter else -3.25 for c in LETTERS]) for letter in said]
        (logs / f"mmlu_{subject}_lls.jsonl").write_text("\n".join(lines) + "\n")
    return one, choices, logs


def assert_accuracies(found: dict[str, float | None], made: dict[str, list[str]], right: dict[str, list[str]]) -> None:
    hits = {s: [a == b for a, b in zip(made[s], right[s], strict=True)] for s in made}
    pooled = [hit for subject in hits.values() for hit in subject]
    means = {s: sum(h) / len(h) for s, h in hits.items()}
    assert found["micro"] == pytest.approx(sum(pooled) / len(pooled))
    assert found["macro"] == pytest.approx(sum(means.values()) / len(means))
    assert {s: found[f"{s}/acc"] for s in means} == pytest.approx(means)


def test_submissions_need_test_files_alone(tmp_path: Path) -> None:
    subjects = ("anatomy", "college_physics", "high_school_physics")
    for subject in subjects:
        write_subject(tmp_path / "data", subject, "test", [row(subject, "test", i) for i in range(5)])
    right = gold(tmp_path / "data")
    rng = random.Random(0)
    made = {s: [rng.choice(LETTERS) for _ in letters] for s, letters in right.items()}
    for path in write_answers(tmp_path, made):
        for protocol in ("lm_eval", "official"):
            assert_accuracies(scored(Mmlu(protocol), path, tmp_path / "data"), made, right)
    together = tmp_path / "together.json"
    for value in (made, {s: dict(enumerate(letters)) for s, letters in made.items()}):
        together.write_text(json.dumps(value))
        assert_accuracies(scored(Mmlu(), together, tmp_path / "data"), made, right)
    # named after one subject, in the order of that subject's questions and not of all
    alone = tmp_path / "my_high_school_physics_test.json"
    alone.write_text(json.dumps(made["high_school_physics"]))
    values = scored(Mmlu(), alone, tmp_path / "data")
    assert_accuracies(values, {"high_school_physics": made["high_school_physics"]}, right)
    assert values["anatomy/acc"] is None
    pair = {"anatomy": tmp_path / "choices" / "anatomy.json"}
    single = tmp_path / "data" / "test" / "anatomy_test.csv"
    assert_accuracies(scored(Mmlu(), pair, single), {"anatomy": made["anatomy"]}, right)
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({f"anatomy/{i}": f" {letter}." for i, letter in enumerate(made["anatomy"])}))
    assert_accuracies(scored(Mmlu("paper"), texts, single), {"anatomy": made["anatomy"]}, right)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"anatomy/0": "E"}', r"a\.json: 'anatomy/0': 'E' is none of the 4 options"),
        ("a.json", '{"anatomy/0": "A", "anatomy/0": "B"}', "id 'anatomy/0' occurs twice"),
        ("a.json", '{"astrology/0": "A"}', "1 ids are no samples of these data: 'astrology/0'"),
        ("a.jsonl", "[-1, -2, -3]\n", r"a\.jsonl:1: 3 log-likelihoods for 4 options"),
        ("a.jsonl", "[-1, -2, -3, NaN]\n", r"a\.jsonl:1: a log-likelihood is not a number"),
        ("a.jsonl", "[-1, -2, -3, -4]\n[-1, -2", r"a\.jsonl:2: not valid JSON"),
    ],
)
def test_bad_submissions_are_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    write_subject(tmp_path / "d", "anatomy", "test", [row("anatomy", "test", i) for i in range(2)])
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        scored(Mmlu(), tmp_path / name, tmp_path / "d")
    assert "\n" not in str(caught.value)


def test_a_part_that_is_none_is_named(tmp_path: Path) -> None:
    write_subject(tmp_path / "d", "anatomy", "test", [row("anatomy", "test", 0)])
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(BadInput, match="no part 'anatomi' - did you mean 'anatomy'"):
        scored(Mmlu(), {"anatomi": tmp_path / "x.json"}, tmp_path / "d")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["?", "a", "b", "c", "d"], r"anatomy_test\.csv:2: expected six cells .* found 5"),
        (["?", "a", "b", "c", "d", "E"], r"anatomy_test\.csv:2: expected six cells \(question, four options, A-D\)"),
    ],
)
def test_damaged_data_are_named(tmp_path: Path, cells: list[str], message: str) -> None:
    rows = [["?", "a", "b", "c", "d", "A"], cells]
    write_subject(tmp_path, "anatomy", "test", rows)
    with pytest.raises(BadInput, match=message):
        opened(tmp_path, "official", 0)


def test_missing_files_say_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"test/abstract_algebra_test\.csv not found .*Get it: https"):
        opened(tmp_path, "official")
    write_subject(tmp_path, "anatomy", "test", [row("anatomy", "test", 0)])
    with pytest.raises(BadInput, match="mmlu/anatomy: 5 shots asked for, 0 dev questions to take them from"):
        opened(tmp_path, "official")
    other = tmp_path / "questions.csv"
    other.write_text("?,a,b,c,d,A\n")
    with pytest.raises(BadInput, match=r"questions\.csv: the file name is no subject's"):
        scored(Mmlu(), tmp_path, other)


def test_the_miniature_has_all_subjects_and_lm_evals_57_tasks_bind_at_once() -> None:
    plan = plan_task(Mmlu(), DataChoice("mini"), None, 0)
    assert {sample.part for sample in plan.samples} == set(SUBJECTS)
    assert len(plan.samples) == 57 * 4


def test_the_real_questions_with_made_answers(tmp_path: Path) -> None:
    folder = shared_data("mmlu")
    right = gold(folder)
    assert {s: len(letters) for s, letters in right.items()} == {
        "abstract_algebra": 100, "anatomy": 135, "high_school_physics": 154, "moral_scenarios": 895}  # fmt: skip
    rng = random.Random(11)
    made = {s: [rng.choice(LETTERS) for _ in letters] for s, letters in right.items()}
    for path in write_answers(tmp_path, made):
        assert_accuracies(scored(Mmlu(), path, folder), made, right)


def test_the_real_demonstrations_fit_or_are_dropped() -> None:
    folder = shared_data("mmlu")
    task, found = opened(folder, "official")
    longest = max(len(task.requests(sample)[0].prompt.text) for sample in found)
    assert longest <= MOST_CHARACTERS
    assert all(task.requests(sample)[0].prompt.text.count("\nAnswer:") == 6 for sample in found[::50])


def authors_table(path: Path, subject: str, letters: list[str], models: tuple[str, ...] = ("m/x",)) -> None:
    """As evaluate_hf.py writes it: numbered columns, then whether it is right and four probabilities."""
    header = [*"012345"] + [
        f"{m}_{name}" for m in models for name in ("correct", *(f"choice{c}_probs" for c in LETTERS))
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number, letter in enumerate(letters):
            said = ["True", *("0.4" if c == letter else "0.2" if c != "D" else "0.0" for c in LETTERS)]
            writer.writerow(row(subject, "test", number) + said * len(models))


def test_the_tables_that_the_authors_script_writes(tmp_path: Path) -> None:
    subjects = ("anatomy", "college_physics")
    for subject in subjects:
        write_subject(tmp_path / "data", subject, "test", [row(subject, "test", i) for i in range(5)])
    made = {"anatomy": list("ABCDA"), "college_physics": list("BBCCD")}
    folder = tmp_path / "results_m"
    folder.mkdir()
    for subject, letters in made.items():
        authors_table(folder / f"{subject}.csv", subject, letters)
    assert_accuracies(scored(Mmlu("official"), folder, tmp_path / "data"), made, gold(tmp_path / "data"))
    one = folder / "anatomy.csv"
    for letters, models, message in (
        (list("ABC"), ("m",), "3 rows, but the data have 5 questions"),
        (list("ABCDA"), ("m", "n"), "probabilities of several models"),
    ):
        authors_table(one, "anatomy", letters, models)
        with pytest.raises(BadInput, match=message):
            scored(Mmlu(), one, tmp_path / "data")
    authors_table(one, "virology", list("ABCDA"))
    with pytest.raises(BadInput, match=r"anatomy\.csv:3: another question than the data's row anatomy/0"):
        scored(Mmlu(), one, tmp_path / "data")


def test_subjects_are_drawn_for_the_means_over_them_and_questions_within_one(tmp_path: Path) -> None:
    sizes = {"anatomy": 40, "virology": 8, "astronomy": 24}
    for subject, size in sizes.items():
        write_subject(tmp_path, subject, "test", [row(subject, "test", i) for i in range(size)])
    task, found = opened(tmp_path, "official", 0)
    rows = [scored_row(task, sample, task.right_answer(sample)) for sample in found]
    got = {e.name: e for e in estimates(task.metrics(), [one["record"] for one in rows])}
    assert {one["cluster"] for one in rows} == set(sizes)
    assert (got["micro"].n, got["micro"].clusters, got["macro"].clusters) == (72, 3, 3)
    assert (got["anatomy/acc"].n, got["anatomy/acc"].clusters) == (40, 40)
