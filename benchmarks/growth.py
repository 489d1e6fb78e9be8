"""Whether the harness stays as cheap a request when requests become many, and what planning very many takes.

    python benchmarks/growth.py [--quick] [--runs N]

Growth: `evaluate` of N questions on the scripted model, half of them with options and half answered in text, each size
in fresh processes on fresh folders. Process CPU time of planning, asking, storing, scoring and writing; modules are
imported before. What a run of two questions takes is there once a run: it is given apart, and what is left is divided
by the number of requests.

Planning: `mmeval run --dry-run` of 100,000 questions with options, for the scripted model (whose requests have no
tokens) and for a small LLaMA with a byte-level BPE of 32,000 words: as examination questions with five worked examples
before them and letters to choose from, and as questions of a line with whole sentences to choose from. Questions are
words drawn from Python's own documentation, and the tokenizer is trained on it. Wall time, CPU time and peak memory of
the whole command, beside those with two questions, which is starting Python, importing transformers and reading the
checkpoint.

Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SIZES = (1_000, 5_000, 20_000, 50_000)
PLANNED = 100_000
FEWEST = 2  # questions that a run has at least: what such a run takes is no question's
SUBJECTS = 57

PLUGIN = '''
"""Questions in any number."""
from mmalign_eval.data.files import read_jsonl
from mmalign_eval.data.source import TaskData
from mmalign_eval.metrics.base import mean
from mmalign_eval.requests import Choose, Generate, Prompt, Response, greedy
from mmalign_eval.task import Protocol, Sample, Task, task


class Files(TaskData):
    """`questions.jsonl`."""

    folder, layout, get = "growth", "questions.jsonl", "benchmarks/growth.py makes it"

    def native(self, folder):
        for _, row in read_jsonl(folder.find("questions.jsonl")):
            if "head" in row:
                HEADS.append(row["head"])
            else:
                yield Sample(row["id"], row, cluster=row["id"])


HEADS = []


@task("growth", version=1, protocols={"official": Protocol("{text}", greedy(32), template="raw")}, data=Files)
class Growth(Task):
    """One question a sample."""

    modality = "text"

    def requests(self, sample):
        row = sample.data
        head = HEADS[row["of"]] if "of" in row else ""
        prompt = Prompt(head + row["text"], template="raw")
        return [Choose(prompt, tuple(row["options"])) if row["options"] else Generate(prompt, self.protocol.params)]

    def record(self, sample, responses):
        answer = responses[0]
        right = answer.logprobs.index(max(answer.logprobs)) == sample.data["gold"] if answer.logprobs else answer.text
        return {"correct": float(bool(right)), "score": len(answer.text) / 10}

    def metrics(self):
        return [mean("accuracy", "correct", proportion=True), mean("score", "score")]

    def right_answer(self, sample):
        return [Response("ok", text="yes")]
'''


def words() -> list[str]:
    """Words of Python's documentation, as often as they are in it."""
    from pydoc_data import topics

    return " ".join(topics.topics.values()).split()


def questions(kind: str, count: int) -> Iterator[dict[str, Any]]:
    """Rows of a data file.

    Args:
        kind: `mixed` (with options and without, by turns), `letters` or `sentences`.
        count: Questions.
    """
    rng, vocabulary = random.Random(0), words()

    def text(least: int, most: int) -> str:
        start = rng.randrange(len(vocabulary) - most)
        return " ".join(vocabulary[start : start + rng.randint(least, most)])

    def examined(number: int | None) -> str:
        asked = text(20, 60) if number is None else f"{text(20, 60)} ({number})"
        return asked + "".join(f"\n{letter}. {text(2, 8)}" for letter in "ABCD") + "\nAnswer:"

    if kind == "letters":
        for subject in range(SUBJECTS):
            shots = "".join(f"{examined(None)} {rng.choice('ABCD')}\n\n" for _ in range(5))
            yield {"head": f"The following are multiple choice questions (with answers) about {subject}.\n\n{shots}"}
    elif kind == "sentences":
        yield {"head": "".join(f"Q: {text(8, 16)}?\nA: {text(6, 14)}.\n\n" for _ in range(6))}
    for number in range(count):
        row: dict[str, Any] = {"id": str(number), "gold": 0, "options": []}
        if kind == "letters":
            row |= {"text": examined(number), "of": number % SUBJECTS, "options": [" A", " B", " C", " D"]}
        elif kind == "sentences":
            options = [f" {text(6, 14)}." for _ in range(rng.randint(4, 8))]
            row |= {"text": f"Q: {text(8, 16)} ({number})?\nA:", "of": 0, "options": options}
        else:
            row |= {"text": f"Question {number}: {text(20, 60)}?\nAnswer:"}
            row["options"] = [" yes", " no", " perhaps", " never"] if number % 2 else []
        yield row


def make_data(root: Path, kind: str, count: int) -> Path:
    """Writes the data of a kind and a number of questions; returns their folder."""
    folder = root / f"{kind}-{count}" / "growth"
    folder.mkdir(parents=True)
    lines = itertools.chain.from_iterable((json.dumps(row), "\n") for row in questions(kind, count))
    with (folder / "questions.jsonl").open("w") as file:
        file.writelines(lines)
    return folder.parent


