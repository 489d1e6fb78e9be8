"""lm-eval's tasks through our requests and records give what lm-eval's own evaluator gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmalign_eval.data.source import Source
from mmalign_eval.errors import BadInput, MmevalError
from mmalign_eval.lmeval import bind, named, open_lm_eval
from mmalign_eval.lmeval.convert import gen_params, to_requests
from mmalign_eval.models.scripted import ScriptedModel
from mmalign_eval.requests import Choose, Generate, GenParams, Response
from mmalign_eval.stats import estimates

from .lmeval_support import (
    NOWHERE,
    Docs,
    declare,
    flattened,
    loglikelihood,
    run,
    scripted,
    simple_evaluate,
    their_pairs,
    write_local,
)

SUMS = [
    {"question": f"Ann has {a} pears and buys {b}.\nHow many now?",
     "answer": f"{a}+{b}=<<{a}+{b}={a + b}>>{a + b}.\n#### {a + b}"}
    for a, b in ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (2, 10), (20, 21), (600, 634))
]  # fmt: skip
BONES = [
    {"question": f" Which bone is number {i}? ", "choices": [f"tibia {i}", "ulna", "radius", "hyoid"], "answer": i % 4,
     "subject": "anatomy"} for i in range(11)
]  # fmt: skip
PASSAGES = [
    {"passage": f"Moths like lamp {i}. They fly.", "question": f"do moths like lamp {i}", "label": i % 2, "idx": i}
    for i in range(9)
]  # fmt: skip
PROBLEMS = [
    {"Problem": f"what is {i} times {i} ?", "Rationale": "", "correct": "abcde"[i % 5], "category": "general",
     "options": f"a ) {i} , b ) {i * i} , c ) none of these numbers , d ) {i + 1:,} , e ) {7 * i}"} for i in range(12)
]  # fmt: skip
DEEDS = [{"input": f"I told friend {i} the truth.", "label": i % 2, "is_short": True} for i in range(8)]
PAIRS = [{"sentence1": f"He has {i} cats.", "sentence2": "He has cats.", "label": i % 2, "idx": i} for i in range(9)]
BLANKS = [
    {"sentence": f"Tom gave Bob {i} eggs because _ was hungry.", "option1": "Tom", "option2": "Bob",
     "answer": str(1 + i % 2)} for i in range(6)
]  # fmt: skip
TEXTS = [{"text": f"Line {i} of a short text. It ends here.\nOr here."} for i in range(5)]
COLOURS = [{"q": f"Colour of leaf {i}?", "options": ["green", "a deep red"], "gold": i % 2} for i in range(9)]

ROLLING: dict[str, Any] = {
    "task": "rolling", "output_type": "loglikelihood_rolling", "test_split": "test", "doc_to_text": "",
    "doc_to_target": "{{text}}", "metadata": {"version": 7.0},
    "metric_list": [{"metric": m, "higher_is_better": False, "aggregation": a} for m, a in (
        ("word_perplexity", "weighted_perplexity"), ("byte_perplexity", "weighted_perplexity"),
        ("bits_per_byte", "bits_per_byte"))],
}  # fmt: skip
MUTUAL: dict[str, Any] = {
    "task": "mutual", "output_type": "multiple_choice", "validation_split": "validation", "doc_to_text": "{{q}}",
    "doc_to_choice": "options", "doc_to_target": "gold", "metadata": {"version": 1.0},
    "metric_list": [{"metric": m, "higher_is_better": True, "aggregation": a} for m, a in (
        ("acc", "mean"), ("acc_mutual_info", "mean"), ("acc_bytes", "mean"), ("mcc", "matthews_corrcoef"),
        ("f1", "f1"), ("brier_score", "brier_score"), ("likelihood", "bypass"))],
}  # fmt: skip

# name -> (lm-eval's definition, documents by split, shots)
CASES: dict[str, tuple[str | dict[str, Any], Docs, int]] = {
    "gsm8k": ("gsm8k/gsm8k.yaml", {"train": SUMS[:7], "test": SUMS[7:]}, 5),
    "mmlu": ("mmlu/default/mmlu_anatomy.yaml", {"dev": BONES[:5], "test": BONES[5:]}, 5),
    "boolq": ("super_glue/boolq/default.yaml", {"train": PASSAGES[:4], "validation": PASSAGES[4:]}, 2),
    "mathqa": ("mathqa/mathqa.yaml", {"train": PROBLEMS[:6], "validation": PROBLEMS[:1], "test": PROBLEMS[6:]}, 4),
    "ethics_cm": ("hendrycks_ethics/commonsense.yaml", {"train": DEEDS[:3], "test": DEEDS[3:]}, 0),
    "mrpc": ("glue/mrpc/default.yaml", {"train": PAIRS[:2], "validation": PAIRS[2:]}, 0),
    "winogrande": ("winogrande/default.yaml", {"train": BLANKS[:2], "validation": BLANKS[2:]}, 0),
    "rolling": (ROLLING, {"test": TEXTS}, 0),
    "mutual": (MUTUAL, {"validation": COLOURS}, 3),  # shots from the evaluated split, never the document itself
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("lm_eval")
    for name, (given, docs, shots) in CASES.items():
        write_local(folder, f"local_{name}", given, docs, num_fewshot=shots)
    return simple_evaluate(folder, [f"local_{name}" for name in CASES])


@pytest.mark.parametrize("name", CASES)
def test_prompts_and_every_metric_equal_lm_evals_own(name: str, theirs: dict[str, Any]) -> None:
    given, docs, shots = CASES[name]
    ours, asked = run(declare({name: given}, {name: docs}, shots))
    logged = theirs["samples"][f"local_{name}"]
    first_filter = [s for s in logged if s["filter"] == logged[0]["filter"]]
    assert len(first_filter) == len(asked)
    for sample, requests in zip(sorted(first_filter, key=lambda s: s["doc_id"]), asked.values(), strict=True):
        assert flattened(requests) == their_pairs(sample)
    expected = {
        key.removesuffix(",none"): value
        for key, value in theirs["results"][f"local_{name}"].items()
        if "," in key and not key.startswith("likelihood") and "_stderr" not in key
    }
    assert expected
    assert ours == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_the_parity_cases_discriminate(theirs: dict[str, Any]) -> None:
    """Scores of 0 or 1 everywhere would make the test above easy to pass."""
    values = [v for r in theirs["results"].values() for k, v in r.items() if "," in k and isinstance(v, float)]
    assert sum(0 < v < 1 for v in values) >= 8
    right = {
        f: [s["doc_id"] for s in theirs["samples"]["local_gsm8k"] if s["filter"] == f and s["exact_match"]]
        for f in ("strict-match", "flexible-extract")
    }
    assert right == {"strict-match": [1, 2], "flexible-extract": [1, 3]}


def test_options_of_equal_context_become_one_choose_in_order() -> None:
    task = declare({"mutual": MUTUAL}, {"mutual": {"validation": COLOURS}})
    sample = next(iter(task.samples(NOWHERE)))
    conditional, unconditional = task.requests(sample)
    assert isinstance(conditional, Choose)
    assert isinstance(unconditional, Choose)
    assert (conditional.prompt.text, unconditional.prompt.text) == ("Colour of leaf 0?", "")
    assert conditional.options == unconditional.options == (" green", " a deep red")


def test_a_documents_shots_do_not_depend_on_what_else_is_asked() -> None:
    given, docs, shots = CASES["gsm8k"]
    whole = declare({"gsm8k": given}, {"gsm8k": docs}, shots)
    in_order = [whole.requests(s) for s in whole.samples(NOWHERE)]
    alone = declare({"gsm8k": given}, {"gsm8k": docs}, shots)
    last = list(alone.samples(NOWHERE))[-1]
    assert alone.requests(last) == in_order[-1]
    assert alone.requests(last) == in_order[-1]  # asked twice, drawn once
    shot_texts = {r[0].prompt.text.rsplit("Question:", 1)[0] for r in in_order}
    assert len(shot_texts) > 1, "all documents got the same shots: the test cannot tell"


def test_gsm8k_generation_parameters_are_those_of_its_task_file() -> None:
    given, docs, shots = CASES["gsm8k"]
    task = declare({"gsm8k": given}, {"gsm8k": docs}, shots)
    (request,) = task.requests(next(iter(task.samples(NOWHERE))))
    assert isinstance(request, Generate)
    assert request.prompt.text.count("Question:") == 6
    assert request.params == GenParams(max_new_tokens=256, stop=("Question:", "</s>", "<|im_end|>"))


@pytest.mark.parametrize("name", CASES)
def test_the_right_answer_scores_full_marks(name: str) -> None:
    given, docs, shots = CASES[name]
    task = declare({name: given}, {name: docs}, shots)
    records = []
    for sample in task.samples(NOWHERE):
        right = task.right_answer(sample)
        assert len(right) == len(task.requests(sample))
        records.append({**task.record(sample, right), "cluster": "all"})
    for found, metric in zip(estimates(task.metrics(), records), task.metrics(), strict=True):
        if metric.best is not None:
            assert found.value == pytest.approx(metric.best), found


def test_metric_facts_come_from_the_task_file() -> None:
    docs = {name: CASES[name][1] for name in ("rolling", "mutual")}
    task = declare({"rolling": ROLLING, "mutual": MUTUAL}, docs)
    metrics = {m.name: m for m in task.metrics()}
    assert metrics["rolling/word_perplexity"].better == "lower"
    assert metrics["mutual/acc"].proportion
    assert metrics["mutual/acc"].best == 1.0
    assert not metrics["mutual/brier_score"].proportion
    assert "mutual/likelihood" not in metrics  # bypass measures nothing
    assert task.signature_extra() == {"lm_eval": "0.4.13", "lm_eval_task": "rolling=7.0 mutual=1.0"}


def test_metrics_and_versions_need_no_data() -> None:
    task = declare({"gsm8k": CASES["gsm8k"][0]}, {"gsm8k": CASES["gsm8k"][1]}, 5)
    bound = [m.name for m in task.metrics()]
    bind(task)
    assert [m.name for m in task.metrics()] == bound == ["exact_match,strict-match", "exact_match,flexible-extract"]
    assert task.signature_extra()["lm_eval_task"] == "3.0"
    with pytest.raises(RuntimeError, match="without a source"):
        task.samples(NOWHERE)


def test_corpus_metrics_have_an_interval_and_group_by_cluster() -> None:
    task = declare({"mutual": MUTUAL}, {"mutual": {"validation": COLOURS * 8}})
    records = [
        {**task.record(s, [scripted(r) for r in task.requests(s)]), "cluster": s.id} for s in task.samples(NOWHERE)
    ]
    f1 = [m for m in task.metrics() if m.name == "f1"]
    (found,), (again,) = estimates(f1, records), estimates(f1, records)
    assert found == again
    assert found.low < found.value < found.high  # type: ignore[operator]
    (one,) = estimates(f1, [{**r, "cluster": "same"} for r in records])
    assert (one.value, one.low, one.clusters) == (found.value, None, 1)


def test_squad_in_python_asks_for_text_and_for_unanswerable() -> None:
    doc = {"id": "1", "title": "T", "context": "Rome is old.", "question": "What is old?",
           "answers": {"text": ["Rome"], "answer_start": [0]}}  # fmt: skip
    task = declare({"squad": "squadv2/squadv2.yaml"}, {"squad": {"validation": [doc]}})
    (sample,) = task.samples(NOWHERE)
    generate, choose = task.requests(sample)
    assert isinstance(generate, Generate)
    assert isinstance(choose, Choose)
    prompt = "Title: T\n\nBackground: Rome is old.\n\nQuestion: What is old?\n\nAnswer:"
    assert (generate.prompt.text, choose.prompt.text, choose.options) == (prompt, prompt, (" unanswerable",))
    assert generate.params == GenParams(max_new_tokens=256, stop=("\n",))
    record = task.record(sample, [Response("ok", text="Rome"), Response("ok", logprobs=(-2.0,), greedy=(False,))])
    assert record["f1"][0]["prediction_text"] == "Rome"
    assert "HasAns_f1" in {m.name for m in task.metrics()}


@pytest.mark.parametrize(
    ("kwargs", "params"),
    [
        ({}, GenParams(max_new_tokens=256)),
        ({"until": "\n", "max_gen_toks": 5, "do_sample": False, "temperature": 0.7}, GenParams(5, stop=("\n",))),
        ({"until": ["a", ""], "max_tokens": 9, "temperature": 0.5, "top_p": 0.9}, GenParams(9, 0.5, 0.9, stop=("a",))),
        ({"do_sample": True, "temperature": 1, "top_k": 3}, GenParams(256, 1.0, top_k=3)),
        ({"temperature": 0, "top_p": 0.9, "num_beams": 2}, GenParams(256, num_beams=2)),
    ],
)
def test_generation_arguments(kwargs: dict[str, Any], params: GenParams) -> None:
    assert gen_params(kwargs, "t") == params


def test_what_cannot_be_honoured_is_refused() -> None:
    from lm_eval.api.instance import Instance

    with pytest.raises(BadInput, match="'repetition_penalty' of the lm-eval task cannot be honoured"):
        gen_params({"repetition_penalty": 1.2}, "t")
    sampled = Instance("generate_until", {}, ("x", {"temperature": 1.0}), 0, metadata=("t", 0, 3))
    with pytest.raises(BadInput, match="sample several answers"):
        to_requests([sampled], "t")


def test_bad_documents_shots_and_files_give_one_line() -> None:
    given, docs, _ = CASES["gsm8k"]
    with pytest.raises(BadInput, match=r"given: 9 shots asked for, 7 documents to take them from"):
        run(declare({"gsm8k": given}, {"gsm8k": docs}, 9))
    with pytest.raises(BadInput, match=r"no documents of split 'train' \(needed for the shots\); found test"):
        declare({"gsm8k": given}, {"gsm8k": {"test": docs["test"]}}, 5)
    with pytest.raises(BadInput, match=r"no documents of the evaluated split; found train"):
        declare({"gsm8k": given}, {"gsm8k": {"train": docs["train"]}})
    with pytest.raises(BadInput, match=r"cannot read these documents .*'question' is undefined.*columns by split"):
        declare({"gsm8k": given}, {"gsm8k": {"test": [{"query": "?", "answer": "1"}]}})
    with pytest.raises(BadInput, match=r"no task file gsm8k/gsm8.yaml - did you mean 'gsm8k/gsm8k.yaml'\?"):
        declare({"gsm8k": "gsm8k/gsm8.yaml"}, {"gsm8k": docs})
    with pytest.raises(BadInput, match="fixes 0 shots"):
        declare({"gen": "truthfulqa/truthfulqa_gen.yaml"}, {"gen": {"validation": [{}]}}, 3)
    with pytest.raises(BadInput, match="given/mutual: no documents in"):
        declare({"gsm8k": given, "mutual": MUTUAL}, {"gsm8k": docs})


def test_our_adapter_answers_lm_eval_in_order() -> None:
    from lm_eval.api.instance import Instance

    from mmalign_eval.lmeval.adapter_lm import AdapterLM

    asked: list[Any] = []

    def answer(request: Any) -> Response:
        asked.append(request)
        return scripted(request)

    lm = AdapterLM(ScriptedModel(answer), batch=2)
    pairs = [("ctx one", " a"), ("ctx two", " a"), ("ctx one", " b"), ("ctx three", " c"), ("ctx two", " b")]
    instances = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    assert lm.loglikelihood(instances) == [loglikelihood(*pair) for pair in pairs]
    assert [request.options for request in asked] == [(" a", " b"), (" a", " b"), (" c",)]
    rolling = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in ("x y", "z")]
    assert lm.loglikelihood_rolling(rolling) == [loglikelihood("", text)[0] for text in ("x y", "z")]
    made = lm.generate_until([Instance("generate_until", {}, (f"p{i}", {"until": ["\n"]}), 0) for i in range(3)])
    assert made == [scripted(Generate(r.prompt, r.params)).text for r in asked[-3:]]
    broken = AdapterLM(ScriptedModel(lambda request: Response("error", error="out of paper")))
    with pytest.raises(MmevalError, match="out of paper"):
        broken.loglikelihood(instances)


GROUP = """
group: toy_group
task:
  - toy_a
  - group: toy_inner
    task: [{task: toy_b, description: "Look. "}]
    aggregate_metric_list: {metric: acc, weight_by_size: true}
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
  - {metric: acc_bytes, weight_by_size: false}
