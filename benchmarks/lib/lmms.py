"""lmms-eval's side of the image benchmarks: its `llava_hf` on a local task, in a process and an environment of its own.

    .venv-lmms/bin/python -m lib.lmms MODEL DATA NEW_TOKENS WORK      (in benchmarks/)

The task is an ordinary one (a YAML file and a parquet file, `--include_path`), run by `simple_evaluate`. What is timed
is the model's `generate_until` alone: reading the task and the weights and scoring come free. Ends with a line of JSON.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lib.peers import peak_mib

TASK = """dataset_path: parquet
dataset_kwargs:
  data_files: {{test: {data}}}
task: photographs
test_split: test
output_type: generate_until
doc_to_visual: !function photographs_utils.visual
doc_to_text: !function photographs_utils.text
doc_to_target: id
generation_kwargs:
  max_new_tokens: {new_tokens}
  temperature: 0
  num_beams: 1
  do_sample: false
process_results: !function photographs_utils.results
metric_list:
  - metric: length
    aggregation: mean
    higher_is_better: true
"""
UTILS = """
def visual(doc):
    return [doc["image"].convert("RGB")]


def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def results(doc, results):
    return {"length": len(results[0])}
"""


def write_task(data: Path, new_tokens: int, work: Path) -> Path:
    """Writes the task; returns its folder."""
    from datasets import Dataset, Features, Image, Value

    folder = work / "tasks"
    folder.mkdir(parents=True)
    rows = json.loads((data / "questions.json").read_text())
    for row in rows:
        row["image"] = str(data / row["image"])
    features = Features({"id": Value("string"), "image": Image(), "question": Value("string")})
    Dataset.from_list(rows, features=features).to_parquet(str(folder / "test.parquet"))
    (folder / "photographs.yaml").write_text(TASK.format(data=folder / "test.parquet", new_tokens=new_tokens))
    (folder / "photographs_utils.py").write_text(UTILS)
    return folder


def clocked(cls: Any, spent: dict[str, float]) -> None:
    """Notes wall and processor seconds of a model class's `generate_until`."""
    plain = cls.generate_until

    @functools.wraps(plain)
    def generate_until(self: Any, requests: Any) -> Any:
        wall, used = time.perf_counter(), time.process_time()
        answers = plain(self, requests)
        spent["seconds"], spent["cpu"] = time.perf_counter() - wall, time.process_time() - used
        return answers

    cls.generate_until = generate_until


def measure(model: Path, data: Path, new_tokens: int, work: Path) -> dict[str, Any]:
    """Answers all questions: seconds, processor seconds, peak memory in MiB, texts in the questions' order."""
    from lmms_eval import models
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    cls, spent = models.get_model("llava_hf"), {}
    batch_of_one = "assert self.batch_size_per_gpu == 1" in inspect.getsource(cls.generate_until)
    clocked(cls, spent)
    folder = write_task(data, new_tokens, work)
    found = simple_evaluate(
        model="llava_hf", model_args=f"pretrained={model},device_map=cpu,dtype=float32", batch_size=1,
        tasks=["photographs"], task_manager=TaskManager(include_path=str(folder)), log_samples=True, device="cpu",
        bootstrap_iters=0,
    )  # fmt: skip
    samples = sorted(found["samples"]["photographs"], key=lambda sample: sample["doc_id"])
    return {
        **spent,
        "peak": peak_mib(),
        "texts": [sample["filtered_resps"][0] for sample in samples],
        "class": f"{cls.__module__}.{cls.__name__}",
        "batch_of_one": batch_of_one,
        "versions": {name: version(name) for name in ("lmms-eval", "torch", "transformers")},
    }


if __name__ == "__main__":
    print("\n" + json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
