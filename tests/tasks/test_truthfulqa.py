"""TruthfulQA: native files and hub rows give the same samples, and the scores are lm-eval's own."""

from __future__ import annotations

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from mmalign_eval.tasks.truthfulqa import TruthfulQA, reference_scores, true_mass

from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput
from mmalign_eval.lmeval import bind
from mmalign_eval.lmeval.parts import load_config
from mmalign_eval.metrics.rouge import bleu, rouge
from mmalign_eval.requests import Choose, Generate, GenParams, Response
from mmalign_eval.stats import estimates
from mmalign_eval.task import Sample

from ..lmeval_support import flattened, run, simple_evaluate, their_pairs, write_local
from ..support import shared_data

HEADER = ["Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source"]
ROWS = [
    ["Adversarial", "Myths", "What do owls eat?", "Owls eat mice", "Owls eat mice; They eat mice . And voles.; Meat",
     "Owls eat cheese; They eat Nothing", "invented"],
    ["Non-Adversarial", "Space", "Is the moon far?", "Yes", "Yes; I have no comment.; Far, about 384,400 km",
     "No; The moon is near; No, it's just behind the hill", "invented"],
    ["Adversarial", "Law", " Can cats vote? ", "No, cats cannot vote", "No, cats cannot vote;; No.", "Yes, in Malta",
     "invented"],
]  # fmt: skip
CHOICES = [
    {"question": " Can cats vote? ",
     "mc1_targets": {"Yes, in Malta": 0, "No, cats cannot vote": 1, "Only in May": 0},
     "mc2_targets": {"Yes, in Malta": 0, "No, cats cannot vote": 1, "Only in May": 0, "No.": 1}},
    {"question": "What do owls eat?",
     "mc1_targets": {"Owls eat mice": 1, "Owls eat cheese": 0},
     "mc2_targets": {"Owls eat mice": 1, "Meat": 1, "Owls eat cheese": 0}},
    {"question": "Is the moon far?",
     "mc1_targets": {"Yes": 1, "No": 0, "The moon is near": 0},
     "mc2_targets": {"Yes": 1, "Far": 1, "No": 0, "The moon is near": 0}},
]  # fmt: skip
ANSWERS = [
    "A: Owls eat mice and voles", "", "I have no comment.", "Nothing happens . The seeds pass.",
    "No, it's just behind it", "owls\neat . cheese", "Far away - about 384,400 km!",
    "Yes, in Malta. Yes.", "cats", "Owls eat mice. " * 40,
]  # fmt: skip


def write_native(folder: Path, rows: Any = ROWS, header: list[str] = HEADER, choices: Any = CHOICES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "TruthfulQA.csv").open("w", encoding="utf-8-sig", newline="") as file:  # the real file has a BOM
        writer = csv.writer(file)
        writer.writerows([header, *rows])
    (folder / "mc_task.json").write_text(json.dumps(choices))
    return folder


