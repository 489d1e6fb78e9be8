"""LLaVA's own layouts load through `hf:` with the logits of its forward pass; unsafe or incomplete files do not."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from mmalign_eval.errors import BadInput
from mmalign_eval.models import checkpoint as checkpoints
from mmalign_eval.models import llava_layout, llava_original
from mmalign_eval.models.hf import open_model
from mmalign_eval.models.llava_layout import Parts, convert, is_original, open_checkpoint
from mmalign_eval.requests import Choose, Generate, Prompt, greedy

from .hf_case import ask, copy_of, load, nano, near, pictures
from .llava_case import EXTRAS, Original, no_image_token, write_lora, write_original, write_tower

IDS = torch.randint(5, 440, (2, 11), generator=torch.Generator().manual_seed(0))
QUESTION = "\nWhat is it? ASSISTANT:"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/mmeval/llava"


def theirs(original: Original, tokenizer: Any, picture: Image.Image) -> torch.Tensor:
    """LLaVA's tokenisation (chunks around the image, one BOS) and its forward pass."""
    before = "USER: " + ("<im_start>" if original.wrapped else "")
    after = ("<im_end>" if original.wrapped else "") + QUESTION
    ids = [*tokenizer(before)["input_ids"], -200, *tokenizer(after, add_special_tokens=False)["input_ids"]]
    images = AutoProcessor.from_pretrained(original.config["mm_vision_tower"])
    return original.logits(ids, images(picture, return_tensors="pt")["pixel_values"])


def check_seeing(model: Any, original: Original, tokenizer: Any, atol: float = 1e-5) -> None:
    """Logits of a loaded adapter on a picture against LLaVA's own; and of its language model on text."""
    picture = Image.open(pictures()[0].path).convert("RGB")
    wanted = theirs(original, tokenizer, picture)
    text = f"USER: {model._image_token()}{QUESTION}"
    inputs = model.processor(images=[picture], text=text, return_tensors="pt")
    with torch.inference_mode():
        found = model._model(**inputs).logits[0]
        blind = model._model(**{**inputs, "pixel_values": torch.zeros_like(inputs["pixel_values"])}).logits[0]
    rows = wanted.shape[-1]
    assert found.shape[0] == wanted.shape[0]
    assert torch.allclose(found[:, :rows], wanted, rtol=1e-5, atol=atol)
    assert not torch.allclose(blind[:, :rows], wanted, atol=1e-2)
    text_model = model.for_text()
    text_model.load()
    with torch.inference_mode():
        language = original.language(IDS).logits
        assert torch.allclose(text_model._model(IDS).logits[..., :rows], language, rtol=1e-5, atol=atol)


CASES: dict[str, dict[str, Any]] = {
    "linear": {},
    "start and end tokens": {"wrapped": True},
    "two layers": {"kind": "mlp2x_gelu", "model_type": "llava_llama"},
    "tower inside": {"inside": True, "stored": "safetensors"},
    "shards": {"stored": "shards", "kind": "mlp2x_gelu"},
    "another layer": {"layer": -1},
    "head and embeddings in one": {"tied": True, "stored": "safetensors"},
}


@pytest.mark.parametrize("case", CASES)
def test_whole_checkpoints(tmp_path: Path, case: str) -> None:
    original = write_original(tmp_path / "old", **CASES[case])
    check_seeing(load(original.path), original, AutoTokenizer.from_pretrained(original.path))


def test_the_language_model_alone_needs_no_tower(tmp_path: Path) -> None:
    original = write_original(tmp_path / "old", wrapped=True)
    config = {**original.config, "mm_vision_tower": "openai/nowhere"}
    (original.path / "config.json").write_text(json.dumps(config))
    model = load(original.path, backbone="true")
    assert model._model.config.vocab_size == 515  # LLaMA's and <im_patch>, <im_start>, <im_end>
    assert model.tokenizer.convert_tokens_to_ids("<im_end>") == 514
    with torch.inference_mode():
        assert torch.equal(model._model(IDS).logits, original.language(IDS).logits)
    assert model.name == "old"
    assert not model.images
    with pytest.raises(BadInput, match=r"its vision tower is not at hand: give its folder with -M vision_tower=.*back"):
        open_model(str(original.path), {})
    tower = str(tmp_path / "old-tower")
    assert load(original.path, vision_tower=tower).images