def make_checkpoint(folder: Path) -> Path:
    """A LLaMA of nearly no size with a byte-level BPE of 32,000 words."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=32_000, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator((" ".join(words()), *(" " + word for word in words())), trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=4096, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def one_run(root: Path, data: Path, out: Path) -> dict[str, float]:
    """One evaluation in this process."""
    from mmalign_eval.evaluate import RunConfig, evaluate
    from mmalign_eval.registry import TASKS

    TASKS.names()
    model = f"scripted:{root / 'script.yaml'}"
    config = RunConfig((model,), ("growth",), data=(str(data),), out=str(out), include=(str(root / "growth.py"),))
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = evaluate(config)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    counts = outcome.results[0]["counts"]
    assert counts["n_ok"] == counts["n"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"requests": counts["n"], "cpu_s": cpu, "wall_s": wall, "peak_mib": peak}


def one_plan(root: Path, data: Path, model: str) -> dict[str, Any]:
    """One `mmeval run --dry-run`, as its user has it."""
    command = [
        sys.executable, "-m", "mmalign_eval", "run", "--model", model, "--tasks", "growth", "--data",
        str(data), "--include", str(root / "growth.py"), "--out", str(root / "out"), "--dry-run",
    ]  # fmt: skip
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        sys.exit(said)
    line = next(line for line in said.splitlines() if line.startswith("plan"))
    cpu = usage.ru_utime + usage.ru_stime
    return {"wall_s": wall, "cpu_s": cpu, "peak_mib": usage.ru_maxrss / 1024, "plan": " ".join(line.split())}


def grown(root: Path, sizes: Sequence[int], runs: int) -> dict[str, Any]:
    """CPU time a request for each size; sizes take turns, so that what else the machine does meets them all."""
    found: dict[int, list[dict[str, float]]] = {size: [] for size in (FEWEST, *sizes)}
    data = {size: make_data(root, "mixed", size) for size in found}
    for run in range(runs):
        for size, folder in data.items():
            out = root / f"out-{size}-{run}"
            command = [sys.executable, __file__, "--one", str(root), str(folder), str(out)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[size].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{size:>7} run {run + 1}: {found[size][-1]}", flush=True)
    cpu = {size: statistics.median(run["cpu_s"] for run in of) for size, of in found.items()}
    each = {size: (cpu[size] - cpu[FEWEST]) / (size - FEWEST) * 1e6 for size in sizes}
    middle = (max(each.values()) + min(each.values())) / 2
    for size in sizes:
        print(f"{size:>7} requests: {each[size]:.1f} us of CPU a request, beside {cpu[FEWEST]:.3f} s a run")
    return {
        "us_per_request": each,
        "fixed_s": cpu[FEWEST],
        "with_fixed_us_per_request": {size: cpu[size] / size * 1e6 for size in sizes},
        "largest_over_smallest": each[sizes[-1]] / each[sizes[0]],
        "spread": (max(each.values()) - middle) / middle,
        "peak_mib": {size: statistics.median(run["peak_mib"] for run in of) for size, of in found.items()},
    }


def planned(root: Path, count: int, runs: int) -> dict[str, Any]:
    """What planning takes, whole and beside a plan of two questions."""
    made: dict[str, Any] = {}
    data = {kind: (make_data(root, kind, FEWEST), make_data(root, kind, count)) for kind in ("letters", "sentences")}
    for case in ("scripted", "letters", "sentences"):  # a process's peak is at least that of the one that starts it:
        if case == "scripted":  # the scripted model comes before torch is imported here
            model = f"scripted:{root / 'script.yaml'}"
        elif case == "letters":
            model = f"hf:{make_checkpoint(root / 'checkpoint')}"
        few, many = data["letters" if case == "scripted" else case]
        found = [(one_plan(root, few, model), one_plan(root, many, model)) for _ in range(runs)]
        for name in ("wall_s", "cpu_s", "peak_mib"):
            made[f"{case}_{name}"] = statistics.median(large[name] for _, large in found)
            made[f"{case}_{name}_beyond_start"] = statistics.median(large[name] - small[name] for small, large in found)
        print(f"{case}: {found[-1][1]['plan']}")
        print({name: round(value, 2) for name, value in made.items() if name.startswith(case)}, flush=True)
    return made


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="1,000 and 5,000 requests, 5,000 planned, one run each")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--part", choices=("growth", "planning"), help="only that")
    parser.add_argument("--one", nargs=3, metavar=("ROOT", "DATA", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_run(*map(Path, options.one))))
        return
    sizes, count, runs = (SIZES[:2], 5_000, 1) if options.quick else (SIZES, PLANNED, options.runs)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "growth.py").write_text(PLUGIN)
        (root / "script.yaml").write_text("- {text: 'Yes, there is.', choose: 1}\n")
        if options.part != "planning":
            figures["growth"] = grown(root, sizes, runs)
        if options.part != "growth":
            figures["planning"] = {"requests": count, **planned(root, count, runs)}
    print(json.dumps({"benchmark": "growth", "n": runs, **figures, "python": platform.python_version()}))


if __name__ == "__main__":
    main()
