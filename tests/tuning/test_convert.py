"""`mmeval tune convert`: original layouts become Hugging Face checkpoints with the same logits, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmalign_eval.tuning import convert as converting
from mmalign_eval.tuning.convert import convert_checkpoint
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from mmalign_eval.cli.main import main
from mmalign_eval.errors import BadInput

from ..models.hf_case import nano, pictures
from ..models.llava_case import no_image_token, write_lora, write_original

QUESTION = "\nWhat is it? ASSISTANT:"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("form", ["linear", "mlp2x_gelu", "lora"])
def test_logits_are_those_of_llavas_own_forward_pass(tmp_path: Path, form: str) -> None:
    base = no_image_token(tmp_path / "base")
    if form == "lora":
        original = write_lora(tmp_path / "old", base, wrapped=True)
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.add_tokens(original.tokens(), special_tokens=True)
        more = ["--base", str(base)]
    else:
        original = write_original(tmp_path / "old", kind=form, wrapped=form == "linear", stored="shards")
        tokenizer = AutoTokenizer.from_pretrained(original.path)
        more = ["--vision-tower", str(tmp_path / "old-tower")]
    assert main(["tune", "convert", str(original.path), str(tmp_path / "new"), *more]) == 0
    picture = Image.open(pictures()[0].path).convert("RGB")
    processor = AutoProcessor.from_pretrained(tmp_path / "new")
    model, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "new", output_loading_info=True)
    assert not any(info.values())
    start, end = ("<im_start>", "<im_end>") if original.wrapped else ("", "")
    inputs = processor(images=[picture], text=f"USER: {start}<image>{end}{QUESTION}", return_tensors="pt")
    with torch.inference_mode():
        found = model(**inputs).logits[0]
    before = tokenizer(f"USER: {start}")["input_ids"]
    after = tokenizer(f"{end}{QUESTION}", add_special_tokens=False)["input_ids"]
    pixels = AutoProcessor.from_pretrained(tmp_path / "old-tower")(picture, return_tensors="pt")["pixel_values"]
    wanted = original.logits([*before, -200, *after], pixels)
    assert torch.allclose(found[:, : wanted.shape[-1]], wanted, rtol=1e-5, atol=5e-5)
    assert sorted(path.name for path in tmp_path.iterdir() if "convert" in path.name) == []


def test_what_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = write_original(tmp_path / "old")
    (tmp_path / "new").mkdir()
    assert main(["tune", "convert", str(original.path), str(tmp_path / "new")]) == 2
    assert "already something there" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []


def test_other_layouts_and_a_missing_base_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "convert", str(nano("llava")), str(tmp_path / "new")]) == 2
    assert "no checkpoint of LLaVA's own layout" in capsys.readouterr().err
    lora = write_lora(tmp_path / "old", no_image_token(tmp_path / "base"))
    assert main(["tune", "convert", str(lora.path), str(tmp_path / "new")]) == 2
    assert "--base of `mmeval tune convert`" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = write_original(tmp_path / "old")

    def full(_: str, folder: Path, *__: Any) -> None:
        (folder / "config.json").write_text("{}")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(converting, "convert", full)
    with pytest.raises(BadInput, match="new: cannot be written: No space left on device"):
        convert_checkpoint(str(original.path), tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir() if "new" in path.name) == []


def test_what_a_killed_conversion_left_is_in_nobodys_way(tmp_path: Path) -> None:
    original = write_original(tmp_path / "old")
    (tmp_path / ".new.converting").mkdir()
    (tmp_path / ".new.converting/half").write_text("x")
    convert_checkpoint(str(original.path), tmp_path / "new")
    assert not (tmp_path / "new/half").exists()
    assert (tmp_path / "new/config.json").is_file()