def test_asked_with_start_and_end_tokens(tmp_path: Path) -> None:
    original = write_original(tmp_path / "old", wrapped=True)
    model = open_model(str(original.path), {})
    seen = Prompt("What?", pictures()[:1], template="vicuna_v1")
    assert model.render(Generate(seen, greedy(4))).endswith("USER: <im_start><image><im_end>\nWhat? ASSISTANT:")
    own = Prompt("What?", pictures()[:1])
    assert model.render(Generate(own, greedy(4))).endswith("USER: <im_start><image><im_end>\nWhat? ASSISTANT:")
    ids = model.sequences(Generate(seen, greedy(4)))[0]
    assert sum(token < 0 for token in ids) == 4
    model.load()
    answered = ask(model, [Choose(own, (" Yes", " No")), Generate(seen, greedy(3))])
    assert [response.status for response in answered] == ["ok", "ok"]
    plain = write_original(tmp_path / "plain")
    assert "USER: <image>\nWhat?" in open_model(str(plain.path), {}).render(Generate(seen, greedy(4)))


# -- LoRA forms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [False, True])
def test_lora_forms(tmp_path: Path, wrapped: bool) -> None:
    base = no_image_token(tmp_path / "base")
    original = write_lora(tmp_path / "old", base, wrapped, named=str(base))
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<im_patch>", "<im_start>", "<im_end>"] if wrapped else [], special_tokens=True)
    check_seeing(load(original.path), original, tokenizer, atol=5e-5)


def test_a_lora_forms_base_may_be_given(tmp_path: Path) -> None:
    base = no_image_token(tmp_path / "base")
    original = write_lora(tmp_path / "old", base, named="lmsys/nowhere")
    with pytest.raises(BadInput, match="its language model is not at hand: give its folder with -M base="):
        open_model(str(original.path), {})
    check_seeing(load(original.path, base=str(base)), original, AutoTokenizer.from_pretrained(base), atol=5e-5)
    with pytest.raises(BadInput, match="is a LLaVA, not a language model"):
        open_model(str(original.path), {"base": str(nano("llava"))})


def test_the_adapter_alone_on_its_base_ignores_what_lies_beside_it(tmp_path: Path) -> None:
    base = no_image_token(tmp_path / "base")
    original = write_lora(tmp_path / "old", base, wrapped=False)
    model = load(base, adapter=str(original.path))
    with torch.inference_mode():
        assert torch.allclose(model._model(IDS).logits, original.language(IDS).logits, rtol=1e-5, atol=5e-5)
    # asked for, the embeddings that were trained too are taken
    trained = write_lora(tmp_path / "rows", base, wrapped=True, named=str(base))
    with torch.inference_mode():
        found = load(trained.path, backbone="true")._model(IDS).logits
        assert torch.allclose(found, trained.language(IDS).logits, rtol=1e-5, atol=5e-5)
        without = load(base, adapter=str(trained.path))._model(IDS).logits
        assert not torch.allclose(found[..., :512], without, atol=1e-2)


def test_a_projector_is_never_left_behind(tmp_path: Path) -> None:
    original = write_lora(tmp_path / "old", no_image_token(tmp_path / "base"))
    with pytest.raises(BadInput, match=r"non_lora_trainables.bin beside it holds the projector"):
        open_model(str(nano("llava")), {"adapter": str(original.path)})
    assert load(nano("llava"), adapter=str(original.path), backbone="true")._model is not None


def test_extras_that_do_not_fit_the_base(tmp_path: Path) -> None:
    base = no_image_token(tmp_path / "base")
    original = write_lora(tmp_path / "old", base, named=str(base))
    extras = torch.load(original.path / EXTRAS, weights_only=True)
    torch.save({**extras, "base_model.model.model.ghost.weight": torch.ones(2)}, original.path / EXTRAS)
    with pytest.raises(BadInput, match=r"non_lora_trainables.bin: model.ghost.weight does not fit its base"):
        open_model(str(original.path), {})


# -- the converted copy -----------------------------------------------------------------------------------------------


