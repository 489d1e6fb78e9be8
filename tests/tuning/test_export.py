"""What a training leaves loads everywhere with the same logits, says what it is of, and is whole or not there."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from mmalign_eval.tuning import export
from mmalign_eval.tuning.assemble import assemble
from mmalign_eval.tuning.config import Lora, Recipe, parse_recipe
from mmalign_eval.tuning.export import DataFile, already, base_of, finish, save_adapter, save_checkpoint, write_record
from mmalign_eval.tuning.lora import add_lora
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from mmalign_eval.errors import BadInput
from mmalign_eval.images import digest
from mmalign_eval.models.checkpoint import open_checkpoint
from mmalign_eval.models.hf import open_model
from mmalign_eval.models.llava_save import hub_name
from mmalign_eval.models.tuned import read_training, read_tuned
from mmalign_eval.overlap import Training, TrainingImage
from mmalign_eval.requests import Choose, ImageRef, Prompt

from ..models.hf_case import ask, copy_of, load, nano, near, pictures, scratch

IDS = torch.randint(5, 440, (2, 11), generator=torch.Generator().manual_seed(0))
SEEN = Choose(Prompt("USER: What? ASSISTANT:", pictures()[:1], template="raw"), (" Yes", " No"))


def logits(model: Any, **inputs: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(**(inputs or {"input_ids": IDS})).logits  # type: ignore[no-any-return]


def seeing(processor: Any) -> dict[str, Any]:
    picture = Image.open(pictures()[0].path)
    return dict(processor(images=[picture], text="USER: <image>\nWhat? ASSISTANT:", return_tensors="pt"))


@cache
def tuned() -> tuple[Any, Any]:
    """An assembled LLaVA whose every trained weight moved, as after stage 2."""
    model, processor = assemble(str(nano("llama")), str(nano("llava")), "mlp2x_gelu", seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "vision_tower" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return model, processor


@cache
def saved() -> Path:
    model, processor = tuned()
    save_checkpoint(model, processor, scratch("exported"))
    return scratch("exported")


def test_files_have_the_hubs_names() -> None:
    names = set(load_file(saved() / "model.safetensors"))
    for known in (
        "vision_tower.vision_model.embeddings.class_embedding",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "vision_tower.vision_model.post_layernorm.weight",
        "language_model.model.embed_tokens.weight",
        "language_model.model.layers.1.mlp.down_proj.weight",
        "language_model.model.norm.weight",
        "language_model.lm_head.weight",
        "multi_modal_projector.linear_1.bias",
        "multi_modal_projector.linear_2.weight",
    ):
        assert known in names
    roots = ("vision_tower.vision_model.", "language_model.model.", "language_model.lm_head.", "multi_modal_projector.")
    assert all(name.startswith(roots) for name in names)
    assert len(names) == len(tuned()[0].state_dict())
    assert (
        hub_name("model.vision_tower.vision_model.pre_layrnorm.bias") == "vision_tower.vision_model.pre_layrnorm.bias"
    )


@pytest.mark.parametrize("sharded", [False, True])
def test_it_loads_in_transformers_with_equal_logits(tmp_path: Path, sharded: bool) -> None:
    model, processor = tuned()
    path = saved()
    if sharded:
        path = tmp_path / "sharded"
        save_checkpoint(model, processor, path, shard="100KB")
        assert len(list(path.glob("model-*.safetensors"))) > 1
    again, info = AutoModelForImageTextToText.from_pretrained(path, output_loading_info=True)
    assert not any(info.values())
    inputs = seeing(AutoProcessor.from_pretrained(path))
    assert torch.equal(logits(again, **inputs), logits(model, **seeing(processor)))
    assert "input_ids" in inputs and (inputs["input_ids"] == 4).sum() == 4  # noqa: PT018
    config = json.loads((path / "config.json").read_text())
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert str(nano("llama")) not in (path / "config.json").read_text()


def test_the_backbone_of_an_mm_ft_checkpoint_has_its_logits_on_text() -> None:
    whole = load(saved())
    text = whole.for_text()
    assert text.part == "backbone"
    text.load()
    found = logits(text._model)
    assert type(text._model).__name__ == "LlamaForCausalLM"
    assert torch.equal(found, logits(tuned()[0]))
    assert not torch.allclose(found, logits(AutoModelForCausalLM.from_pretrained(nano("llama"))), atol=1e-2)


def test_the_adapter_of_the_run_verb_takes_it_and_the_image_counts() -> None:
    model = load(saved())
    other = Choose(Prompt("USER: What? ASSISTANT:", pictures()[1:2], template="raw"), (" Yes", " No"))
    seen, blind = ask(model, [SEEN, other])
    assert seen.status == "ok"
    assert not near(seen.logprobs[0], blind.logprobs[0])


def tied(path: Path) -> Path:
    model = AutoModelForCausalLM.from_pretrained(nano("llama"))
    config = copy.deepcopy(model.config)
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    copy_of(nano("llama"), path)
    type(model)(config).save_pretrained(path)
    return path


def test_tied_embeddings_are_stored_once(tmp_path: Path) -> None:
    path = tied(tmp_path / "lm")
    model, processor = assemble(str(path), str(nano("llava")), "linear", seed=0)
    wanted = logits(AutoModelForCausalLM.from_pretrained(path))
    assert torch.equal(logits(model), wanted)
    save_checkpoint(model, processor, tmp_path / "out")
    assert not [name for name in load_file(tmp_path / "out/model.safetensors") if "lm_head" in name]
    again = load(tmp_path / "out")
    assert torch.equal(logits(again._model), wanted)


# -- PEFT adapters ----------------------------------------------------------------------------------------------------


@cache
def lora(projector: bool) -> tuple[Any, Any, Path]:
    """A PEFT model on the tuned LLaVA that has learnt something, its twin merged, and its folder."""
    model = add_lora(copy.deepcopy(tuned()[0]), Lora(r=4, alpha=8), train_projector=projector)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = scratch(f"lora-{projector}")
    save_adapter(model, folder)
    return model.eval(), copy.deepcopy(model).merge_and_unload().eval(), folder


@pytest.mark.parametrize("projector", [True, False])
def test_saved_reloaded_and_merged_have_equal_logits(tmp_path: Path, projector: bool) -> None:
    model, merged, folder = lora(projector)
    inputs = seeing(tuned()[1])
    wanted = logits(model, **inputs)
    reloaded = load(saved(), adapter=str(folder))._model
    assert torch.allclose(logits(reloaded, **inputs), wanted, rtol=1e-5, atol=1e-5)
    assert torch.allclose(logits(merged, **inputs), wanted, rtol=1e-5, atol=1e-5)
    save_checkpoint(merged, tuned()[1], tmp_path / "merged")
    assert torch.allclose(logits(load(tmp_path / "merged")._model, **inputs), wanted, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits(tuned()[0], **inputs), wanted, atol=1e-2)
    kept = {name.split(".multi_modal_projector.")[-1] for name in load_file(folder / "adapter_model.safetensors")}
    assert ({"linear_1.weight", "linear_2.bias"} <= kept) is projector
    assert sorted(file.name for file in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_an_mm_lora_adapter_applies_to_the_base_language_model_alone() -> None:
    model, _processor = assemble(str(nano("llama")), str(nano("llava")), "mlp2x_gelu", seed=0)
    adapted = add_lora(model, Lora(r=4, alpha=8), train_projector=True)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = scratch("mm-lora")
    save_adapter(adapted, folder)
    alone = load(nano("llama"), adapter=str(folder))
    assert torch.allclose(logits(alone._model), logits(adapted.eval()), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits(alone._model), logits(load(nano("llama"))._model), atol=1e-2)


# -- the record -------------------------------------------------------------------------------------------------------


def recipe(**changes: Any) -> Recipe:
    content: dict[str, Any] = {
        "name": "toy", "about": "A toy.", "method": "mm-ft", "language": "x", "vision": "x", "projector": "linear",
        "tune": {"lr": 1e-3, "batch": 4, "micro_batch": 2},
    }  # fmt: skip
    return parse_recipe({**content, **changes}, "toy")


def images() -> Training:
    found = [TrainingImage("COCO_train2014_000000000009.jpg", "9", "ab" * 32), TrainingImage("x.png", "", "cd" * 32)]
    return Training(rows=3, images=found)


def test_the_record_names_the_base_as_its_own_results_do(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text("[1, 2, 3]")
    folder = copy_of(saved(), tmp_path / "out")
    base = base_of(str(nano("llama")))
    record = write_record(folder, recipe(), 5, base, [DataFile("tune", file, 3)], images().record(), steps=7)
    own = open_model(str(nano("llama")), {})
    assert record["tuned"]["base"] == {"name": own.name, "weights": own.identity()["weights"], "peft": ""}
    assert read_tuned(folder) == record["tuned"] == {**record["tuned"], "method": "mm-ft", "recipe": "toy", "seed": 5}
    assert read_training(folder) == {"coco_ids": [9], "images": ["ab" * 32, "cd" * 32]}
    assert record["recipe"]["tune"]["lr"] == 1e-3
    assert record["steps"] == 7
    sha = digest(ImageRef(str(file)))
    assert record["data"] == [{"role": "tune", "path": "data.json", "rows": 3, "sha256": sha}]
    assert record["versions"]["torch"] == torch.__version__
    assert set(record["versions"]) == {
        "python", "mmalign-eval", "torch", "transformers", "peft", "accelerate", "tokenizers",
    }  # fmt: skip
    assert str(tmp_path) not in json.dumps(record)
    model = open_model(str(folder), {})
    assert model.tuned() == record["tuned"]
    assert model.training_record() == read_training(folder)


def test_a_base_with_an_adapter_and_a_history() -> None:
    history = copy_of(saved(), scratch("history"))
    write_record(history, recipe(), 0, base_of(str(nano("llama"))), images=images().record())
    base = base_of(str(history), str(lora(False)[2]))
    own = open_model(str(history), {"adapter": str(lora(False)[2])})
    assert (base.name, base.weights, base.peft) == (own.name, own.identity()["weights"], own.identity()["peft"])
    folder = copy_of(lora(True)[2], scratch("second"))
    more = Training(images=[TrainingImage("y.png", "", "ee" * 32)])
    record = write_record(folder, recipe(), 0, base, images=more.record())
    assert record["training"] == {"coco_ids": [9], "images": sorted(["ab" * 32, "cd" * 32, "ee" * 32])}


def test_the_miniatures_base_goes_by_its_name() -> None:
    from mmalign_eval.miniature.model import open_model as open_mini

    own = open_mini("lm", {})
    base = base_of("mini:lm")
    assert (base.name, base.weights) == (own.name, own.identity()["weights"])


def test_text_only_training_saw_no_image(tmp_path: Path) -> None:
    write_record(tmp_path, recipe(), 0, base_of(str(nano("llama"))))
    assert read_training(tmp_path) == {"coco_ids": [], "images": []}


def test_the_same_training_again_is_done_and_another_is_refused(tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "data.json"
    file.write_text("[]")
    data = [DataFile("tune", file, 0)]
    base = base_of(str(nano("llama")))
    assert not already(out, recipe(), 0, base, data)
    write_record(out, recipe(), 0, base, data, merged=False)
    assert already(out, recipe(), 0, base, data, merged=False)
    for changed, seed, what in ((recipe(about="B."), 0, "recipe"), (recipe(), 1, "seed")):
        with pytest.raises(BadInput, match=f"already something there, of another {what};"):
            already(out, changed, seed, base, data)
    with pytest.raises(BadInput, match="of another base;"):
        already(out, recipe(), 0, replace(base, weights="other"), data)
    with pytest.raises(BadInput, match="of another choice of --merge;"):
        already(out, recipe(), 0, base, data, merged=True)
    file.write_text("[1]")
    with pytest.raises(BadInput, match="of another data"):
        already(out, recipe(), 0, base, data)
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadInput, match="no training's result"):
        already(tmp_path / "mine", recipe(), 0, base, data)
    for content in ('{"tuned": 3}', "[3]", "{"):  # a record that is none
        (tmp_path / "mine" / "mmeval.json").write_text(content)
        with pytest.raises(BadInput, match="mmeval.json: "):
            already(tmp_path / "mine", recipe(), 0, base, data)


# -- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_result_appears_by_one_rename(tmp_path: Path) -> None:
    final = copy_of(saved(), tmp_path / "out.work/final")
    (final / "training").mkdir()
    (final / "training/log.jsonl").write_text("{}\n")
    finish(final, tmp_path / "out")
    assert not final.exists()
    assert (tmp_path / "out/training/log.jsonl").is_file()
    assert open_checkpoint(str(tmp_path / "out")).multimodal
    (tmp_path / "other").mkdir()
    with pytest.raises(BadInput, match="already something there"):
        finish(tmp_path / "other", tmp_path / "out")


@pytest.mark.parametrize("point", ["weights", "config", "processor", "adapter"])
def test_a_full_disk_leaves_nothing_that_looks_like_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    model, processor = tuned()
    full = OSError(28, "No space left on device")

    def fail(*_: Any, **__: Any) -> None:
        raise full

    if point == "weights":
        import safetensors
        import safetensors.torch

        def fail_there(*_: Any, **__: Any) -> None:
            raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

        monkeypatch.setattr(safetensors.torch, "save_file", fail_there)
    elif point == "config":
        monkeypatch.setattr(type(model.config), "save_pretrained", fail)
    elif point == "processor":
        monkeypatch.setattr(type(processor), "save_pretrained", fail)
    else:
        monkeypatch.setattr(type(lora(True)[0]), "save_pretrained", fail)

    def save() -> None:
        if point == "adapter":
            save_adapter(lora(True)[0], tmp_path / "out")
        else:
            save_checkpoint(model, processor, tmp_path / "out")

    with pytest.raises(BadInput, match=r"cannot be written: .*No space left on device"):
        save()
    assert not (tmp_path / "out").exists()


def test_a_real_full_device(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").symlink_to("/dev/full")
    with pytest.raises(BadInput, match="No space left on device"):
        save_checkpoint(*tuned(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_that_cannot_be_hashed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="gone.json: cannot be read"):
        write_record(tmp_path, recipe(), 0, base_of(str(nano("llama"))), [DataFile("tune", tmp_path / "gone.json", 1)])


def test_everything_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(export, "_sync", lambda path: synced.append(path.name or "."))
    (tmp_path / "final").mkdir()
    shutil.copy(saved() / "config.json", tmp_path / "final/config.json")
    finish(tmp_path / "final", tmp_path / "out")
    assert synced[0] == "config.json"
    assert synced[-1] == tmp_path.name
