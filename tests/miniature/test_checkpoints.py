"""The committed checkpoints load like any other, fit their size limit and know what they should."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from mmalign_eval.miniature import ROOT, checkpoint, data_dir
from mmalign_eval.miniature.measure import Reader, Viewer, ethics_subsets, hallucinations, pope
from mmalign_eval.miniature.nano import make_causal_lm, make_llava


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(cls, path):
    model, info = cls.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model


def test_size_limit():
    assert sum(p.stat().st_size for p in (ROOT / "checkpoints").rglob("*") if p.is_file()) < 10e6


def test_unknown_name():
    with pytest.raises(ValueError, match="choose 'llava' or 'lm'"):
        checkpoint("gpt")


def test_loads_strictly_in_fp32_from_fp16():
    for name, cls in (("lm", AutoModelForCausalLM), ("llava", AutoModelForImageTextToText)):
        assert json.loads((checkpoint(name) / "config.json").read_text())["dtype"] == "float16"
        model = load(cls, checkpoint(name))
        assert model.dtype == torch.float32
        for parameter in model.parameters():  # rounding to half and back is exact: nothing was stored in more precision
            assert torch.equal(parameter, parameter.half().float())
            assert torch.isfinite(parameter).all()
        assert model.generation_config.eos_token_id == 2
        assert model.generation_config.pad_token_id == 0


def test_tokenizer_and_template():
    assert "processor_class" not in (checkpoint("lm") / "tokenizer_config.json").read_text()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint("lm"))
    assert tokenizer("<image>", add_special_tokens=False)["input_ids"] == [4]
    text = "Any bytes: é ü 漢字 \n\n 1,024"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    processor = AutoProcessor.from_pretrained(checkpoint("llava"))
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Q1"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A1"}]},
        {"role": "user", "content": [{"type": "text", "text": "Q2"}]},
    ]
    rendered = processor.apply_chat_template(turns, add_generation_prompt=True)
    assert rendered == "Be brief. USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:"


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gpt_neox", "qwen2"])
def test_nano_language_models(tmp_path, arch):
    load(AutoModelForCausalLM, make_causal_lm(tmp_path / arch, arch))
    again = make_causal_lm(tmp_path / "again", arch)
    assert (again / "model.safetensors").read_bytes() == (tmp_path / arch / "model.safetensors").read_bytes()


@pytest.mark.parametrize("projector", ["mlp", "linear"])
def test_nano_llava(tmp_path, projector):
    load(AutoModelForImageTextToText, make_llava(tmp_path, projector))


def test_quality_floors_on_a_few_items():
    viewer, data = Viewer(checkpoint("llava")), data_dir()
    figures = {name: value for name, value, _ in [*pope(viewer, data, 120), *hallucinations(viewer, data, 30)]}
    assert figures["pope random acc"] > 0.7
    assert figures["halbench recall"] > 0.6
    assert 0.02 < figures["halbench Obj"] < 0.4


@pytest.mark.slow
def test_ethics_above_chance():
    figures = ethics_subsets(Reader(checkpoint("lm")), data_dir())
    assert sum(value for _, value, _ in figures) / 5 > 0.6