def test_converted_once_and_again_when_anything_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = write_original(tmp_path / "old")
    first = open_model(str(original.path), {})
    assert f"it is converted once, into {cache}" in caplog.text
    made = list(cache.iterdir())
    assert len(made) == 1
    monkeypatch.setattr(llava_layout, "write", lambda *_: pytest.fail("converted again"))
    assert open_model(str(original.path), {}).fingerprint() == first.fingerprint()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    other = write_tower(tmp_path / "eyes", seed=1)
    changed = open_model(str(original.path), {"vision_tower": str(other)})
    assert changed.fingerprint() != first.fingerprint()
    assert len(list(cache.iterdir())) == 2


def test_a_copy_is_whole_or_not_there(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = write_original(tmp_path / "old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(llava_original, "save_llava", full)
    with pytest.raises(BadInput, match=r"cannot be written to .*No space left on device.*XDG_CACHE_HOME"):
        open_model(str(original.path), {})
    assert list(cache.iterdir()) == []


def test_its_identity_is_the_converted_checkpoints(tmp_path: Path) -> None:
    original = write_original(tmp_path / "old", wrapped=True)
    convert(str(original.path), tmp_path / "new")
    ours, theirs_ = (open_model(str(path), {}) for path in (original.path, tmp_path / "new"))
    assert ours.identity() == theirs_.identity()
    assert (ours.name, theirs_.name) == ("old", "new")


def test_the_form_on_disk_is_the_hubs(tmp_path: Path) -> None:
    original = write_original(tmp_path / "old", kind="mlp2x_gelu")
    convert(str(original.path), tmp_path / "new")
    names = load_file(tmp_path / "new/model.safetensors")
    assert torch.equal(names["multi_modal_projector.linear_2.weight"], original.projector[1][0])
    assert "vision_tower.vision_model.pre_layrnorm.weight" in names
    assert "language_model.model.layers.1.mlp.up_proj.weight" in names
    model, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "new", output_loading_info=True)
    assert not any(info.values())
    assert model.config.projector_hidden_act == "gelu"
    assert str(tmp_path) not in (tmp_path / "new/config.json").read_text()
    assert not is_original(tmp_path / "new")


def test_half_precision_stays(tmp_path: Path) -> None:
    original = write_original(tmp_path / "old")
    state = torch.load(original.path / "pytorch_model.bin", weights_only=True)
    torch.save({name: tensor.half() for name, tensor in state.items()}, original.path / "pytorch_model.bin")
    convert(str(original.path), tmp_path / "new")
    assert {tensor.dtype for tensor in load_file(tmp_path / "new/model.safetensors").values()} == {torch.float16}
    assert json.loads((tmp_path / "new/config.json").read_text())["dtype"] == "float16"


def test_a_hub_repository_in_this_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    for model_type in ("llava", "llava_llama"):
        original = write_original(tmp_path / model_type / "old", model_type=model_type)
        commit = "c" * 40
        repository = tmp_path / "hub" / f"models--org--{model_type}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs/main").write_text(commit)
        (repository / "snapshots").mkdir()
        original.path.rename(repository / "snapshots" / commit)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        model = open_model(f"org/{model_type}", {})
        assert model.images
        assert model.name == model_type


# -- refusals ---------------------------------------------------------------------------------------------------------


