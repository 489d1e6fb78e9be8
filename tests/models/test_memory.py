"""Batches are sized by what a model's shapes take and the memory that is left; overflow does the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.cache_utils import DynamicCache

from mmalign_eval.engine import Engine
from mmalign_eval.models import memory
from mmalign_eval.models.hf_options import DEFAULT_ROWS, MOST_TOKENS
from mmalign_eval.models.kv import growing
from mmalign_eval.requests import Choose, Generate, Prompt, Request, greedy
from mmalign_eval.store import Store

from .hf_case import ARCHS, ask, load, nano, opened, pictures, same

MIXED: list[Request] = [
    *(Choose(Prompt(f"Question: Is there {'a dog ' * n}?", template="raw"), (" Yes", " No way")) for n in range(9)),
    *(Generate(Prompt(f"Tom has {n} apples " * (n + 1), template="raw"), greedy(5)) for n in range(9)),
]


def with_free(monkeypatch: pytest.MonkeyPatch, free: int | None, arch: str = "llama", **options: str) -> Any:
    monkeypatch.setattr(memory, "host_free", lambda: free)
    return load(nano(arch), **options)


# -- what a token takes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", [*ARCHS, "llava"])
def test_bytes_kept_for_a_position_are_those_of_the_cache(arch: str) -> None:
    model = opened(arch)._model
    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=torch.arange(5, 15)[None], past_key_values=cache, use_cache=True)
    held = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert memory.cost_of(model).kept * 10 == held


def test_rows_of_known_length_keep_no_room_beyond_it() -> None:
    states = torch.randn(2, 3, 40, 8)
    for more, places in ((7, 40 + 7), (0, 40), (1000, 40 + 256), (None, 40 + 256)):
        cache = growing(more)
        for number in range(2):
            cache.update(states, states, number)
        for layer in cache.layers:
            assert layer.keys.untyped_storage().nbytes() == 2 * 3 * places * 8 * 4
    kept = growing(2)
    first = torch.randn(1, 1, 3, 2)
    steps = [torch.randn(1, 1, 1, 2) for _ in range(5)]  # more than was said
    for new in (first, *steps):
        keys, _ = kept.update(new, new, 0)
    assert torch.equal(keys, torch.cat([first, *steps], dim=2))


def test_half_types_take_half_eager_attention_and_images_take_more() -> None:
    plain = memory.cost_of(opened("llama")._model)
    half = memory.cost_of(load(nano("llama"), dtype="bfloat16")._model)
    assert half.kept * 2 == plain.kept
    assert half.passing < plain.passing
    assert memory.cost_of(load(nano("llama"), attn="eager")._model).passing > 2 * plain.passing
    assert memory.cost_of(opened("llava")._model).passing > plain.passing


# -- how many fit -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 300), st.booleans())
@settings(max_examples=100, deadline=None)
def test_more_memory_never_means_fewer_tokens(a: int, b: int, rows: int, twice: bool) -> None:
    model = opened("llama")._model
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for free in sorted((a, b)):
            patch.setattr(memory, "host_free", lambda free=free: free)
            found.append(memory.limits(model, MOST_TOKENS, rows, twice))
    cost = memory.cost_of(model)
    for free, one in zip(sorted((a, b)), found, strict=True):
        assert memory.LEAST_TOKENS <= one.pass_tokens <= one.tokens <= MOST_TOKENS
        taken = one.tokens * (cost.kept + cost.passing) + rows * cost.logits
        assert taken <= free * memory.HOST_SHARE or one.tokens == memory.LEAST_TOKENS
    assert found[0].tokens <= found[1].tokens
    assert found[0].pass_tokens <= found[1].pass_tokens


def test_little_memory_makes_small_batches_and_the_same_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    much, little = with_free(monkeypatch, 10**12), with_free(monkeypatch, 2_000_000)
    assert (much.batch_tokens, much.batch_rows) == (MOST_TOKENS, DEFAULT_ROWS)
    assert little.batch_tokens < 300
    sizes: list[int] = []
    answer = little.answer
    monkeypatch.setattr(little, "answer", lambda batch, images: (sizes.append(len(batch)), answer(batch, images))[1])
    found, stats = Engine(little, Store(tmp_path / "s.sqlite")).run(MIXED)
    assert len(sizes) > 1  # with much it is one
    assert stats.halvings == 0
    for a, b in zip(found, ask(much, MIXED), strict=True):
        same(a, b)


def test_limits_are_read_once_there_are_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mmalign_eval.models.hf import open_model

    monkeypatch.setattr(memory, "host_free", lambda: 2_000_000)
    model = open_model(str(nano("llama")), {})
    engine = Engine(model, Store(tmp_path / "s.sqlite"))
    assert model.describe()["batch_tokens"] == 0
    engine.run(MIXED[:2])
    assert model.describe()["batch_tokens"] == model.batch_tokens == engine._limits.tokens > 0


def test_what_the_user_gives_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_free(monkeypatch, 0, batch_tokens="5000", batch_rows="7")
    assert (model.batch_tokens, model.batch_rows, model.choose_rows) == (5000, 7, 7)
    assert with_free(monkeypatch, 10**12, batch_tokens="99").batch_tokens == 99


def test_unreadable_memory_and_borrowed_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_free(monkeypatch, None).batch_tokens == memory.UNKNOWN_TOKENS
    lender = with_free(monkeypatch, 30_000_000, "llava")
    twin = lender.weakened("features:100", "1:0.2")
    twin.load()
    assert 0 < twin.batch_tokens < lender.batch_tokens  # contrast keeps two caches


def test_beams_are_rows() -> None:
    from mmalign_eval.requests import GenParams

    model, prompt = opened("llama"), Prompt("Is there a dog?", template="raw")
    one, three = (model.length(Generate(prompt, GenParams(5, num_beams=beams))) for beams in (1, 3))
    assert three == 3 * one


@pytest.mark.parametrize("least", [300, 40])
def test_options_scored_one_by_one_keep_to_the_tokens_of_a_pass(least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(nano("llama"))
    model._alone, model._pass_tokens = "asked for by a test", least
    want = ask(opened("llama"), MIXED[:9])
    shapes: list[tuple[int, ...]] = []
    model._model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    for a, b in zip(ask(model, MIXED[:9]), want, strict=True):
        same(a, b)
    assert all(rows * width <= least or rows == 1 for rows, width in shapes)
    assert max(rows for rows, _ in shapes) > 1


# -- memory that runs out all the same --------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [30, 80])
def test_overflow_halves_batches_and_passes_and_goes_on(
    most: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A device that takes so many tokens at once; of what did not fit nothing is left when it goes on."""
    model = load(nano("llama"))
    forward, held = model._model.forward, []

    class Held:
        pass

    def small(**inputs: Any) -> Any:
        own = Held()
        assert not [one for one in held if one() is not None], "a batch that did not fit is still in memory"
        if inputs["input_ids"].numel() > most:
            held.append(weakref.ref(own))
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 GB")
        return forward(**inputs)

    want = ask(opened("llama"), MIXED)
    monkeypatch.setattr(model._model, "forward", small)
    monkeypatch.setattr(model, "load", lambda: None)
    found, stats = Engine(model, Store(tmp_path / "s.sqlite")).run(MIXED)
    assert stats.halvings
    fits = [r.status == "ok" for r in found]
    assert sum(fits) >= (len(MIXED) if most == 80 else len(MIXED) // 2)
    for a, b, fit in zip(found, want, fits, strict=True):
        if fit:
            same(a, b)
        else:
            assert "out of memory even alone" in a.error


def test_images_go_on_after_overflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, asked = load(nano("llava")), [Choose(Prompt(t, (p,)), (" Yes", " No")) for t in "abcd" for p in pictures()]
    want = ask(opened("llava"), asked)
    forward, calls = model._model.forward, []

    def sometimes(**inputs: Any) -> Any:
        calls.append(1)
        if len(calls) in (2, 4):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return forward(**inputs)

    monkeypatch.setattr(model._model, "forward", sometimes)
    found, stats = Engine(model, Store(tmp_path / "s.sqlite")).run(asked)
    assert stats.halvings == 2
    for a, b in zip(found, want, strict=True):
        same(a, b)


# -- what is free -----------------------------------------------------------------------------------------------------


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal: 4000 kB\nMemAvailable:    3000 kB\n"}
V2 = {
    "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/memory.current": "9\n",
    "sys/fs/cgroup/a/memory.max": "900000\n", "sys/fs/cgroup/a/memory.current": "500000\n",
    "sys/fs/cgroup/a/memory.stat": "anon 7\ninactive_file 100000\n",
}  # fmt: skip
V1 = {
    "proc/self/cgroup": "5:cpu:/c\n4:memory:/c\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "700000",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "400000",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 9\ntotal_inactive_file 1000\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("files", "free"),
    [({}, None), (MACHINE, 3_072_000), ({**MACHINE, **V2}, 500_000), ({**MACHINE, **V1}, 301_000), (V2, 500_000)],
)
def test_free_memory_is_the_least_that_anything_leaves(files: dict[str, str], free: int | None, tmp_path: Path) -> None:
    assert memory.host_free(written(tmp_path, files)) == free


def test_no_pass_is_longer_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(nano("llama"))
    monkeypatch.setattr(model, "_pass_tokens", 10)
    for own in ("_path", "_scorer"):
        model.__dict__.pop(own, None)
    widths: list[int] = []
    hook = model._model.register_forward_pre_hook(
        lambda module, args, named: widths.append(named["input_ids"].numel()), with_kwargs=True
    )
    asked = [Choose(Prompt("Is there a dog? " * 9 + word, template="raw"), (" Yes", " No no")) for word in "abc"]
    try:
        ask(model, asked)
    finally:
        hook.remove()
    assert len(widths) > 3
    assert max(widths) <= 10


def test_free_memory_of_this_machine() -> None:
    free = memory.host_free()
    assert free is not None
    assert 2**20 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


CHILD = """
import json, resource, sys, torch
torch.set_num_threads(1)
import transformers
from pathlib import Path
from mmalign_eval.engine import Engine
from mmalign_eval.miniature.nano import nano_tokenizer
from mmalign_eval.models.hf import open_model
from mmalign_eval.requests import Choose, Generate, Prompt, greedy
from mmalign_eval.store import Store
folder, room, given = Path(sys.argv[1]), int(sys.argv[2]) << 20, json.loads(sys.argv[3])
def stat(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1]) << 10
model = open_model(str(folder), given)
model._size_batches, size = (lambda: None), model._size_batches
model.load()
if room:
    resource.setrlimit(resource.RLIMIT_AS, (stat("VmSize") + room,) * 2)
size()
model.load = lambda: None  # once is enough
text = "Tom has 3 apples and a red cup. "
asked = [Generate(Prompt(f"{n} " + text * 3, template="raw"), greedy(4)) for n in range(100)]
asked += [Choose(Prompt(f"{n} " + text * 3, template="raw"), (" Yes", " a dog")) for n in range(40)]
open("/proc/self/clear_refs", "w").write("5")
before = stat("VmRSS")
found, stats = Engine(model, Store(sys.argv[4])).run(asked)
print(json.dumps({"tokens": model.batch_tokens, "ok": sum(r.status == "ok" for r in found), "n": len(asked),
                  "halvings": stats.halvings, "grown": stat("VmHWM") - before}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_with_little_memory_chooses_smaller_batches_and_finishes(tmp_path: Path) -> None:
    import transformers

    from mmalign_eval.miniature.nano import nano_tokenizer

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=8000, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=2048, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "m")
    nano_tokenizer().save_pretrained(tmp_path / "m")

    def run(room: int, **given: str) -> dict[str, int]:
        command = [sys.executable, "-c", CHILD, str(tmp_path / "m"), str(room), json.dumps(given)]
        done = subprocess.run([*command, str(tmp_path / f"{room}{len(given)}")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return dict(json.loads(done.stdout.splitlines()[-1]))

    free, tight = run(0), run(100)
    overfull = run(30, batch_tokens="100000")  # as a user might have it: halved until it fits
    assert tight["tokens"] < free["tokens"]
    assert [one["ok"] for one in (free, tight, overfull)] == [free["n"]] * 3
    assert (tight["halvings"], overfull["halvings"] > 0) == (0, True)
    assert tight["grown"] <= memory.HOST_SHARE * (100 << 20)
