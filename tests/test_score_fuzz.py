"""Whatever an answer file holds, `mmeval score` either reads it or says in one line why not; it never crashes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmalign_eval.answers import open_for_scoring
from mmalign_eval.data.source import DataChoice, Source
from mmalign_eval.errors import BadInput, PluginError
from mmalign_eval.plan import open_task
from mmalign_eval.registry import TASKS
from mmalign_eval.roles import AnswerFiles
from mmalign_eval.task import Sample, Task

FIELDS = (
    *(
        "id",
        "question_id",
        "image_id",
        "doc_id",
        "question",
        "prompt",
        "text",
        "answer",
        "caption",
        "response",
        "choice",
    ),
    *(
        "logprobs",
        "mc1_logprobs",
        "mc2_logprobs",
        "tuple",
        "content",
        "category",
        "score",
        "model",
        "resps",
        "imgToEval",
    ),
    *("filtered_resps", "prediction", "label", "metainfos", "raw_question"),
)
SCALARS = st.none() | st.booleans() | st.integers(-3, 10**6) | st.floats(allow_nan=True) | st.text(max_size=8)


@cache
def opened(name: str) -> tuple[Task, Source, list[Sample]]:
    task, source = open_task(name), DataChoice("mini").source(name, images=False)
    open_for_scoring(task, source)
    return task, source, list(task.samples(source))


def contents(ids: list[str]) -> st.SearchStrategy[Any]:
    """JSON of any shape, rich in the field names and ids that readers look for."""
    keys = st.sampled_from([*FIELDS, *ids, *(i.rpartition("/")[2] for i in ids)])
    leaves = SCALARS | keys
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
    )


def forms(value: Any, other: Any) -> dict[str, str]:
    """The same content in the kinds of file that there are; the last two are cut and no JSON."""
    text = json.dumps(value)
    return {
        "a.json": text, "b.jsonl": f"{text}\n{json.dumps(other)}\n", "c.json": json.dumps([value, other]),
        "d.txt": f"{value}\t{other}\n{text}", "e.csv": f"Question,x\n{value},{other}\n",
        "f.jsonl": text[:-1] + "\n" + text, "existence.txt": f"1.jpg\t{other}\tYes\t{value}\n",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS.groups()["all"])
def test_answer_files_of_any_content(name: str, tmp_path: Path) -> None:
    task, source, samples = opened(name)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        shape = contents([sample.id for sample in samples[:4]])
        for file, text in forms(data.draw(shape), data.draw(shape)).items():
            path = tmp_path / file
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
            try:
                found = task.submitted(AnswerFiles({"": path}), source)
            except PluginError:
                raise
            except BadInput as error:
                said = str(error)
            else:
                known = {sample.id for sample in found.samples}
                assert set(found.responses) <= known, "answers to no sample have to be told as unknown"
                said = "read"
            assert len(said.splitlines()) == 1

    holds()