class Malice:
    """What a pickle could do to whoever reads it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("file", ["pytorch_model.bin", EXTRAS, "adapter_model.bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, file: str, zipped: bool) -> None:
    trap = tmp_path / "touched"
    base = no_image_token(tmp_path / "base")
    if file == "pytorch_model.bin":
        original = write_original(tmp_path / "old")
    else:
        original = write_lora(tmp_path / "old", base, named=str(base))
    bad = original.path / file
    torch.save({"model.norm.weight": Malice(trap)}, bad, _use_new_zipfile_serialization=zipped)
    pickle_itself = pickle.dumps(Malice(trap))
    assert b"touch" in pickle_itself
    with pytest.raises(BadInput, match=r"refused: a pickle that holds more than tensors|cannot be read"):
        open_model(str(original.path), {})
    assert not trap.exists()
    # and it is a real one: read without care, it acts
    torch.load(bad, weights_only=False)
    assert trap.exists()


def change(original: Original, **changes: Any) -> None:
    (original.path / "config.json").write_text(json.dumps({**original.config, **changes}))


def drop(original: Original, name: str, **more: torch.Tensor) -> None:
    file = original.path / "pytorch_model.bin"
    state = torch.load(file, weights_only=True)
    state.pop(name, None)
    torch.save({**state, **more}, file)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda o: drop(o, "model.layers.1.mlp.up_proj.weight"), "its config.json describes: model.layers.1.mlp.up"),
        (lambda o: drop(o, "", **{"model.ghost.weight": torch.ones(1)}), "describes: model.ghost.weight"),
        (lambda o: drop(o, "model.mm_projector.bias"), r"projector of another kind \(mm_projector.weight\)"),
        (lambda o: drop(o, "", **{"model.mm_projector.4.weight": torch.ones(1)}), "projector of another kind"),
        (lambda o: drop(o, "model.mm_projector.weight", **{"model.mm_projector.weight": torch.ones(32, 5)}),
         "its projector does not fit the vision tower"),
        (lambda o: drop(o, "", **{"model.image_newline": torch.ones(32)}), r"another kind \(.*model.image_newline"),
        (lambda o: change(o, image_aspect_ratio="anyres"), "several crops"),
        (lambda o: change(o, mm_vision_select_feature="odd"), "unknown mm_vision_select_feature 'odd'"),
        (lambda o: change(o, mm_vision_tower=None), "names no vision tower"),
        (lambda o: (o.path / "pytorch_model.bin").write_bytes(b"not weights"), "damaged|refused"),
        (lambda o: (o.path / "pytorch_model.bin").unlink(), "no weights there"),
    ],
)  # fmt: skip
def test_what_is_missing_or_odd_is_named(tmp_path: Path, break_it: Any, message: str, cache: Path) -> None:
    original = write_original(tmp_path / "old")
    break_it(original)
    with pytest.raises(BadInput, match=message):
        open_model(str(original.path), {})
    assert not cache.exists() or list(cache.iterdir()) == []


def test_parts_belong_to_this_layout_alone(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"-M vision_tower=x: .* is no checkpoint of LLaVA's own layout"):
        open_model(str(nano("llava")), {"vision_tower": "x"})
    with pytest.raises(BadInput, match=r"-M base=x: .*is a whole checkpoint"):
        open_checkpoint(str(write_original(tmp_path / "old").path), parts=Parts(base="x"))
    with pytest.raises(BadInput, match="no checkpoint of LLaVA's own layout"):
        convert(str(nano("llava")), tmp_path / "x")
    with pytest.raises(BadInput, match="no such folder"):
        open_checkpoint(str(tmp_path / "nothing"))
    assert open_checkpoint(str(nano("llava"))) == checkpoints.open_checkpoint(str(nano("llava")))


def test_padding_is_kept(tmp_path: Path) -> None:
    original = write_original(tmp_path / "old")
    change(original, image_aspect_ratio="pad")
    convert(str(original.path), tmp_path / "new")
    assert AutoProcessor.from_pretrained(tmp_path / "new").image_processor.do_pad


def test_all_of_the_towers_tokens(tmp_path: Path) -> None:
    original = write_original(tmp_path / "old")
    change(original, mm_vision_select_feature="cls_patch")
    model = load(original.path)
    assert model._model.config.vision_feature_select_strategy == "full"
    yes = ask(model, [Choose(Prompt("What?", pictures()[:1]), (" Yes", " No"))])[0]
    assert yes.status == "ok"
    other = load(write_original(tmp_path / "patches").path)
    no = ask(other, [Choose(Prompt("What?", pictures()[:1]), (" Yes", " No"))])[0]
    assert not near(yes.logprobs[0], no.logprobs[0])


@pytest.mark.parametrize(("arch", "options"), [("llava", {}), ("llava", {"backbone": "true"}), ("llama", {})])
def test_unsafe_pickles_in_the_usual_layout_are_refused_too(tmp_path: Path, arch: str, options: dict[str, str]) -> None:
    path = copy_of(nano(arch), tmp_path / arch)
    (path / "model.safetensors").unlink()
    torch.save({"x": Malice(tmp_path / "touched")}, path / "pytorch_model.bin")
    with pytest.raises(BadInput, match="refused: a pickle that holds more than tensors"):
        load(path, **options)
    assert not (tmp_path / "touched").exists()