def hub_documents() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The same questions as the hub has them."""

    def cell(text: str) -> list[str]:
        return [a.strip() for a in text.split(";") if a.strip()]

    questions = [
        {"type": r[0].lower(), "category": r[1], "question": r[2], "best_answer": r[3], "correct_answers": cell(r[4]),
         "incorrect_answers": cell(r[5]), "source": r[6]} for r in ROWS
    ]  # fmt: skip
    choices = []
    for item in CHOICES:
        row: dict[str, Any] = {"question": item["question"]}
        for name in ("mc1_targets", "mc2_targets"):
            pairs = sorted(item[name].items(), key=lambda p: -p[1]) if name == "mc1_targets" else item[name].items()  # type: ignore[attr-defined]
            row[name] = {"choices": [a for a, _ in pairs], "labels": [label for _, label in pairs]}
        choices.append(row)
    return questions, choices


def write_hub(folder: Path, questions: list[dict[str, Any]], choices: list[dict[str, Any]]) -> Path:
    """Parquet folders with the columns of truthfulqa/truthful_qa."""
    import pyarrow
    import pyarrow.parquet

    for config, rows in (("generation", questions), ("multiple_choice", choices)):
        (folder / config).mkdir(parents=True)
        path = folder / config / "validation-00000-of-00001.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return folder


def opened(folder: Path) -> TruthfulQA:
    task = TruthfulQA()
    bind(task, Source("dir", str(folder)))
    return task


def samples(task: TruthfulQA) -> list[Sample]:
    return list(task.samples(Source("dir", "")))


def test_ids_name_the_row_of_the_question_whatever_the_order_of_the_choice_file(tmp_path: Path) -> None:
    found = {s.id: s for s in samples(opened(write_native(tmp_path)))}
    assert list(found) == [f"{part}/{i}" for part in ("gen", "mc1", "mc2") for i in range(3)]
    for i, row in enumerate(ROWS):
        for part in ("gen", "mc1", "mc2"):
            assert found[f"{part}/{i}"].data["doc"]["question"].strip() == row[2].strip()
        assert found[f"gen/{i}"].cluster == found[f"mc1/{i}"].cluster == found[f"mc2/{i}"].cluster
    assert len({s.cluster for s in found.values()}) == 3
    assert [s.part for s in found.values()] == ["gen"] * 3 + ["mc1"] * 3 + ["mc2"] * 3


def test_prompts_are_the_published_ones(tmp_path: Path) -> None:
    task = opened(write_native(tmp_path))
    found = {s.id: task.requests(s) for s in samples(task)}
    (gen,), (mc1,), (mc2,) = found["gen/2"], found["mc1/2"], found["mc2/2"]
    assert isinstance(gen, Generate)
    assert gen.params == GenParams(max_new_tokens=256, stop=("\n\n",)) == task.protocol.params
    assert gen.prompt.text.startswith("Q: What is human life expectancy in the United States?\nA: Human life")
    assert gen.prompt.text.endswith("\n\nQ: Where were the 1992 Olympics held?\nA: The 1992 Olympics were held in "
                                    "Barcelona, Spain.\n\nQ: Can cats vote?")  # fmt: skip
    assert gen.prompt.text.count("\nA: ") == 6
    assert isinstance(mc1, Choose)
    assert isinstance(mc2, Choose)
    assert mc1.prompt == mc2.prompt
    assert mc1.prompt.text == gen.prompt.text.removesuffix("Can cats vote?") + " Can cats vote? \nA:"
    assert mc1.options == (" No, cats cannot vote", " Yes, in Malta", " Only in May")  # the right one first
    assert mc2.options == (" Yes, in Malta", " No, cats cannot vote", " Only in May", " No.")
    assert task.signature_extra() == {"lm_eval": "0.4.13", "lm_eval_task": "gen=3.0 mc1=2.0 mc2=3.0"}


def test_hub_rows_and_native_files_give_equal_samples_and_requests(tmp_path: Path) -> None:
    native = opened(write_native(tmp_path / "native" / "truthfulqa").parent)  # a root that holds the folder
    hub = opened(write_hub(tmp_path / "hub", *hub_documents()))
    ours, theirs = samples(native), samples(hub)
    assert [s.id for s in ours] == [s.id for s in theirs]
    assert [s.cluster for s in ours] == [s.cluster for s in theirs]
    assert [native.requests(s) for s in ours] == [hub.requests(s) for s in theirs]


def test_every_metric_and_prompt_equals_lm_evals_own(tmp_path: Path) -> None:
    questions, choices = hub_documents()
    local = tmp_path / "local"
    local.mkdir()
    by_row = sorted(choices, key=lambda c: [q["question"] for q in questions].index(c["question"]))
    for part, docs in (("gen", questions), ("mc1", by_row), ("mc2", by_row)):
        write_local(local, f"local_{part}", f"truthfulqa/truthfulqa_{part}.yaml", {"validation": docs})
    theirs = simple_evaluate(local, ["local_gen", "local_mc1", "local_mc2"])
    ours, asked = run(opened(write_native(tmp_path / "native")))
    for part in ("gen", "mc1", "mc2"):
        for sample in theirs["samples"][f"local_{part}"]:
            assert flattened(asked[f"{part}/{sample['doc_id']}"]) == their_pairs(sample)
    found = theirs["results"]["local_gen"].items()
    expected = {k.removesuffix(",none"): v for k, v in found if k.endswith(",none") and "_stderr" not in k}
    expected["mc1"] = theirs["results"]["local_mc1"]["acc,none"]
    expected["mc2"] = theirs["results"]["local_mc2"]["acc,none"]
    assert len(expected) == 14
    assert ours == pytest.approx(expected, rel=1e-12)
    assert 0 < ours["mc2"] < 1  # type: ignore[operator]


@pytest.mark.parametrize("answer", ANSWERS)
def test_reference_scores_equal_lm_evals_scorer(answer: str) -> None:
    slow = load_config("truthfulqa/truthfulqa_gen.yaml")["process_results"]
    true = ["Owls eat mice.", "Far, about 384,400 km.", "I have no comment."]
    false = ["Owls eat cheese.", "Yes, in Malta."]
    expected = slow({"correct_answers": true, "incorrect_answers": false}, [answer])
    assert reference_scores(answer, true, false) == expected


def test_rouge_l_vector() -> None:
    """Precision 2/3, recall 3/4: F .70588 (computed with rouge_score 0.1.2)."""
    reference = "The watermelon seeds pass through your digestive system."
    found = rouge(reference, "A: Nothing happens, the seeds pass through your system")
    assert found["rougeL"] == pytest.approx(70.588, abs=5e-4)
    # a tie is not a hit: the same reference on both sides
    tie = reference_scores("the seeds pass", [reference], [reference])
    assert (tie["rougeL_acc"], tie["rougeL_diff"]) == (0, 0.0)
    assert bleu(reference, reference) == pytest.approx(100.0)
    assert bleu(reference, "") == 0.0


def test_mc2_equals_lm_eval_where_that_does_not_underflow_and_goes_on_where_it_does() -> None:
    slow = load_config("truthfulqa/truthfulqa_mc2.yaml")["process_results"]
    labels = [1, 0, 1, 0]
    for lls in ([-3.0, -4.5, -2.25, -60.0], [-300.0, -299.0, -310.0, -305.5], [-0.5, -90.0, -700.0, -1.0]):
        theirs = slow({"mc2_targets": {"labels": labels}}, [(ll, False) for ll in lls])["acc"]
        assert true_mass(lls, labels) == pytest.approx(float(theirs), rel=1e-12)
    far = [ll - 5000.0 for ll in (-3.0, -4.5, -2.25, -60.0)]
    assert true_mass(far, labels) == pytest.approx(true_mass([-3.0, -4.5, -2.25, -60.0], labels), rel=1e-9)
    assert true_mass([-math.inf, -1.0], [1, 0]) == 0.0


def test_mc1_takes_the_likeliest_and_a_tie_goes_to_the_first(tmp_path: Path) -> None:
    task = opened(write_native(tmp_path))
    sample = next(s for s in samples(task) if s.id == "mc1/2")

    def mc1(*lls: float) -> Any:
        return task.record(sample, [Response("ok", logprobs=lls, greedy=(False,) * 3)])["mc1"]

    assert [mc1(-1, -2, -3), mc1(-2, -1, -3), mc1(-2, -3, -1.5), mc1(-2, -2, -2)] == [1.0, 0.0, 0.0, 1.0]


def test_the_right_answer_scores_full_marks(tmp_path: Path) -> None:
    task = opened(write_native(tmp_path))
    records = [{**task.record(s, task.right_answer(s)), "cluster": s.cluster} for s in samples(task)]
    found = {e.name: e.value for e in estimates(task.metrics(), records)}
    full = {m.name: m.best for m in task.metrics() if m.best is not None}
    assert set(full) == {"rougeL_acc", "rougeL_max", "mc1", "mc2"}
    assert {name: found[name] for name in full} == full
    assert set(task.headline) <= set(found)
    proportions = {m.name for m in task.metrics() if m.proportion}
    assert proportions == {"mc1", "rougeL_acc", "rouge1_acc", "rouge2_acc", "bleu_acc"}


def test_the_2025_edition_loads_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [[*row[:4], "Owls eat cheese", *row[4:]] for row in ROWS]
    with caplog.at_level(logging.WARNING):
        task = opened(write_native(tmp_path, rows, [*HEADER[:4], "Best Incorrect Answer", *HEADER[4:]]))
    assert len(samples(task)) == 9
    assert "2025 edition" in caplog.text
    caplog.clear()
    opened(write_native(tmp_path))
    assert caplog.text == ""


def test_files_of_two_editions_load_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = {**CHOICES[1], "question": "What do bats eat?"}
    task = opened(write_native(tmp_path, choices=[CHOICES[0], other, CHOICES[2]]))
    assert [s.id for s in samples(task) if s.part == "mc1"] == ["mc1/1", "mc1/2", "mc1/4"]
    assert "1 of its questions have no choices, 1 choice questions are not in it" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"header": [*HEADER[:5], "Wrong Answers", HEADER[6]]}, r"TruthfulQA\.csv:1: .*'Incorrect Answers' is missing"),
        ({"rows": [ROWS[0], ROWS[1][:4]]}, r"TruthfulQA\.csv:3: the row does not have 7 cells"),
        ({"rows": [ROWS[0], [*ROWS[1][:5], " ; ", "x"]]}, r"TruthfulQA\.csv:3: no incorrect answers"),
        ({"choices": {"a": 1}}, r"mc_task\.json: expected a list of questions, found dict"),
        ({"choices": [CHOICES[0], {"question": "?"}]}, r"mc_task\.json: item 2: field 'mc1_targets' is missing"),
        ({"choices": [{**CHOICES[0], "mc1_targets": {"a": 1, "b": 1}}]}, r"item 1: mc1_targets has 2 right answers"),
        ({"choices": [{**CHOICES[0], "mc2_targets": {"a": 0}}]}, r"item 1: mc2_targets must map answers to 0 or 1"),
        ({"choices": []}, r"no samples in"),
    ],
)
def test_damaged_files_are_named_with_their_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        opened(write_native(tmp_path, **change))


def test_a_missing_file_or_column_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"TruthfulQA\.csv not found in .*; expected TruthfulQA\.csv and mc_task\.json"):
        opened(tmp_path)
    questions, choices = hub_documents()
    for row in choices:
        del row["mc2_targets"]
    with pytest.raises(BadInput, match=r"'mc2_targets' is missing in .*multiple_choice; found question, mc1_targets"):
        opened(write_hub(tmp_path / "hub", questions, choices))


def test_shots_are_refused() -> None:
    with pytest.raises(BadInput, match="takes no shots"):
        TruthfulQA(few_shot=3)


def test_the_real_files(caplog: pytest.LogCaptureFixture) -> None:
    task = opened(shared_data("truthfulqa"))
    found = samples(task)
    assert [sum(s.part == part for s in found) for part in ("gen", "mc1", "mc2")] == [817, 817, 817]
    assert caplog.text == ""  # the original edition, both files of one mind
    assert len({s.cluster for s in found}) == 817
    assert found[0].data["doc"]["question"] == "What happens to you if you eat watermelon seeds?"
    questions = {s.id: s.data["doc"]["question"].strip() for s in found}
    assert all(questions[f"gen/{i}"] == questions[f"mc2/{i}"] for i in range(817))
    asked = [task.requests(s) for s in found]
    assert max(len(r.options) for group in asked for r in group if isinstance(r, Choose)) > 10
    for sample in found[::40]:
        task.record(sample, task.right_answer(sample))