"""


@pytest.fixture
def toy_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An lm-eval index of three tasks and a group, instead of the fourteen thousand that take ten seconds."""
    from lm_eval.tasks import TaskManager

    folder = tmp_path / "toy"
    folder.mkdir()
    for name, count in (("toy_a", 3), ("toy_b", 6)):
        config = {k: v for k, v in MUTUAL.items() if k != "metric_list"}
        metrics = [m for m in MUTUAL["metric_list"] if m["metric"] in ("acc", "acc_bytes")]
        write_local(folder, name, {**config, "metric_list": metrics, "tag": "toy_tag"}, {"validation": COLOURS[:count]})
        data = tmp_path / "data" / name
        data.mkdir(parents=True)
        (data / "validation.jsonl").write_text("".join(json.dumps(d) + "\n" for d in COLOURS[:count]))
    write_local(folder, "toy_sums", "gsm8k/gsm8k.yaml", {"train": SUMS[:7], "test": SUMS[7:]}, tag=None)
    (folder / "group.yaml").write_text(GROUP)
    index = TaskManager(include_path=str(folder), include_defaults=False).task_index
    monkeypatch.setattr(named, "_index", lambda: index)
    return tmp_path


def test_a_group_by_name_equals_lm_evals_group(toy_index: Path) -> None:
    theirs = simple_evaluate(toy_index / "toy", ["toy_group"])
    task = open_lm_eval("toy_group")
    bind(task, Source("dir", str(toy_index / "data")))
    ours, asked = run(task)
    assert task.name == "lm_eval:toy_group"
    assert list(asked)[:3] == [f"toy_a/validation/{i}" for i in range(3)]
    assert asked["toy_b/validation/0"][0].prompt.text == "Look. Colour of leaf 0?"  # set by the group
    for name in ("toy_a", "toy_b"):
        assert ours[f"{name}/acc"] == theirs["results"][name]["acc,none"]
    assert ours["toy_group/acc"] == pytest.approx(theirs["groups"]["toy_group"]["acc,none"])
    assert ours["toy_group/acc_bytes"] == pytest.approx(theirs["groups"]["toy_group"]["acc_bytes,none"])
    assert ours["toy_inner/acc"] == ours["toy_b/acc"]


