"""Opening and loading: options, what is refused, and what makes two models the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from mmalign_eval.errors import BadInput
from mmalign_eval.models import checkpoint
from mmalign_eval.models.encoding import BoundedCache
from mmalign_eval.models.hf import HfImageText, HfText, open_model
from mmalign_eval.requests import Choose, Generate, GenParams, Prompt, greedy

from .hf_case import ask, copy_of, load, nano, near, opened

REQUEST = Choose(Prompt("Is there a dog?", template="raw"), (" Yes", " No, none"))


def test_the_configuration_decides_the_kind() -> None:
    assert isinstance(open_model(str(nano("llava")), {}), HfImageText)
    assert isinstance(open_model(str(nano("gpt2")), {}), HfText)
    assert open_model(str(nano("llava")), {}).images
    assert not open_model(str(nano("gpt2")), {}).images


def test_opening_reads_no_weights(tmp_path: Path) -> None:
    for arch in ("llama", "llava"):
        path = copy_of(nano(arch), tmp_path / arch)
        (path / "model.safetensors").unlink()
        model: Any = open_model(str(path), {})
        assert model.render(REQUEST) == "Is there a dog?"
        assert model.length(REQUEST) > 5
        with pytest.raises(BadInput, match=r"no weights there \(expected model.safetensors"):
            model.identity()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtpye": "float32"}, r"-M dtpye=: hf models have no such option - did you mean 'dtype'\?"),
        ({"dtype": "float33"}, r"-M dtype=float33: unknown - did you mean 'float32'\?"),
        ({"attn": "spda"}, r"-M attn=spda: unknown - did you mean 'sdpa'\?"),
        ({"device": "gpu"}, "-M device=gpu: expected auto, cpu"),
        ({"device": "cuda:7"}, "no CUDA device here"),
        ({"device": "cpu", "device_map": "auto"}, "exclude each other"),
        ({"revision": "v2"}, "a folder has no revisions"),
        ({"template": "vicuna"}, r"unknown template 'vicuna' - did you mean 'vicuna_v.'"),
        ({"backbone": "maybe"}, "-M backbone=maybe: expected true or false"),
        ({"batch_rows": "0"}, "-M batch_rows=0: expected a whole number above 0"),
        ({"add_bos": "x"}, "-M add_bos=x: expected true or false"),
    ],
)
def test_wrong_options(options: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match=message):
        open_model(str(nano("llama")), options)


def test_batch_limits() -> None:
    model = open_model(str(nano("llama")), {"batch_rows": "3", "batch_tokens": "99"})
    assert (model.batch_rows, model.batch_tokens) == (3, 99)
    assert open_model(str(nano("llama")), {}).batch_rows > 1


@pytest.mark.parametrize("stored", ["float32", "float16"])
def test_dtype_takes_effect(stored: str, tmp_path: Path) -> None:
    path = copy_of(nano("llama"), tmp_path / stored)
    load(nano("llama"))._model.to(getattr(torch, stored)).save_pretrained(path)
    for given, expected in (("", "float32"), ("auto", stored), ("bfloat16", "bfloat16"), ("float16", "float16")):
        model = load(path, **({"dtype": given} if given else {}))
        assert {str(p.dtype) for p in model._model.parameters()} == {f"torch.{expected}"}
        assert model.describe()["dtype"] == model.identity()["dtype"] == expected
        response = ask(model, [REQUEST])[0]
        assert abs(response.logprobs[0] - ask(load(path), [REQUEST])[0].logprobs[0]) < 0.3


def test_dtype_of_configurations_that_do_not_say_it(tmp_path: Path) -> None:
    path = copy_of(nano("llama"), tmp_path / "model")
    tensors = {key: tensor.bfloat16() for key, tensor in load_file(path / "model.safetensors").items()}
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    config = json.loads((path / "config.json").read_text())
    config.pop("dtype")
    (path / "config.json").write_text(json.dumps(config))
    assert open_model(str(path), {"dtype": "auto"}).describe()["dtype"] == "bfloat16"


def test_device_map() -> None:
    model = load(nano("llama"), device_map="cpu")
    assert model.describe()["device"] == "device_map=cpu"
    assert near(ask(model, [REQUEST])[0].logprobs[0], ask(opened("llama"), [REQUEST])[0].logprobs[0])


# -- what is refused ------------------------------------------------------------------------------------------------


def test_targets_that_are_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for target in (str(tmp_path / "none"), "./none", "a/b/c", "../x"):
        with pytest.raises(BadInput, match="no such folder"):
            open_model(target, {})
    with pytest.raises(
        BadInput,
        match=r"hf:nobody/nothing: no such folder, it is not in the hub's cache, and the hub cannot be reached",
    ):
        open_model("nobody/nothing", {})
    with pytest.raises(BadInput, match="not a checkpoint; a checkpoint folder has a config.json"):
        open_model(str(tmp_path), {})
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="a file, not a checkpoint folder"):
        open_model(str(tmp_path / "file"), {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", "its config.json cannot be read"),
        ('{"model_type": "nobodys"}', "its config.json cannot be read"),
        ('{"model_type": "vit"}', "vit is neither a causal LM nor an image-text-to-text model"),
    ],
)
def test_wrong_configurations(content: str, message: str, tmp_path: Path) -> None:
    path = copy_of(nano("llama"), tmp_path / "model")
    (path / "config.json").write_text(content)
    with pytest.raises(BadInput, match=message) as caught:
        open_model(str(path), {})
    assert "\n" not in str(caught.value)


def test_missing_tokenizers_and_processors(tmp_path: Path) -> None:
    path = copy_of(nano("llama"), tmp_path / "text")
    for file in path.glob("token*"):
        file.unlink()
    with pytest.raises(BadInput, match="its tokenizer cannot be read"):
        open_model(str(path), {})
    path = copy_of(nano("llava"), tmp_path / "image")
    (path / "processor_config.json").write_text("{")
    with pytest.raises(BadInput, match="its processor cannot be read"):
        open_model(str(path), {})


def tampered(tmp_path: Path, arch: str, change: Any) -> Path:
    path = copy_of(nano(arch), tmp_path / arch)
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    return path


NAME = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("arch", "change", "message"),
    [
        ("llama", lambda t: t.pop(NAME), r"weights 1 missing: model\.layers\.1\.self_attn\.q_proj\.weight"),
        ("llama", lambda t: t.update({"model.extra.weight": torch.ones(2)}), r"1 unexpected: model\.extra\.weight"),
        ("llama", lambda t: t.update({NAME: torch.ones(3, 3)}), r"another shape: .*q_proj\.weight \(\[3, 3\] on disk"),
        ("llama", dict.clear, r"21 missing: lm_head\.weight, .*, \.\.\."),
        (
            "llava",
            lambda t: t.pop("vision_tower.encoder.layers.0.mlp.fc1.weight"),
            r"1 missing: model\.vision_tower\.encoder\.layers\.0\.mlp\.fc1\.weight",
        ),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused_by_name(arch: str, change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        load(tampered(tmp_path, arch, change))
    assert "\n" not in str(caught.value)


def test_harmless_leftovers_are_no_reason(tmp_path: Path) -> None:
    leftover = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    path = tampered(tmp_path, "llama", lambda t: t.update(leftover))
    assert near(ask(load(path), [REQUEST])[0].logprobs[0], ask(opened("llama"), [REQUEST])[0].logprobs[0])


def test_damaged_weight_files(tmp_path: Path) -> None:
    for arch in ("llama", "llava"):
        path = copy_of(nano(arch), tmp_path / arch)
        file = path / "model.safetensors"
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(BadInput, match="the weights cannot be loaded") as caught:
            load(path)
        assert "\n" not in str(caught.value)
    file.write_bytes(b"\0" * 100)
    with pytest.raises(BadInput, match="damaged"):
        load(path, backbone="true")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    path = copy_of(nano("llama"), tmp_path / "model")
    (path / "model.safetensors").unlink()
    opened("llama")._model.save_pretrained(path, max_shard_size="60KB")
    shard = sorted(path.glob("model-*.safetensors"))[1]
    assert near(ask(load(path), [REQUEST])[0].logprobs[0], ask(opened("llama"), [REQUEST])[0].logprobs[0])
    shard.unlink()
    with pytest.raises(BadInput, match=f"names files that are not there: {shard.name}"):
        open_model(str(path), {}).identity()


def test_weights_too_large_for_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90.00 GiB")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(BadInput, match=r"the weights do not fit into memory; try -M dtype=bfloat16, or -M device_map"):
        load(nano("llama"))


# -- identity -------------------------------------------------------------------------------------------------------


def test_identity_does_not_depend_on_place_or_on_other_files(tmp_path: Path) -> None:
    for arch in ("llama", "llava"):
        path = copy_of(nano(arch), tmp_path / f"another-{arch}")
        (path / "README.md").write_text("words")
        (path / "optimizer.pt").write_bytes(b"state")
        config = json.loads((path / "config.json").read_text())
        noise = {"_name_or_path": "/somewhere/else", "transformers_version": "5.0.0"}
        (path / "config.json").write_text(json.dumps({**config, **noise}))
        assert open_model(str(path), {}).identity() == opened(arch).identity()
        assert str(tmp_path) not in json.dumps(open_model(str(path), {}).identity())


def test_identity_changes_with_whatever_can_change_an_answer(tmp_path: Path) -> None:
    def variant(name: str, change: Any, arch: str = "llama") -> str:
        path = copy_of(nano(arch), tmp_path / name)
        change(path)
        return open_model(str(path), {}).fingerprint()

    def edit(file: str, **more: Any) -> Any:
        def change(path: Path) -> None:
            (path / file).write_text(json.dumps({**json.loads((path / file).read_text()), **more}))

        return change

    seen = [
        opened("llama").fingerprint(), open_model(str(nano("llama", 1)), {}).fingerprint(),
        open_model(str(nano("llama")), {"dtype": "float16"}).fingerprint(),
        open_model(str(nano("llama")), {"add_bos": "false"}).fingerprint(),
        open_model(str(nano("llama")), {"template": "vicuna_v1"}).fingerprint(),
        variant("config", edit("config.json", rms_norm_eps=1e-3)),
        variant("end", edit("generation_config.json", eos_token_id=[2, 7])),
        variant("tokenizer", edit("tokenizer_config.json", bos_token="</s>")),
        opened("llava").fingerprint(), opened("llava").for_text().fingerprint(),
        variant("chat", lambda path: (path / "chat_template.jinja").write_text("{{ 1 }}"), "llava"),
        variant("processor", edit("processor_config.json", patch_size=6), "llava"),
    ]  # fmt: skip
    assert len(set(seen)) == len(seen)


def test_weights_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = copy_of(nano("llama"), tmp_path / "model")
    first = open_model(str(path), {}).identity()
    known = json.loads((tmp_path / "cache/mmeval/weights.json").read_text())
    assert list(known) == [str(path / "model.safetensors")]
    monkeypatch.setattr(checkpoint.hashlib, "file_digest", None)  # a second reading would fail
    assert open_model(str(path), {}).identity() == first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tensors = load_file(path / "model.safetensors")
    save_file({key: tensor + 1 for key, tensor in tensors.items()}, path / "model.safetensors", {"format": "pt"})
    assert open_model(str(path), {}).identity()["weights"] != first["weights"]
    (tmp_path / "cache/mmeval/weights.json").write_text("{damaged")
    assert open_model(str(path), {}).identity()["weights"] != first["weights"]


def test_hub_ids_are_pinned_to_their_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--org--nano"
    copy_of(nano("llava"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = load_from_cache("org/nano")
    assert model.identity()["weights"] == model.describe()["commit"] == commit
    assert model.name == "nano"
    assert near(ask(model, [REQUEST])[0].logprobs[0], ask(opened("llava"), [REQUEST])[0].logprobs[0])
    text = model.for_text()
    text.load()
    assert near(ask(text, [REQUEST])[0].logprobs[0], ask(opened("llava"), [REQUEST])[0].logprobs[0])
    assert text.identity()["weights"] == commit
    with pytest.raises(BadInput, match="not in the hub's cache at revision v9, and the hub cannot be reached"):
        open_model("org/nano", {"revision": "v9"})


def load_from_cache(target: str) -> Any:
    model = open_model(target, {})
    model.load()
    return model


# -- planning -------------------------------------------------------------------------------------------------------


def test_lengths_and_sequences() -> None:
    model = opened("llama")
    long = "Tom has 3 apples and a red cup. " * 160
    scored = model._scored(REQUEST)
    assert model.sequences(REQUEST) == [[*scored.context, *option] for option in scored.options]
    assert model.length(REQUEST) == len(scored.context) + sum(len(option) - 1 for option in scored.options)
    assert model.length(Generate(Prompt(long, template="raw"), greedy(24))) == 1024
    assert model.length(Choose(Prompt("", template="raw"), (long,), rolling=True)) <= 1025
    assert model.sequences(Generate(Prompt("A", template="raw"), greedy(5))) == [model.encoder.prompt("A")]


def test_planned_ids_are_not_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("llama")
    requests: list[Any] = [
        Choose(Prompt("Once only", template="raw"), (" a", " b")), Generate(Prompt("Once", template="raw"), greedy(3)),
        Choose(Prompt("", template="raw"), ("Once and for all",), rolling=True),
    ]  # fmt: skip
    for request in requests:
        model.length(request)
    monkeypatch.setattr(type(model.encoder), "_ids", None)
    for request in requests:
        assert model.sequences(request)
    assert all(response.answered for response in ask(model, requests))


def test_the_cache_of_ids_is_bounded() -> None:
    cache = BoundedCache(10)
    for i in range(20):
        cache.put(i, str(i), 3)
    assert [i for i in range(20) if cache.get(i)] == [17, 18, 19]
    cache.put(19, "again", 3)
    assert cache.size == 9
    cache.put("large", "x", 50)
    assert cache.get("large") == "x"


def test_describe_before_and_after_loading() -> None:
    model: Any = open_model(str(nano("llava")), {})
    before = model.describe()
    assert before["class"] == "LlavaForConditionalGeneration"
    assert before["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    model.load()
    after = model.describe()
    assert after["parameters"] == before["parameters"] == sum(p.numel() for p in model._model.parameters())
    assert (before["dtype"], after["attention"], after["max_length"]) == ("float32", "sdpa", 1024)
    assert model.effective(GenParams())["max_new_tokens"] == 128
    model.close()
    assert model._model is None