def test_tags_names_and_shots_by_name(toy_index: Path) -> None:
    assert list(open_lm_eval("toy_tag").parts) == ["toy_a", "toy_b"]
    assert open_lm_eval("toy_sums").shots == 5
    data = toy_index / "sums"
    data.mkdir()
    _parquet(data / "train-00000-of-00001.parquet", SUMS[:7])
    (data / "test.jsonl").write_text("".join(json.dumps(d) + "\n" for d in SUMS[7:]))
    for few_shot, marks in ((None, 6), (2, 3), (0, 1)):
        task = open_lm_eval("toy_sums", few_shot)
        bind(task, Source("dir", str(data)))
        (request,) = task.requests(next(iter(task.samples(NOWHERE))))
        assert request.prompt.text.count("Question:") == marks
    with pytest.raises(BadInput, match=r"unknown lm-eval task 'toy_sum' - did you mean 'toy_sums'\?"):
        open_lm_eval("toy_sum")
    with pytest.raises(BadInput, match="the miniature holds no data for it"):
        bind(open_lm_eval("toy_sums"), Source("mini", str(data)))
    with pytest.raises(BadInput, match="toy_a not found; expected for each part"):
        bind(open_lm_eval("toy_tag"), Source("dir", str(data)))
    (data / "train.jsonl").write_text("{}\n")
    with pytest.raises(BadInput, match="holds split 'train' twice"):
        bind(open_lm_eval("toy_sums"), Source("dir", str(data)))
    (data / "train.jsonl").unlink()
    (data / "train-00000-of-00001.parquet").write_bytes(b"not parquet")
    with pytest.raises(BadInput, match=r"train-00000-of-00001\.parquet: not a parquet file"):
        bind(open_lm_eval("toy_sums"), Source("dir", str(data)))


def _parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_by_name_from_the_hub_without_network_says_what_to_do(toy_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(BadInput, match=r"cannot load its data \(ConnectionError: .*--data lm_eval:toy_sums=DIR"):
        bind(open_lm_eval("toy_sums"), Source("hub"))


def test_importing_the_room_imports_nothing_heavy() -> None:
    code = (
        "import sys, mmalign_eval.lmeval, mmalign_eval.tasks.truthfulqa\n"
        "print([m for m in 'torch transformers lm_eval datasets pandas sacrebleu'.split() if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
